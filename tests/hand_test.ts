/** Clients of the relay that run in this process, and a host that floods them. */

import assert from "node:assert/strict";
import { RelayClient } from "../lib/relay_client.ts";
import { unknownClient } from "../lib/relay_status.ts";
import { MessageType } from "../lib/wire.ts";
import { World } from "./support/memory.ts";

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
