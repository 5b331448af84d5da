/** The process's own memory: when it is given back, and that it is. */

import assert from "node:assert/strict";
import { loadLibc } from "../lib/libc.ts";
import { giveMemoryBack, keepMemorySmall, OwnMemory } from "../lib/own_memory.ts";
import "./support/loaded_libc.ts";
import { startShim } from "./support/shim.ts";
import { startSshd } from "./support/sshd.ts";

/** A process whose time passes, and whose work is done, when the test says so. */
class SimulatedProcess {
  nowMs = 0;
  workedMs: number;
  givenBack = 0;
  readonly #memory: OwnMemory;

  constructor({ startMs = 0, costMs = 0 } = {}) {
    this.workedMs = startMs;
    this.#memory = new OwnMemory({
      now: () => this.nowMs,
      usedMs: () => this.workedMs,
      giveBack: () => {
        this.givenBack++;
        this.workedMs += costMs;
      },
    });
  }

  /** Seconds pass, in each of which so much CPU time is used. */
  pass(seconds: number, usedMs: number): void {
    for (let second = 0; second < seconds; second++) this.passMs(1000, usedMs);
  }

  passMs(ms: number, usedMs: number): void {
    this.nowMs += ms;
    this.workedMs += usedMs;
    this.#memory.onTick();
  }
}

Deno.test("memory is given back once after work, when a second has passed with little to do", () => {
  const process = new SimulatedProcess();
  process.pass(10, 900);
  assert.equal(process.givenBack, 0);
  process.pass(1, 1);
  assert.equal(process.givenBack, 1);
  process.pass(1000, 1);
  assert.equal(process.givenBack, 1);
  process.pass(1, 900);
  process.pass(1, 0);
  assert.equal(process.givenBack, 2);
});

Deno.test("the start is work", () => {
  const process = new SimulatedProcess({ startMs: 300 });
  process.pass(1, 0);
  assert.equal(process.givenBack, 1);
});

Deno.test("little work is not worth it until it is more, nor what giving back costs itself", () => {
  const process = new SimulatedProcess({ costMs: 200 });
  process.pass(1, 90);
  process.pass(1, 0);
  assert.equal(process.givenBack, 0);
  process.pass(1, 90);
  process.pass(1, 0);
  assert.equal(process.givenBack, 1);
  // Now it is known to cost 200 ms.
  process.pass(2, 700);
  process.pass(1, 0);
  assert.equal(process.givenBack, 1);
  process.pass(1, 300);
  process.pass(1, 0);
  assert.equal(process.givenBack, 2);
});

Deno.test("ticks that come at once, those of several hosts, are one", () => {
  const process = new SimulatedProcess();
  process.pass(1, 900);
  process.passMs(1, 0);
  assert.equal(process.givenBack, 0);
  process.passMs(999, 900);
  process.passMs(1, 0);
  assert.equal(process.givenBack, 0);
});

Deno.test("what is garbage, and what was freed, goes back to the system", async () => {
  const libc = Deno.build.os === "linux" ? loadLibc() : undefined;
  keepMemorySmall(libc);
  let pieces: unknown[] | undefined = Array.from({ length: 2000 }, (_, n) => {
    const buffer = new Uint8Array(32 * 1024).fill(n);
    return { buffer, objects: Array.from({ length: 100 }, (_, m) => ({ m })) };
  });
  const garbage = new WeakRef(pieces);
  const fullMB = Deno.memoryUsage().rss / 1e6;
  pieces = undefined;
  // A reference that was used counts until the turn is over.
  await new Promise((resolve) => setTimeout(resolve, 0));
  giveMemoryBack(libc);
  assert.equal(garbage.deref(), undefined);
  const leftMB = Deno.memoryUsage().rss / 1e6;
  if (Deno.build.os === "linux") assert(leftMB < fullMB - 40, `${fullMB} MB, then ${leftMB} MB`);
});

Deno.test("what the start has left behind goes back once the port listens", async () => {
  await using sshd = await startSshd();
  await using shim = await startShim(sshd, { arguments: ["--verbose"] });
  await shim.log.waitFor(/"message":"memory given back: \d+ MB left"/);
});
