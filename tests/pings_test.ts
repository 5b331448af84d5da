/** `ping@openssh.com`: who answers, in which order, and what is kept meanwhile. */

import assert from "node:assert/strict";
import { MessageType } from "../lib/wire.ts";
import { type MemoryPeer, World } from "./support/memory.ts";

const { ping, pong } = MessageType;
const bytes = (text: string) => new TextEncoder().encode(text);

const answersPings = true;

function worldWithPings(): World {
  return new World({}, { answersPings });
}

function expectPong(client: MemoryPeer, data: string): void {
  assert.deepEqual(client.expect(pong).data, bytes(data));
}

Deno.test("pings go upstream between a client's other messages, and pongs come back in order", () => {
  const world = worldWithPings();
  const [one, two] = [world.client("one"), world.client("two")];
  const session = world.open(one);
  session.up(MessageType.channelData, bytes("a"));
  one.say(ping, bytes("first"));
  session.up(MessageType.channelData, bytes("b"));
  two.say(ping, bytes("second"));
  session.expectUp(MessageType.channelData);
  assert.deepEqual(world.upstream.expect(ping).data, bytes("first"));
  session.expectUp(MessageType.channelData);
  assert.deepEqual(world.upstream.expect(ping).data, bytes("second"));
  one.expectNothing();

  world.upstream.say(pong, bytes("first"));
  expectPong(one, "first");
  two.expectNothing();
  world.upstream.say(pong, bytes("second"));
  expectPong(two, "second");
  world.expectQuiet(one, two);
});

Deno.test("pings are answered here where upstream does not announce them, or is away", () => {
  const world = new World();
  const client = world.client("client");
  client.say(ping, bytes("one"));
  expectPong(client, "one");
  world.relay.detachUpstream("test");
  client.say(ping, bytes("two"));
  expectPong(client, "two");
  world.expectQuiet(client);
});

Deno.test("what upstream owes when it is lost is answered here, and the next one owes nothing", () => {
  const world = worldWithPings();
  const client = world.client("client");
  client.say(ping, bytes("one"));
  world.relay.detachUpstream("test");
  expectPong(client, "one");
  const upstream = world.attach({ allowsForwards: true }, { answersPings });
  upstream.say(pong, bytes("stray"));
  client.say(ping, bytes("two"));
  upstream.expect(ping);
  upstream.say(pong, bytes("two"));
  expectPong(client, "two");
  world.expectQuiet(client);
});

Deno.test("the pong for a client that has left goes to nobody", () => {
  const world = worldWithPings();
  const [one, two] = [world.client("one"), world.client("two")];
  one.say(ping, bytes("one"));
  two.say(ping, bytes("two"));
  one.leave();
  world.upstream.take();
  world.upstream.say(pong, bytes("one"));
  two.expectNothing();
  world.upstream.say(pong, bytes("two"));
  expectPong(two, "two");
  one.expectNothing();
});

Deno.test("a flood of pings, and a long one, does not wait for upstream", () => {
  const world = worldWithPings();
  const client = world.client("client");
  for (let count = 0; count < 300; count++) client.say(ping, bytes("x"));
  assert.equal(world.upstream.take().length, 256);
  assert.equal(client.take().length, 300 - 256);
  client.say(ping, new Uint8Array(2000));
  assert.equal(client.expect(pong).data.length, 2000);
  world.upstream.say(pong, bytes("x"));
  expectPong(client, "x");
  client.say(ping, new Uint8Array(1024));
  assert.equal(world.upstream.expect(ping).data.length, 1024);
});

Deno.test("a ping of upstream is answered, and no client hears of it", () => {
  const world = new World();
  const client = world.client("client");
  world.upstream.say(ping, bytes("alive?"));
  assert.deepEqual(world.upstream.expect(pong).data, bytes("alive?"));
  world.expectQuiet(client);
});

Deno.test("pings take the connection that the client's newest session takes", () => {
  const world = new World({ sessions: 1 }, { answersPings });
  const client = world.client("client");
  world.open(client);
  const overflow = world.attachOverflow({ answersPings });
  client.say(MessageType.channelOpen, "session", 8, 1000, 1000);
  const { senderChannel } = overflow.expect(MessageType.channelOpen);
  overflow.say(MessageType.channelOpenConfirmation, senderChannel, 1, 1000, 1000);
  client.expectOn(MessageType.channelOpenConfirmation, 8);
  client.say(ping, bytes("key"));
  world.upstream.expectNothing();
  assert.deepEqual(overflow.expect(ping).data, bytes("key"));
  world.relay.detachOverflow(overflow, "test");
  expectPong(client, "key");
});
