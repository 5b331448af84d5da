/**
 * All channels: each message goes to the one that it concerns.
 *
 * The relay's own number of a channel, its *slot*, is the sender channel on both sides; it is free
 * again when both ends are done, that is when CLOSE has passed in both directions, an open was
 * refused, or a connection is gone.
 *
 * How channels begin is in `channel_opens.ts` (those of clients) and `channel_owners.ts` (those of
 * upstream), how they end in `channel_endings.ts`.
 */

import {
  type Channel,
  isKeepalive,
  type Link,
  type LiveMessage,
  opposite,
  type Side,
} from "./channel.ts";
import { ChannelEndings } from "./channel_endings.ts";
import type { ChannelLimits } from "./channel_limits.ts";
import { Links } from "./channel_links.ts";
import { ClientOpens } from "./channel_opens.ts";
import { type ForwardOwners, UpstreamOpens } from "./channel_owners.ts";
import { ChannelTable } from "./channel_table.ts";
import { ChannelOpenFailureReason, ProtocolError } from "./errors.ts";
import type { Peer, Schedule } from "./transport.ts";
import {
  type ChannelMessage,
  type ChannelOpen,
  type ChannelOpenConfirmation,
  type ChannelOpenFailure,
  MessageType,
  rewriteConfirmation,
  rewriteRecipient,
} from "./wire.ts";
import { findOwner, heldWindowBytes, offerHeld, release } from "./x11_handover.ts";

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
  readonly #links: Links;
  readonly #endings = new ChannelEndings(this.#table, (channel) => this.#opens.onFreed(channel));
  readonly #opens: ClientOpens;
  readonly #upstreamOpens: UpstreamOpens;

  constructor({ owners, limits, ...options }: ChannelsOptions) {
    const [table, links, endings] = [this.#table, new Links(limits.sessions), this.#endings];
    this.#links = links;
    this.#opens = new ClientOpens({ table, links, endings, limits, ...options });
    this.#upstreamOpens = new UpstreamOpens({ table, links, owners, limits });
  }

  /** How many slots are taken. */
  get size(): number {
    return this.#table.size;
  }

  /** Whether a client waits for a channel that upstream has not been asked for. */
  get isWanted(): boolean {
    return this.#opens.isWanted;
  }

  /** Resolves when no channel is left. */
  whenEmpty(): Promise<void> {
    return this.#table.whenEmpty();
  }

  /** Upstream is there: what waits for it goes on. */
  attachUpstream(upstream: Peer, { allowsForwards }: { allowsForwards: boolean }): void {
    this.#links.setFirst(upstream);
    this.#links.allowsForwards = allowsForwards;
    this.#opens.onUpstream();
  }

  /** A further connection is there, for sessions. */
  attachOverflow(peer: Peer): void {
    this.#links.addFurther(peer);
    this.#opens.offerWaiting();
  }

  /**
   * Upstream is gone, but will come back: open channels end, and `reason`, one line for people,
   * tells why. A channel that upstream has not confirmed waits.
   */
  detachUpstream(reason: string): void {
    this.#opens.onUpstreamLost(reason);
    this.#onLinkLost(this.#links.removeFirst(), reason);
  }

  /** A further connection is gone: its sessions end, and those not confirmed wait. */
  detachOverflow(peer: Peer, reason: string): void {
    this.#onLinkLost(this.#links.removeFurther(peer), reason);
    this.#opens.offerWaiting();
  }

  /** The most data that upstream may have under way to a client, in bytes. */
  windowBytesOf(client: Peer): number {
    const record = this.#table.client(client);
    return record?.pool.maximumBytes(record.channels.size) ?? 0;
  }

  /** How many channels a connection upstream carries. */
  countOn(upstream: Peer): number {
    return this.#links.get(upstream)?.channels.size ?? 0;
  }

  /** The connection upstream that carries a client's newest session. */
  newestSessionCarrier(client: Peer): Peer | undefined {
    return [...this.#table.client(client)?.channels ?? []]
      .findLast(({ type, link }) => type === "session" && link)?.link?.peer;
  }

  /** Upstream will not come back by itself: what waits for it is refused, and so is what comes. */
  refuseOpens(reason: string): void {
    this.#opens.refuseAll(reason);
  }

  /** Opens wait again for an upstream that was thought lost for good. */
  awaitUpstream(): void {
    this.#opens.awaitUpstream();
  }

  /** Ends every channel in both directions and refuses new ones. */
  closeAll(reason: string): void {
    this.refuseOpens(reason);
    for (const channel of this.#table.all()) {
      channel.sendNotice(reason);
      this.#endings.end(channel, reason);
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
      this.#endings.leave(channel, "downstream", "the client has left");
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
      this.#opens.onOpen(client, message, payload);
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
      return this.#upstreamOpens.onOpen(upstream, { message, payload }, this.#opens.obstacle);
    }
    const channel = this.#table.get(message.recipientChannel);
    if (channel?.link?.peer !== upstream) throw new ProtocolError("no such channel");
    this.#onMessage(channel, "upstream", message, payload);
    return channel.owner;
  }

  /** A message of upstream about a channel could not be handled, by a mistake of ours. */
  giveUp(upstream: Peer, slot: number | undefined): void {
    const channel = slot === undefined ? undefined : this.#table.get(slot);
    if (channel?.link?.peer === upstream) this.#endings.end(channel, "sshshim has made a mistake");
  }

  /** A client has taken its backlog: grants that were withheld because of it are due. */
  onDownstreamDrain(client: Peer): void {
    for (const channel of this.#table.client(client)?.channels ?? []) {
      channel.refill("downstream");
    }
  }

  /** Upstream has taken its backlog: grants that were withheld because of it are due. */
  onUpstreamDrain(upstream: Peer): void {
    for (const channel of this.#links.get(upstream)?.channels ?? []) channel.refill("upstream");
  }

  #onLinkLost(link: Link | undefined, reason: string): void {
    for (const channel of [...link?.channels ?? []]) {
      if (channel.waiting) {
        this.#opens.waitAgain(channel);
      } else {
        channel.sendNotice(reason);
        this.#endings.leave(channel, "upstream", reason);
        channel.link = undefined;
      }
    }
  }

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
      this.#endings.onClose(channel, from);
    } else {
      channel.receive(from, message, payload);
      if (channel.held && from === "upstream") this.#findX11Owner(channel, message);
    }
  }

  // Answers to openings

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
      this.#opens.waitAgain(channel);
      this.#opens.offerWaiting();
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
    this.#endings.settle(channel);
  }

  /** Looks for the owner of a held x11 channel after each message of it. */
  #findX11Owner(channel: Channel, message: LiveMessage): void {
    const owner = findOwner(channel, message, this.#table.live());
    if (owner === undefined) return;
    this.#table.adopt(channel, owner);
    offerHeld(channel);
  }
}
