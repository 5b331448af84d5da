/**
 * A link with a rate, a delay and a queue that loses nothing, on which time passes as the test says;
 * the host behind it; and clients that do on it what people and programs do.
 */

import assert from "node:assert/strict";
import { buildMessage, type Field } from "../../lib/ssh_data.ts";
import { MessageType } from "../../lib/wire.ts";
import {
  type ManualClock,
  type MemoryPeer,
  patternBytes,
  type Sent,
  usualPacketBytes,
  usualWindowBytes,
  World,
} from "./memory.ts";

/** What a packet has around its payload, in bytes. */
const packetOverheadBytes = 28;

/** OpenSSH tells of the window that it has again when so much was used, in bytes. */
const adjustBytes = 3 * usualPacketBytes;

const bulk = patternBytes(4 * usualPacketBytes);

/** One direction of a link. */
class Direction {
  readonly #clock: ManualClock;
  readonly #queue: { bytes: number; deliver: () => void }[] = [];
  #isBusy = false;
  bytesPerSecond: number;
  delayMs: number;
  /** What has been carried, in bytes. */
  carriedBytes = 0;
  /** Until when nothing is carried. */
  stalledUntilMs = 0;
  /** Nothing overtakes what was sent before it. */
  #deliveredAtMs = 0;

  constructor(clock: ManualClock, bytesPerSecond: number, delayMs: number) {
    this.#clock = clock;
    this.bytesPerSecond = bytesPerSecond;
    this.delayMs = delayMs;
  }

  send(bytes: number, deliver: () => void): void {
    this.#queue.push({ bytes, deliver });
    if (!this.#isBusy) this.#carry();
  }

  #carry(): void {
    const next = this.#queue.shift();
    this.#isBusy = next !== undefined;
    if (next === undefined) return;
    const stallMs = Math.max(0, this.stalledUntilMs - this.#clock.nowMs);
    this.#clock.schedule(stallMs + next.bytes / this.bytesPerSecond * 1000, () => {
      this.carriedBytes += next.bytes;
      const { nowMs } = this.#clock;
      this.#deliveredAtMs = Math.max(this.#deliveredAtMs, nowMs + this.delayMs);
      this.#clock.schedule(this.#deliveredAtMs - nowMs, next.deliver);
      this.#carry();
    });
  }
}

/** What a channel does at the host. */
type Role = "terminal" | "sink" | "source";

interface HostChannel {
  role: Role;
  /** The relay's number, and ours. */
  slot: number;
  /** What may be sent on it, in bytes. */
  windowBytes: number;
  receivedBytes: number;
  unadjustedBytes: number;
  isClosed: boolean;
  /** What has come on it: the type of each message, and the data. */
  types: number[];
  data: Uint8Array[] | undefined;
}

/** A transfer, as the receiving end sees it. */
export interface Transfer {
  readonly client: MemoryPeer;
  readonly slot: number;
  /** What has arrived, in bytes. */
  arrivedBytes: number;
  readonly hostChannel: HostChannel;
}

/** A person at a terminal. */
export interface Typist {
  readonly client: MemoryPeer;
  readonly slot: number;
  /** How long each key has taken to be shown, in milliseconds. */
  readonly echoesMs: number[];
  type(): void;
}

/** What the link is like. */
export interface LinkTraits {
  bytesPerSecond: number;
  roundTripMs: number;
  isPaced?: boolean;
  /** Whether the host answers keepalives. */
  answers?: boolean;
  /** What the host accepts of each channel, in bytes; it tells of no more where that is much. */
  hostWindowBytes?: number;
  /** How many sessions the host is known to allow. */
  sessions?: number;
}

/** A relay, a link to a host, and clients. */
export class LinkScene {
  readonly world: World;
  readonly up: Direction;
  readonly down: Direction;
  answers: boolean;
  readonly #hostWindowBytes: number;
  /** How many keepalives the host was asked. */
  keepalives = 0;
  readonly #channels: HostChannel[] = [];
  readonly #clients: MemoryPeer[] = [];

  constructor(traits: LinkTraits) {
    const { bytesPerSecond, roundTripMs, isPaced = true, answers = true } = traits;
    this.world = new World({ sessions: traits.sessions ?? Infinity }, {}, { isPaced });
    this.#hostWindowBytes = traits.hostWindowBytes ?? usualWindowBytes;
    this.answers = answers;
    const { clock } = this.world;
    this.up = new Direction(clock, bytesPerSecond, roundTripMs / 2);
    this.down = new Direction(clock, bytesPerSecond, roundTripMs / 2);
    this.connect();
  }

  /** The host takes what is sent to the present upstream. */
  connect(): void {
    const { upstream } = this.world;
    upstream.onSent = (sent) => {
      this.up.send(sent.payload.length + packetOverheadBytes, () => this.#onSent(upstream, sent));
    };
  }

  /** What waits in the relay, in bytes. */
  get heldBytes(): number {
    return this.world.relay.heldBytes;
  }

  setRate(bytesPerSecond: number): void {
    this.up.bytesPerSecond = this.down.bytesPerSecond = bytesPerSecond;
  }

  /** For a while nothing is carried in either direction, and nothing is lost. */
  stall(ms: number): void {
    this.up.stalledUntilMs = this.down.stalledUntilMs = this.world.clock.nowMs + ms;
  }

  advance(ms: number): void {
    this.world.clock.advance(ms);
    for (const peer of [this.world.upstream, ...this.#clients]) {
      assert.equal(peer.fault ?? peer.ending, undefined, peer.name);
    }
  }

  /** Opens a channel of a new client; time passes until the host has agreed. */
  open(
    role: Role,
    { keepsData = false, windowBytes = usualWindowBytes } = {},
  ): { client: MemoryPeer; host: HostChannel; grantedBytes: number } {
    const index = this.#channels.length;
    const client = this.world.client(`${role} ${index}`);
    this.#clients.push(client);
    this.#channels.push({
      ...{ role, slot: -1, windowBytes: 0, receivedBytes: 0, unadjustedBytes: 0, isClosed: false },
      ...{ types: [], data: keepsData ? [] : undefined },
    });
    client.say(MessageType.channelOpen, "session", index, windowBytes, usualPacketBytes);
    const host = this.#channels[index]!;
    let grantedBytes: number | undefined;
    client.onSent = ({ message }) => {
      if (message.type !== MessageType.channelOpenConfirmation) return;
      grantedBytes = message.initialWindowSize;
    };
    while (grantedBytes === undefined) this.advance(1);
    if (role !== "terminal") return { client, host, grantedBytes };
    client.say(MessageType.channelRequest, host.slot, "pty-req", true, "xterm", 80, 24, 0, 0, "");
    client.say(MessageType.channelRequest, host.slot, "shell", true);
    return { client, host, grantedBytes };
  }

  /** Somebody has a terminal, and types a key every `everyMs`, if it is given. */
  terminal(everyMs?: number): Typist {
    const { client, host } = this.open("terminal");
    const { clock } = this.world;
    const typedAt: number[] = [];
    const typist: Typist = {
      ...{ client, slot: host.slot, echoesMs: [] },
      type: () => {
        typedAt.push(clock.nowMs);
        client.say(MessageType.channelData, host.slot, Uint8Array.of(97));
      },
    };
    client.onSent = ({ message }) => {
      if (message.type !== MessageType.channelData) return;
      for (const _ of message.data) typist.echoesMs.push(clock.nowMs - typedAt.shift()!);
    };
    const tick = () => {
      typist.type();
      clock.schedule(everyMs!, tick);
    };
    if (everyMs !== undefined) tick();
    return typist;
  }

  /** A client sends as much as it may, up to `totalBytes`, and EOF. */
  upload(
    { totalBytes = Infinity, messageBytes = usualPacketBytes, keepsData = false } = {},
  ): Transfer {
    let [windowBytes, sentBytes, hasEnded] = [0, 0, false];
    const { client, host, grantedBytes } = this.open("sink", { keepsData });
    const send = () => {
      while (windowBytes > 0 && sentBytes < totalBytes && !client.isPaused) {
        const bytes = Math.min(windowBytes, messageBytes, totalBytes - sentBytes);
        windowBytes -= bytes;
        const from = sentBytes % usualPacketBytes;
        sentBytes += bytes;
        client.say(MessageType.channelData, host.slot, bulk.subarray(from, from + bytes));
      }
      if (sentBytes < totalBytes || hasEnded) return;
      hasEnded = true;
      client.say(MessageType.channelEof, host.slot);
    };
    const onSent = ({ message }: Sent) => {
      if (message.type === MessageType.channelClose) client.say(message.type, host.slot);
      if (message.type !== MessageType.channelWindowAdjust) return;
      windowBytes += message.bytesToAdd;
      send();
    };
    client.onSent = onSent;
    windowBytes = grantedBytes;
    send();
    return {
      client,
      slot: host.slot,
      hostChannel: host,
      get arrivedBytes() {
        return host.receivedBytes;
      },
    };
  }

  /** The host sends as much as it may. */
  download(): Transfer {
    const { client, host } = this.open("source");
    const transfer = { client, slot: host.slot, hostChannel: host, arrivedBytes: 0 };
    let unadjustedBytes = 0;
    client.onSent = ({ message }) => {
      if (message.type !== MessageType.channelData) return;
      transfer.arrivedBytes += message.data.length;
      unadjustedBytes += message.data.length;
      if (unadjustedBytes < adjustBytes) return;
      client.say(MessageType.channelWindowAdjust, host.slot, unadjustedBytes);
      unadjustedBytes = 0;
    };
    return transfer;
  }

  /** The host says something about a channel. */
  say(channel: HostChannel, type: number, ...fields: Field[]): void {
    const { upstream } = this.world;
    const payload = buildMessage(type, channel.slot, ...fields);
    this.#send(upstream, payload);
  }

  #send(upstream: MemoryPeer, payload: Uint8Array): void {
    this.down.send(payload.length + packetOverheadBytes, () => {
      if (upstream === this.world.upstream) upstream.sayBytes(payload);
    });
  }

  #onSent(upstream: MemoryPeer, { message }: Sent): void {
    if (upstream !== this.world.upstream) return;
    if (message.type === MessageType.globalRequest) {
      this.keepalives++;
      if (this.answers) this.#send(upstream, buildMessage(MessageType.requestFailure));
      return;
    }
    if (message.type === MessageType.channelOpen) {
      const index = this.#channels.findIndex(({ slot }) => slot === -1);
      const channel = this.#channels[index]!;
      channel.slot = message.senderChannel;
      channel.windowBytes = message.initialWindowSize;
      const numbers = [index, this.#hostWindowBytes, usualPacketBytes];
      this.say(channel, MessageType.channelOpenConfirmation, ...numbers);
      this.#feed(channel);
      return;
    }
    const channel = this.#channels[(message as { recipientChannel: number }).recipientChannel]!;
    channel.types.push(message.type);
    switch (message.type) {
      case MessageType.channelData:
        return this.#onData(channel, message.data);
      case MessageType.channelWindowAdjust:
        channel.windowBytes += message.bytesToAdd;
        return this.#feed(channel);
      case MessageType.channelClose:
        channel.isClosed = true;
    }
  }

  #onData(channel: HostChannel, data: Uint8Array): void {
    channel.receivedBytes += data.length;
    channel.data?.push(data);
    if (channel.role === "terminal") {
      channel.windowBytes -= data.length;
      return this.say(channel, MessageType.channelData, data);
    }
    if (this.#hostWindowBytes > usualWindowBytes) return;
    channel.unadjustedBytes += data.length;
    if (channel.unadjustedBytes < adjustBytes) return;
    this.say(channel, MessageType.channelWindowAdjust, channel.unadjustedBytes);
    channel.unadjustedBytes = 0;
  }

  #feed(channel: HostChannel): void {
    if (channel.role !== "source") return;
    while (channel.windowBytes > 0 && !channel.isClosed) {
      const bytes = Math.min(channel.windowBytes, usualPacketBytes);
      channel.windowBytes -= bytes;
      this.say(channel, MessageType.channelData, bulk.subarray(0, bytes));
    }
  }
}
