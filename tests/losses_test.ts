/** What is kept of the times without connection, and how round trips are measured. */

import assert from "node:assert/strict";
import { UpstreamLostError } from "../lib/errors.ts";
import { Losses } from "../lib/losses.ts";
import { RoundTrips } from "../lib/round_trips.ts";
import { FakeTime } from "./support/fake_time.ts";

function lost(words: string) {
  return { reason: new UpstreamLostError(words), endedBy: "network" as const };
}

Deno.test("a loss has its reason, its length, its attempts and what ended it", () => {
  let now = 1000;
  const losses = new Losses(() => now);
  // The first connection comes, and does not come back.
  losses.onAttempt();
  losses.onReady("person");
  assert.deepEqual([losses.describe(), losses.reconnections], [[], 0]);
  now = 5000;
  losses.onLost({ reason: new UpstreamLostError("\x1b[2J gone"), endedBy: "server" });
  losses.onAttempt();
  now = 5400;
  const away = {
    ...{ since: "1970-01-01T00:00:05.000Z", reason: "\\x1b[2J gone", endedBy: "server" as const },
    ...{ awayMs: 400, attempts: 1, backBy: null },
  };
  assert.deepEqual(losses.describe(), [away]);
  losses.onAttempt();
  now = 9000;
  losses.onReady("client");
  now = 20_000;
  assert.deepEqual(losses.describe(), [{ ...away, awayMs: 4000, attempts: 2, backBy: "client" }]);
  assert.equal(losses.reconnections, 1);
});

Deno.test("the last twenty losses are kept, and none of their words for long", () => {
  const losses = new Losses(() => 0);
  for (let number = 1; number <= 25; number++) {
    losses.onLost(lost(`loss ${number} ${"x".repeat(10_000)}`));
    losses.onReady("timer");
  }
  const all = losses.describe();
  assert.deepEqual([all.length, losses.reconnections], [20, 25]);
  assert.match(all[0]!.reason, /^loss 6 /);
  assert(all.every(({ reason }) => reason.length === 500));
});

Deno.test("while a keepalive has no answer no other is sent, and nobody waits for ever", async () => {
  using time = new FakeTime();
  const owed: (() => void)[] = [];
  const roundTrips = new RoundTrips((onReply) => void owed.push(onReply));
  const first = roundTrips.measure();
  time.advance(5000);
  assert.equal(await first, undefined);
  const second = roundTrips.measure();
  assert.equal(owed.length, 1);
  time.advance(1000);
  owed.shift()!();
  const measured = await second;
  assert.equal(measured?.milliseconds, 6000);
  assert.deepEqual(roundTrips.last, measured);

  const third = roundTrips.measure();
  time.advance(30);
  owed.shift()!();
  assert.equal((await third)?.milliseconds, 30);
  const fourth = roundTrips.measure();
  roundTrips.stop();
  assert.equal(await fourth, undefined);
  assert.equal(await roundTrips.measure(), undefined);
  assert.equal(owed.length, 1);
});
