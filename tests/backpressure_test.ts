/** Nobody fills the memory, or makes the others wait for long: whoever sends too much is not read. */

import assert from "node:assert/strict";
import { encodeFields } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import {
  type MemoryPeer,
  type Sent,
  usualPacketBytes,
  usualWindowBytes,
  World,
} from "./support/memory.ts";

const { channelOpen, channelOpenFailure, channelOpenConfirmation, channelRequest } = MessageType;
const { globalRequest, requestSuccess, ping } = MessageType;
const mebibyte = 1024 * 1024;

Deno.test("a client whose requests wait for upstream is not read, until they are answered", () => {
  for (const wantReply of [true, false]) {
    const world = new World();
    world.relay.detachUpstream("cut");
    const client = world.client("client");
    let asked = 0;
    while (!client.isPaused) askForForward(client, asked++, { wantReply });
    assert.equal(asked, 256);
    const upstream = world.attach();
    assert.equal(upstream.take().length, 256);
    assert(client.isPaused);
    upstream.say(requestSuccess);
    assert(!client.isPaused);
    assert.equal(client.take().length, wantReply ? 1 : 0);
  }
});

Deno.test("long requests that wait count by their bytes", () => {
  const world = new World();
  world.relay.detachUpstream("cut");
  const client = world.client("client");
  let asked = 0;
  while (!client.isPaused) {
    askForForward(client, asked++, { wantReply: true, path: "x".repeat(30_000) });
  }
  assert.equal(asked, 35);
  world.relay.refuseOpens("no way");
  assert(!client.isPaused);
  assert.equal(client.take().length, 35);
});

Deno.test("while a client does not take what windows do not bound, upstream is not read", () => {
  const world = new World();
  const [stopped, bystander] = [world.client("stopped"), world.client("bystander")];
  const channel = world.open(stopped);
  const other = world.open(bystander);
  // 32 MiB, 32 KiB for its one channel, and 8 MiB for the rest.
  stopped.backlogBytes = 40 * mebibyte + 32 * 1024;
  channel.down(channelRequest, "flood@example.com", false);
  assert(!world.upstream.isPaused);
  stopped.backlogBytes++;
  channel.down(channelRequest, "flood@example.com", false);
  assert(world.upstream.isPaused);
  assert(world.relay.isPaused(world.upstream));
  assert(!bystander.isPaused);
  stopped.drain();
  assert(!world.upstream.isPaused);
  assert.equal(world.clock.pending, 0);
  other.expectAlive();
});

Deno.test("a client that takes nothing while everybody waits for it is ended after 10 s", () => {
  const world = new World();
  const stopped = world.client("stopped");
  const channel = world.open(stopped);
  const other = world.open(world.client("bystander"));
  stopped.backlogBytes = 100 * mebibyte;
  channel.down(channelRequest, "flood@example.com", false);
  stopped.backlogBytes = 99 * mebibyte;
  world.clock.advance(10_000);
  assert.equal(stopped.ending, undefined, "it has taken something");
  assert(world.upstream.isPaused);
  world.clock.advance(10_000);
  assert.match(stopped.ending!.description, /everybody waits/);
  assert(!world.upstream.isPaused);
  world.upstream.take();
  other.expectAlive();
});

Deno.test("an upstream that does not take the answers to what it asks is not read", () => {
  for (const type of [globalRequest, ping]) {
    const world = new World();
    const { upstream } = world;
    let answers = 0;
    upstream.onSent = ({ payload }) => {
      answers++;
      upstream.backlogBytes += payload.length + 36;
    };
    while (!upstream.isPaused) {
      if (type === ping) upstream.say(ping, "still there?");
      else upstream.say(globalRequest, "keepalive@openssh.com", true);
    }
    assert.equal(answers, 32_769);
    upstream.drain();
    assert(!upstream.isPaused);
  }
});

Deno.test("what clients have sent to upstream does not keep it from being read", () => {
  const world = new World();
  const channel = world.open(world.client("client"));
  world.upstream.backlogBytes = 100 * mebibyte;
  channel.expectAlive();
  assert(!world.upstream.isPaused);
});

Deno.test("of what upstream opens, 256 channels wait for one client's answers, and 950 are open", () => {
  const world = new World();
  const client = world.client("client");
  askForForward(client, 0, { wantReply: true });
  world.upstream.expect(globalRequest);
  world.upstream.say(requestSuccess);
  client.expect(requestSuccess);
  const body = encodeFields("/tmp/0", "");
  const open = () => world.askFromUpstream("forwarded-streamlocal@openssh.com", body);
  for (let round = 0; round < 5; round++) {
    for (let count = 0; count < 190; count++) open();
    for (const { message } of client.take()) {
      assert(message.type === channelOpen);
      const own = message.senderChannel;
      client.say(channelOpenConfirmation, own, own, usualWindowBytes, usualPacketBytes);
    }
  }
  assert.equal(world.upstream.take().length, 950);
  open();
  assert.match(world.upstream.expect(channelOpenFailure).description, /too many channels/);
  client.expectNothing();
});

Deno.test("the share of a client shrinks as the channels of all grow; sessions keep a reserve", () => {
  const world = new World();
  const counts = ["first", "second", "third"].map((name) => {
    const client = world.client(name);
    let count = 0;
    while (forward(world, client, count)) count++;
    assert.match(client.expect(channelOpenFailure).description, /channels are open in all/);
    world.open(client, { downstream: 5000 }).expectAlive();
    return count;
  });
  assert.deepEqual(counts, [713, 177, 44]);
});

Deno.test("clients that come, open channels and leave do not pass the limit for all", () => {
  const world = new World();
  const asked: Sent[] = [];
  for (let round = 0; round < 60; round++) {
    const client = world.client(`client ${round}`);
    for (let own = 0; own < 250; own++) client.say(channelOpen, "direct-tcpip", own, ...there);
    asked.push(...world.upstream.take());
    client.take();
    client.leave();
  }
  assert.equal(asked.length, 950);
  assert.equal(world.relay.channelCount, 950);

  const client = world.client("client");
  client.say(channelOpen, "direct-tcpip", 1, ...there);
  const { description } = client.expect(channelOpenFailure);
  assert.match(description, /^950 channels are open in all, 0 of them this client's/);
  world.open(client, { downstream: 2 }).expectAlive();
  client.say(globalRequest, "tcpip-forward", true, "", 8080);
  world.upstream.expect(globalRequest);
  world.upstream.say(requestSuccess);
  client.expect(requestSuccess);
  const origin = { raw: encodeFields("", 8080, "", 1) };
  world.upstream.say(channelOpen, "forwarded-tcpip", 1, usualWindowBytes, usualPacketBytes, origin);
  assert.match(world.upstream.expect(channelOpenFailure).description, /too many channels/);

  // Upstream answers for those that have left, one after the other.
  for (const { message } of asked.slice(0, 2)) {
    assert(message.type === channelOpen);
    world.upstream.say(channelOpenFailure, message.senderChannel, 2, "", "");
  }
  assert(forward(world, client, 3));
  world.expectQuiet(client);
});

/** What follows the sender channel in the opening of a forwarded connection. */
const there = [usualWindowBytes, usualPacketBytes, "there", 80, "here", 1024] as const;

/** Opens a forwarded connection, if it may be opened. */
function forward(world: World, client: MemoryPeer, own: number): boolean {
  client.say(channelOpen, "direct-tcpip", own, ...there);
  const [asked] = world.upstream.take();
  if (asked === undefined) return false;
  assert(asked.message.type === channelOpen);
  const { senderChannel } = asked.message;
  world.upstream.say(channelOpenConfirmation, senderChannel, own, usualWindowBytes, 32768);
  client.expect(channelOpenConfirmation);
  return true;
}

function askForForward(
  client: MemoryPeer,
  index: number,
  { wantReply = false, path = "" }: { wantReply?: boolean; path?: string },
): void {
  client.say(globalRequest, "streamlocal-forward@openssh.com", wantReply, `/tmp/${index}${path}`);
}
