/**
 * The client's half of the connection protocol (RFC 4254) for whatever in this process uses the
 * remote host: a client of the relay like any other, without a transport of its own.
 */

import { maximumPacketSize } from "./channel_end.ts";
import { openFailure } from "./channel_reason.ts";
import type { ClientRules } from "./client_rules.ts";
import { ChannelOpenFailureReason, DisconnectReason, messageOf } from "./errors.ts";
import { maximumCreditBytes } from "./flow.ts";
import { RequestQueue } from "./global_requests.ts";
import { type Hand, joinRelay } from "./hand.ts";
import { type ChannelOwner, RelayChannel } from "./relay_channel.ts";
import type { Relay } from "./relay.ts";
import type { ClientAbout } from "./relay_status.ts";
import { buildMessage } from "./ssh_data.ts";
import type { Peer } from "./transport.ts";
import {
  type ChannelMessage,
  type ChannelOpen,
  type ConnectionMessage,
  type GlobalReply,
  MessageType,
  parseMessage,
} from "./wire.ts";

/** What makes the owner of a channel, once. */
export type OwnerOf = (channel: RelayChannel) => ChannelOwner;

/** What a client in this process is made of. */
export interface RelayClientOptions {
  /** What it may do; everything where there are none. */
  rules?: ClientRules;
  about: ClientAbout;
  /**
   * Upstream opens a channel to it; `undefined` refuses it, and so does a failure, whose words
   * upstream is told. Whoever takes it owns it, until `onClose`.
   */
  onOpen?(open: ChannelOpen): Promise<OwnerOf> | undefined;
  /** It has left, for this reason. */
  onEnd(reason: string): void;
}

/** A client of the relay, and its channels. */
export class RelayClient {
  readonly #options: RelayClientOptions;
  readonly #hand: Hand;
  readonly #requests = new RequestQueue();
  readonly #unanswered = new Set<() => void>();
  readonly #channels = new Map<number, RelayChannel>();
  #lastNumber = -1;
  /** What upstream opens and nobody has answered yet. */
  #unansweredOpens = 0;
  #leavesWhenUnused = false;
  #hasEnded = false;

  constructor(relay: Relay, options: RelayClientOptions) {
    this.#options = options;
    const { rules, about } = options;
    this.#hand = joinRelay(relay, { rules, about, onEnd: (reason) => this.#onEnd(reason) });
    this.#requests.attach(this.#hand);
    this.#hand.start({
      onPayload: (payload) => this.#onMessage(parseMessage(payload)!),
      onDrain: () => {
        for (const channel of this.#channels.values()) channel.onRoom();
      },
      onDisconnect: () => {},
    });
  }

  /** What it is to the relay. */
  get peer(): Peer {
    return this.#hand.other;
  }

  /**
   * Asks for a channel; `owner` is told what becomes of it, in a later turn.
   *
   * @param body what follows the maximum packet size.
   * @param windowBytes how much may come before any of it is taken.
   */
  openChannel(
    channelType: string,
    { body, windowBytes = maximumCreditBytes }: { body: Uint8Array; windowBytes?: number },
    owner: OwnerOf,
  ): RelayChannel {
    const channel = this.#addChannel(owner, windowBytes);
    this.#hand.send(buildMessage(
      MessageType.channelOpen,
      ...[channelType, channel.number, windowBytes, maximumPacketSize],
      { raw: body },
    ));
    return channel;
  }

  /** Sends a global request. @returns what the answer carries; `undefined` where it is refused. */
  request(name: string, body: Uint8Array): Promise<Uint8Array | undefined> {
    if (this.#hasEnded) return Promise.resolve(undefined);
    const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
    const onEnd = () => resolve(undefined);
    this.#unanswered.add(onEnd);
    this.#requests.send(name, body, ({ type, data }: GlobalReply) => {
      this.#unanswered.delete(onEnd);
      resolve(type === MessageType.requestSuccess ? data : undefined);
    });
    return promise;
  }

  /** Leaves: what it has open ends. May be called twice. */
  leave(): void {
    this.#hand.disconnect(DisconnectReason.byApplication, "not needed any more");
  }

  /** Leaves as soon as no channel is open, those that upstream opens meanwhile among them. */
  leaveWhenUnused(): void {
    this.#leavesWhenUnused = true;
    this.#leaveIfUnused();
  }

  #leaveIfUnused(): void {
    const isUsed = this.#channels.size + this.#unansweredOpens > 0;
    if (this.#leavesWhenUnused && !isUsed && !this.#hasEnded) this.leave();
  }

  #addChannel(owner: OwnerOf, windowBytes: number): RelayChannel {
    const number = ++this.#lastNumber;
    const channel = new RelayChannel(this.#hand, {
      ...{ number, windowBytes, owner },
      onDone: () => {
        this.#channels.delete(number);
        this.#leaveIfUnused();
      },
    });
    this.#channels.set(number, channel);
    return channel;
  }

  #onMessage(message: ConnectionMessage): void {
    switch (message.type) {
      case MessageType.globalRequest:
        return this.#requests.onRequest(message);
      case MessageType.requestSuccess:
      case MessageType.requestFailure:
        this.#requests.onReply(message);
        return;
      case MessageType.ping:
      case MessageType.pong:
        return; // None was asked for.
      case MessageType.channelOpen:
        return void this.#onOpen(message);
      default:
        return this.#onChannelMessage(message);
    }
  }

  async #onOpen(open: ChannelOpen): Promise<void> {
    const { administrativelyProhibited, connectFailed } = ChannelOpenFailureReason;
    const refuse = (reasonCode: number, description: string) =>
      this.#hand.send(openFailure(open.senderChannel, reasonCode, description));
    const owning = this.#options.onOpen?.(open);
    if (owning === undefined) {
      return refuse(administrativelyProhibited, "nothing was asked to be forwarded");
    }
    this.#unansweredOpens++;
    try {
      const owner = await owning;
      const channel = this.#addChannel(owner, maximumCreditBytes);
      if (this.#hasEnded) channel.onGone();
      else channel.accept(open, maximumPacketSize);
    } catch (error) {
      refuse(connectFailed, messageOf(error));
    } finally {
      this.#unansweredOpens--;
      this.#leaveIfUnused();
    }
  }

  #onChannelMessage(message: Exclude<ChannelMessage, ChannelOpen>): void {
    this.#channels.get(message.recipientChannel)?.onMessage(message);
  }

  #onEnd(reason: string): void {
    this.#hasEnded = true;
    for (const onEnd of this.#unanswered) onEnd();
    const channels = [...this.#channels.values()];
    this.#channels.clear();
    for (const channel of channels) channel.onGone();
    this.#options.onEnd(reason);
  }
}
