/** Channels that wait: for an upstream that is away, or for a session that it allows. */

import assert from "node:assert/strict";
import { encodeFields } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import {
  type MemoryPeer,
  OpenChannel,
  usualPacketBytes,
  usualWindowBytes,
  World,
} from "./support/memory.ts";

const {
  channelOpen,
  channelOpenConfirmation,
  channelOpenFailure,
  channelData,
  channelExtendedData,
  channelClose,
  channelRequest,
} = MessageType;

const lost = "the connection to example.com was lost";
const forwardBody = { raw: encodeFields("localhost", 80, "localhost", 5000) };
/** The reasons of a refusal that may mean that upstream has no more sessions. */
const connectFailed = 2;
const resourceShortage = 4;

/** A client asks for a session that is not offered to anybody yet. */
function askInVain(world: World, client: MemoryPeer, downstream: number): void {
  client.say(channelOpen, "session", downstream, 1000, 1000);
  world.upstream.expectNothing();
  client.expectNothing();
}

/** Upstream refuses an open. */
function refuse(upstream: MemoryPeer, slot: number, reason = connectFailed): void {
  upstream.say(channelOpenFailure, slot, reason, "open failed", "");
}

/** Upstream agrees to an open that it is asked for next, and the client hears of it. */
function agree(world: World, client: MemoryPeer, numbers: {
  downstream: number;
  upstream: number;
  by?: MemoryPeer;
}): OpenChannel {
  const { downstream, upstream, by = world.upstream } = numbers;
  const slot = by.expect(channelOpen).senderChannel;
  by.say(channelOpenConfirmation, slot, upstream, 1000, 1000);
  client.expectOn(channelOpenConfirmation, downstream);
  return new OpenChannel(world, client, { slot, downstream, upstream });
}

// For upstream

Deno.test("opens wait while upstream is away, and reach the next one in their order", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  world.relay.detachUpstream(lost);
  askInVain(world, alice, 1);
  bob.say(channelOpen, "direct-tcpip", 2, 500, 600, forwardBody);
  askInVain(world, alice, 3);
  assert.equal(world.wishes.upstream, 3);
  world.clock.advance(29_999);
  alice.expectNothing();
  world.attach();
  const first = world.upstream.expect(channelOpen);
  assert.deepEqual([first.channelType, first.initialWindowSize], ["session", 1000]);
  const second = world.upstream.expect(channelOpen);
  assert.deepEqual([second.channelType, second.initialWindowSize], ["direct-tcpip", 500]);
  assert.deepEqual(second.data, forwardBody.raw);
  const third = world.upstream.expect(channelOpen);
  for (
    const [client, { senderChannel }, downstream] of [
      [alice, third, 3],
      [bob, second, 2],
      [alice, first, 1],
    ] as const
  ) {
    world.upstream.say(channelOpenConfirmation, senderChannel, 90 + downstream, 1000, 1000);
    client.expectOn(channelOpenConfirmation, downstream);
    const numbers = { slot: senderChannel, downstream, upstream: 90 + downstream };
    new OpenChannel(world, client, numbers).expectAlive();
  }
  assert.equal(world.clock.pending, 0);
  world.expectQuiet(alice, bob);
});

Deno.test("an open that waits too long is refused with the reason, and its slot is free", () => {
  const world = new World({ openTimeoutMs: 5000 });
  const alice = world.client("alice");
  world.relay.detachUpstream(lost);
  askInVain(world, alice, 1);
  world.clock.advance(2000);
  askInVain(world, alice, 2);
  world.clock.advance(3000);
  const failure = alice.expectOn(channelOpenFailure, 1);
  assert.equal(failure.reasonCode, connectFailed);
  assert.match(failure.description, /waited 5 s: .*example\.com was lost/);
  alice.expectNothing();
  assert.equal(world.relay.channelCount, 1);
  world.clock.advance(2000);
  alice.expectOn(channelOpenFailure, 2);
  assert.equal(world.relay.channelCount, 0);
  world.attach();
  world.expectQuiet(alice);
});

Deno.test("an open that the lost upstream had not answered goes to the next one", () => {
  const world = new World();
  const alice = world.client("alice");
  const slot = world.ask(alice);
  world.clock.advance(10_000);
  world.relay.detachUpstream(lost);
  alice.expectNothing();
  world.attach();
  const again = world.upstream.expect(channelOpen);
  assert.equal(again.senderChannel, slot);
  assert.equal(again.initialWindowSize, 2 * 1024 * 1024);
  world.relay.detachUpstream(lost);
  world.attach();
  agree(world, alice, { downstream: 7, upstream: 90 }).expectAlive();
  assert.equal(world.clock.pending, 0);
  world.expectQuiet(alice);
});

Deno.test("an open whose time is over while upstream considers it gets upstream's answer", () => {
  const world = new World();
  const alice = world.client("alice");
  const [slow, slower] = [1, 2].map((downstream) => world.ask(alice, { downstream }));
  world.clock.advance(60_000);
  alice.expectNothing();
  world.upstream.say(channelOpenConfirmation, slow!, 90, 1000, 1000);
  alice.expectOn(channelOpenConfirmation, 1);
  // Its time is over: it waits for no other upstream, and for no free session either.
  refuse(world.upstream, slower!);
  alice.expectOn(channelOpenFailure, 2);
  world.ask(alice, { downstream: 3 });
  world.clock.advance(60_000);
  world.relay.detachUpstream(lost);
  alice.expectOn(channelExtendedData, 1);
  alice.expectOn(channelClose, 1);
  assert.equal(alice.expectOn(channelOpenFailure, 3).description, lost);
  world.expectQuiet(alice);
});

Deno.test("a client that leaves while it waits leaves nothing behind", () => {
  const world = new World();
  const alice = world.client("alice");
  const asked = world.ask(alice, { downstream: 1 });
  world.relay.detachUpstream(lost);
  askInVain(world, alice, 2);
  alice.leave();
  assert.equal(world.relay.channelCount, 0);
  assert.equal(world.clock.pending, 0);
  world.attach();
  world.upstream.expectNothing();
  assert.equal(asked, 0);
});

Deno.test("a client that waits must not use the channel yet", () => {
  const world = new World();
  const alice = world.client("alice");
  world.relay.detachUpstream(lost);
  askInVain(world, alice, 1);
  alice.say(channelData, 0, "x");
  alice.expectEnded(/not open/);
  assert.equal(world.relay.channelCount, 0);
  assert.equal(world.clock.pending, 0);
});

Deno.test("the limits of a client hold while upstream is away", () => {
  const world = new World({ channels: 2 });
  const alice = world.client("alice");
  world.relay.detachUpstream(lost);
  askInVain(world, alice, 1);
  askInVain(world, alice, 2);
  alice.say(channelOpen, "session", 3, 0, 0);
  assert.equal(alice.expectOn(channelOpenFailure, 3).reasonCode, resourceShortage);
});

Deno.test("an upstream that will not come back: what waits and what comes is refused", () => {
  const world = new World();
  const alice = world.client("alice");
  world.relay.detachUpstream(lost);
  askInVain(world, alice, 1);
  world.relay.refuseOpens("the host key of example.com has changed");
  assert.match(alice.expectOn(channelOpenFailure, 1).description, /host key/);
  alice.say(channelOpen, "session", 2, 0, 0);
  assert.match(alice.expectOn(channelOpenFailure, 2).description, /host key/);
  assert.equal(world.relay.channelCount, 0);
  assert.equal(world.clock.pending, 0);

  world.relay.awaitUpstream();
  askInVain(world, alice, 3);
  world.attach();
  agree(world, alice, { downstream: 3, upstream: 90 });
  const wishes = world.wishes.upstream;
  world.relay.awaitUpstream();
  world.open(alice, { downstream: 4 });
  assert.equal(world.wishes.upstream, wishes);
  world.expectQuiet(alice);
});

Deno.test("everything is closed: what waits is refused, and no timer is left", async () => {
  const world = new World();
  const alice = world.client("alice");
  world.relay.detachUpstream(lost);
  askInVain(world, alice, 1);
  await world.relay.closeAll("stopped");
  assert.equal(alice.expectOn(channelOpenFailure, 1).description, "stopped");
  assert.equal(world.clock.pending, 0);
  world.expectQuiet(alice);
});

Deno.test("without a trusted host key nothing but sessions passes", () => {
  const world = new World();
  const alice = world.client("alice");
  world.relay.detachUpstream(lost);
  const upstream = world.attach({ allowsForwards: false });
  alice.say(channelOpen, "direct-tcpip", 1, 0, 0, forwardBody);
  assert.equal(alice.expectOn(channelOpenFailure, 1).reasonCode, 1);
  alice.say(MessageType.globalRequest, "tcpip-forward", true, "", 8080);
  alice.expect(MessageType.requestFailure);
  upstream.expectNothing();
  const session = world.open(alice);
  session.up(channelRequest, "auth-agent-req@openssh.com", false);
  session.expectUp(channelRequest);
  const agent = world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  upstream.expectOn(channelOpenFailure, agent);
  session.expectAlive();
  world.expectQuiet(alice);
});

// For a free session

/** Two sessions that upstream allows, and a third that waits. */
function crowd(world: World, client: MemoryPeer): [OpenChannel, OpenChannel] {
  const open = [1, 2].map((downstream) => world.open(client, { downstream }));
  const slot = world.ask(client, { downstream: 3 });
  refuse(world.upstream, slot);
  client.expectNothing();
  world.upstream.expectNothing();
  return open as [OpenChannel, OpenChannel];
}

Deno.test("a session refused while others are open waits until one of them is closed", () => {
  const world = new World();
  const alice = world.client("alice");
  const [first, second] = crowd(world, alice);
  assert.equal(world.wishes.session, 1);
  first.up(channelClose);
  first.expectUp(channelClose);
  // Servers count a session until its CLOSE has been answered.
  world.upstream.expectNothing();
  first.down(channelClose);
  first.expectDown(channelClose);
  agree(world, alice, { downstream: 3, upstream: 90 }).expectAlive();
  second.expectAlive();
  assert.equal(world.clock.pending, 0);
  world.expectQuiet(alice);
});

Deno.test("the number that upstream allows is kept: further sessions are not offered in vain", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const [first, second] = crowd(world, alice);
  askInVain(world, bob, 4);
  askInVain(world, alice, 5);
  second.close();
  agree(world, alice, { downstream: 3, upstream: 93 });
  world.upstream.expectNothing();
  first.close();
  const fourth = agree(world, bob, { downstream: 4, upstream: 94 });
  fourth.close();
  agree(world, alice, { downstream: 5, upstream: 95 });
  world.expectQuiet(alice, bob);
});

Deno.test("a limit that is known beforehand is kept from the start", () => {
  const world = new World({ sessions: 1 });
  const alice = world.client("alice");
  const first = world.open(alice, { downstream: 1 });
  askInVain(world, alice, 2);
  world.open(alice, { type: "direct-tcpip", body: forwardBody.raw, downstream: 3 });
  first.close();
  agree(world, alice, { downstream: 2, upstream: 90 });
  world.expectQuiet(alice);
});

Deno.test("the next upstream may allow more", () => {
  const world = new World();
  const alice = world.client("alice");
  crowd(world, alice);
  world.relay.detachUpstream(lost);
  alice.take();
  world.attach();
  agree(world, alice, { downstream: 3, upstream: 90 });
  world.open(alice, { downstream: 4 });
  world.open(alice, { downstream: 5 });
  world.expectQuiet(alice);
});

Deno.test("a refusal that says nothing of a limit passes at once", () => {
  for (
    const [type, openBefore, reason] of [
      ["session", 0, connectFailed],
      ["session", 0, resourceShortage],
      ["direct-tcpip", 1, connectFailed],
      ["direct-tcpip", 1, resourceShortage],
    ] as const
  ) {
    const world = new World();
    const alice = world.client("alice");
    for (let count = 0; count < openBefore; count++) world.open(alice, { downstream: count });
    const body = type === "session" ? new Uint8Array() : forwardBody.raw;
    refuse(world.upstream, world.ask(alice, { type, body, downstream: 9 }), reason);
    assert.equal(alice.expectOn(channelOpenFailure, 9).reasonCode, reason);
    assert.equal(world.relay.channelCount, openBefore);
    assert.equal(world.clock.pending, 0);
    world.expectQuiet(alice);
  }
});

Deno.test("a session that is refused for any reason waits, if another is open", () => {
  for (const reason of [1, connectFailed, 3, resourceShortage, 77]) {
    const world = new World();
    const alice = world.client("alice");
    const session = world.open(alice, { downstream: 1 });
    refuse(world.upstream, world.ask(alice, { downstream: 2 }), reason);
    world.expectQuiet(alice);
    session.close();
    agree(world, alice, { downstream: 2, upstream: 90 });
  }
});

/** So many sessions are open when upstream ends instead of an answer to one more, and comes back. */
function endAt(world: World, sessions: number, { byServer = true } = {}): void {
  const alice = world.client("alice");
  for (let count = 0; count < sessions; count++) world.open(alice, { downstream: count });
  const more = world.client("more");
  world.ask(more);
  world.relay.detachUpstream(lost, { byServer });
  for (const client of [alice, more]) client.leave();
  world.attach();
}

/** How many sessions the server is asked for at a time. */
function countAsked(world: World): number {
  const bob = world.client("bob");
  for (let count = 0; count < 5; count++) {
    bob.say(channelOpen, "session", count, usualWindowBytes, usualPacketBytes);
  }
  return world.upstream.take().length;
}

Deno.test("a server that twice ends the connection at one more session is not asked for it again", () => {
  const world = new World();
  endAt(world, 2);
  endAt(world, 2);
  assert.equal(countAsked(world), 2);
});

Deno.test("an end that may be chance, as when a host is shut down, tells no number of sessions", () => {
  for (
    const ends of [
      [{ sessions: 2 }],
      [{ sessions: 2 }, { sessions: 1 }],
      [{ sessions: 2 }, { sessions: 3 }, { sessions: 2 }],
      [{ sessions: 2 }, { sessions: 2, byServer: false }],
    ]
  ) {
    const world = new World();
    for (const { sessions, ...how } of ends) endAt(world, sessions, how);
    assert.equal(countAsked(world), 5);
  }
});

Deno.test("a number of sessions that was more than once exceeded is no limit", () => {
  const world = new World();
  endAt(world, 2);
  const alice = world.client("alice");
  for (const downstream of [1, 2, 3]) world.open(alice, { downstream });
  world.relay.detachUpstream(lost);
  alice.leave();
  world.attach();
  endAt(world, 2);
  assert.equal(countAsked(world), 5);
});

Deno.test("a session that waits too long for its turn is refused with the number", () => {
  const world = new World();
  const alice = world.client("alice");
  crowd(world, alice);
  world.clock.advance(30_000);
  const failure = alice.expectOn(channelOpenFailure, 3);
  assert.match(failure.description, /no session became free within 30 s.*allows 2/);
  assert.equal(world.relay.channelCount, 2);
  world.expectQuiet(alice);
});

Deno.test("a client that leaves hands its turn and its sessions on", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const [first, second] = crowd(world, alice);
  askInVain(world, bob, 4);
  alice.leave();
  first.expectUp(channelClose);
  second.expectUp(channelClose);
  world.upstream.expectNothing();
  first.down(channelClose);
  agree(world, bob, { downstream: 4, upstream: 90 }).expectAlive();
  second.down(channelClose);
  assert.equal(world.relay.channelCount, 1);
  world.expectQuiet(alice, bob);
});

Deno.test("sessions that are asked for at once and refused together all get their turn", () => {
  const world = new World();
  const alice = world.client("alice");
  const slots = [1, 2, 3, 4, 5].map((downstream) => world.ask(alice, { downstream }));
  const [first] = slots;
  world.upstream.say(channelOpenConfirmation, first!, 91, 1000, 1000);
  alice.expectOn(channelOpenConfirmation, 1);
  for (const slot of slots.slice(1)) refuse(world.upstream, slot);
  alice.expectNothing();
  let open = new OpenChannel(world, alice, { slot: first!, downstream: 1, upstream: 91 });
  for (const downstream of [2, 3, 4, 5]) {
    world.upstream.expectNothing();
    open.close();
    open = agree(world, alice, { downstream, upstream: 90 + downstream });
  }
  open.close();
  assert.equal(world.relay.channelCount, 0);
  assert.equal(world.clock.pending, 0);
  world.expectQuiet(alice);
});

// On further connections

Deno.test("a session that waits goes to a further connection, a forward never", () => {
  const world = new World();
  const alice = world.client("alice");
  const [first] = crowd(world, alice);
  const overflow = world.attachOverflow();
  const third = agree(world, alice, { downstream: 3, upstream: 93, by: overflow });
  assert.equal(world.relay.countOn(overflow), 1);
  assert.equal(world.relay.countOn(world.upstream), 2);
  alice.say(channelData, third.slot, "up");
  assert.equal(overflow.expectOn(channelData, 93).data.length, 2);
  overflow.say(channelData, third.slot, "down");
  third.expectDown(channelData);
  world.open(alice, { type: "direct-tcpip", body: forwardBody.raw, downstream: 4 });
  overflow.expectNothing();
  first.close();
  world.open(alice, { downstream: 5 });
  world.expectQuiet(alice, overflow);
});

Deno.test("a further connection that is lost ends its own sessions, and no other", () => {
  const world = new World();
  const alice = world.client("alice");
  const [first, second] = crowd(world, alice);
  const overflow = world.attachOverflow();
  const third = agree(world, alice, { downstream: 3, upstream: 93, by: overflow });
  alice.say(channelOpen, "session", 4, 0, 0);
  overflow.expect(channelOpen);
  second.close();
  world.upstream.expectNothing();
  world.relay.detachOverflow(overflow, lost);
  third.expectDown(channelExtendedData);
  third.expectDown(channelClose);
  overflow.say(channelData, first.slot, "late");
  // What it had not confirmed goes where there is room.
  agree(world, alice, { downstream: 4, upstream: 94 });
  alice.say(channelClose, third.slot);
  first.expectAlive();
  world.expectQuiet(alice, overflow);
});

Deno.test("a connection that speaks of another's channel is ended, alone", () => {
  const world = new World();
  const alice = world.client("alice");
  const [first] = crowd(world, alice);
  const overflow = world.attachOverflow();
  agree(world, alice, { downstream: 3, upstream: 93, by: overflow });
  overflow.say(channelData, first.slot, "mine?");
  overflow.expectEnded(/no such channel/);
  world.expectQuiet(alice);
  first.expectAlive();
});

Deno.test("replies are counted for each connection on its own", () => {
  const world = new World();
  const alice = world.client("alice");
  crowd(world, alice);
  const overflow = world.attachOverflow();
  alice.say(MessageType.globalRequest, "tcpip-forward", true, "", 8080);
  world.upstream.expect(MessageType.globalRequest);
  overflow.say(MessageType.requestSuccess);
  alice.expectNothing();
  world.upstream.say(MessageType.requestSuccess);
  alice.expect(MessageType.requestSuccess);
  world.expectQuiet(alice);
});
