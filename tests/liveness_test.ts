/** When a silent connection is asked for a sign of life, and when it is given up. */

import assert from "node:assert/strict";
import { Liveness, type LivenessOptions } from "../lib/liveness.ts";

/** A silence that no test sits out. */
const longMs = 600_000;

Deno.test("after a silence a sign of life is asked for, and without one the end is told once", async () => {
  await using connection = new Connection({ intervalMs: 10, count: 3 });
  await connection.next("asked");
  assert.match(await connection.next("dead"), /^no answer for \d+ s$/);
  await connection.nothingFor(60);
});

Deno.test("a connection that answers is asked again and again", async () => {
  await using connection = new Connection({ intervalMs: 5, count: 2 });
  for (let round = 0; round < 5; round++) {
    await connection.next("asked");
    connection.answer();
  }
  assert(connection.liveness.roundTripMs! >= 0);
});

Deno.test("any byte counts as life, even while an answer is owed", async () => {
  await using connection = new Connection({ intervalMs: 400, count: 2 });
  await connection.next("asked");
  // For longer than the deadline, which is one interval.
  for (let round = 0; round < 12; round++) {
    connection.hear();
    await connection.nothingFor(40);
  }
  await connection.next("dead");
});

Deno.test("a connection that is heard is not asked", async () => {
  await using connection = new Connection({ intervalMs: 400, count: 2 });
  for (let round = 0; round < 12; round++) {
    connection.hear();
    await connection.nothingFor(40);
  }
});

Deno.test("with nothing open, silences are broken less often", async () => {
  await using idle = new Connection({ intervalMs: 100, count: 3, isBusy: () => false });
  await using busy = new Connection({ intervalMs: 100, count: 3 });
  const order: string[] = [];
  await Promise.all([
    idle.next("asked").then(() => order.push("idle")),
    busy.next("asked").then(() => order.push("busy")),
  ]);
  assert.deepEqual(order, ["busy", "idle"]);
});

Deno.test("with an interval of 0 nothing is asked and nothing is watched, not after a sleep either", async () => {
  let asked = 0;
  await using connection = new Connection({
    intervalMs: 0,
    count: 3,
    sendKeepalive: () => asked++,
  });
  connection.liveness.probe();
  assert.equal(asked, 0);
});

Deno.test("a count of 1 leaves time for the answer", async () => {
  await using connection = new Connection({ intervalMs: 150, count: 1 });
  await connection.next("asked");
  await connection.nothingFor(10);
  connection.answer();
  await connection.next("asked");
  await connection.next("dead");
});

Deno.test("a probe asks at once, and its deadline is its own", async () => {
  await using connection = new Connection({ intervalMs: longMs, count: 3, wakeUpDeadlineMs: 10 });
  connection.liveness.probe();
  await connection.next("asked");
  await connection.next("dead");
});

Deno.test("a probe that is answered changes nothing", async () => {
  await using connection = new Connection({ intervalMs: longMs, count: 3, wakeUpDeadlineMs: 10 });
  connection.liveness.probe();
  await connection.next("asked");
  connection.answer();
  await connection.nothingFor(60);
});

Deno.test("what was heard before a probe is no answer to it", async () => {
  await using connection = new Connection({ intervalMs: longMs, count: 3, wakeUpDeadlineMs: 10 });
  connection.hear();
  connection.liveness.probe();
  await connection.next("asked");
  await connection.next("dead");
});

Deno.test("the round trip is smoothed, and unknown before the first answer", async () => {
  await using connection = new Connection({ intervalMs: longMs, count: 3 });
  assert.equal(connection.liveness.roundTripMs, undefined);
  connection.liveness.probe();
  await connection.next("asked");
  await connection.nothingFor(40);
  connection.answer();
  const first = connection.liveness.roundTripMs!;
  connection.liveness.probe();
  await connection.next("asked");
  connection.answer();
  const second = connection.liveness.roundTripMs!;
  assert(second >= 0.75 * first && second < first, `${first} ms, then ${second} ms`);
});

Deno.test("once stopped it asks nothing and tells nothing", async () => {
  await using connection = new Connection({ intervalMs: 10, count: 2 });
  await connection.next("asked");
  connection.liveness.stop();
  connection.liveness.stop();
  connection.answer();
  await connection.nothingFor(60);
});

/** What is watched: a connection whose other end is the test. */
class Connection implements AsyncDisposable {
  readonly liveness: Liveness;
  #lastByteAt = performance.now();
  #answer: (() => void) | undefined;
  readonly #events: { name: "asked" | "dead"; text: string }[] = [];
  #onEvent: (() => void) | undefined;

  constructor(options: Pick<LivenessOptions, "intervalMs" | "count"> & Partial<LivenessOptions>) {
    this.liveness = new Liveness({
      lastByteAt: () => this.#lastByteAt,
      isBusy: () => true,
      sendKeepalive: (onReply) => {
        this.#answer = onReply;
        this.#add("asked", "");
      },
      onDead: (reason) => this.#add("dead", reason),
      ...options,
    });
  }

  /** Resolves with the text of what happens next, which must have this name. */
  async next(name: "asked" | "dead"): Promise<string> {
    while (this.#events.length === 0) {
      await new Promise<void>((resolve) => this.#onEvent = resolve);
    }
    const event = this.#events.shift()!;
    assert.equal(event.name, name);
    return event.text;
  }

  /** Lets time pass in which nothing may happen. */
  async nothingFor(ms: number): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, ms));
    assert.deepEqual(this.#events, []);
  }

  /** A byte comes. */
  hear(): void {
    this.#lastByteAt = performance.now();
  }

  /** The answer comes. */
  answer(): void {
    this.hear();
    this.#answer?.();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.liveness.stop();
    return Promise.resolve();
  }

  #add(name: "asked" | "dead", text: string): void {
    this.#events.push({ name, text });
    this.#onEvent?.();
  }
}
