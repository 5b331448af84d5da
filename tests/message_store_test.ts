/** Many small messages that wait: they keep their order, and take little memory and time. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { PlainStream } from "../lib/control_stream.ts";
import { Hand } from "../lib/hand.ts";
import { enqueueOutput, type Piece } from "../lib/lane_streams.ts";
import { MessageStore } from "../lib/message_store.ts";
import { PaceQueue } from "../lib/pace_queue.ts";
import { FrameType, ResumeEnd } from "../lib/resume_end.ts";
import { concatenate } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { patternBytes, World } from "./support/memory.ts";
import { Random } from "./support/models.ts";

const { channelClose, channelData, channelExtendedData, channelWindowAdjust } = MessageType;

const [kilo, mega] = [1024, 1024 * 1024];

/** What is in use now, garbage beside, in bytes. */
function usedBytes(): number {
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

Deno.test("messages come as they went, whatever their lengths, and what is joined is one", () => {
  const random = new Random(20_261_127);
  const store = new MessageStore();
  const expected: Uint8Array[] = [];
  for (let step = 0; step < 20_000; step++) {
    const data = patternBytes(random.below(random.chance(0.05) ? 40 * kilo : 100));
    if (random.chance(0.5)) {
      if (random.chance(0.3) && store.extend(data)) {
        expected[expected.length - 1] = concatenate([expected.at(-1)!, data]);
      } else {
        const cut = random.below(data.length + 1);
        store.add(data.subarray(0, cut), data.subarray(cut));
        expected.push(data);
      }
    } else {
      assert.deepEqual(store.first, expected[0]);
      assert.deepEqual(store.take(), expected.shift());
    }
    assert.equal(store.isEmpty, expected.length === 0);
    assert(!store.isEmpty || !store.extend(data), "nothing is there to be extended");
  }
});

Deno.test("a line of 400,000 small messages takes little more than their bytes, and leaves at once", () => {
  const queue = new PaceQueue<string>();
  const payload = patternBytes(10);
  const before = usedBytes();
  const count = 400_000;
  for (let at = 0; at < count; at++) queue.add("one", payload);
  const grown = usedBytes() - before;
  assert(grown < 64 * mega, `${grown} bytes for ${count * payload.length}`);
  let taken = 0;
  while (queue.take(Infinity)) taken++;
  assert.equal(taken, count);
  assert.equal(queue.bytes, 0);
});

Deno.test("output in turns of one byte each waits for its client without more than its bytes, and in order", () => {
  const world = new World({ aheadBytes: mega / 4 });
  const client = world.client("client");
  const channel = world.open(client, { downstreamAnnounces: { windowBytes: 1000 } });
  const sent = { [channelData]: Buffer.alloc(mega), [channelExtendedData]: Buffer.alloc(mega) };
  const counts = { [channelData]: 0, [channelExtendedData]: 0 };
  let credit = 1000 + world.upstream.take().reduce(
    (sum, { message }) => sum + (message.type === channelWindowAdjust ? message.bytesToAdd : 0),
    0,
  );
  const before = usedBytes();
  for (let at = 0; credit > 0; at++, credit--) {
    const type = at % 2 === 0 ? channelData : channelExtendedData;
    const code = at % 2 === 0 ? [] : [1];
    const data = Uint8Array.of(at * 7 + (at >> 8));
    sent[type][counts[type]++] = data[0]!;
    channel.down(type, ...code, data);
  }
  assert(counts[channelData] > 100_000);
  const grown = usedBytes() - before;
  assert(grown < 40 * mega, `${grown} bytes`);

  const received = { [channelData]: 0, [channelExtendedData]: 0 };
  let last: number | undefined;
  client.onSent = ({ message }) => {
    assert(message.type === channelData || message.type === channelExtendedData);
    for (const byte of message.data) {
      assert.equal(byte, sent[message.type][received[message.type]++]);
    }
    assert.notEqual(message.type, last);
    last = message.type;
  };
  for (const { message, payload } of client.take()) client.onSent({ message, payload });
  channel.up(channelWindowAdjust, 4 * mega);
  assert.deepEqual(received, counts);
  assert.equal(client.fault, undefined);
});

Deno.test("empty data of a host does not wait: no window bounds it", () => {
  const world = new World({ aheadBytes: mega });
  const client = world.client("client");
  const channel = world.open(client, { downstreamAnnounces: { windowBytes: 1000 } });
  channel.down(channelData, patternBytes(1001));
  assert.equal(client.expect(channelData).data.length, 1000);
  for (let at = 0; at < 100_000; at++) {
    channel.down(at % 2 === 0 ? channelData : channelExtendedData, ...at % 2 === 0 ? [] : [1], "");
  }
  channel.down(channelClose);
  client.expectNothing();
  channel.up(channelWindowAdjust, 1000);
  assert.equal(client.expect(channelData).data.length, 1);
  client.expect(channelClose);
});

Deno.test("a resumable stream of frames of one byte is read in few pieces, and takes little memory", () => {
  const end = new ResumeEnd();
  end.attach(0);
  const frames = new Uint8Array(6 * 1000);
  for (let at = 0; at < frames.length; at += 6) {
    frames.set([FrameType.data, 0, 0, 0, 1, at / 6 % 251], at);
  }
  const before = usedBytes();
  for (let count = 0; count < 400; count++) end.receive(frames);
  const grown = usedBytes() - before;
  assert(grown < 64 * mega, `${grown} bytes`);
  assert.equal(end.unreadBytes, 400_000);
  const buffer = new Uint8Array(64 * kilo);
  let [reads, read] = [0, 0];
  for (let count = end.read(buffer); count > 0; count = end.read(buffer)) {
    reads++;
    for (let at = 0; at < count; at++) assert.equal(buffer[at], read++ % 1000 % 251);
  }
  assert.equal(read, 400_000);
  assert(reads < 100, `${reads} reads`);
  assert.equal(end.unreadBytes, 0);
});

Deno.test("of many messages between clients in this process each comes once, whenever it is paused", async () => {
  const [ours, others] = [new Hand(), new Hand()];
  ours.meet(others, () => {});
  others.meet(ours, () => {});
  const count = 300_000;
  let taken = 0;
  const done = Promise.withResolvers<void>();
  const deaf = { onDrain: () => {}, onDisconnect: () => {} };
  ours.start({ ...deaf, onPayload: () => {} });
  others.start({
    ...deaf,
    onPayload: (payload) => {
      assert.equal(payload[0], taken++ % 256);
      if (taken === count) done.resolve();
      if (taken % 100_000 !== 1) return;
      others.pause();
      queueMicrotask(() => others.resume());
    },
  });
  for (let at = 0; at < count; at++) ours.send(Uint8Array.of(at));
  await done.promise;
  assert.equal(ours.backlogBytes, 0);
});

Deno.test("output of one byte each waits for a client's own streams in few pieces, and in order", () => {
  const queue: Piece[] = [];
  const [one, other] = [() => {}, () => {}];
  const before = usedBytes();
  for (let at = 0; at < 400_000; at++) {
    enqueueOutput(queue, { data: Uint8Array.of(at), onDone: one });
  }
  enqueueOutput(queue, { data: patternBytes(32 * kilo), onDone: one });
  for (const onDone of [one, other, other]) {
    enqueueOutput(queue, { data: Uint8Array.of(1), onDone });
  }
  const grown = usedBytes() - before;
  assert(grown < 64 * mega, `${grown} bytes`);
  assert(queue.length < 40, `${queue.length} pieces`);
  const data = concatenate(queue.map((piece) => piece.data));
  assert.deepEqual(queue.slice(-3).map((piece) => [piece.data.length, piece.onDone]), [
    [32 * kilo, one],
    [1, one],
    [2, other],
  ]);
  assert.equal(data.length, 400_003 + 32 * kilo);
  for (let at = 0; at < 400_000; at++) assert.equal(data[at], at % 256);
});

Deno.test("what is sent by a connection of Deno's own leaves in order, and before its end", async () => {
  const received: Uint8Array[] = [];
  const ended = Promise.withResolvers<void>();
  const [opened, open] = [Promise.withResolvers<void>(), { isClosed: false }];
  const connection = {
    read: () => Promise.resolve(null),
    write: async (bytes: Uint8Array) => {
      await opened.promise;
      const part = bytes.slice(0, 50_000);
      received.push(part);
      return part.length;
    },
    close: () => {
      assert(!open.isClosed);
      open.isClosed = true;
      ended.resolve();
    },
  };
  const stream = new PlainStream(connection as unknown as Deno.UnixConn);
  const before = usedBytes();
  for (let at = 0; at < 300_000; at++) stream.send(Uint8Array.of(at, at >> 8));
  const long = patternBytes(100_000);
  stream.send(long);
  const grown = usedBytes() - before;
  assert(grown < 64 * mega, `${grown} bytes`);
  assert.equal(stream.backlogBytes, 700_000);
  stream.close();
  stream.send(Uint8Array.of(1));
  opened.resolve();
  await ended.promise;
  const all = concatenate(received);
  assert.equal(all.length, 700_000);
  for (let at = 0; at < 300_000; at++) {
    assert.equal(all[2 * at]! + 256 * all[2 * at + 1]!, at % 65_536);
  }
  assert.deepEqual(all.subarray(600_000), long);
  stream.close({ isLost: true });
  assert.equal(stream.backlogBytes, 0);
});
