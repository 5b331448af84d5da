/** The program as its users run it, from its first word to its exit status. */

import assert from "node:assert/strict";
import type { PasswordServer } from "./password_server.ts";
import { Terminal } from "./pty.ts";
import { type CommandResult, run, runChecked, RunningProcess, text } from "./run.ts";
import { shimEnvironment, shimProgram } from "./shim.ts";

/** A run of the program that ends by itself. */
export interface Failure {
  what: string;
  arguments: string[];
  status: number;
  /** What stderr says, all of it. */
  message: RegExp;
}

/** Runs each of them, and asserts that it says one thing, in a line or two, and nothing secret. */
export async function assertFailures(
  t: Deno.TestContext,
  folder: string,
  failures: Failure[],
): Promise<void> {
  for (const { what, arguments: words, status, message } of failures) {
    await t.step(what, async () => {
      const result = await runProgram(folder, words);
      const stderr = text(result.stderr);
      assert.equal(result.code, status, stderr);
      assert.equal(text(result.stdout), "");
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /secret/);
      // What happened before it failed stands in lines of its own.
      const error = stderr.slice(Math.max(0, stderr.indexOf("sshshim: error: "))).trimEnd();
      assert.match(error, /^sshshim: .+(\n.+)?$/);
      // After what is wrong comes what to do next.
      const advice = status === 2 ? /\nTry 'sshshim --help'\.$/ : /(\.|;) [A-Z]?[a-z].*\S$/;
      assert.match(error, advice);
    });
  }
}

/** Whatever ssh's configuration says on this machine, it is not for these tests. */
const independent = ["-F", "none"];

/** Without a display nobody can be asked in a window either. */
function environmentOf(folder: string): Record<string, string> {
  const environment = shimEnvironment(folder);
  for (const name of ["DISPLAY", "WAYLAND_DISPLAY", "SSH_ASKPASS"]) delete environment[name];
  return environment;
}

/** Runs the program to its end, without a terminal. */
export function runProgram(folder: string, words: string[]): Promise<CommandResult> {
  return run(["setsid", "--wait", ...shimProgram, ...independent, ...words], {
    environment: environmentOf(folder),
  });
}

/** Starts the program and leaves it running. */
export function startProgram(folder: string, words: string[]): RunningProcess {
  return new RunningProcess([...shimProgram, ...independent, ...words], {
    environment: environmentOf(folder),
  });
}

/** Starts the program where a person can answer it. */
export function startAtTerminal(folder: string, words: string[]): Terminal {
  return new Terminal([...shimProgram, ...independent, ...words], {
    environment: environmentOf(folder),
  });
}

/** Asserts that the program starts, and stops when it is told to. */
export async function assertListens(folder: string, words: string[]): Promise<void> {
  await using shim = startProgram(folder, words);
  await shim.stdout.waitFor(/Ctrl-C ends it/);
  shim.kill("SIGTERM");
  assert.equal((await shim.drained()).code, 0);
}

/** The arguments that lead to a server and give it a password. */
export function passwordArguments(server: PasswordServer, password: string): string[] {
  return [
    ...["--host", server.host, "--port", String(server.port), "--username", "somebody"],
    ...["--password", password, "--local-port", "0", "--known-hosts", server.knownHostsFile],
  ];
}

/** The arguments with other words in place of an option and its value. */
export function replaced(words: string[], option: string, others: string[]): string[] {
  const at = words.indexOf(option);
  return [...words.slice(0, at), ...others, ...words.slice(at + 2)];
}

/** The fingerprint of the only key in a file. */
export async function fingerprintOf(file: string): Promise<string> {
  const listing = await runChecked(["ssh-keygen", "-l", "-f", file]);
  return /SHA256:\S+/.exec(listing)![0];
}

/** The words as a part of a regular expression. */
export function escaped(words: string): string {
  return words.replaceAll(/[.+*?^$()[\]{}|\\/]/g, "\\$&");
}

/** A temporary folder. */
export async function makeFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "start-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}
