/** A load of every kind through one shim, while its connection upstream is cut at random moments. */

import assert from "node:assert/strict";
import type { Target } from "./both.ts";
import { type FaultyGround, messagesOf, startFaultyGround, untilLogged } from "./faulty.ts";
import { lead } from "./forwarding.ts";
import { freePort } from "./ports.ts";
import { descendantsOf, waitUntil } from "./processes.ts";
import { run, text } from "./run.ts";
import {
  isEqual,
  Load,
  type Piece,
  pieceTimeoutMs,
  randomFrom,
  restingMemory,
  socketsOf,
} from "./soak_load.ts";
import { connect, exchangeOver, type Service, startEcho, tcpAddress } from "./services.ts";

/** How long and how hard. */
export interface SoakOptions {
  /** How many cuts there are after the warm-up. */
  cuts: number;
  /** How many cuts come first, before memory is measured. */
  warmUpCuts: number;
  /** Decides about all that is left to chance. */
  seed: number;
  /** Hears how it goes, line by line. */
  report(line: string): void;
}

/** What was seen. */
export interface SoakResult {
  /** How many pieces of the load were whole, and how many a cut ended. */
  readonly whole: number;
  readonly cut: number;
  /** The shim's resident memory after the warm-up and at the end, in kB. */
  readonly residentBefore: number;
  readonly residentAfter: number;
}

/** How much of its memory after the warm-up the shim may have gained at the end. */
export const memoryTolerance = 0.2;

interface Tools {
  target: Target;
  echo: Service;
  random: () => number;
}

/** How much one transfer moves, in bytes. */
const transferBytes = 6_000_000;

const pieces: Record<string, Piece<Tools>> = {
  async exec({ target, random }) {
    const input = "x".repeat(Math.floor(random() * 5000));
    const result = await target.ssh("cat", { stdin: input, timeoutMs: pieceTimeoutMs });
    return isWhole(result, input);
  },

  async upload({ target, random }) {
    const count = Math.floor(random() * transferBytes);
    const result = await target.ssh(`head -c ${count} | wc -c`, {
      ...{ stdinFile: "/dev/zero", timeoutMs: pieceTimeoutMs },
    });
    return isWhole(result, `${count}\n`);
  },

  async download({ target, random }) {
    const count = Math.floor(random() * transferBytes);
    const result = await target.ssh(`head -c ${count} /dev/zero; echo end`, {
      timeoutMs: pieceTimeoutMs,
    });
    return isWhole(result, "\0".repeat(count) + "end\n", { mayFillWindow: true });
  },

  async localForward({ target, echo, random }) {
    const port = freePort();
    return await throughForward({ target, random, port, options: ["-L", lead(port, echo)] });
  },

  async remoteForward({ target, echo, random }) {
    const port = freePort();
    return await throughForward({ target, random, port, options: ["-R", lead(port, echo)] });
  },

  async sftp({ target, random, id }) {
    const [local, remote, back] = ["local", "remote", "back"].map((name) =>
      `${target.folder}/soak-${name}-${id}`
    );
    const data = new Uint8Array(Math.floor(random() * transferBytes)).fill(id);
    await Deno.writeFile(local!, data);
    try {
      const result = await run(
        ["sftp", "-q", "-b", "-", ...target.clientOptions(), target.host],
        {
          stdin: `put ${local} ${remote}\nget ${remote} ${back}\n`,
          environment: target.environment,
          timeoutMs: pieceTimeoutMs,
        },
      );
      if (result.code !== 0) {
        // It may find out that its ssh has ended by writing to it: 128 + SIGPIPE.
        assert.ok([255, 141].includes(result.code), `${result.code}: ${text(result.stderr)}`);
        return false;
      }
      assert.ok(isEqual(await Deno.readFile(back!), data), "sftp brought back something else");
      return true;
    } finally {
      for (const file of [local, remote, back]) await Deno.remove(file!).catch(() => {});
    }
  },
};

/**
 * Runs the soak.
 *
 * @throws {AssertionError} where something ends otherwise than a cut explains, or is left over.
 * @throws {Error} where something takes too long.
 */
export async function soak({ cuts, warmUpCuts, seed, report }: SoakOptions): Promise<SoakResult> {
  const random = randomFrom(seed);
  await using ground = await startFaultyGround({ shim: ["--reconnect-max-delay", "2"] });
  await using echo = startEcho();
  const load = new Load(pieces, { target: ground.target, echo, random });

  await cutUnderLoad(ground, { load, random, cuts: warmUpCuts, report });
  await load.rest();
  const residentBefore = await restingMemory(ground);
  report(`${warmUpCuts} cuts of warm-up: ${residentBefore} kB resident; ${load.summary} so far`);

  await cutUnderLoad(ground, { load, random, cuts, report });
  await load.rest();
  // The load ends at the same place as after the warm-up: one session that works.
  await assertSessionWorks(ground);
  const residentAfter = await restingMemory(ground);
  report(`${cuts} cuts: ${residentAfter} kB resident; ${load.summary} so far`);
  await assertNothingOpen(ground);
  const internal = messagesOf(ground.shim.log).filter((text) => /internal error/.test(text));
  assert.deepEqual(internal, []);
  return { whole: load.whole, cut: load.cut, residentBefore, residentAfter };
}

/** Asserts that the shim has let go of all that it used for the soak. */
export function assertMemory({ residentBefore, residentAfter }: SoakResult): void {
  const limit = residentBefore * (1 + memoryTolerance);
  assert.ok(
    residentAfter <= limit,
    `The shim has ${residentAfter} kB resident, after ${residentBefore} kB at the start.`,
  );
}

/**
 * Asserts that, with all clients gone, the shim has no channel, no forward and no socket besides
 * its listener, and that the server has no session; that it works all the same.
 *
 * A connection that the server closes while nothing is open is not sought by itself: that is how
 * the shim shows that it counts no channel and no forward.
 */
export async function assertNothingOpen(ground: FaultyGround): Promise<void> {
  const { shim, sshd, proxy } = ground;
  await assertSessionWorks(ground);
  await waitUntil("only the listener and upstream's socket are open", async () => {
    return await socketsOf(shim.pid) === 2;
  });
  const from = shim.log.text.length;
  proxy.cutAll("fin");
  await untilLogged(shim.log, /connection lost/, { from });
  await untilLogged(shim.log, /trying again|wakes the connection/, { from });
  const said = messagesOf(shim.log, from).join("\n");
  assert.match(said, /wakes the connection/, `A channel or forward is left:\n${said}`);
  await waitUntil("only the listener is open", async () => await socketsOf(shim.pid) === 1);
  await waitUntil("the server has no session", async () => {
    return (await descendantsOf(sshd.pid)).length === 0;
  });
  assert.deepEqual(await descendantsOf(shim.pid), []);
  await waitUntil("the proxy is empty", () => Promise.resolve(proxy.connectionCount === 0));
  await assertSessionWorks(ground);
}

async function cutUnderLoad(
  { proxy, shim }: FaultyGround,
  { load, random, cuts, report }: Pick<SoakOptions, "cuts" | "report"> & {
    load: Load<Tools>;
    random: () => number;
  },
): Promise<void> {
  load.start();
  try {
    for (let done = 1; done <= cuts; done++) {
      const from = shim.log.text.length;
      proxy.cutAll(random() < 0.5 ? "rst" : "fin");
      // Most moments are in the middle of traffic, some in the middle of a reconnection.
      if (random() < 0.8) await untilLogged(shim.log, /connected to/, { from });
      await new Promise((resolve) => setTimeout(resolve, random() * 900));
      load.check();
      if (done % 25 === 0) report(`${done} of ${cuts} cuts; ${load.summary} so far`);
    }
  } finally {
    await load.rest();
  }
}

/** Sends through a forward to the echo and back, with the client's session around it. */
async function throughForward(
  { target, random, port, options }: Pick<Tools, "target" | "random"> & {
    port: number;
    options: string[];
  },
): Promise<boolean> {
  await using client = target.startSsh("echo ready; cat", {
    options: [...options, "-o", "ExitOnForwardFailure=yes"],
  });
  const data = new Uint8Array(Math.floor(random() * transferBytes)).fill(7);
  let isWhole = false;
  try {
    await client.stdout.waitFor(/ready/, { timeoutMs: pieceTimeoutMs });
    using connection = await connect(tcpAddress(port));
    // Should nothing end the exchange, the client's end does.
    const timer = setTimeout(() => client.kill("SIGKILL"), pieceTimeoutMs);
    try {
      isWhole = isEqual(await exchangeOver(connection, data), data);
    } finally {
      clearTimeout(timer);
    }
  } catch {
    // The cut has ended the client or the connection: the exit status tells.
  }
  await client.closeStdin();
  const { code, signal } = await client.drained({ timeoutMs: pieceTimeoutMs });
  assert.equal(signal, null, "an exchange through a forward did not end");
  if (code === 0) {
    assert.ok(isWhole, "an exchange was cut, and its client's session was not");
    return true;
  }
  assert.equal(code, 255, client.stderr.text);
  return false;
}

/**
 * Whether a session was whole; one that was not has to have ended with ssh's 255 and a reason.
 *
 * There is none where the protocol has no room for it: when the server has sent all of its data and
 * said so, but not yet how the command ended, and when the client's window is full.
 */
function isWhole(
  { code, stdout, stderr }: { code: number; stdout: Uint8Array; stderr: Uint8Array },
  expected: string,
  { mayFillWindow = false } = {},
): boolean {
  const hasAll = text(stdout) === expected;
  if (code === 0) {
    assert.ok(hasAll, `a session of status 0 wrote ${stdout.length} bytes`);
    return true;
  }
  assert.equal(code, 255, text(stderr));
  if (!hasAll && !mayFillWindow) assert.match(text(stderr), /sshshim: |open failed/);
  return false;
}

async function assertSessionWorks({ target }: FaultyGround): Promise<void> {
  const { code, stderr } = await target.ssh("true");
  assert.equal(code, 0, text(stderr));
}
