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
  openFailure,
  opposite,
  type Side,
} from "./channel.ts";
import { ChannelTable } from "./channel_table.ts";
import { SessionRoom } from "./session_room.ts";
import { objectionTo, type Usage } from "./share.ts";
import { WaitingLine } from "./waiting_line.ts";
import { ChannelOpenFailureReason, ProtocolError } from "./errors.ts";
import { type Peer, type Schedule, usualPayloadBytes } from "./transport.ts";
import {
  type ChannelMessage,
  type ChannelOpen,
  type ChannelOpenConfirmation,
  type ChannelOpenFailure,
  MessageType,
  rewriteConfirmation,
  rewriteRecipient,
} from "./wire.ts";
import { findOwner, heldWindowBytes, hold, offerHeld, release } from "./x11_handover.ts";

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

/**
 * Whether channels can be opened: `open`; `away`, upstream will come back; `refused`, it will not,
 * or not by itself.
 */
type Availability = { kind: "open" } | { kind: "away"; reason: string } | {
  kind: "refused";
  reason: string;
};

/** Why nothing but sessions passes to a host whose key has changed. */
const doubted = "the remote host's key is not trusted";

/** Relays the messages of all channels between the clients and upstream. */
export class Channels {
  readonly #table = new ChannelTable();
  readonly #options: ChannelsOptions;
  /** The one connection upstream. */
  #upstream: Link | undefined;
  /** Further connections, for sessions that the one does not allow. */
  readonly #overflow = new Map<Peer, Link>();
  /** Channels that upstream has not been asked for; forwards take no room of sessions. */
  readonly #waitingSessions = new WaitingLine<Channel>();
  readonly #waitingForwards = new WaitingLine<Channel>();
  /** Whether upstream's host key was trusted, so that anything but sessions may pass. */
  #allowsForwards = true;
  #availability: Availability = { kind: "away", reason: "not connected to the remote host yet" };

  constructor(options: ChannelsOptions) {
    this.#options = options;
  }

  /** How many slots are taken. */
  get size(): number {
    return this.#table.size;
  }

  /** Whether a client waits for a channel that upstream has not been asked for. */
  get isWanted(): boolean {
    return this.#waitingSessions.size + this.#waitingForwards.size > 0;
  }

  /** Resolves when no channel is left. */
  whenEmpty(): Promise<void> {
    return this.#table.whenEmpty();
  }

  /** Upstream is there: what waits for it goes on. */
  attachUpstream(upstream: Peer, { allowsForwards }: { allowsForwards: boolean }): void {
    this.#upstream = this.#newLink(upstream);
    this.#allowsForwards = allowsForwards;
    this.#availability = { kind: "open" };
    if (!allowsForwards) {
      for (const channel of this.#waitingForwards) this.#leave(channel, "upstream", doubted);
    }
    this.#offerWaiting();
  }

  /** A further connection is there, for sessions. */
  attachOverflow(peer: Peer): void {
    this.#overflow.set(peer, this.#newLink(peer));
    this.#offerWaiting();
  }

  /**
   * Upstream is gone, but will come back: open channels end, and `reason`, one line for people,
   * tells why. A channel that upstream has not confirmed waits.
   */
  detachUpstream(reason: string): void {
    this.#availability = { kind: "away", reason };
    const link = this.#upstream;
    this.#upstream = undefined;
    if (link) this.#onLinkLost(link, reason);
  }

  /** A further connection is gone: its sessions end, and those not confirmed wait. */
  detachOverflow(peer: Peer, reason: string): void {
    const link = this.#overflow.get(peer);
    this.#overflow.delete(peer);
    if (link) this.#onLinkLost(link, reason);
    this.#offerWaiting();
  }

  /** The most data that upstream may have under way to a client, in bytes. */
  windowBytesOf(client: Peer): number {
    const record = this.#table.client(client);
    return record?.pool.maximumBytes(record.channels.size) ?? 0;
  }

  /** How many channels a connection upstream carries. */
  countOn(upstream: Peer): number {
    return this.#linkOf(upstream)?.channels.size ?? 0;
  }

  /** What a client's channels and listeners take of what all share; sessions that wait nothing. */
  usageOf(client: Peer): Usage {
    const { owners, limits } = this.#options;
    const own = this.#table.client(client)?.channels.size ?? 0;
    return {
      own: own + owners.descriptorCountOf(client),
      all: this.#table.size - this.#waitingSessions.size + owners.descriptorCount,
      maximum: limits.allChannels,
    };
  }

  /** The connection upstream that carries a client's newest session. */
  newestSessionCarrier(client: Peer): Peer | undefined {
    return [...this.#table.client(client)?.channels ?? []]
      .findLast(({ type, link }) => type === "session" && link)?.link?.peer;
  }

  #newLink(peer: Peer): Link {
    return { peer, channels: new Set(), room: new SessionRoom(this.#options.limits.sessions) };
  }

  #onLinkLost(link: Link, reason: string): void {
    for (const channel of [...link.channels]) {
      if (channel.waiting) {
        this.#waitAgain(channel);
      } else {
        channel.sendNotice(reason);
        this.#leave(channel, "upstream", reason);
        channel.link = undefined;
      }
    }
  }

  /** Upstream will not come back by itself: what waits for it is refused, and so is what comes. */
  refuseOpens(reason: string): void {
    this.#availability = { kind: "refused", reason };
    const waiting = [...this.#waitingSessions, ...this.#waitingForwards];
    for (const channel of waiting) this.#leave(channel, "upstream", reason);
  }

  /** Opens wait again for an upstream that was thought lost for good. */
  awaitUpstream(): void {
    if (this.#availability.kind !== "refused") return;
    this.#availability = { kind: "away", reason: this.#availability.reason };
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
      this.#onDownstreamOpen(client, message, payload);
      return;
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
      return this.#onUpstreamOpen(upstream, message, payload);
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
    for (const channel of this.#linkOf(upstream)?.channels ?? []) channel.refill("upstream");
  }

  // Opening

  #onDownstreamOpen(client: Peer, message: ChannelOpen, payload: Uint8Array): void {
    const record = this.#table.client(client);
    if (record === undefined) throw new ProtocolError("the client has left");
    const refuse = (reasonCode: number, description: string) =>
      client.send(openFailure(message.senderChannel, reasonCode, description));
    const { limits, schedule } = this.#options;
    const { administrativelyProhibited, connectFailed, resourceShortage } =
      ChannelOpenFailureReason;

    if (this.#availability.kind === "refused") {
      return refuse(connectFailed, this.#availability.reason);
    }
    if (message.channelType === "session" && record.refusesSessions) {
      return refuse(administrativelyProhibited, "no more sessions were announced");
    }
    if (message.channelType !== "session" && !this.#allowsForwards) {
      return refuse(administrativelyProhibited, doubted);
    }
    if (record.channels.size >= limits.channels) {
      return refuse(resourceShortage, "too many channels of this client");
    }
    const objection = objectionTo(1, this.usageOf(client));
    if (message.channelType !== "session" && objection !== undefined) {
      return refuse(resourceShortage, objection);
    }
    // It may have to wait for another connection, which need not take more.
    if (payload.length > usualPayloadBytes) return refuse(resourceShortage, "too long a request");

    const channel = this.#table.add(message.channelType, client, {
      downstream: "asking",
      upstream: "unasked",
    });
    channel.waiting = {
      opening: channel.takeOpening("downstream", message, payload),
      cancelTimeout: schedule(limits.openTimeoutMs, () => this.#onWaitedTooLong(channel)),
    };
    this.#lineOf(channel).add(channel);
    this.#offerWaiting();
    if (this.#availability.kind === "away") this.#options.onWanted();
  }

  #lineOf({ type }: Channel): WaitingLine<Channel> {
    return type === "session" ? this.#waitingSessions : this.#waitingForwards;
  }

  /** A channel that upstream was asked for in vain waits where it has waited before. */
  #waitAgain(channel: Channel): void {
    channel.link = undefined;
    channel.upstream.state = "unasked";
    this.#lineOf(channel).putBack(channel);
  }

  /** Sends upstream what waits for it, in order, as far as it can take it. */
  #offerWaiting(): void {
    if (this.#upstream === undefined) return;
    while (true) {
      const link = this.#linkWithRoom();
      const session = link && this.#waitingSessions.first;
      const forward = this.#waitingForwards.first;
      if (forward && (session === undefined || forward.order < session.order)) {
        this.#offer(forward, this.#upstream);
      } else if (session) {
        this.#offer(session, link);
      } else {
        break;
      }
    }
    if (this.#waitingSessions.size > 0) this.#options.onCrowded();
  }

  #offer(channel: Channel, link: Link): void {
    this.#lineOf(channel).delete(channel);
    channel.link = link;
    link.room.ask(channel, { isSession: channel.type === "session" });
    channel.upstream.state = "awaiting";
    channel.send("upstream", channel.waiting!.opening);
  }

  /** The connection that can take a session now; forwards are not counted by servers. */
  #linkWithRoom(): Link | undefined {
    const links = [this.#upstream, ...this.#overflow.values()];
    return links.find((link) => link && !link.room.isFull);
  }

  #onWaitedTooLong(channel: Channel): void {
    if (channel.upstream.state !== "unasked") {
      channel.waiting = undefined; // Upstream has been asked: its answer counts, whatever it is.
      return;
    }
    const allowed = this.#upstream?.room.limit;
    const seconds = this.#options.limits.openTimeoutMs / 1000;
    const reason = this.#availability.kind === "open"
      ? `no session became free within ${seconds} s; the remote host allows ${allowed}`
      : `waited ${seconds} s: ${this.#availability.reason}`;
    this.#leave(channel, "upstream", reason);
  }

  #onUpstreamOpen(
    upstream: Peer,
    message: ChannelOpen,
    payload: Uint8Array,
  ): Peer | undefined {
    const refuse = (reasonCode: number, description: string) => {
      upstream.send(openFailure(message.senderChannel, reasonCode, description));
      return undefined;
    };
    const { administrativelyProhibited, resourceShortage } = ChannelOpenFailureReason;
    if (this.#availability.kind !== "open") {
      return refuse(administrativelyProhibited, this.#availability.reason);
    }
    const owners = this.#ownersOf(message);
    const [owner] = owners;
    if (owner === undefined) {
      return refuse(administrativelyProhibited, "no client asked for this channel");
    }
    const { channels } = this.#options.limits;
    const own = this.#table.client(owner)?.channels.size ?? 0;
    if (own >= channels || this.#table.ownerlessCount >= channels) {
      return refuse(resourceShortage, "too many channels for this client");
    }
    const objection = objectionTo(1, this.usageOf(owner));
    if (message.channelType.startsWith("forwarded-") && objection !== undefined) {
      return refuse(resourceShortage, objection);
    }
    const isFound = owners.size === 1;
    const channel = this.#table.add(message.channelType, isFound ? owner : undefined, {
      downstream: isFound ? "awaiting" : "done",
      upstream: isFound ? "asking" : "live",
    });
    channel.link = this.#linkOf(upstream);
    if (isFound) channel.send("downstream", channel.takeOpening("upstream", message, payload));
    else hold(channel, message);
    return isFound ? owner : undefined;
  }

  #linkOf(peer: Peer): Link | undefined {
    if (this.#upstream?.peer === peer) return this.#upstream;
    return this.#overflow.get(peer);
  }

  /** The clients for whom upstream may have opened this channel; several only for x11. */
  #ownersOf(message: ChannelOpen): Set<Peer> {
    const owners = new Set<Peer>();
    if (!this.#allowsForwards) return owners;
    if (message.channelType === "x11") {
      for (const session of this.#table.live()) {
        if (session.x11Cookie) owners.add(session.owner);
      }
    } else if (message.channelType === "auth-agent@openssh.com") {
      const asked = [...this.#table.live()].filter((session) => session.forwardsAgent);
      if (asked.length > 0) owners.add(asked[asked.length - 1]!.owner);
    } else {
      const owner = this.#options.owners.ownerOf(message.channelType, message.data);
      if (owner && this.#table.client(owner)) owners.add(owner);
    }
    return owners;
  }

  #onConfirmation(
    channel: Channel,
    from: Side,
    message: ChannelOpenConfirmation,
    payload: Uint8Array,
  ): void {
    const end = channel[from];
    const other = channel[opposite(from)];
    if (from === "downstream" && message.data.length > 0) {
      // No type of channel that upstream opens has any, and sshd ends the whole connection for it.
      throw new ProtocolError("bytes after the end");
    }
    end.announce(message, channel.held ? heldWindowBytes : 0);
    end.state = "live";
    if (from === "upstream") channel.link?.room.onConfirmation(channel);
    channel.stopWaiting();
    switch (other.state) {
      case "asking":
        other.state = "live";
        rewriteConfirmation(payload, {
          recipientChannel: other.channel,
          senderChannel: channel.slot,
          initialWindowSize: end.flow.takeGrant(),
          maximumPacketSize: end.maximumPacketSize,
        });
        channel.send(opposite(from), payload);
        break;
      case "live":
      case "done":
        if (channel.held) release(channel, message);
        else channel.finish(from, "");
        break;
      case "unasked":
      case "awaiting":
        throw new Error("both ends of a channel were asked to open it");
    }
  }

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
      this.#waitAgain(channel);
      this.#offerWaiting();
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
      } else this.#onConfirmation(channel, from, message, payload);
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
    this.#lineOf(channel).delete(channel);
    channel.stopWaiting();
    if (channel.type === "session") this.#offerWaiting();
  }

  /** Looks for the owner of a held x11 channel after each message of it. */
  #findX11Owner(channel: Channel, message: LiveMessage): void {
    const owner = findOwner(channel, message, this.#table.live());
    if (owner === undefined) return;
    this.#table.adopt(channel, owner);
    offerHeld(channel);
  }
}
