/** Messages from hand to hand: when the giver hears that less waits. */

import assert from "node:assert/strict";
import { Hand } from "../lib/hand.ts";
import { settled } from "./support/scripted_connector.ts";

/** Two hands, what the second has taken, and how often the first has heard that less waits. */
function join(): { giver: Hand; taker: Hand; taken: number[]; drains: () => number } {
  const [giver, taker] = [new Hand(), new Hand()];
  const taken: number[] = [];
  let drains = 0;
  giver.meet(taker, () => {});
  taker.meet(giver, () => {});
  giver.start({ onPayload() {}, onDrain: () => drains++, onDisconnect() {} });
  taker.start({
    onPayload: ({ length }) => taken.push(length),
    onDrain() {},
    onDisconnect() {},
  });
  return { giver, taker, taken, drains: () => drains };
}

Deno.test("whoever gives little is not told of each message that was taken", async () => {
  const { giver, taken, drains } = join();
  for (let count = 0; count < 100; count++) {
    giver.send(new Uint8Array(1000));
    await settled();
  }
  assert.equal(taken.length, 100);
  assert.equal(drains(), 0);
});

Deno.test("what was given and what is held count together, and their end is told once", async () => {
  const { giver, taker, taken, drains } = join();
  const bytes = 300 * 1024;
  for (let count = 0; count < 4; count++) {
    giver.send(new Uint8Array(bytes));
    await settled();
    taker.hold(bytes);
  }
  assert.deepEqual(taken, Array(4).fill(bytes));
  assert.equal(giver.backlogBytes, 4 * bytes);
  for (const expected of [0, 0, 1, 1]) {
    taker.hold(-bytes);
    assert.equal(drains(), expected);
  }
  assert.equal(giver.backlogBytes, 0);
});

Deno.test("a hand that was held up says when it takes again", async () => {
  const { giver, taker, taken, drains } = join();
  taker.pause();
  giver.send(new Uint8Array(10));
  await settled();
  assert.ok(giver.isHeldUp);
  assert.deepEqual([taken, drains()], [[], 0]);
  taker.resume();
  await settled();
  assert.deepEqual([taken, drains()], [[10], 1]);
});
