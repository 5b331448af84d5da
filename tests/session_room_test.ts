/** What a refused session says about the room that upstream has, and what it does not. */

import assert from "node:assert/strict";
import { MessageType } from "../lib/wire.ts";
import { type MemoryPeer, World } from "./support/memory.ts";

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
function refuse({ upstream }: World, slot: number): void {
  upstream.say(channelOpenFailure, slot, 2, "open failed", "");
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

Deno.test("with no other session left, a refusal that is certain is passed on", () => {
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
  assert.equal(three.expect(channelOpenFailure).description, "open failed");
  world.expectQuiet(three);
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
