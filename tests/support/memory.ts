/**
 * The relay between peers that live in memory: what it sends is parsed and kept, what a peer says
 * is handed to it at once, byte for byte.
 */

import assert from "node:assert/strict";
import type { ChannelLimits } from "../../lib/channel_limits.ts";
import { slotRestMs } from "../../lib/channel_slots.ts";
import type { ClientRules } from "../../lib/client_rules.ts";
import { RequestQueue } from "../../lib/global_requests.ts";
import { Relay } from "../../lib/relay.ts";
import type { RelayEvent } from "../../lib/relay_events.ts";
import type { Receiver, Schedule, Transport, UpstreamReceiver } from "../../lib/transport.ts";
import { buildMessage, type Field } from "../../lib/ssh_data.ts";
import { type ConnectionMessage, MessageType, parseMessage } from "../../lib/wire.ts";

/** How much is allocated at once for copies of messages. */
const arenaBytes = 64 * 1024;

/** How many events are kept. */
const mostEvents = 10_000;

/** One message that the relay sent. */
export interface Sent {
  message: ConnectionMessage;
  payload: Uint8Array;
}

/** The shape of the message that has a given number. */
export type MessageOf<Type extends number> = ConnectionMessage extends infer Message
  ? Message extends { type: infer Own } ? Type extends Own ? Message : never : never
  : never;

/** The window and the maximum packet size of OpenSSH's sessions, in bytes. */
export const usualWindowBytes = 2 * 1024 * 1024;
export const usualPacketBytes = 32768;

/** An SSH connection whose other end is the test. */
export class MemoryPeer implements Transport {
  readonly name: string;
  backlogBytes = 0;
  maximumPayloadBytes = 256 * 1024 - 1024;
  answersPings = false;
  allowsWarmSession = true;
  /** Counts what is sent. */
  lastSequenceNumber: number | undefined = -1;
  isPaused = false;
  unimplementedCount = 0;
  /** Why the relay ended this peer; `undefined` while it has not. */
  ending: { reasonCode: number; description: string } | undefined;
  /** What was wrong with a message that was sent to this peer: it is malformed, or `onSent` threw. */
  fault: unknown;
  /** Takes each message instead of the list that `expect` reads. */
  onSent: ((sent: Sent) => void) | undefined;
  /** How the relay hears of this peer. */
  receiver: Pick<Receiver, "receive" | "drained"> & Partial<UpstreamReceiver> | undefined;
  leave: () => void = () => {};
  readonly #sent: Sent[] = [];

  constructor(name: string) {
    this.name = name;
  }

  // What the relay calls

  send(payload: Uint8Array): void {
    if (this.ending) return;
    if (this.lastSequenceNumber !== undefined) this.lastSequenceNumber++;
    const copy = copyOf(payload);
    try {
      const message = parseMessage(copy);
      assert(message, `a message of type ${copy[0]}`);
      if (this.onSent) this.onSent({ message, payload: copy });
      else this.#sent.push({ message, payload: copy });
    } catch (error) {
      // The relay must not see it: it would take the test's complaint for the fault of a peer.
      this.fault ??= error;
    }
  }

  sendUnimplemented(): void {
    this.unimplementedCount++;
  }

  disconnect(reasonCode: number, description: string): void {
    this.ending ??= { reasonCode, description };
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  // What a test calls

  /** This peer sends a message. */
  say(type: number, ...fields: Field[]): void {
    this.sayBytes(buildMessage(type, ...fields));
  }

  /** This peer sends a payload, which may be any bytes. */
  sayBytes(payload: Uint8Array): void {
    assert(this.receiver, `${this.name} is not connected`);
    this.receiver.receive(payload);
  }

  /** This peer has taken what waited for it. */
  drain(): void {
    this.backlogBytes = 0;
    this.receiver?.drained();
  }

  /** Takes the next message that was sent to this peer; it must have the given number. */
  expect<Type extends number>(type: Type): MessageOf<Type> & { payload: Uint8Array } {
    assert.equal(this.fault, undefined, this.name);
    const sent = this.#sent.shift();
    assert(sent, `${this.name} was sent nothing instead of a message of type ${type}`);
    assert.equal(sent.message.type, type, `${this.name}: ${JSON.stringify(sent.message)}`);
    return { ...sent.message, payload: sent.payload } as
      & MessageOf<Type>
      & { payload: Uint8Array };
  }

  /** Takes the next message, which must belong to a channel of this peer's. */
  expectOn<Type extends number>(
    type: Type,
    channel: number,
  ): MessageOf<Type> & { payload: Uint8Array } {
    const message = this.expect(type);
    assert.equal((message as { recipientChannel?: number }).recipientChannel, channel);
    return message;
  }

  /** Nothing was sent to this peer beyond what was taken. */
  expectNothing(): void {
    assert.equal(this.fault, undefined, this.name);
    assert.deepEqual(this.#sent.map(({ message }) => message), [], `${this.name} was sent this`);
  }

  /** Takes everything that was sent to this peer. */
  take(): Sent[] {
    assert.equal(this.fault, undefined, this.name);
    return this.#sent.splice(0);
  }

  /** The relay ended this peer for breaking the protocol, in words like `description`. */
  expectEnded(description: RegExp): void {
    assert(this.ending, `${this.name} was not ended`);
    assert.equal(this.ending.reasonCode, 2);
    assert.match(this.ending.description, description);
  }
}

/** What a peer has said of itself. */
export type PeerTraits = Pick<
  MemoryPeer,
  "answersPings" | "maximumPayloadBytes" | "allowsWarmSession"
>;

/** Time that passes when the test says so. */
export class ManualClock {
  #nowMs = 0;
  readonly #timers = new Set<{ delayMs: number; dueMs: number; action: () => void }>();

  /** How much time has passed, in milliseconds. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** How many actions are still to come; that freed slots rest for a while is none. */
  get pending(): number {
    return [...this.#timers].filter(({ delayMs }) => delayMs !== slotRestMs).length;
  }

  schedule(delayMs: number, action: () => void): () => void {
    const timer = { delayMs, dueMs: this.#nowMs + delayMs, action };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** Lets time pass, and what is due happen in its order. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    while (true) {
      const [next] = [...this.#timers].sort((one, two) => one.dueMs - two.dueMs);
      if (next === undefined || next.dueMs > endMs) break;
      this.#timers.delete(next);
      this.#nowMs = next.dueMs;
      next.action();
    }
    this.#nowMs = endMs;
  }
}

/** A relay, and what is around it. */
export class World {
  readonly relay: Relay;
  upstream: MemoryPeer;
  readonly clock = new ManualClock();
  /** How often a client wanted upstream while it was away, or a session that it did not allow. */
  readonly wishes = { upstream: 0, session: 0 };
  /** Words for the log. */
  readonly reports: string[] = [];
  /** What is told of channels and forwards, each with its client's name. */
  readonly events: (RelayEvent & { client: string | undefined })[] = [];
  #lastUpstreamChannel = 100;

  constructor(
    limits: Partial<ChannelLimits> = {},
    peer: Partial<PeerTraits> = {},
    { isPaced = false } = {},
  ) {
    const schedule: Schedule = (delayMs, action) => this.clock.schedule(delayMs, action);
    this.relay = new Relay({
      limits,
      schedule,
      now: () => this.clock.nowMs,
      pacing: isPaced ? { clock: () => this.clock.nowMs, schedule } : undefined,
      onWanted: () => void this.wishes.upstream++,
      onCrowded: () => void this.wishes.session++,
      report: (text) => void this.reports.push(text),
      observe: (client, event) => {
        if (this.events.length < mostEvents) {
          this.events.push({ client: (client as MemoryPeer | undefined)?.name, ...event });
        }
      },
    });
    this.upstream = this.attach(undefined, peer);
  }

  /** Connects a new upstream. */
  attach(
    options?: Parameters<Relay["attachUpstream"]>[1],
    peer: Partial<PeerTraits> = {},
  ): MemoryPeer {
    const upstream = Object.assign(new MemoryPeer("upstream"), peer);
    upstream.receiver = this.relay.attachUpstream(upstream, options);
    this.upstream = upstream;
    return upstream;
  }

  /** Connects a further upstream, for sessions. */
  attachOverflow(peer: Partial<PeerTraits> = {}): MemoryPeer {
    const overflow = Object.assign(new MemoryPeer("overflow"), peer);
    overflow.receiver = this.relay.attachOverflow(overflow, new RequestQueue());
    return overflow;
  }

  /** Connects a new client. */
  client(name: string, rules?: ClientRules): MemoryPeer {
    const client = new MemoryPeer(name);
    const receiver = this.relay.addClient(client, rules);
    client.receiver = receiver;
    client.leave = receiver.leave;
    return client;
  }

  /** A client opens a channel, and upstream agrees. */
  open(client: MemoryPeer, options: OpenOptions = {}): OpenChannel {
    const slot = this.ask(client, options);
    const upstream = options.upstream ?? ++this.#lastUpstreamChannel;
    const { windowBytes = usualWindowBytes, packetBytes = usualPacketBytes } =
      options.upstreamAnnounces ?? {};
    const { channelOpenConfirmation } = MessageType;
    this.upstream.say(channelOpenConfirmation, slot, upstream, windowBytes, packetBytes);
    const { downstream = 7 } = options;
    client.expectOn(channelOpenConfirmation, downstream);
    return new OpenChannel(this, client, { slot, downstream, upstream });
  }

  /** A client asks for a channel; upstream has not answered. Returns the relay's number. */
  ask(client: MemoryPeer, options: OpenOptions = {}): number {
    const { type = "session", downstream = 7, body = new Uint8Array() } = options;
    const { windowBytes = usualWindowBytes, packetBytes = usualPacketBytes } =
      options.downstreamAnnounces ?? {};
    const { channelOpen } = MessageType;
    client.say(channelOpen, type, downstream, windowBytes, packetBytes, { raw: body });
    const asked = this.upstream.expect(channelOpen);
    assert.equal(asked.channelType, type);
    assert.deepEqual(asked.data, body);
    return asked.senderChannel;
  }

  /** Upstream asks for a channel. Returns the number that upstream gave it. */
  askFromUpstream(type: string, body: Uint8Array, windowBytes = usualWindowBytes): number {
    const upstream = ++this.#lastUpstreamChannel;
    this.upstream.say(MessageType.channelOpen, type, upstream, windowBytes, usualPacketBytes, {
      raw: body,
    });
    return upstream;
  }

  /** Nobody was ended, and nothing is left over. */
  expectQuiet(...peers: MemoryPeer[]): void {
    for (const peer of [this.upstream, ...peers]) {
      peer.expectNothing();
      assert.equal(peer.ending, undefined, peer.name);
    }
  }
}

/** What the two ends of a channel announce. */
export interface OpenOptions {
  type?: string;
  body?: Uint8Array;
  /** The client's number. */
  downstream?: number;
  /** Upstream's number. */
  upstream?: number;
  downstreamAnnounces?: { windowBytes?: number; packetBytes?: number };
  upstreamAnnounces?: { windowBytes?: number; packetBytes?: number };
}

/** An open channel: what either end says about it, and what it hears. */
export class OpenChannel {
  readonly #world: World;
  readonly client: MemoryPeer;
  /** The relay's number, on both sides. */
  readonly slot: number;
  readonly downstream: number;
  readonly upstream: number;

  constructor(
    world: World,
    client: MemoryPeer,
    numbers: { slot: number; downstream: number; upstream: number },
  ) {
    this.#world = world;
    this.client = client;
    this.slot = numbers.slot;
    this.downstream = numbers.downstream;
    this.upstream = numbers.upstream;
  }

  /** The client sends a message on this channel. */
  up(type: number, ...fields: Field[]): void {
    this.client.say(type, this.slot, ...fields);
  }

  /** Upstream sends a message on this channel. */
  down(type: number, ...fields: Field[]): void {
    this.#world.upstream.say(type, this.slot, ...fields);
  }

  /** The next message to upstream is on this channel. */
  expectUp<Type extends number>(type: Type): MessageOf<Type> & { payload: Uint8Array } {
    return this.#world.upstream.expectOn(type, this.upstream);
  }

  /** The next message to the client is on this channel. */
  expectDown<Type extends number>(type: Type): MessageOf<Type> & { payload: Uint8Array } {
    return this.client.expectOn(type, this.downstream);
  }

  /** Data flows in both directions. */
  expectAlive(): void {
    const [up, down] = [Uint8Array.of(1, 2, 3), Uint8Array.of(4, 5)];
    this.up(MessageType.channelData, up);
    assert.deepEqual(this.expectUp(MessageType.channelData).data, up);
    this.down(MessageType.channelData, down);
    assert.deepEqual(this.expectDown(MessageType.channelData).data, down);
  }

  /** Both ends close, the client first. */
  close(): void {
    this.up(MessageType.channelClose);
    this.expectUp(MessageType.channelClose);
    this.down(MessageType.channelClose);
    this.expectDown(MessageType.channelClose);
  }
}

let arena = new Uint8Array();

/** A copy of bytes; it is part of a larger buffer, since a buffer of its own costs more than it. */
export function copyOf(bytes: Uint8Array): Uint8Array {
  if (bytes.length > arena.length) arena = new Uint8Array(Math.max(arenaBytes, bytes.length));
  const copy = arena.subarray(0, bytes.length);
  copy.set(bytes);
  arena = arena.subarray(bytes.length);
  return copy;
}

/** Bytes that tell their position, so that a lost or doubled piece shows. */
export function patternBytes(length: number, offset = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) {
    const position = offset + at;
    bytes[at] = position ^ (position >>> 8) ^ (position >>> 16);
  }
  return bytes;
}
