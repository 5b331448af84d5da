/** One channel of a client in this process (RFC 4254, section 5), seen from the client's end. */

import { openFailure } from "./channel_reason.ts";
import { ChannelOpenFailureReason } from "./errors.ts";
import { Flow } from "./flow.ts";
import type { Hand } from "./hand.ts";
import { buildMessage, displayText, type Field } from "./ssh_data.ts";
import {
  type ChannelMessage,
  type ChannelOpen,
  type ChannelRequest,
  extendedDataStderr,
  MessageType,
} from "./wire.ts";

/** Nothing more is sent while so much waits for the relay, in bytes. */
const backlogLimitBytes = 2 * 1024 * 1024;

/** What is told to the one that a channel is for. */
export interface ChannelOwner {
  /** It is open. */
  onOpen?(): void;
  /** It is not to be had (RFC 4254, section 5.1); nothing more is told. */
  onRefused?(reasonCode: number, description: string): void;
  /** Bytes have come, which stay as they are; `consumed` is called for them in any case. */
  onData(data: Uint8Array, isStderr: boolean): void;
  /** More may be sent than before. */
  onRoom(): void;
  /** Upstream sends no more bytes. */
  onEof(): void;
  /** Upstream asks for something, or tells something. @returns whether it is granted. */
  onRequest?(request: ChannelRequest): boolean;
  /** It is closed in both directions, or gone with the client. */
  onClose(): void;
}

/**
 * - `opening`: one of the two has not answered CHANNEL_OPEN yet;
 * - `open`: bytes pass; `hasSentEof` and `hasSentClose` are ours;
 * - `gone`: closed in both directions, refused, or the client has left.
 */
type State =
  | { kind: "opening" }
  | {
    kind: "open";
    channel: number;
    packetSize: number;
    hasSentEof: boolean;
    hasSentClose: boolean;
  }
  | { kind: "gone" };

/** A channel; whoever takes its data says so by `consumed`. */
export class RelayChannel {
  /** Our number of it. */
  readonly number: number;
  readonly #hand: Hand;
  readonly #owner: ChannelOwner;
  readonly #onDone: () => void;
  readonly #incoming = new Flow();
  /** What has come and was not consumed, in bytes. */
  #heldBytes = 0;
  #windowBytes = 0;
  #state: State = { kind: "opening" };
  readonly #replies: ((isGranted: boolean) => void)[] = [];

  constructor(hand: Hand, { number, windowBytes, owner, onDone }: {
    number: number;
    /** What upstream may send at first, in bytes. */
    windowBytes: number;
    owner: (channel: RelayChannel) => ChannelOwner;
    onDone: () => void;
  }) {
    this.number = number;
    this.#hand = hand;
    this.#onDone = onDone;
    this.#incoming.adjust(windowBytes);
    this.#incoming.takeGrant();
    this.#owner = owner(this);
  }

  /** How many bytes may be sent now. */
  get roomBytes(): number {
    const { kind } = this.#state;
    if (kind !== "open" || this.#state.hasSentEof || this.#hand.isHeldUp) return 0;
    return this.#hand.backlogBytes < backlogLimitBytes ? this.#windowBytes : 0;
  }

  /** Sends bytes, no more than there is room for. */
  send(data: Uint8Array): void {
    const state = this.#state;
    if (state.kind !== "open" || state.hasSentEof) return;
    for (let at = 0; at < data.length; at += state.packetSize) {
      const part = data.subarray(at, at + state.packetSize);
      this.#windowBytes -= part.length;
      this.#hand.pass(buildMessage(MessageType.channelData, state.channel, part));
    }
  }

  /** Nothing more is sent. May be called twice. */
  sendEof(): void {
    const state = this.#state;
    if (state.kind !== "open" || state.hasSentEof) return;
    state.hasSentEof = true;
    this.#hand.pass(buildMessage(MessageType.channelEof, state.channel));
  }

  /** Asks for something, or tells something; without `onReply` no answer is wanted. */
  request(requestType: string, fields: Field[], onReply?: (isGranted: boolean) => void): void {
    const state = this.#state;
    if (state.kind !== "open" || state.hasSentClose) return;
    const { channelRequest } = MessageType;
    const wantReply = onReply !== undefined;
    if (onReply) this.#replies.push(onReply);
    this.#hand.pass(buildMessage(channelRequest, state.channel, requestType, wantReply, ...fields));
  }

  /** So many bytes of what has come were taken, and as many may follow. */
  consumed(bytes: number): void {
    this.#heldBytes -= bytes;
    this.#incoming.adjust(bytes);
    const grant = this.#state.kind === "open" ? this.#incoming.takeRefill() : 0;
    if (grant > 0) this.#tell(MessageType.channelWindowAdjust, grant);
    this.#hand.hold(-bytes);
  }

  /** Closes it; upstream closes it as well. May be called twice. */
  close(): void {
    const state = this.#state;
    if (state.kind !== "open" || state.hasSentClose) return;
    state.hasSentEof = state.hasSentClose = true;
    this.#tell(MessageType.channelClose);
  }

  /** Takes a channel that upstream has asked for. */
  accept(open: ChannelOpen, maximumPacketSize: number): void {
    const packetSize = Math.min(open.maximumPacketSize, maximumPacketSize);
    if (packetSize === 0) {
      const { connectFailed } = ChannelOpenFailureReason;
      this.#hand.send(openFailure(open.senderChannel, connectFailed, "a maximum packet size of 0"));
      return this.onGone();
    }
    this.#windowBytes = open.initialWindowSize;
    const { channelOpenConfirmation } = MessageType;
    const numbers = [
      open.senderChannel,
      this.number,
      this.#incoming.windowBytes,
      maximumPacketSize,
    ];
    this.#hand.pass(buildMessage(channelOpenConfirmation, ...numbers));
    this.#open(open.senderChannel, packetSize);
  }

  /** Upstream takes more, or the relay does. */
  onRoom(): void {
    if (this.roomBytes > 0) this.#owner.onRoom();
  }

  /** The client has left, or the channel is closed. May be called twice. */
  onGone(): void {
    if (this.#state.kind === "gone") return;
    this.#state = { kind: "gone" };
    this.#onDone();
    this.#owner.onClose();
    // There is no answer to these, but nobody is to wait for one.
    for (const onReply of this.#replies.splice(0)) onReply(false);
  }

  /** Upstream has sent a message on it. */
  onMessage(message: Exclude<ChannelMessage, ChannelOpen>): void {
    switch (message.type) {
      case MessageType.channelOpenConfirmation:
        this.#windowBytes = message.initialWindowSize;
        // A size of 0 would take nothing; no server means that.
        return this.#open(message.senderChannel, Math.max(1, message.maximumPacketSize));
      case MessageType.channelOpenFailure:
        this.#state = { kind: "gone" };
        this.#onDone();
        return this.#owner.onRefused?.(message.reasonCode, displayText(message.description));
      case MessageType.channelWindowAdjust:
        this.#windowBytes += message.bytesToAdd;
        return this.onRoom();
      case MessageType.channelData:
        return this.#onData(message.data, false);
      case MessageType.channelExtendedData:
        return this.#onData(message.data, message.dataTypeCode === extendedDataStderr);
      case MessageType.channelEof:
        return this.#owner.onEof();
      case MessageType.channelRequest:
        return this.#onRequest(message);
      case MessageType.channelSuccess:
      case MessageType.channelFailure:
        return this.#replies.shift()?.(message.type === MessageType.channelSuccess);
      case MessageType.channelClose:
        this.close();
        return this.onGone();
    }
  }

  #open(channel: number, packetSize: number): void {
    this.#state = { kind: "open", channel, packetSize, hasSentEof: false, hasSentClose: false };
    this.#owner.onOpen?.();
  }

  #onData(data: Uint8Array, isStderr: boolean): void {
    this.#incoming.consume(data.length);
    this.#heldBytes += data.length;
    this.#hand.hold(data.length);
    this.#owner.onData(data, isStderr);
  }

  #onRequest(request: ChannelRequest): void {
    const isGranted = this.#owner.onRequest?.(request) ?? false;
    const { channelSuccess, channelFailure } = MessageType;
    if (request.wantReply) this.#tell(isGranted ? channelSuccess : channelFailure);
  }

  #tell(type: number, ...fields: Field[]): void {
    if (this.#state.kind === "open") {
      this.#hand.pass(buildMessage(type, this.#state.channel, ...fields));
    }
  }
}
