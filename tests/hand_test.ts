/** Clients of the relay that run in this process: what passes from hand to hand, and a host that floods. */

import assert from "node:assert/strict";
import { Hand } from "../lib/hand.ts";
import { RelayClient } from "../lib/relay_client.ts";
import { unknownClient } from "../lib/relay_status.ts";
import { MessageType } from "../lib/wire.ts";
import { World } from "./support/memory.ts";
import { settled } from "./support/scripted_connector.ts";

const { channelClose, channelFailure, channelOpen, channelOpenConfirmation, channelRequest } =
  MessageType;

/** Everything that was passed on is taken. */
const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

Deno.test("a client here is ended that answers a host on and on which takes nothing", async () => {
  const world = new World();
  const { upstream } = world;
  const endings: string[] = [];
  const client = new RelayClient(world.relay, {
    about: unknownClient,
    onEnd: (reason) => void endings.push(reason),
  });
  client.openChannel("session", { body: new Uint8Array() }, () => ({
    onData() {},
    onRoom() {},
    onEof() {},
    onClose() {},
  }));
  await turn();
  const { senderChannel: slot } = upstream.expect(channelOpen);
  upstream.say(channelOpenConfirmation, slot, 9, 0, 1000);
  await turn();
  const ask = async (count: number) => {
    for (let at = 0; at < count; at++) {
      upstream.say(channelRequest, slot, "invented@example.com", true);
      if (at % 1000 === 0) await turn();
    }
    await turn();
  };
  await ask(100);
  assert.equal(upstream.take().length, 100);

  // Whoever takes answers at last gets all of them.
  upstream.backlogBytes = 40 * 1024 * 1024;
  await ask(10_000);
  assert.equal(upstream.take().length, 1);
  upstream.drain();
  await turn();
  assert.equal(upstream.take().length, 9999);

  upstream.backlogBytes = 40 * 1024 * 1024;
  await ask(70_000);
  assert.equal(endings.length, 1);
  assert.equal(upstream.expect(channelFailure).recipientChannel, 9);
  upstream.expectOn(channelClose, 9);
  upstream.say(channelClose, slot);
  world.expectQuiet();
  assert.equal(world.clock.pending, 0);
});

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
