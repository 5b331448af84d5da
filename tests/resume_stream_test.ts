/** A stream that outlives its carriers: when it is tried again, and when a person is asked. */

import assert from "node:assert/strict";
import { type Carrier, NotKeptError } from "../lib/carrier.ts";
import { AuthenticationError, NobodyToAskError, UpstreamLostError } from "../lib/errors.ts";
import { frame, FrameType } from "../lib/resume_end.ts";
import { ResumeStream } from "../lib/resume_stream.ts";
import { makeBytePair } from "./support/byte_pair.ts";
import { taking } from "./support/resume_host.ts";
import { FakeTime } from "./support/fake_time.ts";

const longMs = 3_600_000;

/** An attempt to make the next carrier, which waits for what becomes of it. */
interface Attempt {
  mayAsk: boolean;
  signal: AbortSignal;
  reach(): void;
  succeed(): FakeCarrier;
  fail(error: Error): void;
}

interface FakeCarrier {
  carrier: Carrier;
  /** The host sends bytes of the stream. */
  say(words: string): void;
  /** The network is gone. */
  cut(): void;
}

function makeCarrier(has = 0): FakeCarrier {
  const [near, far] = makeBytePair([(it) => [it], (it) => [it]]);
  return {
    carrier: {
      connection: taking(near),
      answer: { has, path: "/s" },
      reason: undefined,
      probe() {},
    },
    say: (words) => void far.write(frame(FrameType.data, new TextEncoder().encode(words))),
    cut: () => far.close(),
  };
}

/** A stream whose first carrier is there; time stands still but for `advance`. */
class World implements Disposable {
  readonly time = new FakeTime();
  readonly attempts: Attempt[] = [];
  readonly first: FakeCarrier = makeCarrier();
  readonly stream: ResumeStream;
  #written = 0;

  constructor() {
    this.stream = new ResumeStream(this.first.carrier, {
      ...{ name: "me@host", resumeForMs: longMs, backoff: { next: () => 500, reset() {} } },
      attach: (_has, { signal, mayAsk, onReached }) => {
        const { promise, resolve, reject } = Promise.withResolvers<Carrier>();
        this.attempts.push({
          ...{ mayAsk, signal, reach: onReached, fail: reject },
          succeed: () => {
            const made = makeCarrier(this.#written);
            resolve(made.carrier);
            return made;
          },
        });
        return promise;
      },
    });
  }

  async write(words = "x"): Promise<void> {
    this.#written += await this.stream.write(new TextEncoder().encode(words));
    await settled();
  }

  async advance(ms: number): Promise<void> {
    this.time.advance(ms);
    await settled();
  }

  /** The carrier is lost, after it was of use. */
  async lose(afterMs = 10_000): Promise<void> {
    await this.advance(afterMs);
    this.first.cut();
    await settled();
    await this.advance(0);
  }

  /** The one attempt that is made. */
  next(): Attempt {
    const [attempt, ...others] = this.attempts.splice(0);
    assert.ok(attempt, "no attempt is made");
    assert.deepEqual(others, []);
    return attempt;
  }

  expectNone(): void {
    assert.deepEqual(this.attempts, []);
  }

  async read(): Promise<string> {
    const buffer = new Uint8Array(100);
    const count = await this.stream.read(buffer);
    return new TextDecoder().decode(buffer.subarray(0, count ?? 0));
  }

  [Symbol.dispose](): void {
    this.stream.close();
    this.time[Symbol.dispose]();
  }
}

/** What follows from what has happened has happened. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

const needsPerson = () => new NobodyToAskError("A code is needed.");

Deno.test("a return that needs a person asks nobody while nothing is wanted", async () => {
  using world = new World();
  await world.lose();
  const silent = world.next();
  assert.equal(silent.mayAsk, false);
  silent.fail(needsPerson());
  await world.advance(longMs / 2);
  world.expectNone();
  assert.equal(world.stream.away?.reason.message, "A code is needed.");
  // A wake-up of the machine is nobody who wants it.
  world.stream.probe();
  await settled();
  world.expectNone();

  await world.write();
  await world.write();
  const asking = world.next();
  assert.equal(asking.mayAsk, true);
  asking.succeed().say("back");
  assert.equal(await world.read(), "back");
  assert.equal(world.stream.away, undefined);
});

Deno.test("a stream tells since when it is carried, which it is not while it is away", async () => {
  using world = new World();
  assert.equal(world.stream.carriedSince, 0);
  await world.lose(10_000);
  assert.equal(world.stream.carriedSince, Infinity);
  await world.advance(5000);
  world.next().succeed();
  await settled();
  assert.equal(world.stream.carriedSince, 15_000);
});

Deno.test("a return that needs a person asks at once if something waits", async () => {
  using world = new World();
  world.first.say("prompt");
  assert.equal(await world.read(), "prompt");
  await world.lose(0);
  // One that was lost so soon is not followed at once.
  await world.advance(500);
  const silent = world.next();
  await world.write();
  silent.fail(needsPerson());
  await settled();
  assert.equal(world.next().mayAsk, true);
});

Deno.test("what was written into the void before its loss was noticed waits as well", async () => {
  using world = new World();
  await world.advance(5000);
  await world.write();
  await world.lose();
  world.next().fail(needsPerson());
  await settled();
  assert.equal(world.next().mayAsk, true);
});

Deno.test("answers to the host are nothing that is wanted", async () => {
  using world = new World();
  await world.advance(5000);
  world.first.say("are you there?");
  assert.equal(await world.read(), "are you there?");
  await world.write("yes");
  await world.lose();
  world.next().fail(needsPerson());
  await settled();
  world.expectNone();
});

Deno.test("where nobody can be asked, it is not asked with each keystroke", async () => {
  using world = new World();
  await world.lose();
  await world.write();
  world.next().fail(needsPerson());
  await settled();
  world.next().fail(needsPerson());
  await settled();
  await world.write();
  await world.write();
  await world.advance(499);
  world.expectNone();
  // What was wanted meanwhile is not forgotten.
  await world.advance(1);
  assert.equal(world.next().mayAsk, true);
});

Deno.test("a person who is being asked is not disturbed, and may be asked by a person's word", async () => {
  using world = new World();
  await world.lose();
  world.next().fail(needsPerson());
  await settled();
  world.stream.retry();
  const asking = world.next();
  assert.equal(asking.mayAsk, true);
  world.stream.retry();
  world.stream.probe();
  await world.write();
  world.expectNone();
  assert.equal(asking.signal.aborted, false);
});

Deno.test("after a refusal only a person's word makes another attempt", async () => {
  using world = new World();
  await world.lose();
  world.next().fail(new AuthenticationError("No."));
  await world.write();
  world.stream.probe();
  await world.advance(longMs / 2);
  world.expectNone();
  world.stream.retry();
  assert.equal(world.next().mayAsk, true);
});

Deno.test("an attempt that hangs is given up for a new one on a person's word", async () => {
  using world = new World();
  await world.lose();
  const hanging = world.next();
  world.stream.retry();
  assert.equal(hanging.signal.aborted, true);
  hanging.fail(new UpstreamLostError("given up"));
  await settled();
  world.next().succeed();
  await settled();
  assert.equal(world.stream.away, undefined);
});

Deno.test("whoever watches hears of the loss, of the host, and of the return", async () => {
  using world = new World();
  const seen: string[] = [];
  world.stream.watch(() => {
    const { away } = world.stream;
    const now = away === undefined ? "there" : away.isReached ? "reached" : "away";
    if (seen.at(-1) !== now) seen.push(now);
  });
  await world.lose();
  const failing = world.next();
  failing.reach();
  failing.fail(new UpstreamLostError("reset"));
  await settled();
  await world.advance(500);
  const attempt = world.next();
  attempt.reach();
  assert.equal(attempt.signal.aborted, false);
  attempt.succeed();
  await settled();
  assert.deepEqual(seen, ["away", "reached", "away", "reached", "there"]);
});

Deno.test("a host that keeps it no more ends it", async () => {
  using world = new World();
  await world.lose();
  const read = assert.rejects(world.read(), /cannot be resumed: the host does not keep it/);
  world.next().fail(new NotKeptError("the host does not keep it any more"));
  await read;
});
