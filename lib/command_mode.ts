/** A command that runs while the endpoint is there: its terminal and its signals are its own. */

import { constants } from "node:os";
import { reasonOf } from "./errors.ts";
import { userShell } from "./shell.ts";
import { isInForeground } from "./terminal_owner.ts";

/** The command cannot be started; `status` is what a shell says then. */
export class CommandError extends Error {
  override name = "CommandError";

  constructor(message: string, readonly status: 126 | 127) {
    super(message);
  }
}

/** A command that runs. */
export interface RunningCommand {
  /** Resolves with its exit status, as a shell has it: 128 and the number of a signal. */
  status: Promise<number>;
  /** Passes on what was sent to us. */
  onSignal(signal: Deno.Signal): void;
}

/**
 * Starts a command with our standard streams, in our process group.
 *
 * @param words empty for the user's shell
 * @throws {CommandError} where it is not found or cannot be run.
 */
export function startCommand(
  words: readonly string[],
  variables: Readonly<Record<string, string>>,
): RunningCommand {
  const [program, ...args] = words.length > 0 ? words : [userShell((name) => Deno.env.get(name))];
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program!, {
      args,
      env: { ...variables },
      stdin: "inherit",
      stdout: "inherit",
      stderr: "inherit",
    }).spawn();
  } catch (error) {
    throw startError(program!, error);
  }
  return {
    status: child.status.then(({ code, signal }) => signal === null ? code : statusOf(signal)),
    onSignal(signal) {
      if (comesFromTerminal(signal)) return;
      try {
        child.kill(signal);
      } catch {
        // It has just ended by itself.
      }
    },
  };
}

function startError(program: string, error: unknown): CommandError {
  if (error instanceof Deno.errors.NotFound) {
    return new CommandError(
      `The command ${program} is not found. Check its name and PATH.`,
      127,
    );
  }
  const reason = error instanceof Deno.errors.PermissionDenied
    ? "it is no program, or you may not run it"
    : reasonOf(error);
  return new CommandError(`The command ${program} cannot be run: ${reason}. Check it.`, 126);
}

/** What a shell says of a command that was ended by a signal. */
export function statusOf(signal: Deno.Signal): number {
  return 128 + (constants.signals[signal as keyof typeof constants.signals] ?? 0);
}

/**
 * Whether the command has been sent this signal as well: keys of the terminal send theirs to all
 * of the foreground's processes, and so does Windows.
 */
function comesFromTerminal(signal: Deno.Signal): boolean {
  if (Deno.build.os === "windows") return true;
  return (signal === "SIGINT" || signal === "SIGQUIT") && isInForeground();
}
