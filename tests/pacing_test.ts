/** Pacing: who waits for whom while a transfer fills a link, on links that are simulated. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { concatenate } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { patternBytes, usualPacketBytes, usualWindowBytes } from "./support/memory.ts";
import { LinkScene, type Transfer, type Typist } from "./support/simulated_link.ts";

const { channelData, channelEof, channelClose, channelRequest, channelWindowAdjust } = MessageType;

const mega = 1e6;
const links = [
  { bytesPerSecond: 2 * mega, roundTripMs: 40 },
  { bytesPerSecond: 20 * mega, roundTripMs: 10 },
];
const slowLink = { bytesPerSecond: 0.2 * mega, roundTripMs: 40 };
const directions = [
  { direction: "upload", article: "an" },
  { direction: "download", article: "a" },
] as const;

/** How much slower a key may be than on a link where nothing else is, in milliseconds. */
const toleratedMs = 45;

/** Numbers from 0 to 1 that are the same each time. */
function randomNumbers(seed: number): () => number {
  return () => (seed = seed * 16_807 % 2_147_483_647) / 2_147_483_647;
}

function quantile(values: readonly number[], part: number): number {
  assert(values.length > 0, "no key was shown");
  return values.toSorted((one, two) => one - two)[Math.floor(part * (values.length - 1))]!;
}

/** What is measured in a stretch of time: keys, and the share of the link that transfers get. */
function measure(
  scene: LinkScene,
  { typist, transfers, ms }: { typist?: Typist; transfers: Transfer[]; ms: number },
): { p50: number; p95: number; share: number } {
  const sum = () => transfers.reduce((bytes, { arrivedBytes }) => bytes + arrivedBytes, 0);
  const [before, keys] = [sum(), typist?.echoesMs.length ?? 0];
  scene.advance(ms);
  const echoesMs = typist?.echoesMs.slice(keys) ?? [0];
  return {
    p50: quantile(echoesMs, 0.5),
    p95: quantile(echoesMs, 0.95),
    share: (sum() - before) / (scene.up.bytesPerSecond * ms / 1000),
  };
}

for (const { direction, article } of directions) {
  const transferName = `${article} ${direction}`;
  for (const link of links) {
    const name = `${link.bytesPerSecond / mega} MB/s and ${link.roundTripMs} ms`;

    Deno.test(`keys are shown at once beside ${transferName}, which keeps the link, at ${name}`, () => {
      const scene = new LinkScene(link);
      const typist = scene.terminal(97);
      const transfers = [scene[direction]()];
      scene.advance(3000);
      const { p50, p95, share } = measure(scene, { typist, transfers, ms: 30_000 });
      assert(p50 < link.roundTripMs + toleratedMs, `p50 ${p50} ms`);
      assert(p95 < link.roundTripMs + 2 * toleratedMs, `p95 ${p95} ms`);
      assert(share > 0.95, `share ${share}`);
    });

    Deno.test(`somebody who comes to ${transferName} that fills the link does not wait long, at ${name}`, () => {
      const scene = new LinkScene(link);
      const transfers = [scene[direction]()];
      scene.advance(3000);
      const typist = scene.terminal(97);
      scene.advance(2000);
      const { p50, share } = measure(scene, { typist, transfers, ms: 5000 });
      assert(p50 < link.roundTripMs + toleratedMs, `p50 ${p50} ms`);
      assert(share > 0.95, `share ${share}`);
    });

    for (const factor of [10, 0.1]) {
      Deno.test(`${transferName} follows a link that is ${factor} times as fast, at ${name}`, () => {
        const scene = new LinkScene(link);
        const typist = scene.terminal(97);
        const transfers = [scene[direction]()];
        scene.advance(5000);
        scene.setRate(link.bytesPerSecond * factor);
        scene.advance(2000);
        const { p50, share } = measure(scene, { typist, transfers, ms: 5000 });
        assert(share > 0.95, `share ${share}`);
        // A message of 32 KB takes long where the link is slow.
        const messageMs = usualPacketBytes / (link.bytesPerSecond * factor) * 1000;
        assert(p50 < link.roundTripMs + toleratedMs + messageMs, `p50 ${p50} ms`);
      });
    }
  }

  Deno.test(`eight ${direction}s are as fast as each other, and fill the link`, () => {
    for (const hasTypist of [false, true]) {
      const scene = new LinkScene(links[1]!);
      const typist = hasTypist ? scene.terminal(97) : undefined;
      const transfers = Array.from({ length: 8 }, () => scene[direction]());
      scene.advance(5000);
      const before = transfers.map(({ arrivedBytes }) => arrivedBytes);
      const { p50, share } = measure(scene, { typist, transfers, ms: 10_000 });
      const bytes = transfers.map(({ arrivedBytes }, index) => arrivedBytes - before[index]!);
      assert(Math.min(...bytes) > 0.9 * Math.max(...bytes), `${bytes}`);
      assert(share > 0.95, `share ${share}`);
      assert(p50 < links[1]!.roundTripMs + toleratedMs, `p50 ${p50} ms`);
    }
  });

  Deno.test(`a longer way is followed by ${transferName}`, () => {
    const scene = new LinkScene(links[0]!);
    const typist = scene.terminal(97);
    const transfers = [scene[direction]()];
    scene.advance(5000);
    scene.up.delayMs = scene.down.delayMs = 100;
    scene.advance(8000);
    const { p50, share } = measure(scene, { typist, transfers, ms: 10_000 });
    assert(share > 0.9, `share ${share}`);
    assert(p50 < 200 + 2 * toleratedMs, `p50 ${p50} ms`);
  });

  Deno.test(`${transferName} alone has all of the link, and so has one beside others that are not in use`, () => {
    for (const link of [...links, { bytesPerSecond: 100 * mega, roundTripMs: 1 }]) {
      for (const hasOther of [false, true]) {
        const [plain, paced] = [false, true].map((isPaced) => {
          const scene = new LinkScene({ ...link, isPaced });
          if (hasOther) {
            const other = scene.upload({ totalBytes: 1000 });
            scene.advance(10_000);
            assert.equal(other.arrivedBytes, 1000);
          }
          const transfer = scene[direction]();
          scene.advance(link.roundTripMs > 1 ? 5000 : 500);
          return transfer.arrivedBytes;
        });
        assert(paced! > 0.99 * plain!, `${paced} of ${plain} bytes`);
      }
    }
  });

  Deno.test(`somebody who comes to ${transferName} that is alone waits little from the first key`, () => {
    const scene = new LinkScene(links[0]!);
    scene[direction]();
    scene.advance(4000);
    const typist = scene.terminal(97);
    scene.advance(2000);
    const longestMs = Math.max(...typist.echoesMs);
    assert(longestMs < links[0]!.roundTripMs + 150, `${longestMs} ms`);
  });

  Deno.test(`keys wait little beside ${transferName} on a slow link, which keeps it`, () => {
    const scene = new LinkScene(slowLink);
    const typist = scene.terminal(97);
    const transfers = [scene[direction]()];
    scene.advance(5000);
    const { p50, share } = measure(scene, { typist, transfers, ms: 20_000 });
    // A message of 32 KB alone takes 160 ms.
    assert(p50 < slowLink.roundTripMs + 80, `p50 ${p50} ms`);
    assert(share > 0.93, `share ${share}`);
  });

  Deno.test(`eight ${direction}s to a host that is near have all of the link, and nothing is kept`, () => {
    const scene = new LinkScene({ bytesPerSecond: 100 * mega, roundTripMs: 0.5 });
    const typist = scene.terminal(97);
    const transfers = Array.from({ length: 8 }, () => scene[direction]());
    scene.advance(1000);
    const keepalives = scene.keepalives;
    const { p50, share } = measure(scene, { typist, transfers, ms: 1000 });
    assert(share > 0.98, `share ${share}`);
    assert(p50 < toleratedMs, `p50 ${p50} ms`);
    assert.equal(scene.heldBytes, 0);
    assert(scene.keepalives - keepalives < 200, `${scene.keepalives - keepalives} keepalives`);
  });

  Deno.test(`${direction}s to a host that is near never stand still, with nobody at a terminal`, () => {
    const scene = new LinkScene({ bytesPerSecond: 20 * mega, roundTripMs: 0.5 });
    const transfers = Array.from({ length: 4 }, () => scene[direction]());
    scene.advance(1000);
    for (let second = 0; second < 14; second++) {
      if (second % 3 === 0) scene.setRate([2, 20, 0.2][second / 3 % 3]! * mega);
      scene.stall(second % 2 * 200);
      scene.advance(1000);
      const { share } = measure(scene, { transfers, ms: 1000 });
      assert(share > 0.8, `share ${share} in second ${second}`);
    }
  });

  Deno.test(`keys are shown soon beside ${transferName} where delays vary, which keeps the link`, () => {
    const scene = new LinkScene(links[0]!);
    const typist = scene.terminal(97);
    const transfers = [scene[direction]()];
    const random = randomNumbers(1);
    const vary = () => {
      scene.up.delayMs = 20 + 10 * random();
      scene.down.delayMs = 20 + 10 * random();
      scene.world.clock.schedule(7, vary);
    };
    vary();
    scene.advance(5000);
    const { p50, share } = measure(scene, { typist, transfers, ms: 20_000 });
    assert(share > 0.9, `share ${share}`);
    assert(p50 < 60 + toleratedMs, `p50 ${p50} ms`);
  });

  Deno.test(`${transferName} goes on at once after the link has stood still, as when packets are lost`, () => {
    const scene = new LinkScene(links[0]!);
    const typist = scene.terminal(97);
    const transfers = [scene[direction]()];
    scene.advance(5000);
    for (let stall = 0; stall < 5; stall++) {
      scene.stall(300);
      scene.advance(1000);
      const { share } = measure(scene, { transfers, ms: 1000 });
      assert(share > 0.9, `share ${share} after ${stall}`);
    }
    const { p50 } = measure(scene, { typist, transfers, ms: 3000 });
    assert(p50 < links[0]!.roundTripMs + toleratedMs, `p50 ${p50} ms`);
  });

  Deno.test(`a hundred ${direction}s share the link, and keys are shown soon beside them`, () => {
    const scene = new LinkScene(links[1]!);
    const typist = scene.terminal(97);
    const transfers = Array.from({ length: 100 }, () => scene[direction]());
    scene.advance(2000);
    const before = transfers.map(({ arrivedBytes }) => arrivedBytes);
    const { p50, share } = measure(scene, { typist, transfers, ms: 2000 });
    const bytes = transfers.map(({ arrivedBytes }, index) => arrivedBytes - before[index]!);
    assert(share > 0.95, `share ${share}`);
    assert(Math.min(...bytes) > 0.5 * Math.max(...bytes), `${bytes}`);
    assert(p50 < links[1]!.roundTripMs + 100, `p50 ${p50} ms`);
  });

  Deno.test(`${transferName} to a server that answers no keepalive goes on`, () => {
    const scene = new LinkScene({ ...links[0]!, answers: false });
    scene.terminal(97);
    const transfers = [scene[direction]()];
    scene.advance(6000);
    assert(measure(scene, { transfers, ms: 5000 }).share > 0.99);
    assert(scene.keepalives < 100, `${scene.keepalives}`);
  });
}

Deno.test("keys are shown soon beside transfers both ways", () => {
  const scene = new LinkScene(links[0]!);
  const typist = scene.terminal(97);
  const [up, down] = [scene.upload(), scene.download()];
  scene.advance(5000);
  const [upBefore, downBefore] = [up.arrivedBytes, down.arrivedBytes];
  const { p50 } = measure(scene, { typist, transfers: [], ms: 20_000 });
  assert(p50 < 40 + 2 * toleratedMs, `p50 ${p50} ms`);
  const capacity = 20 * 2 * mega;
  const [upShare, downShare] = [up.arrivedBytes - upBefore, down.arrivedBytes - downBefore]
    .map((bytes) => bytes / capacity);
  assert(upShare! > 0.8 && downShare! > 0.8, `up ${upShare}, down ${downShare}`);
});

Deno.test("a connection on which nothing is transferred is sent no keepalives", () => {
  const scene = new LinkScene(links[0]!);
  const typists = [scene.terminal(97), scene.terminal(31)];
  scene.advance(60_000);
  assert(typists.every(({ echoesMs }) => echoesMs.length > 500));
  // One for each 16 KB that have come, and no more.
  assert(scene.keepalives <= 1, `${scene.keepalives}`);
});

Deno.test("what waits of a channel keeps its order, with its EOF, requests and CLOSE behind it", () => {
  const scene = new LinkScene(links[0]!);
  scene.terminal(97);
  const { client, host } = scene.open("sink", { keepsData: true, windowBytes: 1000 });
  const sent = patternBytes(20 * usualPacketBytes);
  for (let at = 0; at < sent.length; at += usualPacketBytes) {
    const data = sent.subarray(at, at + usualPacketBytes);
    client.say(channelData, host.slot, data);
    if (at === 10 * usualPacketBytes) {
      client.say(channelRequest, host.slot, "signal", false, "INT");
      client.say(channelWindowAdjust, host.slot, 1);
    }
  }
  client.say(channelEof, host.slot);
  client.say(channelRequest, host.slot, "last", true);
  client.say(channelClose, host.slot);
  scene.advance(5000);
  assert(Buffer.from(concatenate(host.data!)).equals(sent));
  const types = host.types.filter((type) => type !== channelWindowAdjust);
  // Data may have been cut into smaller messages.
  const runs = types.filter((type, at) => type !== channelData || types[at - 1] !== channelData);
  assert.deepEqual(runs, [
    ...[channelData, channelRequest, channelData],
    ...[channelEof, channelRequest, channelClose],
  ]);
  const place = host.types.indexOf(channelWindowAdjust);
  assert(0 < place && place < host.types.indexOf(channelRequest), `a window had to wait: ${place}`);
});

Deno.test("messages of any size are the same bytes after they were cut for a slow link", () => {
  const random = randomNumbers(7);
  const scene = new LinkScene(slowLink);
  scene.terminal(97);
  const streams = Array.from({ length: 3 }, () => {
    const { client, host } = scene.open("sink", { keepsData: true });
    const sent: Uint8Array[] = [];
    for (let bytes = 0; bytes < 150_000;) {
      const part = patternBytes(1 + Math.floor(random() ** 3 * usualPacketBytes)).slice();
      part[0] = sent.length;
      bytes += part.length;
      sent.push(part);
      client.say(channelData, host.slot, part);
    }
    client.say(channelEof, host.slot);
    return { host, sent };
  });
  scene.advance(8000);
  for (const { host, sent } of streams) {
    assert(Buffer.from(concatenate(host.data!)).equals(concatenate(sent)));
    assert.equal(host.types.at(-1), channelEof);
    assert(host.data!.length > sent.length, "nothing was cut");
    const longest = Math.max(...host.data!.slice(-20).map(({ length }) => length));
    assert(longest <= usualPacketBytes / 2, `${longest} bytes at once`);
  }
});

Deno.test("what waits is bounded by the windows, and nobody is ended with the connection", () => {
  const scene = new LinkScene(links[0]!);
  scene.terminal(97);
  const uploads = Array.from({ length: 8 }, () => scene.upload());
  for (let step = 0; step < 100; step++) {
    scene.advance(20);
    const heldBytes = scene.heldBytes;
    assert(heldBytes <= 8 * (usualWindowBytes + usualPacketBytes), `${heldBytes} bytes wait`);
    if (step === 50) assert(heldBytes > usualWindowBytes, `${heldBytes} bytes wait`);
  }
  scene.world.relay.detachUpstream("lost");
  assert.equal(scene.heldBytes, 0);
  for (const { client } of uploads) {
    assert.equal(client.ending, undefined);
    client.leave();
  }
});

Deno.test("an upload to a host that accepts any amount goes on, and little of it waits", () => {
  const scene = new LinkScene({ ...links[0]!, hostWindowBytes: 2 ** 32 - 1 });
  scene.terminal(97);
  const totalBytes = 20 * mega;
  const upload = scene.upload({ totalBytes });
  for (let step = 0; step < 120; step++) {
    scene.advance(100);
    assert(scene.heldBytes < 1.6 * usualWindowBytes, `${scene.heldBytes} bytes wait`);
  }
  assert.equal(upload.arrivedBytes, totalBytes);
  assert.equal(scene.heldBytes, 0);
});

Deno.test("after a connection is lost in the middle, the next one is paced as well", () => {
  const scene = new LinkScene(links[0]!);
  scene.terminal(97);
  scene.upload();
  scene.advance(2000);
  scene.world.relay.detachUpstream("lost");
  scene.world.attach();
  scene.connect();
  const typist = scene.terminal(97);
  const transfers = [scene.upload()];
  scene.advance(3000);
  const { p50, share } = measure(scene, { typist, transfers, ms: 5000 });
  assert(p50 < links[0]!.roundTripMs + toleratedMs, `p50 ${p50} ms`);
  assert(share > 0.95, `share ${share}`);
});

Deno.test("of a client that leaves in the middle, what it has sent arrives, and then CLOSE", () => {
  const scene = new LinkScene(links[0]!);
  const typist = scene.terminal(97);
  const upload = scene.upload({ totalBytes: 1.5 * mega });
  scene.advance(100);
  upload.client.leave();
  scene.advance(5000);
  assert.equal(upload.arrivedBytes, 1.5 * mega);
  assert.deepEqual(upload.hostChannel.types.slice(-2), [channelEof, channelClose]);
  assert.equal(scene.heldBytes, 0);
  assert(quantile(typist.echoesMs, 0.5) < links[0]!.roundTripMs + toleratedMs);
});

Deno.test("of a channel that upstream closes, nothing that waits is sent any more", () => {
  const scene = new LinkScene(links[0]!);
  scene.terminal(97);
  const upload = scene.upload({ totalBytes: 1.5 * mega });
  scene.advance(100);
  scene.say(upload.hostChannel, channelClose);
  scene.advance(30);
  assert.equal(scene.heldBytes, 0);
  scene.advance(3000);
  assert(upload.arrivedBytes < mega);
  assert.equal(upload.hostChannel.types.at(-1), channelClose);
});
