/**
 * A real sshd, a path to it that fails when a test says so, and the shim at the near end:
 *
 *     ssh → shim → proxy (fails) → gate (counts, keeps) → sshd
 */

import { clientEnvironment, makeTarget, type Target } from "./both.ts";
import { type Gate, startGate } from "./gate.ts";
import { type Proxy, startProxy } from "./proxy.ts";
import { type Shim, startShim, type Upstream } from "./shim.ts";
import { type Sshd, type SshdOptions, startSshd } from "./sshd.ts";
import type { Transcript } from "./transcript.ts";

/** The server and the path to it. Leaving its scope ends both. */
export interface FaultyPath extends AsyncDisposable {
  readonly sshd: Sshd;
  readonly gate: Gate;
  readonly proxy: Proxy;
  /** The server as it is seen through the path. */
  readonly upstream: Upstream;
}

/** A path, and the shim in front of it. */
export interface FaultyGround extends FaultyPath {
  readonly shim: Shim;
  /** The way through the shim. */
  readonly target: Target;
}

/** Starts a server and a path to it that works. */
export async function startFaultyPath(options: SshdOptions = {}): Promise<FaultyPath> {
  await using resources = new AsyncDisposableStack();
  const sshd = resources.use(
    await startSshd({ config: [...options.config ?? [], "MaxSessions 100"] }),
  );
  const path = resources.use(await startPathTo(sshd));
  const owned = resources.move();
  return { ...path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Starts a path that works to a server, which goes on without it. */
export async function startPathTo(sshd: Sshd): Promise<FaultyPath> {
  await using resources = new AsyncDisposableStack();
  const gate = resources.use(await startGate({ hostname: sshd.host, port: sshd.port }));
  const proxy = resources.use(await startProxy({ target: gate }));
  const knownHostsFile = `${sshd.folder}/known_hosts_of_proxy`;
  await Deno.writeTextFile(
    knownHostsFile,
    sshd.hostKeys.map((key) => `[${proxy.hostname}]:${proxy.port} ${key}\n`).join(""),
  );
  const { username, keyFile } = sshd;
  const upstream = { host: proxy.hostname, port: proxy.port, username, keyFile, knownHostsFile };
  const owned = resources.move();
  return { sshd, gate, proxy, upstream, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Starts a server, a path to it that works, and the shim, with further arguments for it. */
export async function startFaultyGround(
  options: { sshd?: SshdOptions; shim?: string[] } = {},
): Promise<FaultyGround> {
  await using resources = new AsyncDisposableStack();
  const path = resources.use(await startFaultyPath(options.sshd));
  const shim = resources.use(
    await startShim(path.upstream, { arguments: ["-F", "none", ...options.shim ?? []] }),
  );
  const target = targetThrough(shim, path);
  const owned = resources.move();
  return { ...path, shim, target, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The way to a server through a shim, for clients. */
export function targetThrough(
  shim: Pick<Shim, "host" | "port" | "knownHostsFile">,
  { sshd }: Pick<FaultyPath, "sshd">,
): Target {
  return makeTarget({
    ...{ mode: "shim", host: shim.host, port: shim.port, knownHostsFile: shim.knownHostsFile },
    ...{ username: sshd.username, keyFile: sshd.keyFile, folder: sshd.folder },
    environment: clientEnvironment(sshd.folder),
  });
}

/** The messages of a shim's log in JSON, from a position in its text on. */
export function messagesOf(log: Transcript, from = 0): string[] {
  return log.text.slice(from).split("\n").flatMap((line) => {
    try {
      return [String(JSON.parse(line).message)];
    } catch {
      return []; // A line that is not whole yet.
    }
  });
}

/** How many messages after a position match. */
export function countMessages(log: Transcript, pattern: RegExp, from = 0): number {
  return messagesOf(log, from).filter((message) => pattern.test(message)).length;
}

/** Resolves when at least `count` messages after a position match. */
export async function untilLogged(
  log: Transcript,
  pattern: RegExp,
  options: { from?: number; count?: number; timeoutMs?: number } = {},
): Promise<void> {
  const { from = 0, count = 1, timeoutMs } = options;
  // On a terminal, lines end with both characters.
  const line = new RegExp(`"message":"(?:[^"\\\\\\n]|\\\\.)*?(?:${pattern.source}).*\\r?\\n`);
  let position = from;
  for (let seen = 0; seen < count; seen++) {
    const match = await log.waitFor(line, { from: position, timeoutMs });
    position += match.index + match[0].length;
  }
}

/** Cuts the connection, and resolves when the shim is connected again. */
export async function cutAndReturn({ proxy, shim }: FaultyGround, how: "rst" | "fin") {
  const from = shim.log.text.length;
  proxy.cutAll(how);
  await untilLogged(shim.log, /connection lost/, { from });
  await untilLogged(shim.log, /connected to/, { from });
}

/** Starts a number of runs; the returned function waits for them, and throws if one failed. */
export function startMany<T>(
  count: number,
  start: (index: number) => Promise<T>,
): () => Promise<T[]> {
  const runs = Array.from({ length: count }, (_, index) => start(index));
  const settled = Promise.allSettled(runs);
  return () => settled.then(() => Promise.all(runs));
}
