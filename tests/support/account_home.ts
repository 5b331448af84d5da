/**
 * An empty home for the account of this process: in a mount namespace of its own, where the user
 * database has that folder. ssh looks there, whatever HOME says.
 */

import { type CommandResult, run, runChecked, RunningProcess, type RunOptions } from "./run.ts";
import { lendHostKey, program, shimEnvironment } from "./shim.ts";

/** Whether this process may make such a namespace: on Linux, as root. */
export async function canHaveHome(): Promise<boolean> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return false;
  return (await run(["unshare", "-m", "true"])).code === 0;
}

/** A home. Leaving its scope removes it. */
export interface AccountHome extends AsyncDisposable {
  /** Its path. */
  readonly path: string;
  /** The variables of whoever is at home there, without an agent. */
  readonly environment: Record<string, string>;
  /** The words of a command for whom this is the account's home. */
  command(words: readonly string[]): string[];
  /** Runs a command there to its end. */
  run(words: readonly string[], options?: RunOptions): Promise<CommandResult>;
  /** Starts the program there, with all that it does for ssh, and leaves it running. */
  start(args: readonly string[]): RunningProcess;
}

const mountScript = 'mount --bind "$0" /etc/passwd && exec "$@"';

/** Makes the home. */
export async function makeHome(): Promise<AccountHome> {
  const folder = await Deno.makeTempDir({ prefix: "home-" });
  const path = `${folder}/home`;
  await Deno.mkdir(path, { mode: 0o700 });
  const account = (await runChecked(["id", "-un"])).trim();
  const accounts = (await Deno.readTextFile("/etc/passwd")).split("\n").map((line) => {
    const fields = line.split(":");
    return (fields[0] === account ? fields.with(5, path) : fields).join(":");
  });
  const passwd = `${folder}/passwd`;
  await Deno.writeTextFile(passwd, accounts.join("\n"));
  await lendHostKey(folder);
  const environment = { ...shimEnvironment(folder), HOME: path };
  const command = (words: readonly string[]) => [
    ...["unshare", "-m", "sh", "-c", mountScript, passwd],
    ...words,
  ];
  return {
    path,
    environment,
    command,
    run: (words, options = {}) => run(command(words), { environment, folder: path, ...options }),
    start: (args) => new RunningProcess(command([...program, ...args]), { environment }),
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}
