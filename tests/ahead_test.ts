/** What upstream sends ahead of a client's window: how much that is, and what becomes of it. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { maximumAheadBytes } from "../lib/ahead.ts";
import { maximumCreditBytes } from "../lib/flow.ts";
import { MessageType } from "../lib/wire.ts";
import {
  type MemoryPeer,
  patternBytes,
  usualPacketBytes,
  usualWindowBytes,
  World,
} from "./support/memory.ts";

const {
  channelClose,
  channelData,
  channelEof,
  channelExtendedData,
  channelOpen,
  channelOpenConfirmation,
  channelRequest,
  channelFailure,
  channelSuccess,
  channelWindowAdjust,
} = MessageType;

const roundTripMs = 200;
const pattern = patternBytes(8 * 1024 * 1024);
const mostCreditBytes = maximumCreditBytes + maximumAheadBytes;

interface DownloadOptions {
  windowBytes?: number;
  roundTripMs?: number;
}

/** A session whose upstream is far away, and sends. */
class Download {
  readonly world: World;
  readonly client: MemoryPeer;
  readonly slot: number;
  /** What upstream may send, and what the client may be sent, in bytes. */
  credit = 0;
  window: number;
  sentBytes = 0;
  receivedBytes = 0;
  /** What has come to the client beside data, and where among the bytes. */
  readonly heard: { type: number; at: number }[] = [];
  readonly #windowBytes: number;

  constructor(world: World, name: string, options: DownloadOptions = {}) {
    this.world = world;
    this.client = world.client(name);
    this.#windowBytes = this.window = options.windowBytes ?? usualWindowBytes;
    world.upstream.onSent = undefined;
    this.client.say(channelOpen, "session", 7, this.window, usualPacketBytes);
    const opening = world.upstream.expect(channelOpen);
    this.slot = opening.senderChannel;
    this.credit = opening.initialWindowSize;
    world.clock.advance(options.roundTripMs ?? roundTripMs);
    const { upstream } = world;
    downloads.set(this.slot, this);
    upstream.onSent = ({ message }) => {
      if (message.type !== channelWindowAdjust) return;
      const to = downloads.get(message.recipientChannel);
      assert(to);
      to.credit += message.bytesToAdd;
      assert(to.credit <= mostCreditBytes);
    };
    const numbers = [this.slot, this.slot, usualWindowBytes, usualPacketBytes];
    upstream.say(channelOpenConfirmation, ...numbers);
    this.client.expect(channelOpenConfirmation);
    this.client.onSent = ({ message }) => {
      if (message.type !== channelData && message.type !== channelExtendedData) {
        this.heard.push({ type: message.type, at: this.receivedBytes });
        return;
      }
      const { data } = message;
      assert(data.length <= this.window, "more data than the window");
      this.window -= data.length;
      assert.equal(Buffer.compare(data, bytesAt(this.receivedBytes, data.length)), 0);
      this.receivedBytes += data.length;
    };
  }

  /** Upstream sends as much as it may, or less. @returns how much. */
  send(mostBytes = Infinity, type: number = channelData): number {
    let sent = 0;
    while (this.credit > 0 && sent < mostBytes) {
      const length = Math.min(this.credit, usualPacketBytes, mostBytes - sent);
      const code = type === channelData ? [] : [1];
      const data = bytesAt(this.sentBytes, length);
      this.credit -= length;
      this.sentBytes += length;
      this.world.upstream.say(type, this.slot, ...code, data);
      sent += length;
    }
    return sent;
  }

  /** The client has read what it got, or some of it. */
  read(mostBytes = Infinity): void {
    const bytes = Math.min(this.#windowBytes - this.window, mostBytes);
    if (bytes === 0) return;
    this.window += bytes;
    this.client.say(channelWindowAdjust, this.slot, bytes);
  }

  /** Sends in each round trip what may be sent, and reads it at once. */
  flow(roundTrips: number): number[] {
    return Array.from({ length: roundTrips }, () => {
      this.world.clock.advance(roundTripMs);
      // The client is near: it reads several times in a round trip, and upstream hears of it later.
      let rest = this.credit;
      const total = rest;
      while (rest > 0) {
        rest -= this.send(Math.min(rest, 512 * 1024));
        while (this.receivedBytes < this.sentBytes || this.window < this.#windowBytes) this.read();
      }
      return total;
    });
  }

  say(type: number, ...fields: (number | boolean | string)[]): void {
    this.world.upstream.say(type, this.slot, ...fields);
  }

  get waitingBytes(): number {
    return this.sentBytes - this.receivedBytes;
  }

  /** Nobody has broken a rule. */
  check(): void {
    for (const peer of [this.world.upstream, this.client]) {
      if (peer.fault) throw peer.fault;
      assert.equal(peer.ending, undefined);
    }
  }
}

/** By slots, which upstream's own numbers are as well. */
const downloads = new Map<number, Download>();

function bytesAt(offset: number, length: number): Uint8Array {
  const start = offset % (pattern.length / 2);
  return pattern.subarray(start, start + length);
}

function grown(options: DownloadOptions = {}): Download {
  const download = new Download(new World(), "client", options);
  download.flow(12);
  assert.equal(download.credit, mostCreditBytes);
  return download;
}

Deno.test("a client that reads on is granted twice as much each time, up to 16 MiB", () => {
  const download = new Download(new World(), "client");
  const credits = download.flow(12);
  assert.equal(credits[0], maximumCreditBytes);
  for (const [index, bytes] of credits.entries()) {
    const before = credits[index - 1] ?? bytes;
    assert(bytes >= before && bytes <= 2 * before, `${before}, then ${bytes} bytes`);
  }
  assert.equal(credits.at(-1), mostCreditBytes);
  assert.equal(download.waitingBytes, 0);
  download.check();
});

Deno.test("nothing is ahead on a near path, on a slow one, and where the way is not known", () => {
  const near = new Download(new World(), "client", { roundTripMs: 1 });
  near.flow(12);
  assert.equal(near.credit, maximumCreditBytes);
  const slow = new Download(new World(), "client");
  for (let count = 0; count < 100; count++) {
    slow.world.clock.advance(roundTripMs);
    slow.send(512 * 1024);
    slow.read();
  }
  assert.equal(slow.credit, maximumCreditBytes);
});

Deno.test("what is beyond the window waits, and goes on as the window opens, byte for byte", () => {
  const download = grown();
  assert.equal(download.send(), mostCreditBytes);
  assert.equal(download.window, 0);
  assert.equal(download.waitingBytes, maximumAheadBytes);
  for (const bytes of [1, 100, 32_767, 32_768, 32_769, 1_000_000]) {
    const before = download.receivedBytes;
    download.read(bytes);
    assert.equal(download.receivedBytes, before + bytes);
  }
  while (download.waitingBytes > 0) download.read();
  download.check();
});

Deno.test("data that comes byte by byte waits in few pieces, each kind in its place", () => {
  const download = grown();
  const sizes: number[] = [];
  const { onSent } = download.client;
  download.send(usualWindowBytes);
  for (let count = 0; count < 100_000; count++) download.send(1);
  download.send(10, channelExtendedData);
  download.send(10);
  download.client.onSent = (sent) => {
    sizes.push((sent.message as { data: Uint8Array }).data.length);
    onSent!(sent);
  };
  download.read();
  assert.equal(download.waitingBytes, 0);
  assert.deepEqual(sizes, [32_768, 32_768, 32_768, 100_000 - 3 * 32_768, 10, 10]);
  download.check();
});

Deno.test("what upstream says behind data that waits comes behind it", () => {
  const download = grown();
  download.send(Infinity, channelExtendedData);
  download.say(channelRequest, "exit-status", false, 0);
  download.say(channelEof);
  download.say(channelClose);
  assert.deepEqual(download.heard, []);
  // What asks for the whole connection is answered at once.
  download.world.upstream.onSent = undefined;
  download.say(channelRequest, "keepalive@openssh.com", true);
  download.world.upstream.expect(channelFailure);
  while (download.waitingBytes > 0) download.read();
  const at = download.receivedBytes;
  const types = [channelRequest, channelEof, channelClose];
  assert.deepEqual(download.heard, types.map((type) => ({ type, at })));
  download.client.say(channelClose, download.slot);
  download.world.upstream.take();
  assert.equal(download.world.relay.channelCount, 0);
  download.check();
});

Deno.test("replies keep their order with requests that wait", () => {
  const download = grown();
  download.world.upstream.onSent = undefined;
  download.send();
  download.say(channelRequest, "invented@example.com", true);
  download.say(channelRequest, "keepalive@openssh.com", true);
  download.world.upstream.expectNothing();
  while (download.waitingBytes > 0) download.read();
  download.world.upstream.take();
  assert.deepEqual(download.heard.map(({ type }) => type), [channelRequest, channelRequest]);
  download.client.say(channelSuccess, download.slot);
  download.client.say(channelFailure, download.slot);
  download.world.upstream.expect(channelSuccess);
  download.world.upstream.expect(channelFailure);
  download.check();
});

Deno.test("a client that stalls has no more than was granted, and less is granted then", () => {
  const download = grown();
  download.send();
  assert.equal(download.credit, 0);
  assert(download.waitingBytes <= maximumAheadBytes);
  // It reads slowly from now on.
  for (let count = 0; count < 200; count++) {
    download.world.clock.advance(10 * roundTripMs);
    download.read(256 * 1024);
    download.send();
    assert(download.waitingBytes <= maximumAheadBytes);
  }
  assert(download.credit + download.waitingBytes <= maximumCreditBytes, `${download.waitingBytes}`);
  download.check();
});

Deno.test("a client that takes nothing from its socket has waiting what was granted, at most", () => {
  const download = new Download(new World(), "client", { windowBytes: 2 ** 31 });
  download.flow(12);
  assert.equal(download.credit, mostCreditBytes);
  download.client.backlogBytes = 2 ** 20 + 1;
  download.send();
  assert.equal(download.credit, 0);
  assert.equal(download.waitingBytes, mostCreditBytes);
  download.client.drain();
  assert.equal(download.waitingBytes, 0);
  download.check();
});

Deno.test("a client that leaves or closes leaves nothing behind", () => {
  for (const leaves of [true, false]) {
    const download = grown();
    download.send();
    download.say(channelEof);
    download.say(channelClose);
    if (leaves) download.client.leave();
    else download.client.say(channelClose, download.slot);
    assert.equal(download.world.relay.channelCount, 0);
    download.check();
  }
});

Deno.test("an upstream that is lost: what it has said comes first, and then the end", () => {
  for (const isComplete of [true, false]) {
    const download = grown();
    download.send();
    if (isComplete) {
      download.say(channelRequest, "exit-status", false, 0);
      download.say(channelClose);
    }
    download.world.relay.detachUpstream("the connection is lost");
    assert.deepEqual(download.heard, []);
    const { sentBytes } = download;
    const told: string[] = [];
    const { onSent } = download.client;
    download.client.onSent = (sent) => {
      const isNotice = sent.message.type === channelExtendedData;
      if (!isNotice) return onSent!(sent);
      told.push(new TextDecoder().decode((sent.message as { data: Uint8Array }).data));
      assert.equal(download.receivedBytes, sentBytes);
    };
    while (download.waitingBytes > 0) download.read();
    download.read();
    assert.deepEqual(
      download.heard.map(({ type }) => type),
      isComplete ? [channelRequest, channelClose] : [channelClose],
    );
    assert.match(told.join(), isComplete ? /^$/ : /the connection is lost/);
    download.client.say(channelClose, download.slot);
    assert.equal(download.world.relay.channelCount, 0);
    download.check();
  }
});

Deno.test("when everything is closed, what waits is not waited for", async () => {
  const download = grown();
  download.send();
  download.say(channelClose);
  const closed = download.world.relay.closeAll("stopped");
  download.client.say(channelClose, download.slot);
  await closed;
  assert.equal(download.heard.at(-1)?.type, channelClose);
  download.check();
});

Deno.test("of many channels only some are ahead: 64 MiB in all, however many stall", () => {
  const world = new World();
  const all = Array.from({ length: 20 }, (_, index) => new Download(world, `client ${index}`));
  for (const download of all) download.flow(12);
  const ahead = () =>
    all.reduce(
      (sum, { credit, waitingBytes, window }) => sum + credit + waitingBytes - window,
      0,
    );
  assert.equal(ahead(), 64 * 1024 * 1024);
  for (const download of all) download.send();
  assert.equal(ahead(), 64 * 1024 * 1024);
  const waiting = all.reduce((sum, { waitingBytes }) => sum + waitingBytes, 0);
  assert(waiting <= 64 * 1024 * 1024);
  // Those that go make room for others.
  for (const { client } of all) client.leave();
  for (const { slot } of all) world.upstream.say(channelClose, slot);
  const next = new Download(world, "another client");
  next.flow(12);
  assert.equal(next.credit, mostCreditBytes);
  next.check();
});

Deno.test("a window of 0, or a small one, is kept to", () => {
  const closed = new Download(new World({ aheadBytes: 100_000 }), "client", { windowBytes: 0 });
  closed.send();
  assert.equal(closed.receivedBytes, 0);
  const small = new Download(new World({ aheadBytes: 100_000 }), "client", { windowBytes: 10 });
  small.send();
  assert(small.waitingBytes > 0);
  while (small.waitingBytes > 0) small.read();
  small.check();
});

Deno.test("people at terminals are told something in the middle of what waits", () => {
  const download = new Download(new World({ noticeBytes: 256 }), "client");
  download.client.say(channelRequest, download.slot, "pty-req", false, "xterm", 80, 24, 0, 0, "");
  download.flow(12);
  download.send();
  assert(download.waitingBytes > 0);
  const told: string[] = [];
  download.client.onSent = ({ message }) => {
    if (message.type === channelExtendedData) told.push(new TextDecoder().decode(message.data));
  };
  download.world.relay.tell("one minute is left");
  assert.match(told.join(), /one minute is left/);
  download.check();
});

Deno.test("messages that no window bounds do not wait without bound", () => {
  const download = grown();
  download.send();
  for (let count = 0; count < 5000; count++) {
    download.say(channelRequest, "invented@example.com", false);
  }
  assert.equal(download.heard.at(-1)?.type, channelClose);
  assert.match(download.world.reports.join(), /too many messages behind data that wait/);
  assert.equal(download.world.upstream.ending, undefined);
});

Deno.test("a channel of which nothing is known to be sent ahead asks for nothing", () => {
  const world = new World();
  const client = world.client("client");
  client.say(channelOpen, "session", 7, usualWindowBytes, usualPacketBytes);
  assert.equal(world.upstream.expect(channelOpen).initialWindowSize, maximumCreditBytes);
});

Deno.test("what has waited counts on the screen of its terminal like all that has passed", () => {
  const download = grown();
  const { world, client, slot } = download;
  let shown = "";
  client.onSent = ({ message }) => {
    if (message.type === channelData || message.type === channelExtendedData) {
      shown += new TextDecoder().decode(message.data).trim();
    }
  };
  client.say(channelRequest, slot, "pty-req", false, "xterm", 80, 24, 0, 0, "");
  const print = (text: string) => world.upstream.say(channelData, slot, text);
  for (let count = 0; count < usualWindowBytes / 1024; count++) print(" ".repeat(1024));
  print("\x1b[?1049hwhole screen");
  client.say(channelWindowAdjust, slot, usualWindowBytes);
  world.relay.showLine(world.upstream, "a line");
  assert.equal(shown, "\x1b[?1049hwhole screen");

  print("\x1b[?1049l");
  world.relay.showLine(world.upstream, "a line");
  assert.match(shown, /a line/);
});
