/**
 * Where questions go: to the terminal, or to the program that SSH_ASKPASS names, as with ssh (see
 * ssh(1), "ENVIRONMENT").
 */

import type { Prompter } from "./credential_questions.ts";
import { messageOf, NobodyToAskError } from "./errors.ts";
import { logger } from "./log.ts";
import { escapeControls } from "./shown_text.ts";
import { openTerminal, type Terminal } from "./terminal.ts";
import { unlessAborted } from "./timing.ts";

const log = logger("upstream");

/** What else is shown at the terminal, and leaves it to a question. */
export interface Shown {
  /** It is gone when this resolves. */
  hide(): Promise<void>;
  unhide(): void;
}

/** Asks at the terminal, or with SSH_ASKPASS. Questions that come at once wait for each other. */
export class UserPrompter implements Prompter {
  #last: Promise<unknown> = Promise.resolve();
  /** Of a question that was taken back: it still waits for what is typed. */
  #terminal: Terminal | undefined;
  #hasTerminal = true;
  readonly #shown: Shown | undefined;

  constructor({ shown }: { shown?: Shown } = {}) {
    this.#shown = shown;
  }

  /** From now on the terminal is somebody else's: only SSH_ASKPASS can ask. */
  leaveTerminal(): void {
    this.#hasTerminal = false;
  }

  ask(
    question: string,
    options: { echo: boolean; signal: AbortSignal },
  ): Promise<string | undefined> {
    const answer = this.#last.then(() => this.#askAlone(question, options));
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #askAlone(
    question: string,
    options: { echo: boolean; signal: AbortSignal },
  ): Promise<string | undefined> {
    try {
      await unlessAborted(this.#shown?.hide() ?? Promise.resolve(), options.signal);
      return await this.#ask(question, options);
    } finally {
      this.#shown?.unhide();
    }
  }

  async #ask(
    question: string,
    { echo, signal }: { echo: boolean; signal: AbortSignal },
  ): Promise<string | undefined> {
    // A server may have written the question: it must not move the cursor or change colours.
    const text = question.split("\n").map(escapeControls).join("\n");
    const program = askpassProgram();
    const required = Deno.env.get("SSH_ASKPASS_REQUIRE");
    if (program !== undefined && (required === "force" || required === "prefer")) {
      return await runAskpass(program, text, signal);
    }
    if (!this.#hasTerminal && program === undefined) {
      const reason = `"${lastLineOf(text)}" cannot be asked: the terminal is the command's. ` +
        "Set SSH_ASKPASS, or use a key without a passphrase or an SSH agent.";
      log.warn("{reason}", { reason });
      throw new NobodyToAskError(reason);
    }
    const terminal = this.#hasTerminal ? this.#terminal ?? openTerminal() : undefined;
    if (terminal === undefined) {
      if (program !== undefined) return await runAskpass(program, text, signal);
      throw new NobodyToAskError(
        `There is no terminal to ask "${lastLineOf(text)}". Use a key without a passphrase or an ` +
          `SSH agent, or set SSH_ASKPASS. For the last host, and no jump host, ` +
          `--password-file FILE gives the password.`,
      );
    }
    try {
      return await terminal.ask(text, { echo, signal });
    } finally {
      this.#terminal = signal.aborted ? terminal : undefined;
      if (!signal.aborted) terminal.close();
    }
  }
}

/** The question itself, without what is said about it. */
function lastLineOf(text: string): string {
  return text.trim().split("\n").at(-1)!;
}

/** ssh starts it only where it can show a window, or is told to. */
function askpassProgram(): string | undefined {
  const program = Deno.env.get("SSH_ASKPASS");
  const required = Deno.env.get("SSH_ASKPASS_REQUIRE");
  const hasDisplay = Deno.env.has("DISPLAY") || Deno.env.has("WAYLAND_DISPLAY") ||
    Deno.build.os !== "linux";
  if (!program || required === "never") return undefined;
  return hasDisplay || required === "force" ? program : undefined;
}

/** Its first line of output is the answer; another exit status than 0 declines. */
async function runAskpass(
  program: string,
  question: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const command = new Deno.Command(program, {
    args: [question],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
    signal,
  });
  let result: Deno.CommandOutput;
  try {
    result = await command.output();
  } catch (cause) {
    throw new NobodyToAskError(
      `SSH_ASKPASS cannot be run: ${program}: ${messageOf(cause)}. Check the path.`,
      { cause },
    );
  }
  if (!result.success) return undefined;
  return new TextDecoder().decode(result.stdout).split(/\r?\n/)[0];
}
