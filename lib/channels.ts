/**
 * The table of all channels: how they are opened, whose they are, and when they end.
 *
 * The relay's own number of a channel, its *slot*, is the sender channel on both sides; it is free
 * again when both ends are done, that is when CLOSE has passed in both directions, an open was
 * refused, or a connection is gone.
 */

import {
  type Channel,
  isKeepalive,
  type Link,
  type LiveMessage,
  opposite,
  type Side,
} from "./channel.ts";
import { ChannelArrivals } from "./channel_arrivals.ts";
import { confirm } from "./channel_confirmation.ts";
import { Links } from "./channel_links.ts";
import { ChannelOpens } from "./channel_opens.ts";
import { ChannelTable } from "./channel_table.ts";
import { ChannelOpenFailureReason, ProtocolError } from "./errors.ts";
import type { Usage } from "./share.ts";
import type { Peer, Schedule } from "./transport.ts";
import {
  type ChannelMessage,
  type ChannelOpen,
  type ChannelOpenFailure,
  MessageType,
  rewriteRecipient,
} from "./wire.ts";
import { findOwner, offerHeld } from "./x11_handover.ts";

/** Remote forwards: the client for a channel that upstream opens, and what listeners take there. */
export interface ForwardOwners {
  ownerOf(channelType: string, data: Uint8Array): Peer | undefined;
  /** Upstream's file descriptors that listeners take, and those of one client's. */
  readonly descriptorCount: number;
  descriptorCountOf(client: Peer): number;
}

/** How many channels there may be, and for how long one waits. */
export interface ChannelLimits {
  /** Of one client. */
  channels: number;
  /**
   * How many channels and listeners all clients share, sessions beside: sshd usually has 1,024 file
   * descriptors for one connection; a forwarded connection takes one, a listener one or two, a
   * session some.
   */
  allChannels: number;
  /** How long a CHANNEL_OPEN waits for upstream, or for a free session there, in milliseconds. */
  openTimeoutMs: number;
  /** How many sessions upstream allows at a time, where it is known beforehand. */
  sessions: number;
}

/** What the table of channels is given. */
export interface ChannelsOptions {
  owners: ForwardOwners;
  limits: ChannelLimits;
  schedule: Schedule;
  /** A client wants a channel and upstream is away. */
  onWanted(): void;
  /** A session waits because upstream allows no more. */
  onCrowded(): void;
}

/** Relays the messages of all channels between the clients and upstream. */
export class Channels {
  readonly #table = new ChannelTable();
  readonly #options: ChannelsOptions;
  readonly #links: Links;
  readonly #opens: ChannelOpens;
  readonly #arrivals: ChannelArrivals;

  constructor(options: ChannelsOptions) {
    const { owners, limits, schedule, onWanted, onCrowded } = options;
    this.#options = options;
    this.#links = new Links(limits.sessions);
    const shared = {
      table: this.#table,
      links: this.#links,
      maximum: limits.channels,
      usageOf: (client: Peer) => this.usageOf(client),
    };
    this.#opens = new ChannelOpens({
      ...shared,
      timeoutMs: limits.openTimeoutMs,
      schedule,
      giveUp: (channel, reason) => this.#leave(channel, "upstream", reason),
      onWanted,
      onCrowded,
    });
    this.#arrivals = new ChannelArrivals({
      ...shared,
      ownerOf: (channelType, data) => owners.ownerOf(channelType, data),
    });
  }

  /** How many slots are taken. */
  get size(): number {
    return this.#table.size;
  }

  /** Whether a client waits for a channel that upstream has not been asked for. */
  get isWanted(): boolean {
    return this.#opens.size > 0;
  }

  /** Resolves when no channel is left. */
  whenEmpty(): Promise<void> {
    return this.#table.whenEmpty();
  }

  /** Upstream is there: what waits for it goes on. */
  attachUpstream(upstream: Peer, options: { allowsForwards: boolean }): void {
    this.#links.attachUpstream(upstream, options);
    if (!options.allowsForwards) this.#opens.giveUpForwards();
    this.#opens.offer();
  }

  /** A further connection is there, for sessions. */
  attachOverflow(peer: Peer): void {
    this.#links.attachOverflow(peer);
    this.#opens.offer();
  }

  /**
   * Upstream is gone, but will come back: open channels end, and `reason`, one line for people,
   * tells why. A channel that upstream has not confirmed waits.
   */
  detachUpstream(reason: string): void {
    this.#onLinkLost(this.#links.detachUpstream(reason), reason);
  }

  /** A further connection is gone: its sessions end, and those not confirmed wait. */
  detachOverflow(peer: Peer, reason: string): void {
    this.#onLinkLost(this.#links.detachOverflow(peer), reason);
    this.#opens.offer();
  }

  /** The most data that upstream may have under way to a client, in bytes. */
  windowBytesOf(client: Peer): number {
    const record = this.#table.client(client);
    return record?.pool.maximumBytes(record.channels.size) ?? 0;
  }

  /** How many channels a connection upstream carries. */
  countOn(upstream: Peer): number {
    return this.#links.of(upstream)?.channels.size ?? 0;
  }

  /** What a client's channels and listeners take of what all share; sessions that wait nothing. */
  usageOf(client: Peer): Usage {
    const { owners, limits } = this.#options;
    const own = this.#table.client(client)?.channels.size ?? 0;
    return {
      own: own + owners.descriptorCountOf(client),
      all: this.#table.size - this.#opens.sessionCount + owners.descriptorCount,
      maximum: limits.allChannels,
    };
  }

  /** The connection upstream that carries a client's newest session. */
  newestSessionCarrier(client: Peer): Peer | undefined {
    return [...this.#table.client(client)?.channels ?? []]
      .findLast(({ type, link }) => type === "session" && link)?.link?.peer;
  }

  #onLinkLost(link: Link | undefined, reason: string): void {
    for (const channel of [...link?.channels ?? []]) {
      if (channel.waiting) {
        this.#opens.waitAgain(channel);
      } else {
        channel.sendNotice(reason);
        this.#leave(channel, "upstream", reason);
        channel.link = undefined;
      }
    }
  }

  /** Upstream will not come back by itself: what waits for it is refused, and so is what comes. */
  refuseOpens(reason: string): void {
    this.#links.refuse(reason);
    this.#opens.giveUpAll(reason);
  }

  /** Opens wait again for an upstream that was thought lost for good. */
  awaitUpstream(): void {
    this.#links.await();
  }

  /** Ends every channel in both directions and refuses new ones. */
  closeAll(reason: string): void {
    this.refuseOpens(reason);
    for (const channel of this.#table.all()) {
      channel.sendNotice(reason);
      channel.finish("downstream", reason);
      channel.finish("upstream", reason);
      this.#settle(channel);
    }
  }

  /** A client is here; until it has left, its messages are taken. */
  addClient(client: Peer): void {
    this.#table.addClient(client);
  }

  /** A client is gone: its channels are closed upstream. May be called twice. */
  removeClient(client: Peer): void {
    const record = this.#table.removeClient(client);
    for (const channel of [...record?.channels ?? []]) {
      this.#leave(channel, "downstream", "the client has left");
    }
  }

  /** This client will have no more sessions (OpenSSH's PROTOCOL, section 2.2). */
  refuseSessions(client: Peer): void {
    const record = this.#table.client(client);
    if (record) record.refusesSessions = true;
  }

  /**
   * Takes a channel message of a client; `payload` is the same message as bytes, and is rewritten.
   *
   * @throws {ProtocolError} where it breaks RFC 4254; the caller ends this client.
   */
  onDownstreamMessage(client: Peer, message: ChannelMessage, payload: Uint8Array): void {
    if (message.type === MessageType.channelOpen) {
      return this.#opens.open(client, message, payload);
    }
    const channel = this.#table.get(message.recipientChannel);
    if (channel?.owner !== client) throw new ProtocolError("no such channel");
    this.#onMessage(channel, "downstream", message, payload);
  }

  /**
   * Takes a channel message of upstream; `payload` is the same message as bytes, and is rewritten.
   *
   * @returns the client that it concerns, if there is one.
   * @throws {ProtocolError} where it breaks RFC 4254; the caller ends upstream's connection.
   */
  onUpstreamMessage(
    upstream: Peer,
    message: ChannelMessage,
    payload: Uint8Array,
  ): Peer | undefined {
    if (message.type === MessageType.channelOpen) {
      return this.#arrivals.open(upstream, message, payload);
    }
    const channel = this.#table.get(message.recipientChannel);
    if (channel?.link?.peer !== upstream) throw new ProtocolError("no such channel");
    this.#onMessage(channel, "upstream", message, payload);
    return channel.owner;
  }

  /** A message of upstream about a channel could not be handled, by a mistake of ours. */
  giveUp(upstream: Peer, slot: number | undefined): void {
    const channel = slot === undefined ? undefined : this.#table.get(slot);
    if (channel?.link?.peer !== upstream) return;
    channel.finish("downstream", "sshshim has made a mistake");
    channel.finish("upstream", "");
    this.#settle(channel);
  }

  /** A client has taken its backlog: grants that were withheld because of it are due. */
  onDownstreamDrain(client: Peer): void {
    for (const channel of this.#table.client(client)?.channels ?? []) {
      channel.refill("downstream");
    }
  }

  /** Upstream has taken its backlog: grants that were withheld because of it are due. */
  onUpstreamDrain(upstream: Peer): void {
    for (const channel of this.#links.of(upstream)?.channels ?? []) channel.refill("upstream");
  }

  // Opening

  #onFailure(
    channel: Channel,
    from: Side,
    { reasonCode }: ChannelOpenFailure,
    payload: Uint8Array,
  ): void {
    const to = opposite(from);
    const { link, waiting, type } = channel;
    const { connectFailed, resourceShortage } = ChannelOpenFailureReason;
    const isShort = reasonCode === connectFailed || reasonCode === resourceShortage;
    const mayBeCrowded = isShort && type === "session" && waiting !== undefined;
    if (from === "upstream" && link?.room.onRefusal(channel, { mayBeCrowded })) {
      // This connection allows no more at a time; the client waits for its turn.
      this.#opens.waitAgain(channel);
      this.#opens.offer();
      return;
    }
    channel[from].state = "done";
    if (channel[to].state === "asking") {
      rewriteRecipient(payload, channel[to].channel);
      channel.send(to, payload);
      channel[to].state = "done";
    } else {
      channel.finish(to, "");
    }
    this.#settle(channel);
  }

  // Messages of an open channel

  #onMessage(
    channel: Channel,
    from: Side,
    message: Exclude<ChannelMessage, ChannelOpen>,
    payload: Uint8Array,
  ): void {
    const end = channel[from];
    if (
      message.type === MessageType.channelOpenConfirmation ||
      message.type === MessageType.channelOpenFailure
    ) {
      if (end.state !== "awaiting") throw new ProtocolError("an answer to no CHANNEL_OPEN");
      if (message.type === MessageType.channelOpenFailure) {
        this.#onFailure(channel, from, message, payload);
      } else confirm(channel, from, message, payload);
      return;
    }
    if (end.state !== "live") throw new ProtocolError("the channel is not open");
    if (isKeepalive(message) && from === "upstream" && end.repliesOwed === 0) {
      channel.answerKeepalive(message);
    } else if (end.closeReceived) {
      return; // Nothing else may follow a CLOSE, and sshd does not mind.
    } else if (message.type === MessageType.channelClose) {
      this.#onClose(channel, from);
    } else {
      channel.receive(from, message, payload);
      if (channel.held && from === "upstream") this.#findX11Owner(channel, message);
    }
  }

  // Ending

  #onClose(channel: Channel, from: Side): void {
    const to = opposite(from);
    channel[from].closeReceived = true;
    if (channel[to].state === "live") channel.finish(to, "");
    else channel.finish(from, "");
    this.#settle(channel);
  }

  /** The connection of one end is gone. */
  #leave(channel: Channel, side: Side, reason: string): void {
    if (side === "downstream") channel.stopWaiting();
    channel[side].state = "done";
    channel.finish(opposite(side), reason);
    this.#settle(channel);
  }

  /** Frees the slot once both ends are done. */
  #settle(channel: Channel): void {
    for (const end of [channel.downstream, channel.upstream]) {
      if (end.state !== "live" || !end.closeSent || !end.closeReceived) continue;
      end.state = "done";
      if (end === channel.upstream) channel.link?.room.onClosed(channel);
    }
    if (channel.downstream.state !== "done" || channel.upstream.state !== "done") return;
    if (!this.#table.remove(channel)) return;
    this.#opens.delete(channel);
    channel.stopWaiting();
    if (channel.type === "session") this.#opens.offer();
  }

  /** Looks for the owner of a held x11 channel after each message of it. */
  #findX11Owner(channel: Channel, message: LiveMessage): void {
    const owner = findOwner(channel, message, this.#table.live());
    if (owner === undefined) return;
    this.#table.adopt(channel, owner);
    offerHeld(channel);
  }
}
