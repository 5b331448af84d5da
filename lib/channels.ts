/**
 * All channels: each message goes to the one that it concerns.
 *
 * The relay's own number of a channel, its *slot*, is the sender channel on both sides; it is free
 * again when both ends are done, that is when CLOSE has passed in both directions, an open was
 * refused, or a connection is gone.
 *
 * How channels begin is in `channel_opens.ts` (those of clients), `channel_owners.ts` (those of
 * upstream) and `channel_answers.ts`, what passes then in `channel_messages.ts`, how they end in
 * `channel_endings.ts`.
 */

import type { Link } from "./channel.ts";
import { ChannelAnswers } from "./channel_answers.ts";
import { ChannelEndings } from "./channel_endings.ts";
import type { ChannelLimits } from "./channel_limits.ts";
import { ChannelMessages } from "./channel_messages.ts";
import { showLine, takeLineBack, tell } from "./channel_notice.ts";
import { type LinkOptions, Links } from "./channel_links.ts";
import { ClientOpens } from "./channel_opens.ts";
import { type ForwardOwners, UpstreamOpens } from "./channel_owners.ts";
import { describeChannel } from "./channel_status.ts";
import { ChannelTable } from "./channel_table.ts";
import type { ChannelTotals } from "./channel_totals.ts";
import type { ClientRules } from "./client_rules.ts";
import type { PacingOptions } from "./pacing.ts";
import type { Observe } from "./relay_events.ts";
import type { Usage } from "./share.ts";
import type { ChannelStatus } from "./status.ts";
import type { Peer, Schedule } from "./transport.ts";
import { type ChannelMessage, MessageType } from "./wire.ts";
import { WarmSession } from "./warm_session.ts";

/** What the table of channels is given. */
export interface ChannelsOptions {
  owners: ForwardOwners;
  limits: ChannelLimits;
  schedule: Schedule;
  pacing?: PacingOptions;
  /** The time, in milliseconds since 1970. */
  now(): number;
  /** A client wants a channel and upstream is away. */
  onWanted(): void;
  /** Whether what waits for upstream goes on waiting, however long. */
  isPatient(): boolean;
  /** A session waits because upstream allows no more. */
  onCrowded(): void;
  /** Words for the log. */
  report(text: string, level: "debug" | "info"): void;
  /** Takes what is told of channels, for a record. */
  observe?: Observe<Peer>;
}

/** Relays the messages of all channels between the clients and upstream. */
export class Channels {
  readonly #table: ChannelTable;
  readonly #links: Links;
  readonly #endings: ChannelEndings;
  readonly #opens: ClientOpens;
  readonly #warm: WarmSession;
  readonly #upstreamOpens: UpstreamOpens;
  readonly #messages: ChannelMessages;
  readonly #owners: ForwardOwners;
  readonly #limits: ChannelLimits;
  readonly #now: () => number;
  readonly #report: ChannelsOptions["report"];

  constructor({ owners, limits, report, observe, ...options }: ChannelsOptions) {
    const table = new ChannelTable({ schedule: options.schedule, now: options.now, observe });
    const links = new Links(limits.sessions, options.pacing);
    const endings = new ChannelEndings(table, (channel) => this.#opens.onFreed(channel));
    this.#table = table;
    this.#links = links;
    this.#endings = endings;
    const usageOf = (client: Peer) => this.usageOf(client);
    this.#owners = owners;
    this.#limits = limits;
    const warm = new WarmSession({
      ...{ table, links, report, isWanted: limits.warm, now: options.now },
      onMessage: (channel, message, payload) =>
        this.#messages.onMessage(channel, "upstream", message, payload),
      onGone: () => this.#opens.offerWaiting(),
    });
    this.#warm = warm;
    this.#opens = new ClientOpens({ table, links, endings, limits, warm, usageOf, ...options });
    this.#upstreamOpens = new UpstreamOpens({ table, links, owners, limits, usageOf });
    const answers = new ChannelAnswers(this.#opens, endings, limits.aheadBytes);
    this.#messages = new ChannelMessages({ table, endings, answers, report });
    this.#now = options.now;
    this.#report = report;
  }

  /** How many slots are taken. */
  get size(): number {
    return this.#table.size;
  }

  /** What has crossed all channels since the start, and how many there were. */
  get totals(): ChannelTotals {
    return this.#table.totals;
  }

  /** The sessions of the one connection upstream, and how many it allows. */
  get sessions(): { count: number; limit: number } {
    const room = this.#links.first?.room;
    const count = (room?.takenCount ?? 0) - this.#warm.count;
    return { count, limit: room?.limit ?? this.#links.sessions };
  }

  /** All channels and whose they are, in the order in which they were opened. */
  describe(): { owner: Peer | undefined; status: ChannelStatus }[] {
    const surroundings = { now: this.#now(), first: this.#links.first };
    return this.#table.all().map((channel) => ({
      owner: channel.owner,
      status: describeChannel(channel, surroundings),
    }));
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
  attachUpstream(
    upstream: Peer,
    { allowsForwards, allowsWarmSession, ...options }:
      & { allowsForwards: boolean; allowsWarmSession: boolean }
      & LinkOptions,
  ): void {
    this.#links.setFirst(upstream, options);
    this.#links.allowsForwards = allowsForwards;
    this.#warm.isAllowed = allowsWarmSession;
    this.#opens.onUpstream();
  }

  /** A further connection is there, for sessions. */
  attachOverflow(peer: Peer, options: LinkOptions): void {
    this.#links.addFurther(peer, options);
    this.#opens.offerWaiting();
  }

  /**
   * Upstream is gone, but will come back: open channels end, and `reason`, one line for people,
   * tells why. A channel that upstream has not confirmed waits.
   *
   * @returns whether upstream has served a session to its end.
   */
  detachUpstream(reason: string, { byServer }: { byServer: boolean }): boolean {
    this.#warm.onUpstreamLost({ byServer });
    const link = this.#links.removeFirst();
    const limit = byServer ? link?.room.limitIfEnded : undefined;
    if (limit !== undefined && this.#links.suspect(limit)) {
      const words = `the remote host ends its connection at session ${limit + 1}`;
      this.#report(`${words}: ${limit} at a time from now on`, "info");
    }
    this.#opens.onUpstreamLost(reason);
    this.#onLinkLost(link, reason);
    return link?.room.hasServed ?? false;
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

  /** What waits here for a connection upstream that would be too full with it, in bytes. */
  heldBytesOf(upstream: Peer): number {
    return this.#links.get(upstream)?.pacing?.heldBytes ?? 0;
  }

  /** How many channels a connection upstream carries. */
  countOn(upstream: Peer): number {
    return this.#links.get(upstream)?.channels.size ?? 0;
  }

  /** What a client's channels and listeners take of what all share; sessions that wait nothing. */
  usageOf(client: Peer): Usage {
    const own = this.#table.client(client)?.channels.size ?? 0;
    return {
      own: own + this.#owners.descriptorCountOf(client),
      all: this.#table.size - this.#opens.waitingSessionCount + this.#owners.descriptorCount,
      maximum: this.#limits.allChannels,
    };
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
    for (const channel of this.#table.all()) this.#messages.giveUp(channel, reason);
  }

  /** Tells the people at terminals something; their sessions go on. */
  tell(text: string): void {
    for (const channel of this.#table.live()) tell(channel, text);
  }

  /** Shows a line at the terminals of a connection upstream; without `text` it is taken back. */
  showLine(upstream: Peer, text: string | undefined): void {
    for (const channel of this.#links.get(upstream)?.channels ?? []) {
      if (text === undefined) takeLineBack(channel);
      else showLine(channel, text);
    }
  }

  /** A client is here; until it has left, its messages are taken. */
  addClient(client: Peer, rules?: ClientRules): void {
    this.#table.addClient(client, rules);
  }

  /** A client is gone: its channels are closed upstream. May be called twice. */
  removeClient(client: Peer): void {
    const record = this.#table.removeClient(client);
    for (const channel of [...record?.channels ?? []]) {
      this.#endings.leave(channel, "downstream", "the client has left");
      this.#messages.passOn(channel);
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
    if (channel?.owner === client) {
      this.#messages.onMessage(channel, "downstream", message, payload);
      return this.#messages.passOn(channel);
    }
    this.#messages.onLate(this.#table.client(client)?.former, "downstream", message, payload);
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
    if (channel?.link?.peer === upstream) {
      this.#messages.onMessage(channel, "upstream", message, payload);
      this.#messages.passOn(channel);
      return channel.owner;
    }
    if (this.#warm.onUpstreamMessage(upstream, message, payload)) return undefined;
    this.#messages.onLate(this.#links.get(upstream)?.former, "upstream", message, payload);
    return undefined;
  }

  /** A message of upstream about a channel could not be handled, by a mistake of ours. */
  giveUp(upstream: Peer, slot: number | undefined): void {
    const channel = slot === undefined ? undefined : this.#table.get(slot);
    if (channel?.link?.peer === upstream) {
      this.#messages.giveUp(channel, "this is a mistake of sshshim; its log has more");
    }
  }

  /** A client has taken its backlog: grants that were withheld because of it are due. */
  onDownstreamDrain(client: Peer): void {
    for (const channel of this.#table.client(client)?.channels ?? []) {
      this.#messages.passOn(channel);
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
        this.#endings.lose(channel, reason);
      }
    }
  }
}
