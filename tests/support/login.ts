/** The real shim with any arguments, and with nothing of the user's own: does it log in? */

import assert from "node:assert/strict";
import { clientEnvironment, makeTarget, type Target } from "./both.ts";
import { pythonProgram } from "./python.ts";
import { type CommandResult, RunningProcess } from "./run.ts";
import { lendHostKey, shimEnvironment, shimProgram } from "./shim.ts";
import type { Transcript } from "./transcript.ts";

/** How the shim is run. */
export interface LoginOptions {
  /** Keeps the shim's state, and is the home of ssh. */
  folder: string;
  /** More variables of the environment. */
  environment?: Record<string, string>;
  /** What standard input has; nothing by default. */
  stdin?: string;
  /** A Python program that becomes the command in its arguments; by default without a terminal. */
  launcher?: string;
}

/** What came of a login. */
export interface LoginResult {
  /** Whether it listened. */
  isIn: boolean;
  /** Of a shim that listened: the one of its end by SIGTERM. */
  status: number;
  stdout: string;
  /** Standard error. */
  log: string;
  /** What came of the command that ssh ran through the shim. */
  ran?: CommandResult;
}

/** The shim while it serves. Leaving its scope stops it and asserts that it exits with 0. */
export interface ServingShim extends AsyncDisposable {
  readonly pid: number;
  readonly stdout: Transcript;
  readonly log: Transcript;
  /** The way through it for ssh. */
  readonly target: Target;
}

/** Variables that lead to the user's own prompts or passwords. */
const personal = [
  ...["SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "WAYLAND_DISPLAY", "SSHSHIM_PASSWORD"],
];

/** An environment with nothing of the user's, and a state folder of the test's. */
export function loginEnvironment(
  folder: string,
  more: Record<string, string> = {},
): Record<string, string> {
  const own = Object.entries(shimEnvironment(folder)).filter(([name]) => !personal.includes(name));
  return { ...Object.fromEntries(own), ...more };
}

/** The command that runs the shim at a free port, without ssh's configuration unless named. */
export function shimCommand(args: string[]): string[] {
  const config = args.includes("-F") ? [] : ["-F", "none"];
  return [...shimProgram, ...config, "--local-port", "0", ...args];
}

/** The arguments that name a server and the file with its host key. */
export function serverArguments(
  server: { host: string; port: number; username: string; knownHostsFile: string },
): string[] {
  const { host, port, username, knownHostsFile } = server;
  return [`${username}@${host}:${port}`, "--known-hosts", knownHostsFile];
}

/**
 * Runs the shim until it listens or ends, and stops it then. It has no terminal.
 *
 * @param options `command` is what ssh runs through the shim before it is stopped
 */
export async function logIn(
  args: string[],
  options: LoginOptions & { command?: string },
): Promise<LoginResult> {
  await using process = await start(args, options);
  const target = await listening(process, options.folder).catch(() => undefined);
  const ran = options.command === undefined ? undefined : await target?.ssh(options.command);
  if (target !== undefined) process.kill("SIGTERM");
  const { code } = await process.drained();
  const { stdout, stderr } = process;
  return { isIn: target !== undefined, status: code, stdout: stdout.text, log: stderr.text, ran };
}

/**
 * Starts the shim, which has to log in. It has no terminal.
 *
 * @throws {Error} when it does not; the message has what it logged
 */
export async function startServing(args: string[], options: LoginOptions): Promise<ServingShim> {
  await using resources = new AsyncDisposableStack();
  const process = resources.use(await start(args, options));
  const target = await listening(process, options.folder).catch((cause) => {
    throw new Error(`The shim does not listen. It wrote:\n${process.stderr.text}`, { cause });
  });
  resources.defer(async () => {
    process.kill("SIGTERM");
    const { code } = await process.drained();
    assert.equal(code, 0, `The shim's last words:\n${process.stderr.text.slice(-4000)}`);
  });
  const owned = resources.move();
  return {
    pid: process.pid,
    stdout: process.stdout,
    log: process.stderr,
    target,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Becomes the leader of a session that has no terminal, and then the command. */
const withoutTerminal = "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])";

async function start(args: string[], options: LoginOptions): Promise<RunningProcess> {
  await lendHostKey(options.folder);
  const process = new RunningProcess(
    [pythonProgram, "-c", options.launcher ?? withoutTerminal, ...shimCommand(args)],
    { environment: loginEnvironment(options.folder, options.environment) },
  );
  if (options.stdin !== undefined) await process.write(options.stdin);
  await process.closeStdin();
  return process;
}

/** Reads from the banner how to reach the shim. */
async function listening(process: RunningProcess, folder: string): Promise<Target> {
  const [banner] = await process.stdout.waitFor(
    /^.* is at 127\.0\.0\.1:[^]*Ctrl-C|^\{.*\}$(?=\n)/m,
  );
  const [, port] = / is at 127\.0\.0\.1:(\d+)\n/.exec(banner) ?? /"localPort":(\d+)/.exec(banner)!;
  const [, knownHosts] = /echo '(.*)' >>/.exec(banner) ?? /"knownHostsLine":"(.*?)"/.exec(banner)!;
  const knownHostsFile = `${folder}/known_hosts_of_${port}`;
  await Deno.writeTextFile(knownHostsFile, `${knownHosts}\n`);
  return makeTarget({
    mode: "shim",
    host: "127.0.0.1",
    port: Number(port),
    username: "anybody",
    // The endpoint lets its own user in without one.
    keyFile: "/dev/null",
    knownHostsFile,
    folder,
    environment: clientEnvironment(folder),
  });
}
