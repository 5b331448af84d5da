/** A session that upstream opens before a client wants it, between peers in memory. */

import assert from "node:assert/strict";
import { ClientRules, everything } from "../lib/client_rules.ts";
import type { ChannelLimits } from "../lib/channel_limits.ts";
import { buildMessage, concatenate, type Field } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import {
  type MemoryPeer,
  OpenChannel,
  patternBytes,
  usualPacketBytes,
  usualWindowBytes,
  World,
} from "./support/memory.ts";

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

/** What upstream announces of its sessions here. */
const [hostWindowBytes, hostPacketBytes] = [5000, 4000];

/** What OpenSSH's terminals announce, in bytes. */
const terminalPacketBytes = 16_384;

/** Upstream is asked for a warm session. @returns the relay's number. */
function expectAsked({ upstream }: World): number {
  const asked = upstream.expect(channelOpen);
  const { channelType, initialWindowSize, maximumPacketSize, data } = asked;
  assert.deepEqual([channelType, initialWindowSize], ["session", 0]);
  assert.deepEqual([maximumPacketSize, data.length], [usualPacketBytes, 0]);
  return asked.senderChannel;
}

/** Upstream opens a session. */
function confirm({ upstream }: World, slot: number, number: number): void {
  upstream.say(channelOpenConfirmation, slot, number, hostWindowBytes, hostPacketBytes);
}

function refuse({ upstream }: World, slot: number, reason = 2): void {
  upstream.say(channelOpenFailure, slot, reason, "open failed", "");
}

/** A relay that has been given a session, which nobody has. */
function startWarm(limits: Partial<ChannelLimits> = {}): { world: World; slot: number } {
  const world = new World({ warm: true, ...limits });
  const slot = expectAsked(world);
  confirm(world, slot, 90);
  world.upstream.expectNothing();
  return { world, slot };
}

/** A client asks for a session. */
function ask(
  client: MemoryPeer,
  { downstream = 7, windowBytes = usualWindowBytes, packetBytes = usualPacketBytes } = {},
): void {
  client.say(channelOpen, "session", downstream, windowBytes, packetBytes);
}

/** A client has been given upstream's session 90 on the slot, and upstream the client's window. */
function expectHanded(
  world: World,
  client: MemoryPeer,
  { slot, upstream = 90, windowBytes = usualWindowBytes }: {
    slot: number;
    upstream?: number;
    windowBytes?: number;
  },
): OpenChannel {
  const opened = client.expectOn(channelOpenConfirmation, 7);
  assert.deepEqual(
    [opened.senderChannel, opened.initialWindowSize, opened.maximumPacketSize],
    [slot, hostWindowBytes, hostPacketBytes],
  );
  const { bytesToAdd } = world.upstream.expectOn(channelWindowAdjust, upstream);
  assert.equal(bytesToAdd, windowBytes);
  return new OpenChannel(world, client, { slot, downstream: 7, upstream });
}

/** Nothing shows that there is a warm session. */
function expectUnseen({ relay, events, clock }: World): void {
  const { channelsWithoutClient, sessions, totals } = relay.describe();
  assert.equal(relay.channelCount, 0);
  assert.equal(relay.isWanted, false);
  assert.deepEqual([channelsWithoutClient, totals.channels, events], [[], [], []]);
  assert.equal(sessions.count, 0);
  assert.equal(clock.pending, 0);
}

Deno.test("a session is asked for as soon as upstream is there, and nobody sees it", async () => {
  const world = new World({ warm: true });
  expectUnseen(world);
  const slot = expectAsked(world);
  confirm(world, slot, 90);
  world.expectQuiet();
  expectUnseen(world);
  assert.equal(world.relay.countOn(world.upstream), 0);
  await world.relay.closeAll("stopped");
  world.expectQuiet();
});

Deno.test("its client has upstream's answer at once, and upstream the window before all else", () => {
  const { world, slot } = startWarm();
  const client = world.client("client");
  ask(client);
  client.say(channelRequest, slot, "exec", true, "true");
  const channel = expectHanded(world, client, { slot });
  const next = expectAsked(world);
  assert.notEqual(next, slot);
  assert.equal(channel.expectUp(channelRequest).requestType, "exec");
  channel.expectAlive();
  world.expectQuiet(client);
  assert.equal(world.relay.channelCount, 1);
  assert.equal(world.relay.describe().sessions.count, 1);
  assert.deepEqual(world.events.map(({ event }) => event), ["channel-open"]);

  confirm(world, next, 91);
  channel.close();
  world.expectQuiet(client);
  assert.equal(world.relay.channelCount, 0);
  assert.equal(world.clock.pending, 0);
  const other = world.client("other");
  ask(other);
  expectHanded(world, other, { slot: next, upstream: 91 });
});

Deno.test("a client that comes before upstream's answer waits for it, and for no other", () => {
  const world = new World({ warm: true });
  const slot = expectAsked(world);
  const [client, second] = [world.client("client"), world.client("second")];
  ask(client);
  world.expectQuiet(client);
  assert.equal(world.relay.channelCount, 1);
  // The next one goes its own way.
  const own = world.ask(second);
  confirm(world, slot, 90);
  const channel = expectHanded(world, client, { slot });
  world.expectQuiet(client, second);
  confirm(world, own, 91);
  second.expect(channelOpenConfirmation);
  expectAsked(world);
  channel.expectAlive();
  world.expectQuiet(client, second);
});

Deno.test("of clients that come at once the first has it, and the others go as ever, in order", () => {
  const { world, slot } = startWarm();
  const clients = ["one", "two", "three", "four"].map((name) => world.client(name));
  for (const client of clients) ask(client);
  expectHanded(world, clients[0]!, { slot });
  // The second has what was asked for meanwhile.
  const [second, third, fourth] = world.upstream.take().map(({ message }) => message);
  const windows = [second, third, fourth].map((it) => {
    assert(it?.type === channelOpen);
    return [it.channelType, it.initialWindowSize];
  });
  const usual = ["session", usualWindowBytes];
  assert.deepEqual(windows, [["session", 0], usual, usual]);
  for (const [index, it] of [second, third, fourth].entries()) {
    assert(it?.type === channelOpen);
    confirm(world, it.senderChannel, 91 + index);
    clients[index + 1]!.expect(channelOpenConfirmation);
    if (index === 0) world.upstream.expectOn(channelWindowAdjust, 91);
  }
  expectAsked(world);
  world.expectQuiet(...clients);
});

// Windows and sizes

for (
  const [windowBytes, granted] of [
    [1, 1],
    [usualWindowBytes + 5, usualWindowBytes],
    [2 ** 32 - 1, usualWindowBytes],
  ] as const
) {
  Deno.test(`of a window of ${windowBytes} bytes upstream is granted what it would have been`, () => {
    const { world, slot } = startWarm();
    const client = world.client("client");
    ask(client, { windowBytes });
    expectHanded(world, client, { slot, windowBytes: granted });
    expectAsked(world);
    world.expectQuiet(client);
  });
}

Deno.test("a client with an empty window grants nothing, and later as it likes", () => {
  const { world, slot } = startWarm();
  const client = world.client("client");
  ask(client, { windowBytes: 0 });
  client.expect(channelOpenConfirmation);
  expectAsked(world);
  world.expectQuiet(client);
  client.say(channelWindowAdjust, slot, 77);
  assert.equal(world.upstream.expectOn(channelWindowAdjust, 90).bytesToAdd, 77);
});

Deno.test("the room for lines of ours is kept of its window too", () => {
  const { world, slot } = startWarm({ noticeBytes: 256 });
  const client = world.client("client");
  ask(client, { windowBytes: 100_000 });
  expectHanded(world, client, { slot, windowBytes: 100_000 - 256 });
});

Deno.test("a client that takes smaller packets gets upstream's in two pieces", () => {
  const { world, slot } = startWarm();
  const client = world.client("client");
  ask(client, { packetBytes: terminalPacketBytes });
  const channel = expectHanded(world, client, { slot });
  expectAsked(world);
  for (const bytes of [0, 1, terminalPacketBytes, terminalPacketBytes + 1, usualPacketBytes]) {
    for (const fields of [[channelData], [channelExtendedData, 1], [channelExtendedData, 77]]) {
      const [type, ...codes] = fields as [number, ...number[]];
      const data = patternBytes(bytes);
      channel.down(type, ...codes, data);
      const pieces = client.take().map(({ message }) => {
        assert(message.type === channelData || message.type === channelExtendedData);
        assert.deepEqual([message.type, message.dataTypeCode], [type, codes[0] ?? 0]);
        assert(message.data.length <= terminalPacketBytes);
        return message.data;
      });
      assert.equal(pieces.length, bytes > terminalPacketBytes ? 2 : 1);
      assert.deepEqual(concatenate(pieces), data);
    }
  }
  channel.down(channelData, patternBytes(usualPacketBytes + 1));
  channel.expectDown(channelExtendedData);
  channel.expectDown(channelClose);
  channel.expectUp(channelClose);
  // Its own are as upstream takes them.
  const other = world.client("other");
  const small = { downstreamAnnounces: { packetBytes: 100 } };
  const own = world.open(other, small);
  own.down(channelData, patternBytes(101));
  own.expectUp(channelClose);
});

Deno.test("a client that takes much smaller packets opens its own session", () => {
  const { world, slot } = startWarm();
  const small = world.client("small");
  world.open(small, { downstreamAnnounces: { packetBytes: terminalPacketBytes - 1 } });
  world.expectQuiet(small);
  const large = world.client("large");
  ask(large, { packetBytes: usualPacketBytes + 1 });
  expectHanded(world, large, { slot });
});

Deno.test("what upstream grants before anybody has it is its client's", () => {
  const { world, slot } = startWarm();
  for (const bytes of [10, 20]) world.upstream.say(channelWindowAdjust, slot, bytes);
  const client = world.client("client");
  ask(client);
  const { initialWindowSize } = client.expect(channelOpenConfirmation);
  assert.equal(initialWindowSize, hostWindowBytes + 30);
});

// What upstream says of one that nobody has

Deno.test("upstream's keepalive is answered on it as a client would", () => {
  const { world, slot } = startWarm();
  for (const name of ["keepalive@openssh.com", "invented@example.com"]) {
    world.upstream.say(channelRequest, slot, name, true);
    world.upstream.expectOn(channelFailure, 90);
  }
  for (const type of [channelSuccess, channelFailure]) world.upstream.say(type, slot);
  const client = world.client("client");
  ask(client);
  expectHanded(world, client, { slot });
});

const useless: Record<string, [number, ...Field[]]> = {
  "a request that wants no reply": [channelRequest, "invented@example.com", false],
  "an exit status": [channelRequest, "exit-status", false, 1],
  "EOF": [channelEof],
  "data": [channelData, "x"],
  "stderr": [channelExtendedData, 1, "x"],
  "a window that overflows": [channelWindowAdjust, 2 ** 32 - 1],
};

for (const [what, [type, ...fields]] of Object.entries(useless)) {
  Deno.test(`after ${what} it is closed without a trace, and there is none until a session was opened`, () => {
    const { world, slot } = startWarm();
    world.upstream.say(type, slot, ...fields);
    world.upstream.expectOn(channelClose, 90);
    // What still comes is of no interest.
    world.upstream.say(channelData, slot, "x");
    world.upstream.say(channelClose, slot);
    world.expectQuiet();
    expectUnseen(world);
    // Late, and dropped.
    world.upstream.say(channelData, slot, "x");
    const client = world.client("client");
    world.open(client);
    expectAsked(world);
    world.expectQuiet(client);
  });

  Deno.test(`after ${what} before the answer it is closed when the answer comes`, () => {
    const world = new World({ warm: true });
    const slot = expectAsked(world);
    world.upstream.say(type, slot, ...fields);
    const client = world.client("client");
    const own = world.ask(client);
    confirm(world, slot, 90);
    world.upstream.expectOn(channelClose, 90);
    world.upstream.say(channelClose, slot);
    confirm(world, own, 91);
    client.expect(channelOpenConfirmation);
    expectAsked(world);
    world.expectQuiet(client);
  });
}

Deno.test("upstream closes it: no other is asked for until a client's session was opened", () => {
  const { world, slot } = startWarm();
  world.upstream.say(channelClose, slot);
  world.upstream.expectOn(channelClose, 90);
  world.expectQuiet();
  expectUnseen(world);
  world.clock.advance(3_600_000);
  world.expectQuiet();
  const client = world.client("client");
  world.open(client);
  expectAsked(world);
});

Deno.test("upstream closes it while it is handed over: its client hears what it would have heard", () => {
  const { world, slot } = startWarm();
  const client = world.client("client");
  ask(client);
  const channel = expectHanded(world, client, { slot });
  expectAsked(world);
  channel.down(channelClose);
  channel.expectDown(channelClose);
  channel.up(channelRequest, "exec", true, "true");
  channel.up(channelClose);
  channel.expectUp(channelClose);
  world.expectQuiet(client);
  assert.equal(world.relay.channelCount, 0);
});

for (
  const [name, type, ...fields] of [
    ["a second confirmation", channelOpenConfirmation, 1, 2, 3],
    ["a refusal after the confirmation", channelOpenFailure, 2, "late", ""],
  ] as const
) {
  Deno.test(`${name} ends upstream`, () => {
    const { world, slot } = startWarm();
    world.upstream.say(type, slot, ...fields);
    world.upstream.expectEnded(/an answer to no CHANNEL_OPEN/);
  });
}

Deno.test("upstream cannot speak of it on another connection, nor a client at all", () => {
  const { world, slot } = startWarm();
  const client = world.client("client");
  client.say(channelData, slot, "x");
  client.expectEnded(/no such channel/);
  const overflow = world.attachOverflow();
  overflow.say(channelClose, slot);
  overflow.expectEnded(/no such channel/);
});

// Refusals

for (const reason of [1, 2, 3, 4, 77]) {
  Deno.test(`refused with reason ${reason} it teaches nothing, and is not asked for again`, () => {
    const world = new World({ warm: true });
    refuse(world, expectAsked(world), reason);
    world.expectQuiet();
    expectUnseen(world);
    const clients = ["one", "two", "three"].map((name) => world.client(name));
    for (const client of clients) world.open(client);
    world.expectQuiet(...clients);
    assert.equal(world.relay.describe().sessions.limit, Infinity);
  });

  Deno.test(`refused with reason ${reason} when its client is there, as the client's own would be`, () => {
    const world = new World({ warm: true });
    const slot = expectAsked(world);
    const client = world.client("client");
    ask(client);
    refuse(world, slot, reason);
    assert.equal(client.expectOn(channelOpenFailure, 7).reasonCode, reason);
    world.client("next");
    expectAsked(world);
    assert.equal(world.relay.channelCount, 0);
    assert.equal(world.clock.pending, 0);
  });
}

Deno.test("refused beside sessions, its client waits for one of them to end, with its own window", () => {
  const { world, slot } = startWarm();
  const [one, two] = [world.client("one"), world.client("two")];
  ask(one);
  const first = expectHanded(world, one, { slot });
  const second = expectAsked(world);
  ask(two);
  refuse(world, second);
  world.expectQuiet(one, two);
  first.close();
  const again = world.upstream.expect(channelOpen);
  assert.equal(again.initialWindowSize, usualWindowBytes);
  confirm(world, again.senderChannel, 91);
  two.expect(channelOpenConfirmation);
  world.expectQuiet(one, two);
});

/** An upstream that allows so many sessions, and keeps every one that it has opened. */
class Counter {
  readonly #world: World;
  readonly #limit: number;
  readonly open = new Map<number, number>();
  #last = 100;
  refusals = 0;
  most = 0;

  constructor(world: World, limit: number) {
    this.#world = world;
    this.#limit = limit;
  }

  /** Answers all that it was sent, until nothing comes any more. */
  answer(): void {
    for (
      let sent = this.#world.upstream.take();
      sent.length > 0;
      sent = this.#world.upstream.take()
    ) {
      for (const { message } of sent) {
        if (message.type === channelOpen) this.#onOpen(message.senderChannel);
        else if (message.type === channelClose) this.#onClose(message.recipientChannel);
      }
    }
  }

  #onOpen(slot: number): void {
    if (this.open.size === this.#limit) {
      this.refusals++;
      return refuse(this.#world, slot);
    }
    this.open.set(++this.#last, slot);
    this.most = Math.max(this.most, this.open.size);
    confirm(this.#world, slot, this.#last);
  }

  #onClose(number: number): void {
    const slot = this.open.get(number)!;
    this.open.delete(number);
    this.#world.upstream.say(channelClose, slot);
  }
}

for (const maximum of [1, 2, 3, 10]) {
  for (const packetBytes of [usualPacketBytes, 1000]) {
    for (const known of [Infinity, maximum]) {
      const how = known === Infinity ? "found out" : "known";
      Deno.test(`where ${maximum} are allowed, ${how}, as many clients have theirs in turn, packets of ${packetBytes}`, () => {
        const world = new World({ warm: true, sessions: known });
        const counter = new Counter(world, maximum);
        counter.answer();
        const waiting: MemoryPeer[] = [];
        const served: { client: MemoryPeer; slot: number }[] = [];
        const look = () => {
          counter.answer();
          for (const client of [...waiting]) {
            for (const { message } of client.take()) {
              assert(message.type === channelOpenConfirmation, "a session is refused");
              assert.equal(waiting.shift(), client, "somebody is overtaken");
              served.push({ client, slot: message.senderChannel });
            }
          }
        };
        for (let round = 0; round < 3; round++) {
          for (let index = 0; index < maximum + 3; index++) {
            const client = world.client(`${round} ${index}`);
            waiting.push(client);
            ask(client, { packetBytes });
            look();
            assert.equal(served.length, Math.min(index + 1, maximum));
            assert.equal(world.relay.describe().sessions.count, served.length);
          }
          assert.equal(waiting.length, 3);
          while (served.length > 0) {
            const { client, slot } = served.shift()!;
            client.say(channelClose, slot);
            look();
            client.expect(channelClose);
          }
          assert.equal(waiting.length, 0);
        }
        assert.equal(counter.most, maximum);
        // One teaches the limit, one the warm session, and one sets off when that makes room.
        assert(counter.refusals <= (known === Infinity ? 3 : 0), `${counter.refusals} refusals`);
        const left = maximum > 2 ? 1 : 0;
        assert.equal(counter.open.size, left);
        assert.equal(world.relay.channelCount, 0);
      });
    }
  }
}

Deno.test("two sessions are left to clients beside it where the number is known", () => {
  for (const [sessions, isWarm] of [[1, false], [2, false], [3, true]] as const) {
    const world = new World({ warm: true, sessions });
    assert.equal(world.upstream.take().length, isWarm ? 1 : 0);
  }
  const { world, slot } = startWarm({ sessions: 4 });
  const client = world.client("client");
  ask(client);
  const first = expectHanded(world, client, { slot });
  confirm(world, expectAsked(world), 91);
  // It would be the third of four, and one more is asked for.
  world.open(world.client("small"), { downstreamAnnounces: { packetBytes: 100 } });
  world.upstream.expectOn(channelClose, 91);
  first.up(channelClose);
  first.expectUp(channelClose);
  first.down(channelClose);
  world.upstream.expectNothing();
});

Deno.test("a session that waits has the room of the warm one, and nobody needs another connection", () => {
  const { world, slot } = startWarm();
  const small = { downstreamAnnounces: { packetBytes: 100 } };
  const client = world.client("client");
  const refused = world.ask(client, small);
  refuse(world, refused);
  world.upstream.expectOn(channelClose, 90);
  world.expectQuiet(client);
  assert.equal(world.wishes.session, 0);
  world.upstream.say(channelClose, slot);
  confirm(world, world.upstream.expect(channelOpen).senderChannel, 91);
  client.expect(channelOpenConfirmation);
  world.expectQuiet(client);
});

Deno.test("an upstream that refuses all is believed, though a warm session had no answer yet", () => {
  const world = new World({ warm: true });
  const slot = expectAsked(world);
  const client = world.client("client");
  const own = world.ask(client, { downstreamAnnounces: { packetBytes: 100 } });
  refuse(world, own);
  world.expectQuiet(client);
  refuse(world, slot);
  refuse(world, world.upstream.expect(channelOpen).senderChannel);
  client.expectOn(channelOpenFailure, 7);
  world.expectQuiet(client);
  assert.equal(world.clock.pending, 0);
});

Deno.test("where one session is allowed in a connection's life, the warm one is it", () => {
  const { world, slot } = startWarm();
  const [one, two] = [world.client("one"), world.client("two")];
  ask(one);
  const session = expectHanded(world, one, { slot });
  refuse(world, expectAsked(world));
  session.close();
  world.expectQuiet(one);
  const own = world.ask(two);
  refuse(world, own);
  // Perhaps it had not taken note of the end.
  refuse(world, world.upstream.expect(channelOpen).senderChannel);
  world.expectQuiet(two);
  assert(world.relay.detachUpstream("ended", { byServer: true }), "it has served a session");
  world.attach();
  assert.equal(world.upstream.expect(channelOpen).initialWindowSize, usualWindowBytes);
  world.expectQuiet(two);
});

// Connections

Deno.test("a connection that had nothing but a warm session has served none", () => {
  const { world, slot } = startWarm();
  world.upstream.say(channelClose, slot);
  assert.equal(world.relay.detachUpstream("ended", { byServer: true }), false);
});

Deno.test("the next connection has its own; what was said of the old one means nothing", () => {
  const { world } = startWarm();
  world.relay.detachUpstream("lost");
  expectUnseen(world);
  const client = world.client("client");
  ask(client);
  world.attach();
  // Whoever waits comes first.
  const slot = world.upstream.expect(channelOpen).senderChannel;
  world.upstream.expectNothing();
  confirm(world, slot, 91);
  client.expect(channelOpenConfirmation);
  expectAsked(world);
  world.expectQuiet(client);
});

Deno.test("upstream is lost before its answer: the client goes to the next one with its own window", () => {
  const world = new World({ warm: true });
  const slot = expectAsked(world);
  const client = world.client("client");
  ask(client);
  world.relay.detachUpstream("lost");
  world.attach();
  const again = world.upstream.expect(channelOpen);
  assert.deepEqual([again.senderChannel, again.initialWindowSize], [slot, usualWindowBytes]);
  confirm(world, slot, 91);
  client.expect(channelOpenConfirmation);
  expectAsked(world);
  world.expectQuiet(client);
  assert.equal(world.clock.pending, 0);
});

Deno.test("a server that ends its connection beside one is not asked again before a session", () => {
  const { world } = startWarm();
  world.relay.detachUpstream("ended", { byServer: true });
  world.attach();
  world.expectQuiet();
  world.open(world.client("client"));
  expectAsked(world);
});

Deno.test("a server that ends its connection instead of an answer is never asked again", () => {
  const world = new World({ warm: true });
  for (let count = 0; count < 2; count++) {
    if (count === 0) expectAsked(world);
    world.relay.detachUpstream("ended", { byServer: true });
    world.attach();
    const client = world.client("client");
    for (let session = 0; session < 2; session++) world.open(client).close();
    world.expectQuiet(client);
    client.leave();
  }
  assert.equal(world.relay.describe().sessions.limit, Infinity);
});

Deno.test("there is none beside further connections", () => {
  const { world, slot } = startWarm();
  const overflow = world.attachOverflow();
  world.upstream.expectOn(channelClose, 90);
  world.upstream.say(channelClose, slot);
  world.expectQuiet();
  const client = world.client("client");
  world.open(client);
  world.expectQuiet(client);
  world.relay.detachOverflow(overflow, "unused");
  expectAsked(world);
});

// Clients

Deno.test("a client that leaves before the answer leaves nothing behind", () => {
  const world = new World({ warm: true });
  const slot = expectAsked(world);
  const client = world.client("client");
  ask(client);
  client.leave();
  confirm(world, slot, 90);
  world.upstream.expectOn(channelClose, 90);
  const next = expectAsked(world);
  world.upstream.say(channelClose, slot);
  confirm(world, next, 91);
  world.expectQuiet(client);
  assert.equal(world.relay.channelCount, 0);
  assert.equal(world.clock.pending, 0);
});

Deno.test("a client that leaves, or closes at once, ends the session that it was given", () => {
  for (const leaves of [true, false]) {
    const { world, slot } = startWarm();
    const client = world.client("client");
    ask(client);
    expectHanded(world, client, { slot });
    expectAsked(world);
    if (leaves) client.leave();
    else client.say(channelClose, slot);
    world.upstream.expectOn(channelClose, 90);
    world.upstream.say(channelClose, slot);
    if (!leaves) client.expect(channelClose);
    world.expectQuiet(client);
    assert.equal(world.relay.channelCount, 0);
  }
});

Deno.test("who may have no session does not get it", () => {
  const { world } = startWarm({ channels: 1 });
  const full = world.client("full");
  world.open(full, { type: "direct-streamlocal@example.com" });
  ask(full, { downstream: 8 });
  full.expectOn(channelOpenFailure, 8);
  const modest = world.client("modest");
  modest.say(MessageType.globalRequest, "no-more-sessions@openssh.com", false);
  ask(modest);
  modest.expectOn(channelOpenFailure, 7);
  world.expectQuiet(full, modest);
});

Deno.test("what a client's key allows holds on it as on any other", () => {
  const { world, slot } = startWarm();
  const client = world.client(
    "client",
    new ClientRules({ ...everything, command: "backup" }, () => {}),
  );
  ask(client);
  const channel = expectHanded(world, client, { slot });
  expectAsked(world);
  channel.up(channelRequest, "exec", true, "other");
  const { data } = channel.expectUp(channelRequest);
  assert.match(new TextDecoder().decode(data), /backup/);
});

Deno.test("an upstream that is not known to take one is not asked for it", () => {
  const world = new World({ warm: true }, { allowsWarmSession: false });
  const client = world.client("client");
  world.open(client);
  world.expectQuiet(client);
  world.relay.detachUpstream("lost");
  world.attach();
  expectAsked(world);
});

Deno.test("what one connection has refused is asked of the next one", () => {
  const world = new World({ warm: true });
  refuse(world, expectAsked(world));
  world.relay.detachUpstream("ended", { byServer: true });
  world.attach();
  expectAsked(world);
});

Deno.test("its numbers are used again, and few", () => {
  const world = new World({ warm: true });
  for (let count = 0; count < 5; count++) {
    assert(expectAsked(world) < 2);
    world.relay.detachUpstream("lost");
    world.clock.advance(60_000);
    world.attach();
  }
});

Deno.test("what upstream has said of it is kept, whatever becomes of the bytes", () => {
  const world = new World({ warm: true });
  const slot = expectAsked(world);
  const numbers = [slot, 90, hostWindowBytes, hostPacketBytes];
  const payload = buildMessage(channelOpenConfirmation, ...numbers);
  world.upstream.sayBytes(payload);
  payload.fill(0);
  const client = world.client("client");
  ask(client);
  expectHanded(world, client, { slot });
});

Deno.test("its room is for one of those that wait: the others may want another connection", () => {
  const { world } = startWarm();
  const small = { downstreamAnnounces: { packetBytes: 100 } };
  const slots = ["one", "two"].map((name) => world.ask(world.client(name), small));
  refuse(world, slots[0]!);
  assert.equal(world.wishes.session, 0);
  refuse(world, slots[1]!);
  assert.equal(world.wishes.session, 1);
});

Deno.test("a session that follows its end too soon for upstream is offered once more", () => {
  const { world, slot } = startWarm();
  const client = world.client("client");
  refuse(world, world.ask(client, { downstreamAnnounces: { packetBytes: 100 } }));
  world.upstream.expectOn(channelClose, 90);
  world.upstream.say(channelClose, slot);
  refuse(world, world.upstream.expect(channelOpen).senderChannel);
  confirm(world, world.upstream.expect(channelOpen).senderChannel, 91);
  client.expect(channelOpenConfirmation);
});

Deno.test("what its client sends is as large as upstream takes, and no larger", () => {
  const { world, slot } = startWarm();
  const client = world.client("client");
  ask(client);
  const channel = expectHanded(world, client, { slot });
  expectAsked(world);
  channel.up(channelData, patternBytes(hostPacketBytes + 1));
  channel.expectUp(channelClose);
});

Deno.test("once everything is closing none is asked for", async () => {
  const { world, slot } = startWarm({ sessions: 3 });
  const client = world.client("client");
  ask(client);
  const channel = expectHanded(world, client, { slot });
  const closed = world.relay.closeAll("stopped");
  channel.expectUp(channelClose);
  client.take();
  channel.up(channelClose);
  channel.down(channelClose);
  await closed;
  world.expectQuiet(client);
});
