/**
 * A session that upstream has opened before anybody wants it, so that the next one costs one round
 * trip and not two: its client is given upstream's confirmation at once.
 *
 * It is asked for with an empty window, which its client's fills, and there is one at most. Servers
 * count it like any other session, and nobody else does: until a client has it, it is no channel.
 */

import { type Channel, type Link, noteRoundTrip } from "./channel.ts";
import { maximumPacketSize } from "./channel_end.ts";
import type { Links } from "./channel_links.ts";
import type { ChannelTable } from "./channel_table.ts";
import { ChannelProtocolError, ProtocolError } from "./errors.ts";
import type { Peer } from "./transport.ts";
import { buildMessage } from "./ssh_data.ts";
import {
  type ChannelMessage,
  type ChannelOpen,
  type ChannelOpenConfirmation,
  describeMessage,
  MessageType,
} from "./wire.ts";

/**
 * Whoever takes smaller packets does not get the session: OpenSSH's terminals, PuTTY and JSch take
 * this, in bytes. Upstream is told of twice as much, so that a message of it makes two at most.
 */
const smallestPacketSize = 16_384;

/** So many sessions that upstream allows are left to clients, beside the warm one. */
const sparedSessions = 2;

const maximumWindowBytes = 2 ** 32 - 1;

/** What a warm session is given. */
export interface WarmSessionOptions {
  table: ChannelTable;
  links: Links;
  /** Whether there is to be one. */
  isWanted: boolean;
  /** Upstream has said this of a client's channel. */
  onMessage(channel: Channel, message: ChannelOpenConfirmation, payload: Uint8Array): void;
  /** It takes no room on its connection any more. */
  onGone(): void;
  /** The time, in milliseconds. */
  now(): number;
  /** Words for the log. */
  report(text: string, level: "debug"): void;
}

/** Which session it is; stands for it where servers' sessions are counted. */
interface Warm {
  readonly link: Link;
  readonly slot: number;
  /** When it was asked for. */
  readonly askedAt: number;
}

/** What upstream has said of it: its confirmation, whose window has grown by what followed. */
interface Confirmation {
  message: ChannelOpenConfirmation;
  payload: Uint8Array;
}

/**
 * - `none`;
 * - `asked`: upstream has not answered; `isWanted` unless it is to be closed as soon as it has;
 * - `ready`: a client can have it;
 * - `closing`: upstream has been sent CLOSE, and has not answered.
 */
type State =
  | { kind: "none" }
  | { kind: "asked"; warm: Warm; isWanted: boolean }
  | { kind: "ready"; warm: Warm; confirmation: Confirmation }
  | { kind: "closing"; warm: Warm };

/** The warm session on the one connection upstream. */
export class WarmSession {
  readonly #options: WarmSessionOptions;
  #state: State = { kind: "none" };
  /** Whether the one connection upstream takes it. */
  isAllowed = false;
  /** Whether there is to be one on any connection that comes. */
  #isWanted: boolean;
  /** Upstream has closed one that nobody had: the next one follows a client's session. */
  #isPaused = false;
  /** With so many others there, this connection has refused it. */
  #refusedAt = Infinity;

  constructor(options: WarmSessionOptions) {
    this.#options = options;
    this.#isWanted = options.isWanted;
  }

  /** How many sessions it takes of those that upstream allows: one or none. */
  get count(): number {
    return this.#state.kind === "none" ? 0 : 1;
  }

  /** Its slot, if whoever asks for this channel can have it; it was given up where others wait. */
  slotFor({ channelType, maximumPacketSize: packetSize }: ChannelOpen): number | undefined {
    const state = this.#state;
    const isThere = state.kind === "ready" || (state.kind === "asked" && state.isWanted);
    if (!isThere || channelType !== "session" || packetSize < smallestPacketSize) return undefined;
    return state.warm.slot;
  }

  /**
   * A client's channel, which has its slot, takes its place: upstream has been asked for it, and has
   * perhaps answered.
   */
  handTo(channel: Channel): void {
    const state = this.#state;
    if (state.kind !== "ready" && state.kind !== "asked") throw new Error("no session is warm");
    const { link } = state.warm;
    this.#state = { kind: "none" };
    channel.link = link;
    channel.isWarm = true;
    channel.upstream.state = "awaiting";
    link.room.replace(state.warm, channel);
    if (state.kind === "asked") return;
    this.#options.onMessage(channel, state.confirmation.message, state.confirmation.payload);
  }

  /** Upstream has opened a session for a client. */
  onSession(): void {
    this.#isPaused = false;
  }

  /** Nobody waits for a session: upstream is asked for one, if it may have one to spare. */
  refill(): void {
    const { links, table, now } = this.#options;
    const link = links.first;
    if (link === undefined) return;
    if (!this.#hasRoom(link)) return void this.giveUp();
    // What upstream allows is told best by answers to clients, and they come first.
    if (this.#state.kind !== "none" || this.#isPaused || !link.room.isSettled) return;
    const warm = { link, slot: table.takeSlot(), askedAt: now() };
    this.#state = { kind: "asked", warm, isWanted: true };
    link.room.ask(warm, { isSession: true });
    const { channelOpen } = MessageType;
    link.peer.send(buildMessage(channelOpen, "session", warm.slot, 0, maximumPacketSize));
  }

  /**
   * Its room is needed.
   *
   * @returns whether there will be room, as soon as upstream has answered.
   */
  giveUp(): boolean {
    const state = this.#state;
    if (state.kind === "asked") state.isWanted = false;
    if (state.kind === "ready") this.#close(state.warm);
    return state.kind !== "none";
  }

  /**
   * Takes a message of upstream.
   *
   * @returns whether it was about the warm session.
   * @throws {ProtocolError} where it breaks RFC 4254.
   */
  onUpstreamMessage(
    upstream: Peer,
    message: Exclude<ChannelMessage, ChannelOpen>,
    payload: Uint8Array,
  ): boolean {
    const state = this.#state;
    if (state.kind === "none" || state.warm.link.peer !== upstream) return false;
    if (state.warm.slot !== message.recipientChannel) return false;
    try {
      this.#onMessage(state, message, payload);
    } catch (error) {
      if (!(error instanceof ChannelProtocolError)) throw error;
      this.#report(`is closed: ${describeMessage(payload)}: ${error.message}`);
      this.#isPaused = true;
      this.giveUp();
    }
    return true;
  }

  /** The one connection is gone. @param byServer whether upstream has ended it. */
  onUpstreamLost({ byServer }: { byServer: boolean }): void {
    const state = this.#state;
    this.#refusedAt = Infinity;
    if (state.kind === "none") return;
    // Clients' sessions would end with the next one too.
    if (byServer && state.kind === "asked") this.#isWanted = false;
    this.#isPaused = byServer;
    this.#forget(state.warm);
  }

  #hasRoom({ room }: Link): boolean {
    if (!this.#isWanted || !this.isAllowed || this.#options.links.hasFurther) return false;
    const others = room.takenCount - this.count;
    return Math.min(room.limit, this.#refusedAt) - others > sparedSessions;
  }

  #onMessage(
    state: Exclude<State, { kind: "none" }>,
    message: Exclude<ChannelMessage, ChannelOpen>,
    payload: Uint8Array,
  ): void {
    const { warm } = state;
    switch (message.type) {
      case MessageType.channelOpenConfirmation:
        if (state.kind !== "asked") throw new ProtocolError("an answer to no CHANNEL_OPEN");
        this.#report("is open");
        warm.link.room.onConfirmation(warm);
        noteRoundTrip(warm.link, this.#options.now() - warm.askedAt);
        this.#state = { kind: "ready", warm, confirmation: { message, payload: payload.slice() } };
        if (!state.isWanted) this.giveUp();
        return;
      case MessageType.channelOpenFailure:
        if (state.kind !== "asked") throw new ProtocolError("an answer to no CHANNEL_OPEN");
        this.#report(`is refused: ${describeMessage(payload)}`);
        this.#refusedAt = warm.link.room.takenCount - 1;
        return this.#drop(warm);
    }
    if (state.kind === "asked") throw new ChannelProtocolError("its opening has no answer yet");
    if (message.type !== MessageType.channelClose) {
      if (state.kind === "ready") this.#onReadyMessage(state, message);
      return;
    }
    if (state.kind === "ready") {
      this.#report("is closed by the remote host");
      this.#isPaused = true;
      this.#close(warm);
    }
    this.#drop(warm);
  }

  /** A message about one that nobody has yet, beside its end. */
  #onReadyMessage(
    { warm, confirmation }: Extract<State, { kind: "ready" }>,
    message: Exclude<ChannelMessage, ChannelOpen>,
  ): void {
    switch (message.type) {
      case MessageType.channelWindowAdjust:
        // Whoever gets it is told the sum.
        confirmation.message.initialWindowSize += message.bytesToAdd;
        if (confirmation.message.initialWindowSize > maximumWindowBytes) {
          throw new ChannelProtocolError("the window overflows");
        }
        return;
      case MessageType.channelRequest:
        // As ssh answers whatever it does not know; sshd asks whether the connection lives.
        if (message.wantReply) return this.#send(warm, MessageType.channelFailure);
        break;
      case MessageType.channelSuccess:
      case MessageType.channelFailure:
        return; // Nobody has asked.
    }
    throw new ChannelProtocolError("no client has it yet");
  }

  #close(warm: Warm): void {
    this.#send(warm, MessageType.channelClose);
    this.#state = { kind: "closing", warm };
  }

  #send({ link }: Warm, type: number): void {
    const state = this.#state;
    if (state.kind !== "ready") return;
    link.peer.send(buildMessage(type, state.confirmation.message.senderChannel));
  }

  /** It takes no room any more. */
  #drop(warm: Warm): void {
    this.#forget(warm);
    this.#options.onGone();
  }

  #forget(warm: Warm): void {
    const { link, slot } = warm;
    this.#state = { kind: "none" };
    link.room.drop(warm);
    link.former.add(slot);
    this.#options.table.freeSlot(slot);
  }

  #report(words: string): void {
    this.#options.report(`the warm session ${words}`, "debug");
  }
}
