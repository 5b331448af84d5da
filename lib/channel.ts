/**
 * One channel: the state of its two ends, and what passes between them once it is open.
 *
 * A channel has two ends, `downstream` (a local client) and `upstream` (the remote host). Both are
 * treated alike: a message from one end changes that end's state and goes to the other, with only
 * the channel number rewritten. `channels.ts` has all of them, the other `channel_*.ts` how they are
 * opened and end; what is not passed through untouched is listed in `.github/PROTOCOL.md`.
 */

import { Ahead, type AheadPool } from "./ahead.ts";
import type { ChannelAccount } from "./channel_account.ts";
import { End, type EndState, maximumPacketSize, opposite, type Side } from "./channel_end.ts";
import { openFailure } from "./channel_reason.ts";
import { Refusals } from "./channel_refusals.ts";
import type { FormerSlots } from "./channel_slots.ts";
import type { ClientRules } from "./client_rules.ts";
import { ChannelOpenFailureReason, ChannelProtocolError, ProtocolError } from "./errors.ts";
import type { Pacing } from "./pacing.ts";
import type { SessionRoom } from "./session_room.ts";
import type { Peer } from "./transport.ts";
import { buildMessage } from "./ssh_data.ts";
import {
  type ChannelData,
  type ChannelOpen,
  type ChannelRequest,
  type LiveMessage,
  MessageType,
  rewriteOpen,
  rewriteRecipient,
} from "./wire.ts";
import { TerminalScreen } from "./terminal_screen.ts";
import { announcedCookie } from "./x11.ts";

/** Withheld window is not refilled while a receiver has this much waiting, in bytes. */
const backlogLimitBytes = 1024 * 1024;

/** Why a message is dropped that may not follow an EOF. */
const afterEof = "CHANNEL_EOF has been sent";

/** A connection upstream: the one, or a further one that carries nothing but sessions. */
export interface Link {
  readonly peer: Peer;
  /** The channels that it carries. */
  readonly channels: Set<Channel>;
  /** Channels that it has carried: it may still speak of them. */
  readonly former: FormerSlots;
  readonly room: SessionRoom<object>;
  /** What keeps its channels from waiting for each other; `undefined` where nothing does. */
  readonly pacing: Pacing<Channel> | undefined;
  /** The shortest time in which it has answered a CHANNEL_OPEN, in milliseconds. */
  roundTripMs?: number;
}

/** A connection has answered a CHANNEL_OPEN within so many milliseconds. */
export function noteRoundTrip(link: Link, tookMs: number): void {
  link.roundTripMs = Math.min(tookMs, link.roundTripMs ?? tookMs);
  link.pacing?.noteRoundTrip(tookMs);
}

/** A channel between one client and upstream. */
export class Channel {
  readonly slot: number;
  readonly type: string;
  /** The client; `undefined` while an x11 channel looks for its own. */
  owner: Peer | undefined;
  /** What the client may ask for on it; anything where there are none. */
  rules: ClientRules | undefined;
  readonly #refusals = new Refusals();
  readonly downstream: End;
  readonly upstream: End;
  /** Its place among all that were opened. */
  readonly order: number;
  #link: Link | undefined;
  readonly account: ChannelAccount;
  /** What upstream has sent and the client's window has no room for. */
  readonly ahead: Ahead;
  readonly #now: () => number;
  /** When upstream was asked for it. */
  #askedAt = 0;
  /** Of a channel that waits for upstream: its CHANNEL_OPEN, what ends the wait, who has refused it. */
  waiting: { opening: Uint8Array; cancelTimeout(): void; refusedBy?: Link } | undefined;
  /**
   * Of a session: upstream was asked for it before its client was there, with an empty window and
   * the largest packets.
   */
  isWarm = false;
  /** Of a session: a terminal was requested, which sshd allows once. */
  hasTerminal = false;
  /** Of a session with a terminal: what is known of its screen. */
  screen: TerminalScreen | undefined;
  /** Of a session: upstream has told the exit status. */
  hasExitStatus = false;
  /** Of a session: agent forwarding was requested. */
  forwardsAgent = false;
  /** Of a session: the cookie of the X11 display that was announced. */
  x11Cookie: Uint8Array | undefined;
  /** Of an x11 channel whose owner has not answered: its opening, and what came from upstream. */
  held:
    | { opening: Uint8Array; firstBytes: Uint8Array; payloads: Uint8Array[] }
    | undefined;

  constructor(
    { slot, order, type, account, ahead }: Pick<Channel, "slot" | "order" | "type" | "account"> & {
      ahead: { pool: AheadPool; now: () => number };
    },
    ends: { downstream: EndState; upstream: EndState },
  ) {
    this.slot = slot;
    this.order = order;
    this.type = type;
    this.account = account;
    this.downstream = new End(ends.downstream);
    this.upstream = new End(ends.upstream);
    this.ahead = new Ahead(this.downstream.flow, ahead);
    this.#now = ahead.now;
  }

  /** The connection upstream that carries it; `undefined` before it is offered to one. */
  get link(): Link | undefined {
    return this.#link;
  }

  set link(link: Link | undefined) {
    this.#link?.channels.delete(this);
    this.#link?.pacing?.forget(this);
    if (this.upstream.knowsSlot) this.#link?.former.add(this.slot);
    this.#link = link;
    this.#askedAt = this.#now();
    link?.channels.add(this);
    this.paceBy(link);
  }

  /** What may be under way depends on what else the connection carries. */
  paceBy(link: Link | undefined): void {
    this.downstream.flow.limitBy(() => link?.pacing?.downloadBytes(this) ?? Infinity);
    this.upstream.flow.limitBy(() => link?.pacing?.uploadBytes(this) ?? Infinity);
  }

  /** Upstream has opened it. */
  noteRoundTrip(): void {
    // A warm one was asked for at another time.
    if (this.#link && !this.isWarm) noteRoundTrip(this.#link, this.#now() - this.#askedAt);
  }

  /** Whether the client has use for data. */
  get takesData(): boolean {
    return this.downstream.listens && !this.downstream.closeReceived;
  }

  /** Whether the client has enough to take already. */
  get isFull(): boolean {
    return this.owner !== undefined && this.owner.backlogBytes > backlogLimitBytes;
  }

  /** Notes what the asking end announces, and makes of its CHANNEL_OPEN the one for the other. */
  takeOpening(from: Side, message: ChannelOpen, payload: Uint8Array): Uint8Array {
    const asking = this[from];
    asking.announce(message);
    rewriteOpen(payload, {
      senderChannel: this.slot,
      initialWindowSize: asking.flow.takeGrant(),
      maximumPacketSize: asking.maximumPacketSize,
    });
    return payload;
  }

  /**
   * Takes a message of a live end.
   *
   * @returns why it is dropped, if it is: nobody is harmed by that.
   * @throws {ChannelProtocolError} where the channel has to end, and nothing else.
   */
  receive(from: Side, message: LiveMessage, payload: Uint8Array): string | undefined {
    switch (message.type) {
      case MessageType.channelData:
      case MessageType.channelExtendedData:
        return this.#onData(from, message, payload);
      case MessageType.channelWindowAdjust:
        this[from].flow.adjust(message.bytesToAdd);
        if (from === "downstream") this.ahead.settle();
        this.grant(from);
        return undefined;
      case MessageType.channelEof:
        if (this[from].eofReceived) return afterEof;
        this[from].eofReceived = true;
        this.forward(from, payload);
        return undefined;
      case MessageType.channelRequest:
        this.#onRequest(from, message, payload);
        return undefined;
      case MessageType.channelSuccess:
      case MessageType.channelFailure:
        return this.#onReply(from, message, payload);
    }
  }

  #onData(from: Side, message: ChannelData, payload: Uint8Array): string | undefined {
    const to = opposite(from);
    const { length } = message.data;
    this.#link?.pacing?.onData(this, from, length);
    const isTooLate = this[from].eofReceived || (from === "upstream" && this.ahead.hasEof);
    if (isTooLate) {
      this[to].flow.giveBack(length); // The sender might wait for it before it closes.
    } else {
      const isTold = !this.isWarm || to === "upstream";
      if (length > (isTold ? this[to].maximumPacketSize : maximumPacketSize)) {
        throw new ChannelProtocolError("more data than the maximum packet size");
      }
      const passes = from === "upstream" ? this.#consumeAhead(length) : this.#consume(length);
      this.account.onData(from, length);
      if (!passes) this.#hold(message);
      else if (from === "downstream" || !this.ahead.hasGap) {
        this.#forwardData(from, message, payload);
      }
    }
    this.refill(to);
    return isTooLate ? afterEof : undefined;
  }

  #consume(bytes: number): true {
    this.upstream.flow.consume(bytes);
    return true;
  }

  #consumeAhead(bytes: number): boolean {
    const { ahead, isFull, downstream: { flow } } = this;
    const passes = flow.consumeAhead(bytes, { isFirst: ahead.isEmpty, isFull });
    ahead.onData(bytes, this.#link?.roundTripMs);
    return passes;
  }

  /** Keeps data of upstream until the client has room for it. */
  #hold(message: ChannelData): void {
    if (this.takesData) this.ahead.pushData(message);
    else this.ahead.drop(message.data.length);
  }

  /** Upstream was told of larger packets than the client takes, which was not there yet. */
  #forwardData(from: Side, message: ChannelData, payload: Uint8Array): void {
    const { type, dataTypeCode, data } = message;
    const { channel, maximumPacketSize } = this[opposite(from)];
    if (from === "upstream") this.screen?.onOutput(data);
    if (data.length <= maximumPacketSize) return this.forward(from, payload);
    const numbers = type === MessageType.channelExtendedData ? [channel, dataTypeCode] : [channel];
    for (let at = 0; at < data.length; at += maximumPacketSize) {
      const piece = data.subarray(at, at + maximumPacketSize);
      this.forward(from, buildMessage(type, ...numbers, piece));
    }
  }

  #onRequest(from: Side, message: ChannelRequest, payload: Uint8Array): void {
    const rules = from === "downstream" ? this.rules : undefined;
    const payloads = rules ? rules.apply(message, payload) : [payload];
    if (payloads === undefined) return message.wantReply ? this.#refuseRequest() : undefined;
    if (from === "downstream") noteRequest(this, message);
    else if (message.requestType === "exit-status") this.hasExitStatus = true;
    if (message.wantReply) this[from].repliesOwed++;
    this.account.onRequest(from, message);
    for (const it of payloads) this.forward(from, it);
  }

  /** A client's request that its rules do not allow: upstream does not hear of it. */
  #refuseRequest(): void {
    const { repliesOwed } = this.downstream;
    if (repliesOwed > 0) this.#refusals.add(repliesOwed);
    else this.#sendFailure("downstream");
  }

  #sendFailure(to: Side): void {
    if (!this[to].listens) return;
    this.send(to, buildMessage(MessageType.channelFailure, this[to].channel));
  }

  /**
   * sshd asks one channel for the whole connection, even one that it has closed already: a stalled
   * client must not answer for all.
   */
  answerKeepalive(message: ChannelRequest): void {
    if (message.wantReply) this.#sendFailure("upstream");
  }

  #onReply(from: Side, { type }: LiveMessage, payload: Uint8Array): string | undefined {
    const other = this[opposite(from)];
    if (other.repliesOwed === 0) return "no channel request waits for it";
    other.repliesOwed--;
    const isGranted = type === MessageType.channelSuccess;
    this.account.onReply(opposite(from), { isGranted });
    this.forward(from, payload);
    if (from === "upstream") {
      for (let due = this.#refusals.onReply(); due > 0; due--) this.#sendFailure("downstream");
    }
    return undefined;
  }

  // Windows

  /** Grants what a receiver accepts; not before the sender is there to hear of it. */
  grant(side: Side): void {
    if (!this[opposite(side)].listens) return;
    this.#sendGrant(opposite(side), this[side].flow.takeGrant());
  }

  /** Grants upstream what the CHANNEL_OPEN of a client would have told it, on a warm session. */
  grantOpening(): void {
    const { windowBytes, freeBytes } = this.downstream.flow;
    this.#sendGrant("upstream", windowBytes - freeBytes);
  }

  /** Grants what was withheld from the sender, unless the receiver has enough to take already. */
  refill(side: Side): void {
    const receiver = side === "upstream" ? this.link?.peer : this.owner;
    if (receiver === undefined || receiver.backlogBytes > backlogLimitBytes) return;
    if (!this[opposite(side)].listens) return;
    this.#sendGrant(opposite(side), this[side].flow.takeRefill());
  }

  #sendGrant(to: Side, bytes: number): void {
    if (bytes === 0) return;
    this.send(to, buildMessage(MessageType.channelWindowAdjust, this[to].channel, bytes));
  }

  /** Nobody waits for the channel's opening any more, or it is open. */
  stopWaiting(): void {
    this.waiting?.cancelTimeout();
    this.waiting = undefined;
  }

  /** Sends an end what ends the channel there; one that owes an answer is closed once it answers. */
  finish(side: Side, reason: string): void {
    const end = this[side];
    if (end.state === "unasked") {
      end.state = "done";
    } else if (end.state === "asking") {
      const { connectFailed } = ChannelOpenFailureReason;
      this.send(side, openFailure(end.channel, connectFailed, reason));
      this.account.onRefused("sshshim", reason, connectFailed);
      end.state = "done";
      if (side === "downstream") this.stopWaiting();
    } else if (end.listens) {
      // What waits would go nowhere.
      if (side === "upstream" && end.closeReceived) this.#link?.pacing?.discard(this);
      this.send(side, buildMessage(MessageType.channelClose, end.channel));
      end.closeSent = true;
    }
  }

  /** Passes a message on to the other end, if that one still listens. */
  forward(from: Side, payload: Uint8Array): void {
    const other = this[opposite(from)];
    if (from === "upstream" && this.held && this.upstream.listens) {
      this.held.payloads.push(payload.slice());
    }
    if (!other.listens) return;
    rewriteRecipient(payload, other.channel);
    this.send(opposite(from), payload);
  }

  send(to: Side, payload: Uint8Array): void {
    if (to === "downstream") this.owner?.send(payload);
    else if (this.link?.pacing) this.link.pacing.send(this, payload);
    else this.link?.peer.send(payload);
  }
}

/** Keeps what a session asks for, as far as channels are routed by it or sshd punishes it. */
function noteRequest(channel: Channel, request: ChannelRequest): void {
  switch (request.requestType) {
    case "pty-req":
      // sshd ends the whole connection at the second one.
      if (channel.hasTerminal) throw new ProtocolError("a second terminal in one session");
      channel.hasTerminal = true;
      channel.screen = TerminalScreen.ofRequest(request.data);
      break;
    case "window-change":
      channel.screen?.resize(request.data);
      break;
    case "auth-agent-req@openssh.com":
      channel.forwardsAgent = true;
      break;
    case "x11-req":
      channel.x11Cookie = announcedCookie(request.data);
      break;
  }
}
