/** The real shim, run as its users run it, for the length of a test. */

import assert from "node:assert/strict";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { RunningProcess } from "./run.ts";
import { lendRsaKey } from "./sshd.ts";
import type { Transcript } from "./transcript.ts";

/** The server that the shim stands in front of, and how to log in there. */
export interface Upstream {
  readonly host: string;
  readonly port: number;
  readonly username: string;
  readonly keyFile: string;
  readonly knownHostsFile: string;
}

/** What a test may ask of the shim. */
export interface ShimOptions {
  /** Further arguments of the command line. */
  arguments?: string[];
  /** A module that the shim loads before its own. */
  preload?: string;
  /** Further variables of its environment, by name. */
  environment?: Record<string, string>;
  /**
   * Whether every client has to log in with the key that it has for upstream. Without it the
   * environment decides: with SSHSHIM_TEST_LOCAL_AUTH=publickey whole files of tests run like that.
   */
  demandsKeys?: boolean;
}

/** A running shim. Leaving its scope stops it and asserts that it exits with 0. */
export interface Shim extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Holds the shim's host key under `[host]:port`. */
  readonly knownHostsFile: string;
  /** The banner's facts. */
  readonly banner: Banner;
  readonly pid: number;
  /** The log, one JSON object per line. */
  readonly log: Transcript;
  /** Resolves when it has ended. */
  readonly status: Promise<Deno.CommandStatus>;
  /** Asks it to stop by SIGTERM and asserts that it exits with 0. May be called twice. */
  stop(): Promise<void>;
}

/** What the shim says on standard output once it listens. */
export interface Banner {
  localAddress: string;
  localPort: number;
  fingerprint: string;
  /** The shim's first host key as a line for known_hosts. */
  knownHostsLine: string;
  /** The private key that its clients can log in with, where keys are asked for. */
  clientKeyFile?: string;
  /** The control socket. */
  controlPath?: string;
  /** All of its host keys. */
  hostKeys: { fingerprint: string; knownHostsLine: string }[];
}

/** `main.ts` of this project. */
export const mainModule: string = fileURLToPath(new URL("../../main.ts", import.meta.url));

/**
 * How modules are run from their source. Everything is there by then; without a word on that, Deno
 * asks for news of packages, and says so, as long as it has none of them.
 */
export const fromSource: readonly string[] = [
  ...[Deno.execPath(), "run", "--cached-only", "--no-check", "-A"],
];
const binary = Deno.env.get("SSHSHIM_BINARY");

/**
 * How the program is run, as its users run it: from its source, or as the compiled program that
 * the variable SSHSHIM_BINARY names.
 */
export const program: readonly string[] = binary ? [binary] : [...fromSource, mainModule];

/**
 * How the shim is run: the program and its first arguments. The files by which ssh finds it would
 * be in the home of whoever runs the tests.
 */
export const shimProgram: readonly string[] = [...program, "--no-ssh-config"];

/** The arguments that lead the shim to an upstream server. */
export function upstreamArguments(upstream: Upstream): string[] {
  return [
    ...["--host", upstream.host, "--port", String(upstream.port)],
    ...["--username", upstream.username, "--ed25519-key", upstream.keyFile],
    ...["--known-hosts", upstream.knownHostsFile],
  ];
}

/** Deno's packages; in another home it would bring all of them from the network again. */
export const packageCache: string = Deno.env.get("DENO_DIR") ?? (
  Deno.build.os === "darwin"
    ? `${Deno.env.get("HOME")}/Library/Caches/deno`
    : `${Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME")}/.cache`}/deno`
);

/**
 * The environment in which the tests run the shim: this process's own, but with a state folder
 * of the test and without the user's agent. With another HOME it still has its packages.
 */
export function shimEnvironment(folder: string): Record<string, string> {
  const { SSH_AUTH_SOCK: _agent, ...inherited } = Deno.env.toObject();
  const runtime = `${folder}/run`;
  Deno.mkdirSync(runtime, { recursive: true, mode: 0o700 });
  return {
    ...inherited,
    ...{ XDG_STATE_HOME: `${folder}/state`, XDG_RUNTIME_DIR: runtime, NO_COLOR: "1" },
    DENO_DIR: packageCache,
  };
}

/** Spares a shim to make an RSA host key, which takes as long as all the rest of its start. */
export async function lendHostKey(folder: string): Promise<void> {
  const state = `${folder}/state/sshshim`;
  await Deno.mkdir(state, { recursive: true, mode: 0o700 });
  const names = Array.from(Deno.readDirSync(state), ({ name }) => name);
  if (!names.includes("ssh_host_rsa_key")) await lendRsaKey(`${state}/ssh_host_rsa_key`, "host");
}

/**
 * Starts the shim in front of `upstream` at a free port of loopback.
 *
 * @throws {Error} when it does not listen in time; the message holds what it wrote
 */
export async function startShim(upstream: Upstream, options: ShimOptions = {}): Promise<Shim> {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "shim-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  await lendHostKey(folder);
  const demandsKeys = options.demandsKeys ??
    Deno.env.get("SSHSHIM_TEST_LOCAL_AUTH") === "publickey";
  const process = new RunningProcess([
    ...(options.preload === undefined
      ? shimProgram
      : [...fromSource, "--preload", options.preload, mainModule, "--no-ssh-config"]),
    ...upstreamArguments(upstream),
    ...["--local-port", "0", "--log-format", "json"],
    ...(demandsKeys ? await authorize(upstream, folder) : []),
    ...(options.arguments ?? []),
  ], { environment: { ...shimEnvironment(folder), ...options.environment } });
  resources.use(process);
  const banner = await readBanner(process);
  const knownHostsFile = `${folder}/known_hosts`;
  await Deno.writeTextFile(knownHostsFile, `${banner.knownHostsLine}\n`);

  let stopped: Promise<void> | undefined;
  const stop = () => stopped ??= stopCleanly(process);
  resources.defer(stop);
  const owned = resources.move();
  return {
    host: banner.localAddress,
    port: banner.localPort,
    knownHostsFile,
    banner,
    pid: process.pid,
    log: process.stderr,
    status: process.status,
    stop,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The arguments with which the keys for upstream log in to the shim as well. */
async function authorize({ keyFile }: Upstream, folder: string): Promise<string[]> {
  const upstreams = `${dirname(keyFile)}/authorized_keys`;
  const isThere = await Deno.stat(upstreams).then(() => true, () => false);
  const file = isThere ? upstreams : `${folder}/authorized_keys`;
  if (!isThere) await Deno.writeTextFile(file, await Deno.readTextFile(`${keyFile}.pub`));
  await Deno.chmod(file, 0o600);
  return ["--local-auth", "publickey", "--authorized-keys", file];
}

async function readBanner(process: RunningProcess): Promise<Banner> {
  try {
    const [line] = await process.stdout.waitFor(/^.*"listening".*$(?=\r?\n)/m);
    return JSON.parse(line);
  } catch (error) {
    throw new Error(`The shim does not listen. It wrote:\n${process.stderr.text}`, {
      cause: error,
    });
  }
}

async function stopCleanly(process: RunningProcess): Promise<void> {
  process.kill("SIGTERM");
  const status = await process.drained();
  assert.equal(status.code, 0, `The shim's last words:\n${process.stderr.text.slice(-4000)}`);
}
