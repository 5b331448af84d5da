/** What a refused session says about the room that upstream has, and what it does not. */

import assert from "node:assert/strict";
import { MessageType } from "../lib/wire.ts";
import { type MemoryPeer, OpenChannel, World } from "./support/memory.ts";

const { channelOpen, channelOpenConfirmation, channelOpenFailure } = MessageType;

/** Two clients' sessions fill upstream, and the third's waits, so that the number is known. */
function startCrowd() {
  const world = new World();
  const [one, two, three] = ["one", "two", "three"].map((name) => world.client(name));
  const sessions = [world.open(one!), world.open(two!)] as const;
  refuse(world, world.ask(three!));
  return { world, sessions, three: three! };
}

/** Upstream refuses a session in the words of OpenSSH's sshd. */
function refuse({ upstream }: World, slot: number, { reason = 2 } = {}): void {
  upstream.say(channelOpenFailure, slot, reason, "open failed", "");
}

/** Upstream is asked for a session, and agrees. */
function agree(world: World, client: MemoryPeer): void {
  const { senderChannel } = world.upstream.expect(channelOpen);
  world.upstream.say(channelOpenConfirmation, senderChannel, senderChannel, 1000, 1000);
  client.expect(channelOpenConfirmation);
}

Deno.test("a session that comes in the same breath as another's end is offered once more", () => {
  const { world, sessions, three } = startCrowd();
  sessions[0].close();
  refuse(world, world.upstream.expect(channelOpen).senderChannel);
  agree(world, three);

  // The number is still two.
  sessions[1].close();
  const four = world.client("four");
  world.ask(four);
  world.expectQuiet(three, four);
});

Deno.test("a second refusal is believed: the session waits for the next end", () => {
  const { world, sessions, three } = startCrowd();
  sessions[0].close();
  for (let time = 0; time < 2; time++) {
    refuse(world, world.upstream.expect(channelOpen).senderChannel);
  }
  world.expectQuiet(three);
  sessions[1].close();
  agree(world, three);
});

Deno.test("with no other session left, a refused one waits, and is tried each second", () => {
  const { world, sessions, three } = startCrowd();
  sessions[0].close();
  const slot = world.upstream.expect(channelOpen).senderChannel;
  sessions[1].close();
  // The second end came after the first offer, so the offer after it is not certain either.
  refuse(world, slot);
  for (let time = 0; time < 2; time++) {
    three.expectNothing();
    refuse(world, world.upstream.expect(channelOpen).senderChannel);
  }
  const four = world.client("four");
  four.say(channelOpen, "session", 7, 1000, 1000);
  for (let time = 0; time < 3; time++) {
    world.clock.advance(999);
    world.expectQuiet(three, four);
    world.clock.advance(1);
    refuse(world, world.upstream.expect(channelOpen).senderChannel);
  }
  world.clock.advance(1000);
  agree(world, three);
  // What is allowed then is not known.
  agree(world, four);
  assert.equal(world.clock.pending, 0);
});

Deno.test("a session that waits in vain with no other there is told upstream's words", () => {
  const { world, sessions: [one, two], three } = startCrowd();
  const four = world.client("four");
  four.say(channelOpen, "session", 7, 1000, 1000);
  one.close();
  const slot = world.upstream.expect(channelOpen).senderChannel;
  two.close();
  refuse(world, slot);
  const answerAll = () => {
    for (const { message } of world.upstream.take()) {
      assert(message.type === channelOpen);
      refuse(world, message.senderChannel);
    }
  };
  for (let time = 0; time < 3; time++) answerAll();
  for (let second = 0; second < 29; second++) {
    world.clock.advance(1000);
    answerAll();
  }
  for (const client of [three, four]) client.expectNothing();
  world.clock.advance(999);
  answerAll();
  world.clock.advance(1);
  const words = /no session became free within 30 s; the remote host refuses one: open failed/;
  for (const client of [three, four]) {
    assert.match(client.expect(channelOpenFailure).description, words);
  }
  assert.equal(world.relay.channelCount, 0);
});

Deno.test("when nobody waits any more, nothing is left of the wait, and whoever comes is tried", () => {
  const world = new World();
  world.open(world.client("one")).close();
  const two = world.client("two");
  refuse(world, world.ask(two));
  refuse(world, world.upstream.expect(channelOpen).senderChannel);
  world.expectQuiet(two);
  two.leave();
  assert.equal(world.clock.pending, 0);
  const three = world.client("three");
  three.say(channelOpen, "session", 7, 1000, 1000);
  agree(world, three);
});

Deno.test("one session in the life of each connection: all that are asked for at once get theirs", () => {
  const world = new World();
  const clients = ["one", "two", "three", "four"].map((name) => world.client(name));
  for (const client of clients) client.say(channelOpen, "session", 7, 1000, 1000);
  for (const client of clients) {
    const [first, ...others] = world.upstream.take();
    assert(first?.message.type === channelOpen);
    const slot = first.message.senderChannel;
    world.upstream.say(channelOpenConfirmation, slot, 90, 1000, 1000);
    for (const { message } of others) {
      assert(message.type === channelOpen);
      refuse(world, message.senderChannel, { reason: 1 });
    }
    client.expect(channelOpenConfirmation);
    new OpenChannel(world, client, { slot, downstream: 7, upstream: 90 }).close();
    // The connection that has had its session refuses the others until it ends.
    while (true) {
      const [offered] = world.upstream.take();
      if (offered === undefined) break;
      assert(offered.message.type === channelOpen);
      refuse(world, offered.message.senderChannel, { reason: 1 });
    }
    world.expectQuiet(...clients);
    world.relay.detachUpstream("the server has ended the connection", { byServer: true });
    world.attach();
  }
  assert.equal(world.relay.channelCount, 0);
});

Deno.test("a refusal is no last word while other sessions have no answer", () => {
  const world = new World();
  const clients = ["one", "two", "three"].map((name) => world.client(name));
  const slots = clients.map((client) => world.ask(client));
  const [one, two, three] = clients as [MemoryPeer, MemoryPeer, MemoryPeer];
  refuse(world, slots[0]!);
  refuse(world, slots[1]!);
  world.upstream.say(channelOpenConfirmation, slots[2]!, 90, 1000, 1000);
  three.expect(channelOpenConfirmation);
  world.expectQuiet(one, two);
  const open = new OpenChannel(world, three, { slot: slots[2]!, downstream: 7, upstream: 90 });
  open.close();
  agree(world, one);
  world.expectQuiet(two);
});

Deno.test("an upstream that refuses every session is believed with its last answer", () => {
  const world = new World();
  const clients = ["one", "two", "three"].map((name) => world.client(name));
  const slots = clients.map((client) => world.ask(client));
  const late = ["four", "five"].map((name) => world.client(name));
  refuse(world, slots[0]!);
  for (const client of late) client.say(channelOpen, "session", 7, 1000, 1000);
  world.expectQuiet(...clients, ...late);
  refuse(world, slots[1]!);
  refuse(world, slots[2]!);
  for (const client of clients) {
    const { recipientChannel, description } = client.expect(channelOpenFailure);
    assert.deepEqual([recipientChannel, description], [7, "open failed"]);
  }
  // Those that came meanwhile are asked for at once, and fare alike.
  for (const { message } of world.upstream.take()) {
    assert(message.type === channelOpen);
    refuse(world, message.senderChannel);
  }
  for (const client of late) client.expect(channelOpenFailure);
  world.expectQuiet(...clients, ...late);
  assert.equal(world.relay.channelCount, 0);
  assert.equal(world.clock.pending, 0);
});

Deno.test("sessions that follow several ends at once are all offered once more", () => {
  const { world, sessions, three } = startCrowd();
  const four = world.client("four");
  four.say(channelOpen, "session", 7, 1000, 1000);
  world.expectQuiet(three, four);
  sessions[0].close();
  const [first] = world.upstream.take();
  sessions[1].close();
  const [second] = world.upstream.take();
  for (const sent of [first, second]) {
    assert(sent?.message.type === channelOpen);
    refuse(world, sent.message.senderChannel);
  }
  agree(world, three);
  agree(world, four);
});

Deno.test("a refusal with no session open before passes at once", () => {
  const world = new World();
  const client = world.client("one");
  for (let time = 0; time < 3; time++) {
    refuse(world, world.ask(client));
    client.expect(channelOpenFailure);
    world.expectQuiet(client);
  }
});
