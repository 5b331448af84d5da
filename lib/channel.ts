/**
 * One channel and the state of its two ends.
 *
 * This file only keeps state; what happens to a channel is decided in `channels.ts`.
 */

import { ProtocolError } from "./errors.ts";
import { Flow } from "./flow.ts";
import type {
  ChannelMessage,
  ChannelOpen,
  ChannelOpenConfirmation,
  ChannelOpenFailure,
  ChannelRequest,
} from "./wire.ts";
import { announcedCookie } from "./x11.ts";

/** A connection as the relay of channels needs it. */
export interface Peer {
  /** Sends one message; the bytes are copied before this returns. */
  send(payload: Uint8Array): void;
  /** Bytes sent that the peer's kernel has not taken yet. */
  readonly backlogBytes: number;
}

/** OpenSSH's own packets carry 32 KiB, and ssh2 accepts no more than 35,000 bytes. */
const maximumPacketSize = 32768;

/** A connection upstream: the one, or a further one that carries nothing but sessions. */
export interface Link {
  readonly peer: Peer;
  /** How many sessions it has shown to allow at a time. */
  sessionLimit: number;
}

/**
 * Where one end of a channel stands:
 * - `unasked`: it will be sent CHANNEL_OPEN when it can take it;
 * - `asking`: it sent CHANNEL_OPEN and waits for the answer;
 * - `awaiting`: it was sent CHANNEL_OPEN and owes the answer;
 * - `live`: opened, and not closed in both directions;
 * - `done`: closed in both directions, refused, gone, or never told of the channel.
 */
export type EndState = "unasked" | "asking" | "awaiting" | "live" | "done";

/** One end of a channel. */
export class End {
  state: EndState;
  /** The peer's own number for the channel: the recipient channel of what is sent to it. */
  channel = 0;
  /** Bytes that this end accepts. */
  readonly flow = new Flow();
  /** The largest data message that this end accepts, in bytes. */
  maximumPacketSize = 0;
  eofReceived = false;
  closeReceived = false;
  closeSent = false;
  /** Channel requests of this end that the other one has still to answer. */
  repliesOwed = 0;

  constructor(state: EndState) {
    this.state = state;
  }

  /** Whether messages other than those of the opening may be sent to this end. */
  get listens(): boolean {
    return this.state === "live" && !this.closeSent;
  }

  /**
   * Takes the numbers that this end announces for itself. Its initial window holds the
   * `grantedBytes` that the relay has granted in its name before.
   */
  announce(message: ChannelOpen | ChannelOpenConfirmation, grantedBytes = 0): void {
    this.channel = message.senderChannel;
    this.flow.adjust(message.initialWindowSize - grantedBytes);
    this.maximumPacketSize = Math.min(message.maximumPacketSize, maximumPacketSize);
  }
}

/** Which end of a channel. */
export type Side = "downstream" | "upstream";

/** A channel between one client and upstream. */
export class Channel {
  readonly slot: number;
  readonly type: string;
  /** The client; `undefined` while an x11 channel looks for its own. */
  owner: Peer | undefined;
  readonly downstream: End;
  readonly upstream: End;
  /** The connection upstream that carries it; `undefined` before it is offered to one. */
  link: Link | undefined;
  /** Of a channel that waits for upstream: its CHANNEL_OPEN, and what ends the wait. */
  waiting: { opening: Uint8Array; cancelTimeout(): void } | undefined;
  /** Of a session: a terminal was requested, which sshd allows once. */
  hasTerminal = false;
  /** Of a session: agent forwarding was requested. */
  forwardsAgent = false;
  /** Of a session: the cookie of the X11 display that was announced. */
  x11Cookie: Uint8Array | undefined;
  /** Of an x11 channel whose owner has not answered: its opening, and what came from upstream. */
  held:
    | { opening: Uint8Array; firstBytes: Uint8Array; payloads: Uint8Array[] }
    | undefined;

  constructor(slot: number, type: string, owner: Peer | undefined, ends: {
    downstream: EndState;
    upstream: EndState;
  }) {
    this.slot = slot;
    this.type = type;
    this.owner = owner;
    this.downstream = new End(ends.downstream);
    this.upstream = new End(ends.upstream);
  }
}

/** The other side of a channel. */
export function opposite(side: Side): Side {
  return side === "downstream" ? "upstream" : "downstream";
}

/** What a live end may send: everything but the messages that open a channel. */
export type LiveMessage = Exclude<
  ChannelMessage,
  ChannelOpen | ChannelOpenConfirmation | ChannelOpenFailure
>;

/** Keeps what a session asks for, as far as channels are routed by it or sshd punishes it. */
export function noteRequest(channel: Channel, request: ChannelRequest): void {
  switch (request.requestType) {
    case "pty-req":
      // sshd ends the whole connection at the second one.
      if (channel.hasTerminal) throw new ProtocolError("a second terminal in one session");
      channel.hasTerminal = true;
      break;
    case "auth-agent-req@openssh.com":
      channel.forwardsAgent = true;
      break;
    case "x11-req":
      channel.x11Cookie = announcedCookie(request.data);
      break;
  }
}
