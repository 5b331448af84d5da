/**
 * The peers of the fuzzer that behave: beside what the models do they ask for terminals, displays
 * and agents, and ping.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { encodeFields, type Field, readUint32 } from "../../lib/ssh_data.ts";
import {
  type ChannelOpen,
  type ChannelOpenConfirmation,
  type ChannelRequest,
  type ConnectionMessage,
  type GlobalRequest,
  MessageType,
  type Ping,
} from "../../lib/wire.ts";
import type { Sent } from "./memory.ts";
import { type Line, ModelClient, ModelUpstream } from "./models.ts";

const {
  channelData,
  channelOpen,
  channelOpenConfirmation,
  channelRequest,
  globalRequest,
  ping,
  pong,
  requestFailure,
} = MessageType;

const cookieProtocol = "MIT-MAGIC-COOKIE-1";

/** The cookies that clients announce, in hexadecimal. */
const cookies = ["00".repeat(16), "a1".repeat(16), "b2".repeat(16)];

/** Little goes through a channel here, so that a case is short; in bytes. */
const largestTarget = 24;

const maximumPort = 65_535;

/** What a client asks of its sessions, beside a command. */
const sessionRequests: readonly (readonly [string, ...Field[]])[] = [
  ["x11-req", false, cookieProtocol, cookies[1]!, 0],
  ["x11-req", true, cookieProtocol, cookies[2]!, 0],
  ["x11-req", false, cookieProtocol, cookies[2]!, 0],
  ["auth-agent-req@openssh.com"],
  ["env", "LANG", "C"],
  ["shell"],
  ["subsystem", "sftp"],
  ["window-change", 80, 24, 0, 0],
  ["signal", "INT"],
  ["break", 500],
  ["eow@openssh.com"],
];

/** A client that behaves. */
export class FuzzClient extends ModelClient {
  /** What upstream sends are no known bytes. */
  isUpstreamHostile = false;
  /** Pings on several connections are answered in any order. */
  hasOneUpstream = true;
  /** All of its ends of channels that there ever were. */
  readonly made = new Set<Line>();
  readonly #sessions = new Set<Line>();
  readonly #pings: Uint8Array[] = [];
  readonly #asked = new Set<string>();

  override newLine(state: Line["state"], side: number): Line {
    const line = super.newLine(state, side);
    line.target = this.random.below(largestTarget);
    if (this.isUpstreamHostile) line.isCut = true;
    this.made.add(line);
    return line;
  }

  /** From now on upstream does what it likes, until it is gone. */
  onUpstreamHostile(): void {
    this.isUpstreamHostile = true;
    for (const line of this.lines.values()) line.isCut = true;
  }

  override onLost(lines: readonly Line[]): void {
    this.isUpstreamHostile = false;
    super.onLost(lines);
  }

  override get isIdle(): boolean {
    return super.isIdle && this.#pings.length === 0;
  }

  override open(options: { isSession: boolean }): Line {
    const line = super.open(options);
    if (options.isSession) this.#sessions.add(line);
    return line;
  }

  override act(): boolean {
    const { random, peer } = this;
    if (peer.isPaused || random.chance(0.6)) return super.act();
    if (random.chance(0.2)) {
      const data = Uint8Array.of(random.below(256), random.below(256), random.below(256));
      this.#pings.push(data);
      peer.say(ping, data);
      return true;
    }
    for (const line of this.#sessions) if (!this.lines.has(line.own)) this.#sessions.delete(line);
    const open = [...this.#sessions].filter((line) => line.maySend);
    if (open.length === 0) return super.act();
    this.request(random.pick(open), ...random.pick(sessionRequests));
    return true;
  }

  /** Asks for the windows of a session's programs. */
  requestDisplay(line: Line): void {
    const cookie = this.random.pick(cookies);
    this.request(line, "x11-req", false, cookieProtocol, cookie, 0);
  }

  /** Asks something of a session. */
  request(line: Line, name: string, ...fields: Field[]): void {
    const wantReply = this.random.chance(0.5);
    if (wantReply) line.repliesAwaited++;
    this.#asked.add(name);
    this.say(line, channelRequest, name, wantReply, ...fields);
  }

  override hear(): boolean {
    const type = this.inbox[0]?.message.type;
    assert.notEqual(type, ping, "the relay pinged a client");
    if (type !== pong) return super.hear();
    const { data } = this.inbox.shift()!.message as Ping;
    const place = this.#pings.findIndex((ping) => Buffer.compare(ping, data) === 0);
    const isDue = this.hasOneUpstream ? place === 0 : place >= 0;
    assert(isDue, "the answer to another ping, or to none");
    this.#pings.splice(place, 1);
    return true;
  }

  override onOpen(message: ChannelOpen): void {
    const { channelType } = message;
    if (channelType === "x11") assert(this.#asked.has("x11-req"), "somebody else's window");
    else if (channelType === "auth-agent@openssh.com") {
      assert(this.#asked.has("auth-agent-req@openssh.com"), "asked for another's agent");
    } else {
      super.onOpen(message);
      const taken = [...this.lines.values()].at(-1)!;
      const other = this.pairs.get(taken.key)?.upstream;
      if (other) other.isCut = this.isUpstreamHostile;
      return;
    }
    this.expectFreshSlot(message.senderChannel);
    this.newLine("awaiting", 0).learn(message);
  }
}

/** An upstream that behaves. */
export class FuzzUpstream extends ModelUpstream {
  readonly #pings: Uint8Array[] = [];
  readonly #windows = new Set<Line>();
  readonly #terminals = new WeakSet<Line>();
  #requestsAsked = 0;

  override newLine(state: Line["state"], side: number): Line {
    const line = super.newLine(state, side);
    line.target = this.random.below(largestTarget);
    // Whoever is to take the channel may be hostile; one who is not says so.
    line.isCut = state === "asking";
    return line;
  }

  override get isIdle(): boolean {
    return super.isIdle && this.#pings.length === 0 && this.#requestsAsked === 0;
  }

  override onGlobal(sent: Sent): void {
    if (sent.message.type === requestFailure && this.#requestsAsked > 0) this.#requestsAsked--;
    else super.onGlobal(sent);
  }

  override hear(): boolean {
    const message = this.inbox[0]?.message;
    assert.notEqual(message?.type, pong, "a pong, and there was no ping");
    if (message?.type !== ping) {
      if (message) this.#expectTolerable(message);
      return super.hear();
    }
    this.#pings.push((this.inbox.shift()!.message as Ping).data);
    return true;
  }

  override reply(): boolean {
    const data = this.#pings.shift();
    if (data === undefined) return super.reply();
    this.peer.say(pong, data);
    return true;
  }

  override act(): boolean {
    const { random, peer } = this;
    if (random.chance(0.5) && this.#sayCookie()) return true;
    if (random.chance(0.6)) return super.act();
    switch (random.below(3)) {
      case 0: {
        const isWindow = random.chance(0.6);
        const line = this.newLine("asking", 1);
        if (isWindow) this.#windows.add(line);
        const [type, body] = isWindow
          ? ["x11", encodeFields("127.0.0.1", 6000)] as const
          : ["auth-agent@openssh.com", new Uint8Array()] as const;
        peer.say(channelOpen, type, line.own, ...line.announced, { raw: body });
        return true;
      }
      case 1:
        this.#requestsAsked++;
        peer.say(globalRequest, "keepalive@openssh.com", true);
        return true;
      default: {
        const line = [...this.lines.values()].find((it) => it.maySend);
        if (line === undefined) return super.act();
        line.repliesAwaited++;
        this.say(line, channelRequest, "keepalive@openssh.com", true);
        return true;
      }
    }
  }

  /** What is well-formed, and makes OpenSSH's server end the whole connection all the same. */
  #expectTolerable(message: ConnectionMessage): void {
    switch (message.type) {
      case channelOpenConfirmation:
        assert.equal((message as ChannelOpenConfirmation).data.length, 0);
        break;
      case globalRequest: {
        const { name, data } = message as GlobalRequest;
        if (name.endsWith("tcpip-forward")) {
          assert(readUint32(data, data.length - 4) <= maximumPort, "no port");
        }
        break;
      }
      case channelRequest: {
        const { requestType, recipientChannel } = message as ChannelRequest;
        if (requestType !== "pty-req") break;
        const line = this.lines.get(recipientChannel);
        assert(line && !this.#terminals.has(line), "a second terminal in one session");
        this.#terminals.add(line);
        break;
      }
    }
  }

  /** A program that shows a window tells its cookie first. */
  #sayCookie(): boolean {
    for (const line of this.#windows) {
      if (!line.maySend) continue;
      this.#windows.delete(line);
      const data = displaySetup(this.random.pick(cookies));
      if (line.credit < data.length || line.creditPacketBytes < data.length) continue;
      line.credit -= data.length;
      this.say(line, channelData, data);
      return true;
    }
    return false;
  }
}

/** The first bytes of a connection to a display (X Window System Protocol, "Connection Setup"). */
export function displaySetup(cookie: string): Uint8Array {
  const [name, secret] = [Buffer.from(cookieProtocol), Buffer.from(cookie, "hex")];
  const setup = Buffer.alloc(12 + Math.ceil(name.length / 4) * 4 + secret.length);
  setup.write("l");
  setup.writeUInt16LE(11, 2);
  setup.writeUInt16LE(name.length, 6);
  setup.writeUInt16LE(secret.length, 8);
  setup.set(name, 12);
  setup.set(secret, setup.length - secret.length);
  return new Uint8Array(setup);
}
