/** Windows: what a receiver accepts, and how much of it a sender is told in advance. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { ProtocolError } from "../lib/errors.ts";
import { Flow, maximumCreditBytes } from "../lib/flow.ts";
import { MessageType } from "../lib/wire.ts";
import { type OpenChannel, patternBytes, type Sent, World } from "./support/memory.ts";

const { channelOpenConfirmation, channelData, channelExtendedData, channelWindowAdjust } =
  MessageType;

const largest = 2 ** 32 - 1;

Deno.test("a window up to 2 MiB is granted as it is", () => {
  for (const bytes of [0, 1, 4096, maximumCreditBytes - 1, maximumCreditBytes]) {
    const flow = new Flow();
    flow.adjust(bytes);
    assert.equal(flow.windowBytes, bytes);
    assert.equal(flow.takeGrant(), bytes);
    assert.equal(flow.takeGrant(), 0);
  }
});

Deno.test("of a larger window 2 MiB are granted", () => {
  for (const bytes of [maximumCreditBytes + 1, 2 ** 31, largest]) {
    const flow = new Flow();
    flow.adjust(bytes);
    assert.equal(flow.takeGrant(), maximumCreditBytes);
    assert.equal(flow.takeGrant(), 0);
    assert.equal(flow.windowBytes, bytes);
  }
});

Deno.test("nothing may be sent before it is granted", () => {
  const flow = new Flow();
  flow.adjust(10);
  assert.throws(() => flow.consume(1), ProtocolError);
  assert.equal(flow.takeGrant(), 10);
  flow.consume(4);
  assert.throws(() => flow.consume(7), ProtocolError);
  flow.consume(6);
  assert.throws(() => flow.consume(1), ProtocolError);
  flow.consume(0);
  assert.equal(flow.windowBytes, 0);
});

Deno.test("a refused amount changes nothing", () => {
  const flow = new Flow();
  flow.adjust(10);
  flow.takeGrant();
  assert.throws(() => flow.consume(11), ProtocolError);
  assert.equal(flow.windowBytes, 10);
  flow.consume(10);
  flow.adjust(largest);
  assert.throws(() => flow.adjust(1), ProtocolError);
  assert.equal(flow.windowBytes, largest);
});

Deno.test("a window may reach 2^32 - 1 and no byte more", () => {
  for (const first of [0, 1, largest - 1, largest]) {
    const flow = new Flow();
    flow.adjust(first);
    flow.adjust(largest - first);
    assert.throws(() => flow.adjust(1), ProtocolError);
    flow.takeGrant();
    flow.consume(1);
    flow.adjust(1);
    assert.throws(() => flow.adjust(1), ProtocolError);
  }
});

Deno.test("what was withheld is granted again once less than half is left", () => {
  const flow = new Flow();
  flow.adjust(largest);
  flow.takeGrant();
  flow.consume(maximumCreditBytes / 2);
  assert.equal(flow.takeRefill(), 0);
  flow.consume(1);
  assert.equal(flow.takeRefill(), maximumCreditBytes / 2 + 1);
  assert.equal(flow.takeRefill(), 0);
});

Deno.test("a window that is used up is not granted again by itself", () => {
  const flow = new Flow();
  flow.adjust(100);
  flow.takeGrant();
  flow.consume(100);
  assert.equal(flow.takeRefill(), 0);
  assert.equal(flow.takeGrant(), 0);
  flow.adjust(30);
  assert.equal(flow.takeGrant(), 30);
});

Deno.test("the sum of all grants is the sum of what was accepted, however it is taken", () => {
  for (const total of [1, 5, maximumCreditBytes, maximumCreditBytes + 1, 5 * maximumCreditBytes]) {
    const flow = new Flow();
    flow.adjust(total);
    let granted = flow.takeGrant();
    let consumed = 0;
    let steps = 0;
    while (consumed < total) {
      assert(++steps < 1000, `stalled after ${consumed} of ${total}`);
      const bytes = Math.min(32768, granted - consumed);
      assert(bytes > 0, `stalled after ${consumed} of ${total}`);
      flow.consume(bytes);
      consumed += bytes;
      granted += flow.takeRefill();
      assert(granted - consumed <= maximumCreditBytes);
    }
    assert.equal(granted, total);
    assert.equal(flow.windowBytes, 0);
  }
});

// Through the relay

type Direction = "up" | "down";

/** A receiver's window, and what is sent into it. */
interface Transfer {
  direction: Direction;
  windowBytes: number;
  packetBytes: number;
  totalBytes: number;
  isStderr?: boolean;
  /** Sends pieces of this size, or as much as is allowed. */
  pieceBytes?: number;
  /** From this many bytes on the receiver is congested, until nothing more comes. */
  congestedFrom?: number;
  /** The receiver adjusts its window only when half of it is used up. */
  isLazy?: boolean;
}

const pattern = patternBytes(5 * maximumCreditBytes + 10);

/**
 * One end sends as fast as its window allows, and the other takes everything at once and adjusts
 * its window when OpenSSH would, or as late as it may. Fails where nothing moves any more.
 */
function transfer(options: Transfer): void {
  const { direction, windowBytes, packetBytes, totalBytes, pieceBytes = packetBytes } = options;
  const world = new World();
  const alice = world.client("alice");
  const receives = { windowBytes, packetBytes };
  const slot = world.ask(alice, direction === "down" ? { downstreamAnnounces: receives } : {});
  const opened = direction === "down" ? undefined : receives;
  const { windowBytes: window = maximumCreditBytes, packetBytes: packet = 32768 } = opened ?? {};
  world.upstream.say(channelOpenConfirmation, slot, 55, window, packet);
  const [sender, receiver] = direction === "up" ? [alice, world.upstream] : [world.upstream, alice];
  alice.take();

  let credit = Math.min(windowBytes, maximumCreditBytes);
  let sent = 0;
  let received = 0;
  let consumed = 0;
  let localWindow = windowBytes;
  sender.onSent = ({ message }) => {
    assert.equal(message.type, channelWindowAdjust);
    credit += (message as { bytesToAdd: number }).bytesToAdd;
    assert(credit <= maximumCreditBytes, "more is granted than may be under way");
  };
  receiver.onSent = ({ message }: Sent) => {
    assert.equal(message.type, options.isStderr ? channelExtendedData : channelData);
    const { data } = message as { data: Uint8Array };
    assert(data.length <= packetBytes);
    assert(Buffer.from(data).equals(pattern.subarray(received, received + data.length)));
    received += data.length;
    localWindow -= data.length;
    consumed += data.length;
    assert(localWindow >= 0, "the receiver's window is overrun");
  };
  const adjust = () => {
    const isHalfUsed = localWindow < windowBytes / 2;
    const isDue = isHalfUsed || (!options.isLazy && windowBytes - localWindow > packetBytes * 3);
    if (!isDue || consumed === 0) return;
    receiver.say(channelWindowAdjust, slot, consumed);
    localWindow += consumed;
    consumed = 0;
  };

  while (sent < totalBytes) {
    for (const peer of [sender, receiver]) assert.equal(peer.fault ?? peer.ending, undefined);
    const size = Math.min(pieceBytes, packetBytes, credit, totalBytes - sent);
    if (size === 0) {
      assert(receiver.backlogBytes > 0, `stalled after ${sent} of ${totalBytes} bytes`);
      receiver.drain();
      assert(credit > 0, `stalled for ever after ${sent} of ${totalBytes} bytes`);
      continue;
    }
    if (sent >= (options.congestedFrom ?? Infinity)) receiver.backlogBytes = 2 ** 20 + 1;
    const data = pattern.subarray(sent, sent + size);
    credit -= size;
    sent += size;
    if (options.isStderr) sender.say(channelExtendedData, slot, 1, data);
    else sender.say(channelData, slot, data);
    adjust();
  }
  assert.equal(received, totalBytes);
  for (const peer of [sender, receiver]) assert.equal(peer.fault ?? peer.ending, undefined);
}

const windows = [
  1,
  1000,
  32768,
  65536,
  maximumCreditBytes - 1,
  maximumCreditBytes,
  maximumCreditBytes + 1,
  2 ** 31,
  largest,
];

for (const direction of ["up", "down"] as const) {
  Deno.test(`five windows of every size arrive, ${direction}`, () => {
    for (const windowBytes of windows) {
      const totalBytes = Math.min(5 * windowBytes, pattern.length);
      for (const isLazy of [false, true]) {
        transfer({ direction, windowBytes, packetBytes: 32768, totalBytes, isLazy });
      }
    }
  });

  Deno.test(`sizes around a packet and a window arrive, ${direction}`, () => {
    for (const windowBytes of [32768, 100_000, maximumCreditBytes]) {
      for (const packetBytes of [1000, 32767, 32768]) {
        for (const edge of [1, packetBytes, windowBytes]) {
          for (const totalBytes of [edge - 1, edge, edge + 1]) {
            transfer({ direction, windowBytes, packetBytes, totalBytes });
          }
        }
      }
    }
  });

  Deno.test(`small pieces arrive, ${direction}`, () => {
    transfer({
      direction,
      windowBytes: 5000,
      packetBytes: 32768,
      totalBytes: 20_000,
      pieceBytes: 1,
    });
    transfer({ direction, windowBytes: 5000, packetBytes: 1, totalBytes: 20_000 });
    transfer({
      direction,
      windowBytes: largest,
      packetBytes: 32768,
      totalBytes: pattern.length,
      pieceBytes: 4095,
    });
  });

  Deno.test(`stderr shares the window, ${direction}`, () => {
    for (const windowBytes of [1000, maximumCreditBytes, largest]) {
      const totalBytes = Math.min(5 * windowBytes, pattern.length);
      transfer({ direction, windowBytes, packetBytes: 32768, totalBytes, isStderr: true });
    }
  });

  Deno.test(`a receiver that is congested for a while gets everything, ${direction}`, () => {
    for (const windowBytes of [100_000, maximumCreditBytes, maximumCreditBytes + 1, largest]) {
      for (const congestedFrom of [0, 1, 2 ** 20 - 32768, 2 ** 20, 2 ** 20 + 32768]) {
        const totalBytes = Math.min(5 * windowBytes, pattern.length);
        for (const isLazy of [false, true]) {
          transfer({
            direction,
            windowBytes,
            packetBytes: 32768,
            totalBytes,
            congestedFrom,
            isLazy,
          });
        }
      }
    }
  });
}

Deno.test("a window of 2^32 - 1 is announced as 2 MiB, in opens and in confirmations", () => {
  const world = new World();
  const alice = world.client("alice");
  alice.say(MessageType.channelOpen, "session", 7, largest, 32768);
  const asked = world.upstream.expect(MessageType.channelOpen);
  assert.equal(asked.initialWindowSize, maximumCreditBytes);
  world.upstream.say(channelOpenConfirmation, asked.senderChannel, 55, largest, 32768);
  const confirmed = alice.expect(channelOpenConfirmation);
  assert.equal(confirmed.initialWindowSize, maximumCreditBytes);
  world.expectQuiet(alice);
});

Deno.test("a WINDOW_ADJUST passes at once, by as much as 2 MiB in all", () => {
  for (const isUp of [true, false]) {
    const world = new World();
    const alice = world.client("alice");
    const announces = { windowBytes: 100 };
    const channel = world.open(alice, {
      downstreamAnnounces: announces,
      upstreamAnnounces: announces,
    });
    const say = (bytes: number) =>
      isUp ? channel.up(channelWindowAdjust, bytes) : channel.down(channelWindowAdjust, bytes);
    const expect = () =>
      (isUp ? channel.expectUp(channelWindowAdjust) : channel.expectDown(channelWindowAdjust))
        .bytesToAdd;
    say(0);
    world.expectQuiet(alice);
    say(1);
    assert.equal(expect(), 1);
    say(2 ** 31);
    assert.equal(expect(), maximumCreditBytes - 101);
    say(1000);
    world.expectQuiet(alice);
    exhaust(channel, isUp ? "down" : "up", maximumCreditBytes / 2 - 1);
    world.expectQuiet(alice);
    exhaust(channel, isUp ? "down" : "up", 2);
    assert.equal(expect(), maximumCreditBytes / 2 + 1);
    world.expectQuiet(alice);
  }
});

Deno.test("a congested receiver is not granted more by itself, but what it adjusts passes", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice, { downstreamAnnounces: { windowBytes: largest - 2 ** 20 } });
  alice.backlogBytes = 2 ** 20 + 1;
  exhaust(channel, "down", maximumCreditBytes - 10);
  world.expectQuiet(alice);
  channel.up(channelWindowAdjust, 2 ** 20);
  assert.equal(channel.expectUp(channelWindowAdjust).bytesToAdd, maximumCreditBytes - 10);
  exhaust(channel, "down", maximumCreditBytes);
  world.expectQuiet(alice);
  alice.drain();
  assert.equal(channel.expectUp(channelWindowAdjust).bytesToAdd, maximumCreditBytes);
  alice.drain();
  world.expectQuiet(alice);
});

Deno.test("a receiver's congestion holds no other back", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const [stalled, moving] = [alice, bob].map((client) =>
    world.open(client, { downstreamAnnounces: { windowBytes: largest } })
  );
  alice.backlogBytes = 2 ** 20 + 1;
  exhaust(stalled!, "down", maximumCreditBytes);
  exhaust(moving!, "down", maximumCreditBytes / 2 + 1);
  assert.equal(moving!.expectUp(channelWindowAdjust).bytesToAdd, maximumCreditBytes / 2 + 1);
  bob.drain();
  world.expectQuiet(alice, bob);
});

/** Sends `bytes` in one direction, all of which pass. */
function exhaust(channel: OpenChannel, direction: Direction, bytes: number): void {
  for (let left = bytes; left > 0; left -= Math.min(left, 32768)) {
    const data = patternBytes(Math.min(left, 32768));
    if (direction === "down") {
      channel.down(channelData, data);
      assert.equal(channel.expectDown(channelData).data.length, data.length);
    } else {
      channel.up(channelData, data);
      assert.equal(channel.expectUp(channelData).data.length, data.length);
    }
  }
}

Deno.test("what may be under way to a client is bounded, however many channels it has", () => {
  const world = new World();
  const client = world.client("client");
  const channels = 1000;
  let granted = 0;
  for (let index = 0; index < channels; index++) {
    client.say(MessageType.channelOpen, "session", index, largest, 32768);
    const { senderChannel, initialWindowSize } = world.upstream.expect(MessageType.channelOpen);
    granted += initialWindowSize;
    world.upstream.say(channelOpenConfirmation, senderChannel, index, largest, 32768);
    client.expect(channelOpenConfirmation);
  }
  assert(granted <= (64 + channels / 32) * 2 ** 20, `${granted} bytes`);
  world.expectQuiet(client);
});

Deno.test("a small share of a client's pool moves on as it is used, and grows as others close", () => {
  const world = new World();
  const client = world.client("client");
  const [first, ...others] = Array.from(
    { length: 200 },
    (_, index) => world.open(client, { downstream: index }),
  );
  const last = world.open(client, { downstream: 200 });
  // What upstream may send on it, as far as it was told.
  let credit = 32 * 1024;
  const pass = () => {
    last.down(channelData, patternBytes(32 * 1024));
    last.expectDown(channelData);
    last.up(channelWindowAdjust, 32 * 1024);
    for (const { message } of world.upstream.take()) {
      assert(message.type === channelWindowAdjust);
      credit += message.bytesToAdd;
    }
    credit -= 32 * 1024;
  };
  for (let round = 0; round < 100; round++) pass();
  assert(credit < 2 ** 20, `${credit} bytes`);
  for (const channel of others) channel.close();
  pass();
  assert(credit > 2 ** 20, `${credit} bytes`);
  first!.expectAlive();
});
