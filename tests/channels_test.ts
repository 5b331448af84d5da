/** The relay of channels: opening, messages, ends, and clients or an upstream that go away. */

import assert from "node:assert/strict";
import { restingSlotsLimit, slotRestMs } from "../lib/channel_slots.ts";
import { encodeFields, utf8String } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { type OpenChannel, patternBytes, World } from "./support/memory.ts";

const {
  channelOpen,
  channelOpenConfirmation,
  channelOpenFailure,
  channelWindowAdjust,
  channelData,
  channelExtendedData,
  channelEof,
  channelClose,
  channelRequest,
  channelSuccess,
  channelFailure,
} = MessageType;

// Opening

Deno.test("an open and its confirmation pass with the numbers of each side", () => {
  const world = new World();
  const alice = world.client("alice");
  alice.say(channelOpen, "session", 7, 1000, 2000);
  const asked = world.upstream.expect(channelOpen);
  assert.equal(asked.channelType, "session");
  assert.equal(asked.initialWindowSize, 1000);
  assert.equal(asked.maximumPacketSize, 2000);
  world.upstream.say(channelOpenConfirmation, asked.senderChannel, 42, 3000, 4000);
  const confirmed = alice.expectOn(channelOpenConfirmation, 7);
  assert.equal(confirmed.senderChannel, asked.senderChannel);
  assert.equal(confirmed.initialWindowSize, 3000);
  assert.equal(confirmed.maximumPacketSize, 4000);
  world.expectQuiet(alice);
});

Deno.test("the body of an open passes, of known and of unknown types, with known answers", () => {
  const world = new World();
  const alice = world.client("alice");
  for (
    const [type, body] of [
      ["direct-tcpip", encodeFields("example.com", 80, "127.0.0.1", 5000)],
      ["direct-streamlocal@openssh.com", encodeFields("/tmp/s", "", 0)],
      ["invented@example.com", Uint8Array.of(1, 0, 255)],
      ["", new Uint8Array()],
    ] as const
  ) {
    const channel = world.open(alice, { type, body });
    channel.expectAlive();
    channel.close();
  }
  world.expectQuiet(alice);
});

Deno.test("what follows a confirmation of upstream's passes too", () => {
  const world = new World();
  const alice = world.client("alice");
  const slot = world.ask(alice, { type: "invented@example.com" });
  const extra = Uint8Array.of(9, 8, 7);
  world.upstream.say(channelOpenConfirmation, slot, 42, 0, 0, { raw: extra });
  assert.deepEqual(alice.expectOn(channelOpenConfirmation, 7).data, extra);
  world.expectQuiet(alice);
});

Deno.test("the numbers of two clients do not mix, even where they are the same", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const first = world.open(alice, { downstream: 0, upstream: 5 });
  const second = world.open(bob, { downstream: 0, upstream: 6 });
  assert.notEqual(first.slot, second.slot);
  first.expectAlive();
  second.expectAlive();
  first.expectAlive();
  world.expectQuiet(alice, bob);
});

Deno.test("a confirmation reaches the client whose open it answers, in any order", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const first = world.ask(alice, { downstream: 1 });
  const second = world.ask(bob, { downstream: 2 });
  const third = world.ask(alice, { downstream: 3 });
  world.upstream.say(channelOpenConfirmation, third, 30, 0, 0);
  world.upstream.say(channelOpenConfirmation, second, 20, 0, 0);
  world.upstream.say(channelOpenConfirmation, first, 10, 0, 0);
  alice.expectOn(channelOpenConfirmation, 3);
  alice.expectOn(channelOpenConfirmation, 1);
  bob.expectOn(channelOpenConfirmation, 2);
  world.expectQuiet(alice, bob);
});

Deno.test("numbers beyond 2^31 are numbers like any other", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice, { downstream: 0xffffffff, upstream: 0x80000000 });
  channel.expectAlive();
  channel.close();
  world.expectQuiet(alice);
});

Deno.test("a refused open passes with its reason and frees the slot", () => {
  const world = new World();
  const alice = world.client("alice");
  const slot = world.ask(alice);
  const text = utf8String("Verbindung verweigert – nö");
  world.upstream.say(channelOpenFailure, slot, 2, text, "de");
  const failure = alice.expectOn(channelOpenFailure, 7);
  assert.equal(failure.reasonCode, 2);
  assert.equal(failure.description, text);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("3,000 refused opens leave another client's session alone and no slot behind", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const session = world.open(bob);
  const body = encodeFields("127.0.0.1", 1, "127.0.0.1", 2);
  for (let count = 0; count < 3000; count++) {
    const slot = world.ask(alice, { type: "direct-tcpip", body, downstream: count });
    assert(slot <= restingSlotsLimit + 1, "slots are taken again");
    world.upstream.say(channelOpenFailure, slot, 2, "Connection refused", "");
    alice.expectOn(channelOpenFailure, count);
  }
  session.expectAlive();
  assert.equal(world.relay.channelCount, 1);
  world.expectQuiet(alice, bob);
});

Deno.test("the maximum packet size is clamped to 32768 in both directions", () => {
  for (
    const [announced, expected] of [[1, 1], [32767, 32767], [32768, 32768], [32769, 32768], [
      0xffffffff,
      32768,
    ]]
  ) {
    const world = new World();
    const alice = world.client("alice");
    alice.say(channelOpen, "session", 7, 0, announced!);
    const asked = world.upstream.expect(channelOpen);
    assert.equal(asked.maximumPacketSize, expected);
    world.upstream.say(channelOpenConfirmation, asked.senderChannel, 42, 0, announced!);
    assert.equal(alice.expect(channelOpenConfirmation).maximumPacketSize, expected);
    world.expectQuiet(alice);
  }
});

Deno.test("a client has at most its number of channels, and closed ones do not count", () => {
  const world = new World({ channels: 3 });
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const channels = [1, 2, 3].map((downstream) => world.open(alice, { downstream }));
  alice.say(channelOpen, "session", 4, 0, 0);
  assert.equal(alice.expectOn(channelOpenFailure, 4).reasonCode, 4);
  world.upstream.expectNothing();
  world.open(bob).expectAlive();
  channels[1]!.close();
  world.open(alice, { downstream: 4 }).expectAlive();
  alice.say(channelOpen, "session", 5, 0, 0);
  alice.expectOn(channelOpenFailure, 5);
  world.expectQuiet(alice, bob);
});

// Messages

Deno.test("data and stderr pass both ways, whole and in order", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  for (const size of [0, 1, 2, 255, 256, 32767, 32768]) {
    const data = patternBytes(size, size);
    channel.up(channelData, data);
    assert.deepEqual(channel.expectUp(channelData).data, data);
    channel.down(channelData, data);
    assert.deepEqual(channel.expectDown(channelData).data, data);
    channel.down(channelExtendedData, 1, data);
    const extended = channel.expectDown(channelExtendedData);
    assert.deepEqual(extended.data, data);
    assert.deepEqual(extended.payload.subarray(5, 9), Uint8Array.of(0, 0, 0, 1));
    channel.up(channelExtendedData, 0xfffffffe, data);
    assert.deepEqual(channel.expectUp(channelExtendedData).data, data);
  }
  world.expectQuiet(alice);
});

Deno.test("requests of known and unknown types pass both ways, with their replies", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  const body = { raw: Uint8Array.of(0, 1, 255) };
  channel.up(channelRequest, "exec", true, "true");
  channel.up(channelRequest, "invented@example.com", true, body);
  channel.up(channelRequest, "invented@example.com", false, body);
  assert.equal(channel.expectUp(channelRequest).requestType, "exec");
  for (const wantReply of [true, false]) {
    const request = channel.expectUp(channelRequest);
    assert.equal(request.requestType, "invented@example.com");
    assert.equal(request.wantReply, wantReply);
    assert.deepEqual(request.data, body.raw);
  }
  channel.down(channelSuccess);
  channel.down(channelFailure);
  channel.expectDown(channelSuccess);
  channel.expectDown(channelFailure);

  channel.down(channelRequest, "exit-status", false, 37);
  channel.down(channelRequest, "other@example.com", true, body);
  assert.equal(channel.expectDown(channelRequest).requestType, "exit-status");
  assert.deepEqual(channel.expectDown(channelRequest).data, body.raw);
  channel.up(channelFailure);
  channel.expectUp(channelFailure);
  world.expectQuiet(alice);
});

Deno.test("as many replies pass as requests wanted one", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const channel = world.open(alice);
  const bystander = world.open(bob);
  for (let count = 0; count < 3; count++) channel.down(channelRequest, "a@example.com", true);
  for (let count = 0; count < 3; count++) channel.expectDown(channelRequest);
  for (let count = 0; count < 3; count++) channel.up(channelSuccess);
  for (let count = 0; count < 3; count++) channel.expectUp(channelSuccess);
  alice.say(channelSuccess, channel.slot);
  channel.expectAlive();
  bystander.expectAlive();
  world.expectQuiet(alice, bob);
});

Deno.test("a request to which upstream wants no reply allows none", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.down(channelRequest, "exit-status", false, 0);
  channel.expectDown(channelRequest);
  channel.up(channelFailure);
  channel.expectAlive();
  world.expectQuiet(alice);
});

Deno.test("upstream's keepalive on a channel is answered here, at once", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.down(channelRequest, "keepalive@openssh.com", true);
  channel.expectUp(channelFailure);
  channel.down(channelRequest, "keepalive@openssh.com", false);
  world.expectQuiet(alice);
});

Deno.test("a keepalive behind another request of upstream's keeps the order of the replies", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.down(channelRequest, "first@example.com", true);
  channel.down(channelRequest, "keepalive@openssh.com", true);
  channel.expectDown(channelRequest);
  assert.equal(channel.expectDown(channelRequest).requestType, "keepalive@openssh.com");
  channel.up(channelSuccess);
  channel.up(channelFailure);
  channel.expectUp(channelSuccess);
  channel.expectUp(channelFailure);
  channel.down(channelRequest, "keepalive@openssh.com", true);
  channel.expectUp(channelFailure);
  world.expectQuiet(alice);
});

Deno.test("upstream's keepalive on a channel that a stalled client does not close is answered", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.down(channelClose);
  channel.expectDown(channelClose);
  channel.down(channelRequest, "keepalive@openssh.com", true);
  channel.expectUp(channelFailure);
  channel.up(channelClose);
  channel.expectUp(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("upstream's keepalive on a channel that the client has closed is not answered", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.up(channelClose);
  channel.expectUp(channelClose);
  channel.down(channelRequest, "keepalive@openssh.com", true);
  world.expectQuiet(alice);
});

Deno.test("a client's keepalive on a channel is upstream's to answer", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.up(channelRequest, "keepalive@openssh.com", true);
  channel.expectUp(channelRequest);
  channel.down(channelFailure);
  channel.expectDown(channelFailure);
  world.expectQuiet(alice);
});

Deno.test("one terminal per session: a second would make sshd drop everybody", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const pty = ["pty-req", true, "xterm", 80, 24, 0, 0, ""] as const;
  const [first, second, other] = [
    world.open(alice, { downstream: 1 }),
    world.open(alice, { downstream: 2 }),
    world.open(bob),
  ];
  for (const channel of [first, second, other]) {
    channel.up(channelRequest, ...pty);
    channel.expectUp(channelRequest);
  }
  first.up(channelRequest, ...pty);
  alice.expectEnded(/second terminal/);
  first.expectUp(channelClose);
  second.expectUp(channelClose);
  other.expectAlive();
});

// Closing

Deno.test("a client closes first: the slot is free once upstream has closed", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.up(channelClose);
  channel.expectUp(channelClose);
  // What upstream sent before it knew still arrives.
  channel.down(channelData, "late");
  channel.expectDown(channelData);
  channel.down(channelRequest, "exit-status", false, 0);
  channel.expectDown(channelRequest);
  assert.equal(world.relay.channelCount, 1);
  channel.down(channelClose);
  channel.expectDown(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("upstream closes first: the slot is free once the client has closed", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.down(channelClose);
  channel.expectDown(channelClose);
  channel.up(channelData, "late");
  channel.expectUp(channelData);
  assert.equal(world.relay.channelCount, 1);
  channel.up(channelClose);
  channel.expectUp(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a request behind upstream's CLOSE is dropped, and the client's CLOSE is not", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.down(channelClose);
  channel.expectDown(channelClose);
  channel.up(channelRequest, "exec", true, "true");
  world.expectQuiet(alice);
  channel.up(channelClose);
  channel.expectUp(channelClose);
  assert.equal(world.relay.channelCount, 0);
});

Deno.test("what an end sends after its own CLOSE is dropped", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.up(channelClose);
  channel.expectUp(channelClose);
  channel.up(channelData, "x");
  channel.up(channelEof);
  channel.up(channelData, "even after EOF");
  channel.up(channelClose);
  channel.up(channelRequest, "shell", true);
  channel.up(channelWindowAdjust, 0xffffffff);
  channel.up(channelSuccess);
  world.upstream.expectNothing();
  channel.down(channelClose);
  channel.expectDown(channelClose);

  const second = world.open(alice);
  second.down(channelClose);
  second.expectDown(channelClose);
  second.down(channelData, "x");
  second.down(channelEof);
  second.down(channelData, "even after EOF");
  second.down(channelClose);
  second.down(channelRequest, "exit-status", false, 0);
  alice.expectNothing();
  second.up(channelClose);
  second.expectUp(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("EOF passes both ways and leaves the other direction open", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.up(channelEof);
  channel.expectUp(channelEof);
  channel.down(channelData, "after EOF of the client");
  channel.expectDown(channelData);
  channel.up(channelRequest, "signal", false, "INT");
  channel.expectUp(channelRequest);
  channel.up(channelWindowAdjust, 10);
  assert.equal(channel.expectUp(channelWindowAdjust).bytesToAdd, 10);
  channel.down(channelEof);
  channel.expectDown(channelEof);
  channel.down(channelRequest, "exit-status", false, 0);
  channel.expectDown(channelRequest);
  channel.down(channelClose);
  channel.expectDown(channelClose);
  channel.up(channelClose);
  channel.expectUp(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a second EOF is not passed on", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  for (let count = 0; count < 2; count++) {
    channel.up(channelEof);
    channel.down(channelEof);
  }
  channel.expectUp(channelEof);
  channel.expectDown(channelEof);
  world.expectQuiet(alice);
});

Deno.test("a slot is taken again, by another client too, and starts afresh", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const first = world.open(alice, {
    upstreamAnnounces: { windowBytes: 10, packetBytes: 10 },
    downstreamAnnounces: { windowBytes: 10, packetBytes: 10 },
  });
  first.up(channelRequest, "pty-req", true, "xterm", 80, 24, 0, 0, "");
  first.expectUp(channelRequest);
  first.up(channelData, patternBytes(10));
  first.expectUp(channelData);
  first.up(channelEof);
  first.expectUp(channelEof);
  first.down(channelRequest, "a@example.com", true);
  first.expectDown(channelRequest);
  first.close();
  assert.notEqual(world.ask(bob, { downstream: 9 }), first.slot);
  world.clock.advance(slotRestMs);
  const second = world.open(bob);
  assert.equal(second.slot, first.slot);
  second.up(channelRequest, "pty-req", true, "xterm", 80, 24, 0, 0, "");
  second.expectUp(channelRequest);
  second.up(channelData, patternBytes(32768));
  second.expectUp(channelData);
  second.expectAlive();
  alice.say(channelData, second.slot, "mine?");
  second.expectAlive();
  world.expectQuiet(alice, bob);
});

Deno.test("slots stay few however many channels come and go", () => {
  const world = new World();
  const alice = world.client("alice");
  let open: OpenChannel[] = [];
  for (let round = 0; round < 300; round++) {
    while (open.length < 10) open.push(world.open(alice, { downstream: round * 10 + open.length }));
    const slots = new Set(open.map((channel) => channel.slot));
    assert.equal(slots.size, 10);
    assert(Math.max(...slots) < 10 + restingSlotsLimit);
    open = open.filter((channel, index) => {
      if ((index + round) % 3 === 0) return true;
      channel.close();
      return false;
    });
  }
  for (const channel of open) channel.close();
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

// Sessions of one client

Deno.test("no-more-sessions is kept for the client that said it, and not passed on", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const session = world.open(alice, { downstream: 1 });
  alice.say(MessageType.globalRequest, "no-more-sessions@openssh.com", false);
  world.upstream.expectNothing();
  alice.say(channelOpen, "session", 2, 0, 0);
  assert.equal(alice.expectOn(channelOpenFailure, 2).reasonCode, 1);
  world.upstream.expectNothing();
  session.expectAlive();
  const body = encodeFields("localhost", 1, "localhost", 2);
  world.open(alice, { type: "direct-tcpip", body, downstream: 3 }).expectAlive();
  world.open(bob).expectAlive();
  const carol = world.client("carol");
  world.open(carol).expectAlive();
  world.expectQuiet(alice, bob, carol);
});

Deno.test("no-more-sessions with a reply is granted", () => {
  const world = new World();
  const alice = world.client("alice");
  alice.say(MessageType.globalRequest, "no-more-sessions@openssh.com", true);
  alice.expect(MessageType.requestSuccess);
  world.expectQuiet(alice);
});

// Clients that leave

Deno.test("a client leaves before its open is answered: the channel is closed once it is", () => {
  const world = new World();
  const alice = world.client("alice");
  const slot = world.ask(alice);
  alice.leave();
  world.upstream.expectNothing();
  assert.equal(world.relay.channelCount, 1);
  world.upstream.say(channelOpenConfirmation, slot, 42, 100, 100);
  world.upstream.expectOn(channelClose, 42);
  world.upstream.say(channelData, slot, "discarded");
  world.upstream.say(channelEof, slot);
  world.upstream.say(channelClose, slot);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a client leaves before its open is refused: the slot is free then", () => {
  const world = new World();
  const alice = world.client("alice");
  const slot = world.ask(alice);
  alice.leave();
  world.upstream.say(channelOpenFailure, slot, 1, "no", "");
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a client leaves with a live channel: it is closed upstream, the rest is discarded", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const channel = world.open(alice);
  const bystander = world.open(bob);
  alice.leave();
  channel.expectUp(channelClose);
  alice.leave();
  world.upstream.expectNothing();
  channel.down(channelData, patternBytes(32768));
  channel.down(channelWindowAdjust, 1000);
  channel.down(channelRequest, "exit-signal", false, "HUP", false, "", "");
  channel.down(channelEof);
  assert.equal(world.relay.channelCount, 2);
  channel.down(channelClose);
  assert.equal(world.relay.channelCount, 1);
  bystander.expectAlive();
  world.expectQuiet(alice, bob);
});

Deno.test("upstream may use up its window on a channel whose client has left", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice, { downstreamAnnounces: { windowBytes: 0xffffffff } });
  alice.leave();
  channel.expectUp(channelClose);
  for (let count = 0; count < 64; count++) channel.down(channelData, patternBytes(32768));
  channel.down(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a client leaves after its own CLOSE: nothing more is sent upstream", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.up(channelClose);
  channel.expectUp(channelClose);
  alice.leave();
  world.upstream.expectNothing();
  channel.down(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a client leaves without answering upstream's CLOSE: it is answered for it", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.down(channelClose);
  channel.expectDown(channelClose);
  alice.leave();
  channel.expectUp(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a client leaves half-closed channels: each is closed", () => {
  const world = new World();
  const alice = world.client("alice");
  const channels = [1, 2].map((downstream) => world.open(alice, { downstream }));
  channels[0]!.up(channelEof);
  channels[0]!.expectUp(channelEof);
  channels[1]!.down(channelEof);
  channels[1]!.expectDown(channelEof);
  alice.leave();
  for (const channel of channels) channel.expectUp(channelClose);
  for (const channel of channels) channel.down(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a client leaves a channel that upstream asked for: it is refused", () => {
  const world = new World();
  const alice = world.client("alice");
  const session = world.open(alice);
  session.up(channelRequest, "auth-agent-req@openssh.com", false);
  session.expectUp(channelRequest);
  const upstream = world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  alice.expect(channelOpen);
  alice.leave();
  const answers = world.upstream.take().map(({ message }) => message);
  assert.deepEqual(answers.map(({ type }) => type).sort(), [channelOpenFailure, channelClose]);
  const failure = answers.find(({ type }) => type === channelOpenFailure);
  assert.equal((failure as { recipientChannel?: number }).recipientChannel, upstream);
  session.down(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a client that has left is not heard any more", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  alice.leave();
  channel.expectUp(channelClose);
  alice.say(channelData, channel.slot, "x");
  alice.say(channelOpen, "session", 9, 0, 0);
  alice.say(MessageType.globalRequest, "tcpip-forward", true, "", 8080);
  alice.receiver?.drained();
  channel.down(channelClose);
  assert.equal(world.relay.channelCount, 0);
  assert.equal(world.relay.forwardCount, 0);
  world.expectQuiet(alice);
});

// Upstream that is lost

const lost = "the connection to example.com was lost (Connection reset)";
const notice = `\r\nsshshim: ${lost}\r\n`;

Deno.test("upstream is lost: a session says why on stderr and closes without exit status", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  world.relay.detachUpstream(lost);
  const said = channel.expectDown(channelExtendedData);
  assert.equal(new TextDecoder().decode(said.data), notice);
  assert.deepEqual(said.payload.subarray(5, 9), Uint8Array.of(0, 0, 0, 1));
  channel.expectDown(channelClose);
  assert.equal(world.relay.channelCount, 1);
  channel.up(channelData, "still on its way");
  channel.up(channelWindowAdjust, 5);
  channel.up(channelRequest, "window-change", false, 80, 24, 0, 0);
  channel.up(channelEof);
  channel.up(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("the notice is sent only where the client's window and packets take it", () => {
  const size = notice.length;
  for (
    const [windowBytes, packetBytes, used, isTold] of [
      [size, 32768, 0, true],
      [size - 1, 32768, 0, false],
      [32768, size, 0, true],
      [32768, size - 1, 0, false],
      [size + 10, 32768, 10, true],
      [size + 10, 32768, 11, false],
      [0, 32768, 0, false],
    ] as const
  ) {
    const world = new World();
    const alice = world.client("alice");
    const channel = world.open(alice, { downstreamAnnounces: { windowBytes, packetBytes } });
    if (used > 0) {
      channel.down(channelData, patternBytes(used));
      channel.expectDown(channelData);
    }
    world.relay.detachUpstream(lost);
    if (isTold) channel.expectDown(channelExtendedData);
    channel.expectDown(channelClose);
    world.expectQuiet(alice);
  }
});

Deno.test("the notice is counted in bytes, not in characters", () => {
  const world = new World();
  const alice = world.client("alice");
  const reason = "“prod” ist weg – Verbindung verloren";
  const text = new TextEncoder().encode(`\r\nsshshim: ${reason}\r\n`);
  const [fits, doesNot] = [
    world.open(alice, { downstream: 1, downstreamAnnounces: { windowBytes: text.length } }),
    world.open(alice, { downstream: 2, downstreamAnnounces: { windowBytes: text.length - 1 } }),
  ];
  world.relay.detachUpstream(reason);
  assert.deepEqual(fits.expectDown(channelExtendedData).data, text);
  fits.expectDown(channelClose);
  doesNot.expectDown(channelClose);
  world.expectQuiet(alice);
});

Deno.test("however much upstream says at its end, clients get a line that they can take", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  world.relay.detachUpstream("lost: ".padEnd(800_000, "\\x01"));
  const said = new TextDecoder().decode(channel.expectDown(channelExtendedData).data);
  assert.match(said, /^\r\nsshshim: lost: [^]*…\r\n$/);
  assert.ok(said.length < 1100, `${said.length}`);
  channel.expectDown(channelClose);
  alice.say(channelOpen, "session", 9, 100, 100);
  world.clock.advance(30_000);
  const refused = alice.expectOn(channelOpenFailure, 9);
  assert.match(refused.description, /^waited 30 s: lost: /);
  assert.ok(refused.payload.length < 1100, `${refused.payload.length}`);
});

Deno.test("a client may adjust its window by the notice, however large it is", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice, { downstreamAnnounces: { windowBytes: 0xffffffff } });
  world.relay.detachUpstream(lost);
  channel.expectDown(channelExtendedData);
  channel.expectDown(channelClose);
  channel.up(channelWindowAdjust, notice.length);
  channel.up(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("upstream may use up its window after the notice of a stop", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice, { downstreamAnnounces: { windowBytes: 1000 } });
  void world.relay.closeAll("stopped");
  channel.expectDown(channelExtendedData);
  channel.expectDown(channelClose);
  channel.expectUp(channelClose);
  channel.down(channelData, patternBytes(1000));
  channel.down(channelClose);
  world.expectQuiet(alice);
});

Deno.test("upstream is lost: no notice after upstream's EOF or CLOSE, nor on other channels", () => {
  const world = new World();
  const alice = world.client("alice");
  const [ended, closed] = [1, 2].map((downstream) => world.open(alice, { downstream }));
  const body = encodeFields("localhost", 1, "localhost", 2);
  const forward = world.open(alice, { type: "direct-tcpip", body, downstream: 3 });
  ended!.down(channelEof);
  ended!.expectDown(channelEof);
  closed!.down(channelClose);
  closed!.expectDown(channelClose);
  world.relay.detachUpstream(lost);
  ended!.expectDown(channelClose);
  forward.expectDown(channelClose);
  alice.expectNothing();
  for (const channel of [ended!, closed!, forward]) channel.up(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("upstream is lost: a client that has closed already is closed at once", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  channel.up(channelClose);
  channel.expectUp(channelClose);
  world.relay.detachUpstream(lost);
  channel.expectDown(channelExtendedData);
  channel.expectDown(channelClose);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("upstream is lost: a client that answers an open of upstream's is closed then", () => {
  for (const agrees of [true, false]) {
    const world = new World();
    const alice = world.client("alice");
    const session = world.open(alice);
    session.up(channelRequest, "auth-agent-req@openssh.com", false);
    session.expectUp(channelRequest);
    world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
    const slot = alice.expect(channelOpen).senderChannel;
    world.relay.detachUpstream(lost);
    session.expectDown(channelExtendedData);
    session.expectDown(channelClose);
    session.up(channelClose);
    if (agrees) {
      alice.say(channelOpenConfirmation, slot, 77, 100, 100);
      alice.expectOn(channelClose, 77);
      alice.say(channelClose, slot);
    } else {
      alice.say(channelOpenFailure, slot, 1, "", "");
    }
    assert.equal(world.relay.channelCount, 0);
    world.expectQuiet(alice);
  }
});

Deno.test("upstream is lost while channels of clients that left wait for it: they are gone", () => {
  const world = new World();
  const alice = world.client("alice");
  world.open(alice, { downstream: 1 });
  world.ask(alice, { downstream: 2 });
  alice.leave();
  assert.equal(world.relay.channelCount, 2);
  world.relay.detachUpstream(lost);
  assert.equal(world.relay.channelCount, 0);
});

Deno.test("a channel of a lost upstream does not touch the next one", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const old = world.open(alice);
  world.relay.detachUpstream(lost);
  old.expectDown(channelExtendedData);
  old.expectDown(channelClose);
  world.attach();
  const fresh = world.open(bob);
  assert.notEqual(fresh.slot, old.slot);
  alice.say(channelData, old.slot, "x");
  alice.say(channelWindowAdjust, old.slot, 10);
  alice.say(channelClose, old.slot);
  world.upstream.expectNothing();
  fresh.expectAlive();
  world.expectQuiet(alice, bob);
});

Deno.test("what a lost upstream still says is not heard", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  const old = world.upstream;
  world.relay.detachUpstream(lost);
  alice.take();
  old.say(channelData, channel.slot, "late");
  old.say(channelData, 999, "late");
  old.say(MessageType.requestSuccess);
  world.attach();
  old.say(channelClose, channel.slot);
  assert.equal(old.ending, undefined);
  world.expectQuiet(alice);
});

// The end of everything

Deno.test("closing everything tells each session why, closes both ends and waits for both", async () => {
  const world = new World();
  const alice = world.client("alice");
  const session = world.open(alice, { downstream: 1 });
  const body = encodeFields("localhost", 1, "localhost", 2);
  const forward = world.open(alice, { type: "direct-tcpip", body, downstream: 2 });
  const asked = world.ask(alice, { downstream: 3 });
  let isDone = false;
  const done = world.relay.closeAll("stopped").then(() => isDone = true);
  assert.match(String.fromCharCode(...session.expectDown(channelExtendedData).data), /stopped/);
  session.expectDown(channelClose);
  session.expectUp(channelClose);
  forward.expectDown(channelClose);
  forward.expectUp(channelClose);
  assert.match(alice.expectOn(channelOpenFailure, 3).description, /stopped/);
  assert.equal(world.clock.pending, 0);
  world.expectQuiet(alice);

  alice.say(channelOpen, "session", 4, 0, 0);
  assert.match(alice.expectOn(channelOpenFailure, 4).description, /stopped/);
  session.down(channelData, "late");
  session.up(channelData, "late");
  for (const channel of [session, forward]) {
    channel.up(channelClose);
    channel.down(channelClose);
  }
  await Promise.resolve();
  assert.equal(isDone, false);
  world.upstream.say(channelOpenConfirmation, asked, 55, 0, 0);
  world.upstream.expectOn(channelClose, 55);
  world.upstream.say(channelClose, asked);
  await done;
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("once everything is closing, upstream opens no channel any more", async () => {
  const world = new World();
  const alice = world.client("alice");
  const session = world.open(alice);
  session.up(channelRequest, "auth-agent-req@openssh.com", false);
  session.expectUp(channelRequest);
  const upstream = world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  const slot = alice.expect(channelOpen).senderChannel;
  alice.say(MessageType.globalRequest, "tcpip-forward", true, "", 8080);
  world.upstream.expect(MessageType.globalRequest);
  world.upstream.say(MessageType.requestSuccess);
  alice.expect(MessageType.requestSuccess);
  const done = world.relay.closeAll("stopped");
  session.expectDown(channelExtendedData);
  session.expectDown(channelClose);
  session.expectUp(channelClose);
  world.upstream.expectOn(channelOpenFailure, upstream);
  const second = world.askFromUpstream(
    "forwarded-tcpip",
    encodeFields("localhost", 8080, "127.0.0.1", 5000),
  );
  assert.match(world.upstream.expectOn(channelOpenFailure, second).description, /stopped/);
  session.up(channelClose);
  session.down(channelClose);
  alice.say(channelOpenConfirmation, slot, 9, 0, 0);
  alice.expectOn(channelClose, 9);
  alice.say(channelClose, slot);
  await done;
  world.expectQuiet(alice);
});

Deno.test("closing twice ends twice", async () => {
  const world = new World();
  const alice = world.client("alice");
  const session = world.open(alice);
  const first = world.relay.closeAll("stopped");
  const second = world.relay.closeAll("stopped again");
  session.expectDown(channelExtendedData);
  session.expectDown(channelClose);
  session.expectUp(channelClose);
  world.expectQuiet(alice);
  session.up(channelClose);
  session.down(channelClose);
  await Promise.all([first, second]);
  await world.relay.closeAll("and again");
});

// Agent forwarding

Deno.test("upstream's agent channel goes to a client that asked for it, and to no other", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const session = world.open(alice);
  const other = world.open(bob);
  const refused = world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  assert.equal(world.upstream.expectOn(channelOpenFailure, refused).reasonCode, 1);

  session.up(channelRequest, "auth-agent-req@openssh.com", true);
  session.expectUp(channelRequest);
  session.down(channelSuccess);
  session.expectDown(channelSuccess);
  const upstream = world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  const asked = alice.expect(channelOpen);
  assert.equal(asked.channelType, "auth-agent@openssh.com");
  bob.expectNothing();
  alice.say(channelOpenConfirmation, asked.senderChannel, 11, 5000, 6000);
  const confirmed = world.upstream.expectOn(channelOpenConfirmation, upstream);
  assert.equal(confirmed.initialWindowSize, 5000);
  assert.equal(confirmed.maximumPacketSize, 6000);
  world.upstream.say(channelData, confirmed.senderChannel, "ask");
  alice.expectOn(channelData, 11);
  alice.say(channelData, asked.senderChannel, "answer");
  world.upstream.expectOn(channelData, upstream);
  other.expectAlive();
  world.expectQuiet(alice, bob);
});

Deno.test("upstream's agent channel goes to nobody once the session that asked is closed", () => {
  for (const end of ["client", "upstream", "leaves"] as const) {
    const world = new World();
    const [alice, bob] = [world.client("alice"), world.client("bob")];
    const bystander = world.open(bob);
    const session = world.open(alice);
    session.up(channelRequest, "auth-agent-req@openssh.com", false);
    session.expectUp(channelRequest);
    if (end === "leaves") {
      alice.leave();
      session.expectUp(channelClose);
      session.down(channelClose);
    } else if (end === "client") {
      session.close();
    } else {
      session.down(channelClose);
      session.expectDown(channelClose);
    }
    const refused = world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
    world.upstream.expectOn(channelOpenFailure, refused);
    bystander.expectAlive();
    world.expectQuiet(alice, bob);
  }
});

Deno.test("of two clients with agents the one who asked last is asked", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const [first, second] = [world.open(alice), world.open(bob)];
  for (const session of [first, second]) {
    session.up(channelRequest, "auth-agent-req@openssh.com", false);
    session.expectUp(channelRequest);
  }
  world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  bob.expect(channelOpen);
  alice.expectNothing();
  bob.leave();
  world.upstream.take();
  world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  alice.expect(channelOpen);
  world.expectQuiet(alice, bob);
});

Deno.test("a client's refusal of an agent channel passes with its reason", () => {
  const world = new World();
  const alice = world.client("alice");
  const session = world.open(alice);
  session.up(channelRequest, "auth-agent-req@openssh.com", false);
  session.expectUp(channelRequest);
  const upstream = world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  const { senderChannel } = alice.expect(channelOpen);
  alice.say(channelOpenFailure, senderChannel, 3, "no agent here", "");
  const failure = world.upstream.expectOn(channelOpenFailure, upstream);
  assert.equal(failure.reasonCode, 3);
  assert.equal(failure.description, "no agent here");
  assert.equal(world.relay.channelCount, 1);
  world.expectQuiet(alice);
});

Deno.test("a channel that nobody asked for is refused, whatever its type", () => {
  const world = new World();
  const alice = world.client("alice");
  const session = world.open(alice);
  for (
    const [type, body] of [
      ["session", new Uint8Array()],
      ["x11", encodeFields("::1", 5000)],
      ["forwarded-tcpip", encodeFields("localhost", 8080, "127.0.0.1", 5000)],
      ["forwarded-streamlocal@openssh.com", encodeFields("/tmp/s", "")],
      ["direct-tcpip", encodeFields("localhost", 22, "127.0.0.1", 5000)],
      ["invented@example.com", Uint8Array.of(1)],
    ] as const
  ) {
    const upstream = world.askFromUpstream(type, body);
    assert.equal(world.upstream.expectOn(channelOpenFailure, upstream).reasonCode, 1);
  }
  assert.equal(world.relay.channelCount, 1);
  session.expectAlive();
  world.expectQuiet(alice);
});
