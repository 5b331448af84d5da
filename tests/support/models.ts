/**
 * Peers that do whatever RFC 4254 allows them, at random, and check that what they hear is allowed
 * and right; and one that sends whatever comes to its mind.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { maximumAheadBytes } from "../../lib/ahead.ts";
import { maximumCreditBytes } from "../../lib/flow.ts";
import { buildMessage, encodeFields, type Field, Reader } from "../../lib/ssh_data.ts";
import {
  type ChannelMessage,
  type ChannelOpen,
  type ChannelOpenConfirmation,
  type GlobalRequest,
  MessageType,
} from "../../lib/wire.ts";
import { type MemoryPeer, patternBytes, type Sent } from "./memory.ts";

const {
  globalRequest,
  requestSuccess,
  requestFailure,
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

/** Numbers that follow from a seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A number from 0 up to, not including, `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return Math.floor(((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32 * limit);
  }

  chance(probability: number): boolean {
    return this.below(1_000_000) < probability * 1_000_000;
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)]!;
  }
}

const lateMessages: readonly [number, ...Field[]][] = [
  [channelWindowAdjust, 1],
  [channelData, "late"],
  [channelExtendedData, 1, "late"],
  [channelEof],
  [channelClose],
  [channelRequest, "exit-status", false, 0],
  [channelRequest, "invented@example.com", true],
  [channelSuccess],
  [channelFailure],
];

/** Where the channels of clients lead that behave; nobody else asks for it, not even by chance. */
const clientsHost = "example.com";

const streams = patternBytes(4 * 1024 * 1024);

/** The most that a peer may be granted, in bytes. */
const mostCreditBytes = maximumCreditBytes + maximumAheadBytes;

/** A piece of what the end `side` of the channel `key` sends. */
function streamBytes(line: { key: number; side: number }, at: number, length: number): Uint8Array {
  const start = (line.key * 7919 + line.side * 104729 + at) % (streams.length - 32768);
  return streams.subarray(start, start + length);
}

/** One end of a channel, as the peer at that end sees it. */
export class Line {
  state: "asking" | "awaiting" | "open";
  /** This peer's number, and the relay's. */
  readonly own: number;
  slot = -1;
  /** Names the channel at both ends; 0 while unknown, or for the channels of an attacker. */
  key = 0;
  /** 0 at the client, 1 upstream. */
  readonly side: number;
  readonly initialWindow: number;
  readonly windowMaximum: number;
  readonly packetBytes: number;
  window: number;
  consumed = 0;
  received = 0;
  credit = 0;
  creditPacketBytes = 0;
  sent = 0;
  target: number;
  eofSent = false;
  eofReceived = false;
  closeSent = false;
  closeReceived = false;
  repliesAwaited = 0;
  repliesOwed = 0;
  /** The other end is gone: its bytes need not be complete. */
  isCut = false;
  /** Neither EOF nor CLOSE is sent of this end's own accord. */
  staysOpen = false;

  constructor(random: Random, options: { state: Line["state"]; own: number; side: number }) {
    this.state = options.state;
    this.own = options.own;
    this.side = options.side;
    this.windowMaximum = random.pick([1, 50, 5000, 100_000, 2 ** 21, 2 ** 21, 2 ** 32 - 1]);
    this.packetBytes = random.pick([1, 100, 1000, 16384, 20_000, 32768, 32769, 2 ** 32 - 1]);
    // sshd opens a session with an empty window and adjusts it later.
    this.initialWindow = random.chance(0.3) ? 0 : this.windowMaximum;
    this.window = this.initialWindow;
    this.consumed = this.windowMaximum - this.initialWindow;
    this.target = random.chance(0.05) ? 3_000_000 : random.below(3000);
  }

  /** What this end announces, as the last fields of an open or a confirmation. */
  get announced(): [number, number] {
    return [this.initialWindow, this.packetBytes];
  }

  get maySend(): boolean {
    return this.state === "open" && !this.closeSent;
  }

  get isDone(): boolean {
    return this.closeSent && this.closeReceived;
  }

  /** The other side's announcement. */
  learn(message: ChannelOpen | ChannelOpenConfirmation): void {
    this.slot = message.senderChannel;
    this.credit = message.initialWindowSize;
    this.creditPacketBytes = message.maximumPacketSize;
    assert(this.credit <= mostCreditBytes && this.creditPacketBytes <= 32768);
    if (this.creditPacketBytes === 0) this.target = 0;
    // Little goes through a window of one byte in one turn.
    if (this.credit < 5000 || this.creditPacketBytes < 1000) this.target %= 300;
  }
}

/** The ends of each channel that a client and upstream have together, by key. */
export type Pairs = Map<number, { client: Line | undefined; upstream: Line | undefined }>;

/** A peer that behaves. */
export abstract class Model {
  readonly random: Random;
  readonly peer: MemoryPeer;
  readonly pairs: Pairs;
  readonly lines = new Map<number, Line>();
  readonly inbox: Sent[] = [];
  /** How likely it refuses a channel or a forward. */
  refusalChance = 0.2;

  constructor(peer: MemoryPeer, random: Random, pairs: Pairs) {
    this.peer = peer;
    this.random = random;
    this.pairs = pairs;
    this.inbox.push(...peer.take());
    peer.onSent = (sent) => this.inbox.push(sent);
  }

  abstract onOpen(message: ChannelOpen): void;
  abstract onGlobal(sent: Sent): void;
  /** Does one thing of its own; whether there was one. */
  abstract act(): boolean;

  /** Hears the oldest message that is on its way here. */
  hear(): boolean {
    const sent = this.inbox.shift();
    if (sent === undefined) return false;
    const { message } = sent;
    if (message.type < channelOpen) this.onGlobal(sent);
    else if (message.type === channelOpen) this.onOpen(message as ChannelOpen);
    else this.#onChannelMessage(message as Exclude<ChannelMessage, ChannelOpen>);
    return true;
  }

  newLine(state: Line["state"], side: number): Line {
    let own = this.random.below(50);
    while (this.lines.has(own)) own = this.random.below(2 ** 32);
    const line = new Line(this.random, { state, own, side });
    this.lines.set(own, line);
    return line;
  }

  /** The relay's number must not be in use for another channel. */
  expectFreshSlot(slot: number): void {
    for (const line of this.lines.values()) {
      assert(line.slot !== slot || line.isDone, `slot ${slot} is in use`);
    }
  }

  #onChannelMessage(message: Exclude<ChannelMessage, ChannelOpen>): void {
    const line = this.lines.get(message.recipientChannel);
    const { name } = this.peer;
    assert(line, `${name}: message ${message.type} on no channel, ${message.recipientChannel}`);
    if (message.type === channelOpenConfirmation || message.type === channelOpenFailure) {
      assert.equal(line.state, "asking");
      if (message.type === channelOpenFailure) {
        this.lines.delete(line.own);
        return;
      }
      this.expectFreshSlot(message.senderChannel);
      line.learn(message);
      line.state = "open";
      return;
    }
    assert.equal(line.state, "open", `${name}: message ${message.type} before the opening`);
    assert(!line.closeReceived, `${name}: message ${message.type} after CLOSE`);
    switch (message.type) {
      case channelData:
      case channelExtendedData:
        this.#onData(line, message.data);
        break;
      case channelWindowAdjust:
        assert(message.bytesToAdd > 0);
        line.credit += message.bytesToAdd;
        assert(line.credit <= mostCreditBytes);
        break;
      case channelEof:
        assert(!line.eofReceived);
        line.eofReceived = true;
        break;
      case channelClose:
        this.#onClose(line);
        break;
      case channelRequest:
        if (message.requestType === "exec") this.#onExec(line, message.data);
        if (message.wantReply) line.repliesOwed++;
        break;
      case channelSuccess:
      case channelFailure:
        assert(line.repliesAwaited > 0, `${name}: a reply to nothing`);
        line.repliesAwaited--;
        break;
    }
  }

  #onData(line: Line, data: Uint8Array): void {
    assert(!line.eofReceived, "data after EOF");
    assert(data.length <= line.window, "more data than the window");
    assert(data.length <= line.packetBytes, "more data than the maximum packet size");
    if (line.key > 0 && !line.isCut) {
      const expected = streamBytes(
        { key: line.key, side: 1 - line.side },
        line.received,
        data.length,
      );
      assert(Buffer.compare(data, expected) === 0, `wrong bytes at ${line.received}`);
    }
    line.window -= data.length;
    line.consumed += data.length;
    line.received += data.length;
  }

  #onClose(line: Line): void {
    line.closeReceived = true;
    const pair = this.pairs.get(line.key);
    const other = line.side === 0 ? pair?.upstream : pair?.client;
    if (other && !line.isCut) {
      // What comes after one's own CLOSE may go nowhere.
      if (line.closeSent) assert(line.received <= other.sent);
      else assert.equal(line.received, other.sent, "bytes are missing");
    }
    if (!line.isDone) return;
    this.lines.delete(line.own);
    this.#sayLate(line);
  }

  /** A session's key is in its command. */
  #onExec(line: Line, data: Uint8Array): void {
    this.bind(line, Number(new Reader(data).text()));
  }

  /** A client has named the channel that `line` is upstream's end of. */
  bind(line: Line, key: number): void {
    const pair = this.pairs.get(key);
    if (pair === undefined || pair.upstream !== undefined) return;
    pair.upstream = line;
    line.key = key;
  }

  say(line: Line, type: number, ...fields: Field[]): void {
    this.peer.say(type, line.slot, ...fields);
  }

  /** Does one thing on a channel; whether there was one that is due or possible. */
  actOn(line: Line, options: { isEager: boolean }): boolean {
    const { random } = this;
    if (this.lines.get(line.own) !== line) return false;
    if (line.state === "awaiting") {
      this.#answer(line);
      return true;
    }
    if (!line.maySend) return false;
    const { isEager } = options;
    if (!isEager && random.chance(0.05)) {
      this.#sayCarelessly(line);
    } else if (line.repliesOwed > 0 && (isEager || random.chance(0.3))) {
      line.repliesOwed--;
      this.say(line, random.pick([channelSuccess, channelFailure]));
    } else if (this.#adjustIsDue(line) && (isEager || random.chance(0.5))) {
      line.window += line.consumed;
      const bytes = line.consumed;
      line.consumed = 0;
      this.say(line, channelWindowAdjust, bytes);
    } else if (!isEager && random.chance(0.1)) {
      const wantReply = random.chance(0.5);
      if (wantReply) line.repliesAwaited++;
      this.say(line, channelRequest, "invented@example.com", wantReply, { raw: Uint8Array.of(1) });
    } else if (line.key > 0 && line.sent < line.target && line.credit > 0 && !line.eofSent) {
      this.#sendData(line, isEager);
    } else if (line.staysOpen && !line.closeReceived) {
      return false;
    } else if (line.closeReceived || (!isEager && random.chance(0.02))) {
      this.#close(line);
    } else if (!line.eofSent && (line.sent >= line.target || line.key === 0) && isEager) {
      line.eofSent = true;
      this.say(line, channelEof);
    } else if (line.eofSent && line.eofReceived && line.repliesOwed === 0 && isEager) {
      this.#close(line);
    } else {
      return false;
    }
    return true;
  }

  #close(line: Line): void {
    line.closeSent = true;
    if (line.isDone) this.lines.delete(line.own);
    this.say(line, channelClose);
    this.#sayLate(line);
  }

  /** Says what means nothing, and must reach nobody. */
  #sayCarelessly(line: Line): void {
    const { random } = this;
    if (line.eofSent && line.credit > 0 && line.creditPacketBytes > 0) {
      line.credit--;
      if (random.chance(0.5)) this.say(line, channelData, Uint8Array.of(1));
      else this.say(line, channelExtendedData, 1, Uint8Array.of(1));
    } else if (line.repliesOwed === 0) {
      this.say(line, random.pick([channelSuccess, channelFailure]));
    } else if (line.eofSent) {
      this.say(line, channelEof);
    }
  }

  /** Some programs go on for a moment after their CLOSE, and after the other one too. */
  #sayLate(line: Line): void {
    const { random } = this;
    for (let count = random.chance(0.2) ? 1 + random.below(4) : 0; count > 0; count--) {
      this.say(line, ...random.pick(lateMessages));
    }
  }

  /** As OpenSSH does. */
  #adjustIsDue(line: Line): boolean {
    const { window, windowMaximum, packetBytes, consumed } = line;
    if (line.closeReceived || consumed === 0) return false;
    return windowMaximum - window > packetBytes * 3 || window < windowMaximum / 2;
  }

  #sendData(line: Line, isEager: boolean): void {
    const limit = Math.min(line.credit, line.creditPacketBytes, line.target - line.sent);
    const length = isEager ? limit : this.random.below(limit + 1);
    const data = streamBytes(line, line.sent, length);
    line.credit -= length;
    line.sent += length;
    if (this.random.chance(0.2)) this.say(line, channelExtendedData, 1, data);
    else this.say(line, channelData, data);
  }

  #answer(line: Line): void {
    if (this.random.chance(this.refusalChance)) {
      this.lines.delete(line.own);
      this.say(line, channelOpenFailure, 2, "refused", "");
    } else {
      line.state = "open";
      this.say(line, channelOpenConfirmation, line.own, ...line.announced);
    }
  }
}

/** A client that behaves. */
export class ModelClient extends Model {
  /** What it has asked globally and not heard of yet. */
  readonly #asked: { name: string; port: number }[] = [];
  /** The ports that it has ever asked for. */
  readonly #ports = new Set<number>();
  readonly #nextKey: () => number;

  constructor(peer: MemoryPeer, random: Random, shared: { pairs: Pairs; nextKey: () => number }) {
    super(peer, random, shared.pairs);
    this.#nextKey = shared.nextKey;
  }

  get isIdle(): boolean {
    return this.lines.size === 0 && this.inbox.length === 0 && this.#asked.length === 0;
  }

  onOpen(message: ChannelOpen): void {
    assert.equal(message.channelType, "forwarded-tcpip");
    const body = new Reader(message.data);
    body.text();
    assert(this.#ports.has(body.uint32()), "a connection to a port of another client");
    body.text();
    this.expectFreshSlot(message.senderChannel);
    const line = this.newLine("awaiting", 0);
    line.learn(message);
    line.key = body.uint32();
    const pair = this.pairs.get(line.key);
    // Upstream may have been lost since.
    if (pair) pair.client = line;
    else line.isCut = true;
  }

  onGlobal({ message }: Sent): void {
    const asked = this.#asked.shift();
    assert(asked, "a reply to no global request");
    if (asked.name === "keepalive@openssh.com") assert.equal(message.type, requestFailure);
    if (message.type === requestSuccess && asked.name === "tcpip-forward" && asked.port === 0) {
      this.#ports.add(new Reader((message as { data: Uint8Array }).data).uint32());
    }
  }

  /**
   * Upstream is lost, whose ends of channels are `lines`: what was open there ends, what was not
   * confirmed is offered to the next one.
   */
  onLost(lines: readonly Line[]): void {
    for (const line of this.lines.values()) {
      const pair = this.pairs.get(line.key);
      const slot = line.slot === -1 ? this.#confirmedSlot(line) : line.slot;
      const isAtEnd = pair?.upstream !== undefined && lines.includes(pair.upstream);
      if (slot === undefined) {
        if (isAtEnd) pair.upstream = undefined;
      } else if (isAtEnd || pair === undefined || lines.some((other) => other.slot === slot)) {
        line.isCut = true;
        this.pairs.delete(line.key);
      }
    }
  }

  /** The relay's number in a confirmation that is on its way. */
  #confirmedSlot(line: Line): number | undefined {
    for (const { message } of this.inbox) {
      if (message.type !== channelOpenConfirmation) continue;
      const { recipientChannel, senderChannel } = message as ChannelOpenConfirmation;
      if (recipientChannel === line.own) return senderChannel;
    }
    return undefined;
  }

  act(): boolean {
    const { random } = this;
    if (this.peer.isPaused) return false;
    if (this.lines.size < 6 && random.chance(0.1)) this.open({ isSession: random.chance(0.3) });
    else if (random.chance(0.05)) this.#ask();
    else if (this.lines.size > 0) {
      return this.actOn(random.pick([...this.lines.values()]), { isEager: false });
    } else return false;
    return true;
  }

  /** Asks for a session or a direct-tcpip channel. */
  open({ isSession }: { isSession: boolean }): Line {
    const line = this.newLine("asking", 0);
    line.key = this.#nextKey();
    this.pairs.set(line.key, { client: line, upstream: undefined });
    const body = isSession ? new Uint8Array() : encodeFields(clientsHost, 80, "", line.key);
    const type = isSession ? "session" : "direct-tcpip";
    this.peer.say(channelOpen, type, line.own, ...line.announced, { raw: body });
    return line;
  }

  #ask(): void {
    const { random } = this;
    const name = random.pick(["keepalive@openssh.com", "tcpip-forward", "cancel-tcpip-forward"]);
    const port = random.pick([0, 8080, 8081, 8082]);
    const bindAddress = random.pick(["", "localhost", "0.0.0.0"]);
    this.ask(name, { bindAddress, port, wantReply: random.chance(0.7) });
  }

  /** Makes a global request; the place counts for one about a forward. */
  ask(
    name: string,
    { bindAddress, port, wantReply }: { bindAddress: string; port: number; wantReply: boolean },
  ): void {
    // Without a reply it would not learn a port that is allocated.
    if (name === "tcpip-forward" && port === 0 && !wantReply) return;
    if (wantReply) this.#asked.push({ name, port });
    if (name === "tcpip-forward") this.#ports.add(port);
    if (name === "keepalive@openssh.com") this.peer.say(globalRequest, name, wantReply);
    else this.peer.say(globalRequest, name, wantReply, bindAddress, port);
  }

  /** Says what a session's command is, so that upstream knows whose bytes to expect. */
  override actOn(line: Line, options: { isEager: boolean }): boolean {
    const pair = this.pairs.get(line.key);
    if (line.maySend && pair?.upstream === undefined && !this.#named.has(line)) {
      this.#named.add(line);
      line.repliesAwaited++;
      this.say(line, channelRequest, "exec", true, String(line.key));
      return true;
    }
    return super.actOn(line, options);
  }
  readonly #named = new WeakSet<Line>();
}

/** An upstream that behaves, as sshd does. */
export class ModelUpstream extends Model {
  readonly #toReply: { type: number; raw: Uint8Array }[] = [];
  readonly #listening = new Set<number>();
  readonly #nextKey: () => number;
  readonly #isOverflow: boolean;
  #lastPort = 40_000;

  constructor(
    peer: MemoryPeer,
    random: Random,
    shared: { pairs: Pairs; nextKey: () => number; isOverflow: boolean },
  ) {
    super(peer, random, shared.pairs);
    this.#nextKey = shared.nextKey;
    this.#isOverflow = shared.isOverflow;
  }

  get isIdle(): boolean {
    return this.lines.size === 0 && this.inbox.length === 0 && this.#toReply.length === 0;
  }

  /** On how many ports it listens. */
  get listenerCount(): number {
    return this.#listening.size;
  }

  onOpen(message: ChannelOpen): void {
    if (this.#isOverflow) assert.equal(message.channelType, "session");
    this.expectFreshSlot(message.senderChannel);
    const line = this.newLine("awaiting", 1);
    line.learn(message);
    if (message.channelType !== "direct-tcpip") return;
    const body = new Reader(message.data);
    if (body.text() !== clientsHost) return;
    [body.uint32(), body.text()];
    this.bind(line, body.uint32());
  }

  onGlobal({ message }: Sent): void {
    const { name, wantReply, data } = message as GlobalRequest;
    assert.equal(message.type, globalRequest, "a reply to no global request");
    assert.equal(wantReply, true);
    const body = new Reader(data);
    const raw = new Uint8Array();
    if (name === "keepalive@openssh.com") {
      this.#toReply.push({ type: requestFailure, raw });
      return;
    }
    assert.equal(this.#isOverflow, false);
    assert.match(name, /^(cancel-)?(tcpip-forward|streamlocal-forward@openssh\.com)$/);
    body.text();
    if (name.includes("streamlocal")) {
      this.#toReply.push({ type: requestFailure, raw });
      return;
    }
    const port = body.uint32();
    if (name.startsWith("cancel")) {
      const type = this.#listening.delete(port) ? requestSuccess : requestFailure;
      this.#toReply.push({ type, raw });
    } else if (port === 0) {
      do this.#lastPort++; while (this.#listening.has(this.#lastPort));
      this.#listening.add(this.#lastPort);
      this.#toReply.push({ type: requestSuccess, raw: encodeFields(this.#lastPort) });
    } else if (this.#listening.has(port) || this.random.chance(this.refusalChance)) {
      // Another program may listen there, or a connection that is dead already.
      this.#toReply.push({ type: requestFailure, raw });
    } else {
      this.#listening.add(port);
      this.#toReply.push({ type: requestSuccess, raw });
    }
  }

  reply(): boolean {
    const reply = this.#toReply.shift();
    if (reply === undefined) return false;
    this.peer.say(reply.type, { raw: reply.raw });
    return true;
  }

  act(): boolean {
    const { random } = this;
    if (random.chance(0.2)) return this.reply();
    if (random.chance(0.01)) {
      this.peer.say(globalRequest, "hostkeys-00@openssh.com", false, "key");
      return true;
    }
    // Until the grant has been sent, nobody may hear of a connection.
    if (random.chance(0.05) && this.#listening.size > 0 && this.#toReply.length === 0) {
      this.openForwarded("localhost", random.pick([...this.#listening]));
      return true;
    }
    if (this.lines.size === 0) return false;
    return this.actOn(random.pick([...this.lines.values()]), { isEager: false });
  }

  /** Somebody has connected to a port that was forwarded. */
  openForwarded(bindAddress: string, bindPort: number): Line {
    const line = this.newLine("asking", 1);
    line.key = this.#nextKey();
    this.pairs.set(line.key, { client: undefined, upstream: line });
    const body = encodeFields(bindAddress, bindPort, "", line.key);
    this.peer.say(channelOpen, "forwarded-tcpip", line.own, ...line.announced, { raw: body });
    return line;
  }
}

/** A client that sends whatever comes to its mind. */
export class Attacker {
  readonly #random: Random;
  readonly #slots: number[] = [0, 1, 2];
  readonly peer: MemoryPeer;

  constructor(peer: MemoryPeer, random: Random) {
    this.peer = peer;
    this.#random = random;
    peer.onSent = ({ message }) => {
      if ("senderChannel" in message) this.#slots.push(message.senderChannel);
    };
  }

  act(): void {
    const random = this.#random;
    let payload = this.#plausible();
    if (random.chance(0.2)) payload = payload.slice(0, random.below(payload.length));
    if (random.chance(0.1)) payload = Uint8Array.from([...payload, random.below(256)]);
    if (random.chance(0.3) && payload.length > 0) {
      payload[random.below(payload.length)] = random.below(256);
    }
    this.peer.sayBytes(payload);
  }

  #plausible(): Uint8Array {
    const random = this.#random;
    const slot = random.pick([...this.#slots.slice(-4), random.below(30), random.below(2 ** 32)]);
    const number = random.pick([0, 1, 100, 32768, 2 ** 31, 2 ** 32 - 1]);
    const bytes = patternBytes(random.pick([0, 1, 100, 32768, 32769]));
    const name = random.pick(["session", "direct-tcpip", "pty-req", "exec", "shell", "x11-req"]);
    switch (random.below(12)) {
      case 0:
        return buildMessage(channelOpen, "session", random.below(5), number, number);
      case 1:
        return buildMessage(
          channelOpen,
          "direct-tcpip",
          random.below(5),
          number,
          number,
          "h",
          1,
          "o",
          0,
        );
      case 2:
        return buildMessage(channelData, slot, bytes);
      case 3:
        return buildMessage(channelExtendedData, slot, number, bytes);
      case 4:
        return buildMessage(channelWindowAdjust, slot, number);
      case 5:
        return buildMessage(channelRequest, slot, name, random.chance(0.5), { raw: bytes });
      case 6:
        return buildMessage(channelOpenConfirmation, slot, 1, number, number);
      case 7:
        return buildMessage(channelOpenFailure, slot, number, "why", "");
      case 8:
        return buildMessage(
          globalRequest,
          random.pick(["tcpip-forward", "cancel-tcpip-forward"]),
          random.chance(0.5),
          "",
          random.pick([8080, 8081, 70_000]),
        );
      case 9:
        return buildMessage(random.pick([channelEof, channelClose]), slot);
      case 10:
        return buildMessage(random.pick([channelSuccess, channelFailure, requestSuccess]), slot);
      default:
        return Uint8Array.from({ length: 1 + random.below(40) }, () => random.below(256));
    }
  }
}
