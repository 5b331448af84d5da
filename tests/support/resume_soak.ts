/**
 * A load of every kind through one shim with `--resume`, by its port and by its control socket,
 * while the network fails at random moments in every way: nothing of it may be cut.
 */

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import type { Target } from "./both.ts";
import { type FaultyGround, messagesOf, startFaultyGround, untilLogged } from "./faulty.ts";
import { lead } from "./forwarding.ts";
import { freePort } from "./ports.ts";
import { descendantsOf, isRunning, waitUntil } from "./processes.ts";
import { keepersOf } from "./resume_keepers.ts";
import { run, text } from "./run.ts";
import { connect, exchangeOver, type Service, startEcho, tcpAddress } from "./services.ts";
import type { SoakOptions } from "./soak.ts";
import { isEqual, Load, type Piece, pieceTimeoutMs, randomFrom } from "./soak_load.ts";

/** How long, and how much one transfer moves at most, in bytes. */
export type ResumeSoakOptions = Pick<SoakOptions, "cuts" | "seed" | "report"> & {
  transferBytes?: number;
};

interface Tools {
  /** By the port, and by the control socket. */
  targets: readonly [Target, Target];
  echo: Service;
  random: () => number;
  /** Bytes of chance, and the file that has them. */
  data: { bytes: Uint8Array; file: string };
}

/** Bytes that nobody would guess, and where they are in the file. */
function pick({ random, data }: Tools): { part: Uint8Array; at: number; hash: string } {
  const size = Math.floor(random() ** 2 * data.bytes.length);
  const at = Math.floor(random() * (data.bytes.length - size));
  const part = data.bytes.subarray(at, at + size);
  return { part, at, hash: hashOf(part) };
}

const hashOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

const way = ({ targets, random }: Tools) => targets[random() < 0.5 ? 0 : 1];

/** What ssh, scp, sftp and rsync may take until their end. */
const limits = { timeoutMs: 10 * pieceTimeoutMs };

const pieces: Record<string, Piece<Tools>> = {
  async exec(tools) {
    const code = Math.floor(tools.random() * 200);
    const result = await way(tools).ssh(`cat; echo words >&2; exit ${code}`, {
      ...{ stdin: `line ${tools.id}\n`, ...limits },
    });
    assert.deepEqual(
      [result.code, text(result.stdout), text(result.stderr)],
      [code, `line ${tools.id}\n`, "words\n"],
    );
    return true;
  },

  async upload(tools) {
    const { part, hash } = pick(tools);
    const file = `${tools.targets[0].folder}/up-${tools.id}`;
    await Deno.writeFile(file, part);
    const result = await way(tools).ssh("sha256sum; exit 3", { stdinFile: file, ...limits });
    assert.deepEqual([result.code, text(result.stdout).slice(0, 64)], [3, hash]);
    await Deno.remove(file);
    return true;
  },

  async download(tools) {
    const { part, at, hash } = pick(tools);
    const command = `tail -c +${at + 1} ${tools.data.file} | head -c ${part.length}; exit 4`;
    const result = await way(tools).ssh(command, limits);
    assert.deepEqual([result.code, hashOf(result.stdout)], [4, hash]);
    return true;
  },

  async both(tools) {
    const { part, hash } = pick(tools);
    const file = `${tools.targets[0].folder}/both-${tools.id}`;
    await Deno.writeFile(file, part);
    const result = await way(tools).ssh("cat; exit 5", { stdinFile: file, ...limits });
    assert.deepEqual([result.code, hashOf(result.stdout)], [5, hash]);
    await Deno.remove(file);
    return true;
  },

  async localForward(tools) {
    const port = freePort();
    return await throughForward(tools, port, ["-L", lead(port, tools.echo)]);
  },

  async remoteForward(tools) {
    const port = freePort();
    return await throughForward(tools, port, ["-R", lead(port, tools.echo)]);
  },

  async sftp(tools) {
    const { host } = tools.targets[0];
    return await copied(tools, (target, [local, remote, back]) => [
      ["sftp", "-q", "-b", "-", ...target.clientOptions(), host],
      `put ${local} ${remote}\nget ${remote} ${back}\n`,
    ]);
  },

  async scp(tools) {
    return await copied(tools, (target, [local, remote, back]) => {
      const words = ["scp", "-q", ...target.clientOptions()];
      const there = `${target.host}:${remote}`;
      return [shell([[...words, local, there], [...words, there, back]])];
    });
  },

  async rsync(tools) {
    return await copied(tools, (target, [local, remote, back]) => {
      const words = ["rsync", "-e", `ssh ${target.clientOptions().map(quoted).join(" ")}`];
      const there = `${target.host}:${remote}`;
      return [shell([[...words, local, there], [...words, there, back]])];
    });
  },
};

/** Runs the soak. @throws {AssertionError} where a byte or an exit status is another one. */
export async function soakResumed(
  { cuts, seed, report, transferBytes = 6_000_000 }: ResumeSoakOptions,
): Promise<{ whole: number; cuts: number }> {
  const random = randomFrom(seed);
  await using ground = await startFaultyGround({
    shim: [
      ...["--resume", "--keepalive-interval", "1", "--keepalive-count", "3"],
      ...["--reconnect-max-delay", "1"],
    ],
  });
  await using echo = startEcho();
  const { target, shim, sshd } = ground;
  const data = { bytes: randomBytes(transferBytes), file: `${sshd.folder}/data` };
  await Deno.writeFile(data.file, data.bytes);
  const lane = { ...target, ...laneOf(ground) };
  await assertWorks(ground);
  const descriptors = await descriptorsOf(shim.pid);
  const keepers = await keepersOf(sshd.port);
  assert.equal(keepers.length, 1);
  const load = new Load<Tools>(pieces, { targets: [target, lane], echo, random, data });

  load.start();
  try {
    for (let done = 1; done <= cuts; done++) {
      await harm(ground, random);
      await new Promise((resolve) => setTimeout(resolve, random() * 1500));
      load.check();
      if (done % 20 === 0) report(`${done} of ${cuts} cuts; ${load.summary} so far`);
    }
  } finally {
    await load.rest();
  }
  report(`${cuts} cuts; ${load.summary}`);
  assert.equal(load.cut, 0);
  const messages = messagesOf(shim.log);
  const wrong = messages.filter((it) => /internal error|connection lost|cannot keep/.test(it));
  assert.deepEqual(wrong, []);
  const count = messages.filter((it) => /the connection is away/.test(it)).length;
  await assertNothingLeft(ground, { descriptors, keeper: keepers[0]! });
  return { whole: load.whole, cuts: count };
}

/** The network fails in one way or the other, and works again. */
async function harm({ proxy, shim }: FaultyGround, random: () => number): Promise<void> {
  const from = shim.log.text.length;
  const how = random() < 0.5 ? "rst" : "fin";
  const kind = random();
  const pauseMs = random() * 5000;
  if (kind < 0.15) {
    // Nobody is told; perhaps it is over before anybody has noticed.
    proxy.blackHole();
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    await proxy.restore();
    if (random() < 0.5) return;
    proxy.cutAll(how);
  } else if (kind < 0.3) {
    await proxy.refuse();
    proxy.cutAll(how);
    await new Promise((resolve) => setTimeout(resolve, pauseMs / 2));
    await proxy.restore();
  } else if (kind < 0.6) {
    const direction = random() < 0.5 ? "toTarget" : "toClient";
    const cut = proxy.cutAfterBytes(Math.ceil(random() * 200_000), direction, how);
    const late = new Promise((resolve) => setTimeout(resolve, 2000));
    await Promise.race([cut, late]);
  } else {
    proxy.cutAll(how);
  }
  // Most moments are in the middle of traffic, some in the middle of a return.
  if (random() < 0.8) {
    await Promise.race([
      untilLogged(shim.log, /the connection is back/, { from }),
      new Promise((resolve) => setTimeout(resolve, 8000)),
    ]);
  }
}

async function assertNothingLeft(
  ground: FaultyGround,
  { descriptors, keeper }: { descriptors: number; keeper: number },
): Promise<void> {
  const { shim, sshd, proxy } = ground;
  await assertWorks(ground);
  await waitUntil("no descriptor is left over", async () => {
    return await descriptorsOf(shim.pid) <= descriptors;
  });
  assert.deepEqual(await keepersOf(sshd.port), [keeper]);
  await waitUntil("one carrier is left", () => Promise.resolve(proxy.connectionCount === 1));
  // Nothing, the connection, the socket, and what comes by it.
  await waitUntil("the keeper has let go of what it used", async () => {
    return await descriptorsOf(keeper) <= 6;
  });
  const folder = `${sshd.folder}/home/.cache/sshshim-resume`;
  assert.equal([...Deno.readDirSync(folder)].length, 1);
  await shim.stop();
  await waitUntil("no keeper is left", async () => !await isRunning(keeper));
  await waitUntil("the server has no session", async () => {
    return (await descendantsOf(sshd.pid)).length === 0;
  });
  await assert.rejects(Deno.lstat(folder), Deno.errors.NotFound);
  assert.deepEqual(await keepersOf(sshd.port), []);
}

/** Sends a file there and back. */
async function copied(
  tools: Tools & { id: number },
  command: (target: Target, files: [string, string, string]) => [string[], string?],
): Promise<boolean> {
  const { part } = pick(tools);
  const { folder } = tools.targets[0];
  const names = ["local", "remote", "back"].map((name) => `${folder}/${name}-${tools.id}`);
  const [local, , back] = names;
  await Deno.writeFile(local!, part);
  const target = way(tools);
  const [words, stdin] = command(target, names as [string, string, string]);
  const { environment } = target;
  const result = await run(words, { environment, ...limits, ...stdin && { stdin } });
  assert.equal(result.code, 0, text(result.stderr));
  assert.ok(isEqual(await Deno.readFile(back!), part), "something else came back");
  for (const name of names) await Deno.remove(name);
  return true;
}

/** Sends through a forward to the echo and back, with the client's session around it. */
async function throughForward(tools: Tools, port: number, options: string[]): Promise<boolean> {
  await using client = tools.targets[0].startSsh("echo ready; cat; exit 6", {
    options: [...options, "-o", "ExitOnForwardFailure=yes"],
  });
  const { part } = pick(tools);
  await client.stdout.waitFor(/ready/, limits);
  using connection = await connect(tcpAddress(port));
  const timer = setTimeout(() => client.kill("SIGKILL"), limits.timeoutMs);
  const back = await exchangeOver(connection, part);
  clearTimeout(timer);
  assert.ok(isEqual(back, part), "something else came back");
  await client.closeStdin();
  assert.equal((await client.drained(limits)).code, 6, client.stderr.text);
  return true;
}

function laneOf({ shim, target }: FaultyGround) {
  const controlPath = shim.banner.controlPath!;
  // The first value of an option is the one that counts.
  const own = ["-o", `ControlPath=${controlPath}`];
  const clientOptions = () => [...own, ...target.clientOptions()];
  const ssh: Target["ssh"] = (command, options = {}) =>
    target.ssh(command, { ...options, options: [...own, ...options.options ?? []] });
  return { mode: "lane" as const, controlPath, clientOptions, ssh };
}

async function assertWorks({ target }: FaultyGround): Promise<void> {
  const { code, stderr } = await target.ssh("true");
  assert.equal(code, 0, text(stderr));
}

async function descriptorsOf(pid: number): Promise<number> {
  let count = 0;
  for await (const _ of Deno.readDir(`/proc/${pid}/fd`)) count++;
  return count;
}

const quoted = (word: string) => `'${word}'`;

/** One command after the other. */
function shell(commands: string[][]): string[] {
  const words = commands.map((command) => command.map((it) => `"${it}"`).join(" ")).join(" && ");
  return ["sh", "-c", words];
}
