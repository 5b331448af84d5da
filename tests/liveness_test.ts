/** When a silent connection is asked for a sign of life, and when it is given up. */

import assert from "node:assert/strict";
import { Liveness, type LivenessOptions } from "../lib/liveness.ts";
import { FakeTime } from "./support/fake_time.ts";

/** A silence that no test sits out. */
const longMs = 600_000;

Deno.test("after a silence a sign of life is asked for, and without one the end is told once", () => {
  using connection = new Connection({ intervalMs: 5000, count: 3 });
  connection.nothingFor(4999);
  connection.time.advance(1);
  connection.expect("asked");
  connection.nothingFor(9999);
  connection.time.advance(1);
  assert.equal(connection.expect("dead"), "no answer for 15 s");
  connection.nothingFor(longMs);
});

Deno.test("a connection that answers is asked again and again", () => {
  using connection = new Connection({ intervalMs: 5000, count: 2 });
  for (let round = 0; round < 5; round++) {
    connection.time.advance(5000);
    connection.expect("asked");
    connection.nothingFor(100);
    connection.answer();
  }
  assert.equal(connection.liveness.roundTrips.smoothedMs, 100);
});

Deno.test("any byte counts as life, and as the answer that is owed", () => {
  using connection = new Connection({ intervalMs: 400, count: 2 });
  connection.time.advance(400);
  connection.expect("asked");
  // For longer than the deadline, which is one interval.
  for (let round = 0; round < 12; round++) {
    connection.hear();
    connection.nothingFor(399);
  }
  connection.time.advance(1);
  connection.expect("asked");
  connection.nothingFor(399);
  connection.time.advance(1);
  connection.expect("dead");
});

Deno.test("a connection that is heard is not asked", () => {
  using connection = new Connection({ intervalMs: 400, count: 2 });
  for (let round = 0; round < 12; round++) {
    connection.hear();
    connection.nothingFor(399);
  }
});

Deno.test("with nothing open, silences are broken less often", () => {
  let isBusy = false;
  using connection = new Connection({ intervalMs: 5000, count: 3, isBusy: () => isBusy });
  connection.nothingFor(14_999);
  connection.time.advance(1);
  connection.expect("asked");
  connection.answer();
  isBusy = true;
  connection.time.advance(5000);
  connection.expect("asked");
});

Deno.test("with an interval of 0 nothing is asked and nothing is watched, not after a sleep either", () => {
  using connection = new Connection({ intervalMs: 0, count: 3 });
  connection.liveness.probe();
  connection.nothingFor(longMs);
  assert.equal(connection.time.pending, 0);
});

Deno.test("a count of 1 leaves time for the answer", () => {
  using connection = new Connection({ intervalMs: 150, count: 1 });
  connection.time.advance(150);
  connection.expect("asked");
  connection.nothingFor(149);
  connection.answer();
  connection.time.advance(150);
  connection.expect("asked");
  connection.time.advance(150);
  connection.expect("dead");
});

Deno.test("a probe asks at once, and its deadline is its own", () => {
  using connection = new Connection({ intervalMs: longMs, count: 3 });
  connection.liveness.probe();
  connection.expect("asked");
  connection.nothingFor(2999);
  connection.time.advance(1);
  connection.expect("dead");
});

Deno.test("a probe that is answered changes nothing", () => {
  using connection = new Connection({ intervalMs: longMs, count: 3 });
  connection.liveness.probe();
  connection.expect("asked");
  connection.answer();
  connection.nothingFor(longMs - 1);
});

Deno.test("what was heard before a probe is no answer to it", () => {
  using connection = new Connection({ intervalMs: longMs, count: 3 });
  connection.hear();
  connection.liveness.probe();
  connection.expect("asked");
  connection.time.advance(3000);
  connection.expect("dead");
});

Deno.test("the round trip is smoothed, and unknown before the first answer", () => {
  using connection = new Connection({ intervalMs: longMs, count: 3 });
  const measured: (number | undefined)[] = [connection.liveness.roundTrips.smoothedMs];
  for (const ms of [40, 80, 0]) {
    connection.liveness.probe();
    connection.expect("asked");
    connection.nothingFor(ms);
    connection.answer();
    measured.push(connection.liveness.roundTrips.smoothedMs);
  }
  assert.deepEqual(measured, [undefined, 40, 50, 37.5]);
});

Deno.test("once stopped it asks nothing and tells nothing", () => {
  using connection = new Connection({ intervalMs: 10, count: 2 });
  connection.time.advance(10);
  connection.expect("asked");
  connection.liveness.stop();
  connection.liveness.stop();
  connection.answer();
  connection.nothingFor(longMs);
});

/** What is watched: a connection whose other end is the test. */
class Connection implements Disposable {
  readonly time = new FakeTime();
  readonly liveness: Liveness;
  #lastByteAt = 0;
  #answer: (() => void) | undefined;
  readonly #events: { name: "asked" | "dead"; text: string }[] = [];

  constructor(options: Pick<LivenessOptions, "intervalMs" | "count"> & Partial<LivenessOptions>) {
    this.liveness = new Liveness({
      lastByteAt: () => this.#lastByteAt,
      isBusy: () => true,
      sendKeepalive: (onReply) => {
        this.#answer = onReply;
        this.#events.push({ name: "asked", text: "" });
      },
      onDead: (reason) => this.#events.push({ name: "dead", text: reason }),
      ...options,
    });
  }

  /** The one thing that has happened has this name. Returns its text. */
  expect(name: "asked" | "dead"): string {
    const [event, ...others] = this.#events.splice(0);
    assert.equal(event?.name, name);
    assert.deepEqual(others, []);
    return event.text;
  }

  /** Lets time pass in which nothing may happen. */
  nothingFor(ms: number): void {
    this.time.advance(ms);
    assert.deepEqual(this.#events, []);
  }

  /** A byte comes. */
  hear(): void {
    this.#lastByteAt = this.time.nowMs;
  }

  /** The answer comes. */
  answer(): void {
    this.hear();
    this.#answer?.();
  }

  [Symbol.dispose](): void {
    this.liveness.stop();
    this.time[Symbol.dispose]();
  }
}
