/** X11 forwarding: which display a channel belongs to, when several clients have one. */

import assert from "node:assert/strict";
import { encodeFields } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { announcedCookie, readCookie } from "../lib/x11.ts";
import { type MemoryPeer, type OpenChannel, patternBytes, World } from "./support/memory.ts";

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
  channelFailure,
} = MessageType;

const protocol = "MIT-MAGIC-COOKIE-1";
const aliceCookie = "00112233445566778899aabbccddeeff";
const bobCookie = "ffeeddccbbaa99887766554433221100";
const opening = encodeFields("127.0.0.1", 40000);
/** What upstream may send before the owner is known, and the packets it may send it in. */
const heldWindowBytes = 4096;
const heldPacketBytes = 16384;

/** The first bytes of a program's connection to a display. */
function setup(cookie: string, options: { isBigEndian?: boolean; name?: string } = {}): Uint8Array {
  const { isBigEndian = false, name = protocol } = options;
  const cookieBytes = bytes(cookie);
  const nameLength = Math.ceil(name.length / 4) * 4;
  const setup = new Uint8Array(12 + nameLength + Math.ceil(cookieBytes.length / 4) * 4);
  const view = new DataView(setup.buffer);
  setup[0] = isBigEndian ? 0x42 : 0x6c;
  view.setUint16(2, 11, !isBigEndian);
  view.setUint16(6, name.length, !isBigEndian);
  view.setUint16(8, cookieBytes.length, !isBigEndian);
  setup.set(new TextEncoder().encode(name), 12);
  setup.set(cookieBytes, 12 + nameLength);
  return setup;
}

/** A session that announces a display. */
function openDisplay(world: World, client: MemoryPeer, cookie: string): OpenChannel {
  const session = world.open(client);
  session.up(channelRequest, "x11-req", false, false, protocol, cookie, 0);
  const request = session.expectUp(channelRequest);
  assert.deepEqual(request.data, encodeFields(false, protocol, cookie, 0));
  return session;
}

/** Two clients with a display each, and an x11 channel that the relay has accepted. */
function openTwoDisplays() {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const sessions = [openDisplay(world, alice, aliceCookie), openDisplay(world, bob, bobCookie)];
  return { world, alice, bob, sessions: sessions as [OpenChannel, OpenChannel] };
}

/** Upstream opens an x11 channel, which the relay accepts before it knows whose it is. */
function openHeld(world: World, windowBytes?: number): { upstream: number; slot: number } {
  const upstream = world.askFromUpstream("x11", opening, windowBytes);
  const confirmed = world.upstream.expectOn(channelOpenConfirmation, upstream);
  assert.equal(confirmed.initialWindowSize, heldWindowBytes);
  assert.equal(confirmed.maximumPacketSize, heldPacketBytes);
  return { upstream, slot: confirmed.senderChannel };
}

/** The owner is asked for the channel. Returns the relay's number. */
function expectAsked(owner: MemoryPeer, windowBytes = 2 * 1024 * 1024): number {
  const asked = owner.expect(channelOpen);
  assert.equal(asked.channelType, "x11");
  assert.deepEqual(asked.data, opening);
  assert.equal(asked.initialWindowSize, windowBytes);
  assert.equal(asked.maximumPacketSize, 32768);
  return asked.senderChannel;
}

Deno.test("an x11 channel goes to the only client with a display, untouched", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  openDisplay(world, alice, aliceCookie);
  const other = world.open(bob);
  const upstream = world.askFromUpstream("x11", opening);
  world.upstream.expectNothing();
  const slot = expectAsked(alice);
  alice.say(channelOpenConfirmation, slot, 5, 100, 200);
  const confirmed = world.upstream.expectOn(channelOpenConfirmation, upstream);
  assert.equal(confirmed.initialWindowSize, 100);
  assert.equal(confirmed.maximumPacketSize, 200);
  world.upstream.say(channelData, slot, setup(bobCookie));
  assert.deepEqual(alice.expectOn(channelData, 5).data, setup(bobCookie));
  other.expectAlive();
  world.expectQuiet(alice, bob);
});

Deno.test("two sessions of one client are one display's", () => {
  const world = new World();
  const alice = world.client("alice");
  openDisplay(world, alice, aliceCookie);
  openDisplay(world, alice, bobCookie);
  world.askFromUpstream("x11", opening);
  world.upstream.expectNothing();
  expectAsked(alice);
});

for (
  const [how, cut] of [
    ["in one piece", (bytes: Uint8Array) => [bytes]],
    ["byte by byte", (bytes: Uint8Array) => [...bytes].map((byte) => Uint8Array.of(byte))],
    ["in two pieces", (bytes: Uint8Array) => [bytes.subarray(0, 30), bytes.subarray(30)]],
    [
      "between empty pieces",
      (bytes: Uint8Array) => [bytes.subarray(0, 0), bytes, bytes.subarray(0, 0)],
    ],
  ] as const
) {
  for (const isBigEndian of [false, true]) {
    const order = isBigEndian ? "big-endian" : "little-endian";
    Deno.test(`a cookie that comes ${how}, ${order}, finds its client among two`, () => {
      const { world, alice, bob, sessions } = openTwoDisplays();
      for (
        const [owner, other, cookie] of [[bob, alice, bobCookie], [
          alice,
          bob,
          aliceCookie,
        ]] as const
      ) {
        const { upstream, slot } = openHeld(world);
        const pieces = cut(setup(cookie, { isBigEndian }));
        for (const piece of pieces) world.upstream.say(channelData, slot, piece);
        world.upstream.expectNothing();
        assert.equal(expectAsked(owner), slot);
        other.expectNothing();
        owner.expectNothing();
        owner.say(channelOpenConfirmation, slot, 5, 100_000, 32768);
        for (const piece of pieces) assert.deepEqual(owner.expectOn(channelData, 5).data, piece);

        // The window is the client's from now on: it held what was granted before.
        const adjust = world.upstream.expectOn(channelWindowAdjust, upstream);
        assert.equal(adjust.bytesToAdd, 100_000 - heldWindowBytes);
        owner.say(channelData, slot, "reply");
        assert.equal(
          new TextDecoder().decode(world.upstream.expectOn(channelData, upstream).data),
          "reply",
        );
        let left = 100_000 - setup(cookie).length;
        while (left > 0) {
          const size = Math.min(left, heldPacketBytes);
          world.upstream.say(channelData, slot, patternBytes(size));
          assert.deepEqual(owner.expectOn(channelData, 5).data, patternBytes(size));
          left -= size;
        }
        owner.say(channelWindowAdjust, slot, 77);
        assert.equal(world.upstream.expectOn(channelWindowAdjust, upstream).bytesToAdd, 77);
        owner.say(channelClose, slot);
        world.upstream.expectOn(channelClose, upstream);
        world.upstream.say(channelClose, slot);
        owner.expectOn(channelClose, 5);
      }
      for (const session of sessions) session.expectAlive();
      assert.equal(world.relay.channelCount, 2);
      world.expectQuiet(alice, bob);
    });
  }
}

Deno.test("what upstream sends before the owner has answered is kept, in order", () => {
  const { world, alice, bob } = openTwoDisplays();
  const { upstream, slot } = openHeld(world, 1000);
  const first = setup(aliceCookie);
  world.upstream.say(channelWindowAdjust, slot, 500);
  world.upstream.say(channelData, slot, first);
  assert.equal(expectAsked(alice, 1500), slot);
  world.upstream.say(channelData, slot, "more");
  world.upstream.say(channelWindowAdjust, slot, 250);
  world.upstream.say(channelRequest, slot, "invented@example.com", true);
  world.upstream.say(channelEof, slot);
  alice.expectNothing();
  alice.say(channelOpenConfirmation, slot, 5, heldWindowBytes, heldPacketBytes);
  assert.deepEqual(alice.expectOn(channelData, 5).data, first);
  assert.equal(new TextDecoder().decode(alice.expectOn(channelData, 5).data), "more");
  assert.equal(alice.expectOn(channelRequest, 5).requestType, "invented@example.com");
  alice.expectOn(channelEof, 5);
  assert.equal(alice.expectOn(channelWindowAdjust, 5).bytesToAdd, 250);
  alice.say(channelFailure, slot);
  world.upstream.expectOn(channelFailure, upstream);
  alice.say(channelData, slot, patternBytes(1750));
  world.upstream.expectOn(channelData, upstream);
  world.expectQuiet(alice, bob);
  alice.say(channelData, slot, "x");
  world.upstream.expectOn(channelClose, upstream);
  alice.expectOn(channelClose, 5);
  world.expectQuiet(alice, bob);
});

Deno.test("upstream's keepalive on a channel that has no owner yet is answered", () => {
  const { world, alice, bob } = openTwoDisplays();
  const { upstream, slot } = openHeld(world);
  world.upstream.say(channelRequest, slot, "keepalive@openssh.com", true);
  world.upstream.expectOn(channelFailure, upstream);
  world.upstream.say(channelData, slot, setup(aliceCookie));
  expectAsked(alice);
  world.upstream.say(channelRequest, slot, "keepalive@openssh.com", true);
  world.upstream.expectOn(channelFailure, upstream);
  world.expectQuiet(alice, bob);
});

for (
  const [what, first] of [
    ["a cookie that nobody announced", setup("ab".repeat(16))],
    ["a cookie that is the beginning of another", setup(aliceCookie.slice(0, 30))],
    ["an empty cookie", setup("")],
    ["another protocol", setup(aliceCookie, { name: "XDM-AUTHORIZATION-1" })],
    ["no protocol", setup("", { name: "" })],
    ["something other than X11", new TextEncoder().encode("GET / HTTP/1.0\r\n\r\n")],
  ] as const
) {
  Deno.test(`a channel with ${what} is closed, and no client hears of it`, () => {
    const { world, alice, bob, sessions } = openTwoDisplays();
    const { upstream, slot } = openHeld(world);
    world.upstream.say(channelData, slot, first);
    world.upstream.expectOn(channelClose, upstream);
    world.upstream.say(channelData, slot, setup(aliceCookie));
    world.upstream.say(channelEof, slot);
    world.upstream.say(channelClose, slot);
    assert.equal(world.relay.channelCount, 2);
    for (const session of sessions) session.expectAlive();
    world.expectQuiet(alice, bob);
  });
}

Deno.test("a channel that ends before its cookie is closed", () => {
  for (const end of [channelEof, channelClose]) {
    for (const length of [0, 1, 11, 12, 47]) {
      const { world, alice, bob } = openTwoDisplays();
      const { upstream, slot } = openHeld(world);
      world.upstream.say(channelData, slot, setup(aliceCookie).subarray(0, length));
      world.upstream.expectNothing();
      world.upstream.say(end, slot);
      world.upstream.expectOn(channelClose, upstream);
      if (end === channelEof) world.upstream.say(channelClose, slot);
      assert.equal(world.relay.channelCount, 2);
      world.expectQuiet(alice, bob);
    }
  }
});

Deno.test("the owner refuses a held channel: it is closed", () => {
  const { world, alice, bob } = openTwoDisplays();
  const { upstream, slot } = openHeld(world);
  world.upstream.say(channelData, slot, setup(aliceCookie));
  expectAsked(alice);
  alice.say(channelOpenFailure, slot, 2, "no display", "");
  world.upstream.expectOn(channelClose, upstream);
  world.upstream.say(channelData, slot, "late");
  world.upstream.say(channelClose, slot);
  assert.equal(world.relay.channelCount, 2);
  world.expectQuiet(alice, bob);
});

Deno.test("the owner leaves before it has answered for a held channel: it is closed", () => {
  const { world, alice, bob, sessions } = openTwoDisplays();
  const { upstream, slot } = openHeld(world);
  world.upstream.say(channelData, slot, setup(aliceCookie));
  expectAsked(alice);
  alice.leave();
  sessions[0].expectUp(channelClose);
  world.upstream.expectOn(channelClose, upstream);
  world.upstream.say(channelData, slot, "late");
  world.upstream.say(channelClose, slot);
  sessions[0].down(channelClose);
  assert.equal(world.relay.channelCount, 1);
  sessions[1].expectAlive();
  world.expectQuiet(alice, bob);
});

Deno.test("the owner leaves before the cookie has come: the channel is closed then", () => {
  const { world, alice, bob, sessions } = openTwoDisplays();
  const { upstream, slot } = openHeld(world);
  alice.leave();
  sessions[0].expectUp(channelClose);
  world.upstream.say(channelData, slot, setup(aliceCookie));
  world.upstream.expectOn(channelClose, upstream);
  world.upstream.say(channelClose, slot);
  sessions[1].expectAlive();
  world.expectQuiet(alice, bob);
});

Deno.test("upstream closes a held channel before its owner has answered: the owner gets what was held, then CLOSE", () => {
  const first = setup(aliceCookie);
  for (const hasEof of [true, false]) {
    const { world, alice, bob } = openTwoDisplays();
    const { upstream, slot } = openHeld(world);
    world.upstream.say(channelData, slot, first);
    expectAsked(alice);
    world.upstream.say(channelData, slot, "more");
    if (hasEof) world.upstream.say(channelEof, slot);
    world.upstream.say(channelClose, slot);
    world.upstream.expectOn(channelClose, upstream);
    alice.say(channelOpenConfirmation, slot, 5, 100_000, 32768);
    assert.deepEqual(alice.expectOn(channelData, 5).data, first);
    assert.equal(new TextDecoder().decode(alice.expectOn(channelData, 5).data), "more");
    if (hasEof) alice.expectOn(channelEof, 5);
    alice.expectOn(channelClose, 5);
    alice.say(channelData, slot, "on its way");
    alice.say(channelClose, slot);
    assert.equal(world.relay.channelCount, 2);
    world.expectQuiet(alice, bob);
  }
});

Deno.test("upstream closes a held channel, and its owner refuses it: nothing stays behind", () => {
  const { world, alice, bob } = openTwoDisplays();
  const { upstream, slot } = openHeld(world);
  world.upstream.say(channelData, slot, setup(aliceCookie));
  expectAsked(alice);
  world.upstream.say(channelClose, slot);
  world.upstream.expectOn(channelClose, upstream);
  alice.say(channelOpenFailure, slot, 1, "", "");
  assert.equal(world.relay.channelCount, 2);
  world.expectQuiet(alice, bob);
});

Deno.test("upstream is lost while a channel is held: its owner gets what was held, then CLOSE", () => {
  const { world, alice, bob } = openTwoDisplays();
  const { slot } = openHeld(world);
  const unknown = openHeld(world);
  const first = setup(aliceCookie);
  world.upstream.say(channelData, slot, first);
  expectAsked(alice);
  world.relay.detachUpstream("lost");
  for (const client of [alice, bob]) {
    client.expect(channelExtendedData);
    client.expect(channelClose);
  }
  alice.say(channelOpenConfirmation, slot, 5, 100_000, 32768);
  assert.deepEqual(alice.expectOn(channelData, 5).data, first);
  alice.expectOn(channelClose, 5);
  alice.say(channelWindowAdjust, slot, 100);
  for (let count = 0; count < 2000; count++) alice.say(channelData, slot, "on its way");
  alice.say(channelClose, slot);
  assert.notEqual(unknown.slot, slot);
  assert.equal(world.relay.channelCount, 2);
  world.expectQuiet(alice, bob);
});

Deno.test("everything is closed while a channel is held: it is closed too", async () => {
  const { world, alice, bob, sessions } = openTwoDisplays();
  const { upstream, slot } = openHeld(world);
  const done = world.relay.closeAll("stopped");
  const closed = world.upstream.take().map(({ message }) => {
    assert.equal(message.type, channelClose);
    return (message as { recipientChannel: number }).recipientChannel;
  });
  assert(closed.includes(upstream));
  world.upstream.say(channelClose, slot);
  for (const session of sessions) {
    session.up(channelClose);
    session.down(channelClose);
  }
  await done;
  assert.equal(alice.ending ?? bob.ending, undefined);
});

Deno.test("a client that accepts less than was granted in its name loses the channel, no more", () => {
  for (
    const [windowBytes, packetBytes] of [[heldWindowBytes - 1, 32768], [0, 32768], [
      100_000,
      heldPacketBytes - 1,
    ]] as const
  ) {
    const { world, alice, bob, sessions } = openTwoDisplays();
    const { upstream, slot } = openHeld(world);
    world.upstream.say(channelData, slot, setup(aliceCookie));
    expectAsked(alice);
    alice.say(channelOpenConfirmation, slot, 5, windowBytes, packetBytes);
    alice.expectOn(channelClose, 5);
    world.upstream.expectOn(channelClose, upstream);
    world.upstream.say(channelData, slot, patternBytes(1000));
    alice.say(channelClose, slot);
    world.upstream.say(channelClose, slot);
    assert.equal(world.relay.channelCount, 2);
    for (const session of sessions) session.expectAlive();
    world.expectQuiet(alice, bob);
  }
});

Deno.test("a held channel is closed, and nothing else, when upstream sends more than its window", () => {
  for (const isKnown of [false, true]) {
    const { world, alice, bob } = openTwoDisplays();
    const { upstream, slot } = openHeld(world);
    // A name that is too long for the window: the cookie never comes.
    const first = isKnown ? setup(aliceCookie) : setup("", { name: "x".repeat(10_000) });
    world.upstream.say(channelData, slot, first.subarray(0, heldWindowBytes));
    if (isKnown) expectAsked(alice);
    world.upstream.say(channelData, slot, patternBytes(heldWindowBytes));
    world.upstream.expectOn(channelClose, upstream);
    if (isKnown) {
      alice.say(channelOpenConfirmation, slot, 5, 100_000, 32768);
      assert.deepEqual(alice.expectOn(channelData, 5).data, first);
      alice.expectOn(channelClose, 5);
    }
    world.expectQuiet(alice, bob);
  }
});

Deno.test("what upstream sends after EOF on a held channel goes nowhere", () => {
  const { world, alice, bob } = openTwoDisplays();
  const { slot } = openHeld(world);
  world.upstream.say(channelData, slot, setup(aliceCookie));
  expectAsked(alice);
  world.upstream.say(channelEof, slot);
  for (let count = 0; count < 10; count++) {
    world.upstream.say(channelData, slot, patternBytes(heldWindowBytes));
  }
  alice.say(channelOpenConfirmation, slot, 5, heldWindowBytes, heldPacketBytes);
  assert.deepEqual(alice.expectOn(channelData, 5).data, setup(aliceCookie));
  alice.expectOn(channelEof, 5);
  world.expectQuiet(bob);
});

Deno.test("a held channel that fills with small messages is closed, its owner is asked once", () => {
  for (const isKnown of [false, true]) {
    const { world, alice, bob } = openTwoDisplays();
    const { upstream, slot } = openHeld(world);
    if (isKnown) {
      world.upstream.say(channelData, slot, setup(aliceCookie));
      expectAsked(alice);
    }
    for (let count = 0; count < 3000; count++) world.upstream.say(channelData, slot, "");
    world.upstream.expectOn(channelClose, upstream);
    if (!isKnown) world.upstream.say(channelData, slot, setup(aliceCookie));
    alice.expectNothing();
    if (isKnown) {
      alice.say(channelOpenConfirmation, slot, 5, 100_000, 32768);
      alice.expectOn(channelClose, 5);
      alice.say(channelClose, slot);
    }
    world.upstream.say(channelClose, slot);
    assert.equal(world.relay.channelCount, 2);
    world.expectQuiet(alice, bob);
  }
});

Deno.test("a display belongs to its session: closed, it is nobody's", () => {
  const { world, alice, bob, sessions } = openTwoDisplays();
  sessions[1].close();
  world.askFromUpstream("x11", opening);
  world.upstream.expectNothing();
  expectAsked(alice);
  sessions[0].down(channelClose);
  sessions[0].expectDown(channelClose);
  const refused = world.askFromUpstream("x11", opening);
  world.upstream.expectOn(channelOpenFailure, refused);
  world.expectQuiet(alice, bob);
});

Deno.test("the cookie of an x11-req is read from its hexadecimal text", () => {
  const request = (name: string, cookie: string) => encodeFields(true, name, cookie, 0);
  assert.deepEqual(
    new Uint8Array(announcedCookie(request(protocol, aliceCookie)) ?? []),
    bytes(aliceCookie),
  );
  assert.deepEqual(
    new Uint8Array(announcedCookie(request(protocol, aliceCookie.toUpperCase())) ?? []),
    bytes(aliceCookie),
  );
  assert.equal(announcedCookie(request("XDM-AUTHORIZATION-1", aliceCookie)), undefined);
  assert.equal(announcedCookie(request(protocol, "")), undefined);
  assert.equal(announcedCookie(request(protocol, "not hexadecimal")), undefined);
});

Deno.test("a cookie is found as soon as its last byte has come", () => {
  for (const isBigEndian of [false, true]) {
    const whole = setup(aliceCookie, { isBigEndian });
    for (let length = 0; length < whole.length; length++) {
      assert.equal(readCookie(whole.subarray(0, length)), undefined, `${length}`);
    }
    assert.deepEqual(readCookie(whole), bytes(aliceCookie));
    const more = new Uint8Array([...whole, 1, 2, 3]);
    assert.deepEqual(readCookie(more), bytes(aliceCookie));
    // Also where the bytes are a view into a larger buffer.
    assert.deepEqual(
      readCookie(new Uint8Array([9, 9, 9, ...whole]).subarray(3)),
      bytes(aliceCookie),
    );
  }
});

Deno.test("bytes that are no X11 connection have no cookie", () => {
  for (const first of [0, 0x41, 0x4c, 0x62, 0xff]) {
    assert.equal(readCookie(Uint8Array.of(first)), null);
  }
  assert.equal(readCookie(setup(aliceCookie, { name: "MIT-MAGIC-COOKIE-2" })), null);
  assert.equal(readCookie(setup("", { name: "" })), null);
});

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(
    { length: hex.length / 2 },
    (_, at) => parseInt(hex.slice(at * 2, at * 2 + 2), 16),
  );
}
