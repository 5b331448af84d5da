/** The channels that there are, by their slots, and the clients that own them. */

import { AheadPool } from "./ahead.ts";
import { Channel } from "./channel.ts";
import type { EndState } from "./channel_end.ts";
import { ChannelAccount } from "./channel_account.ts";
import { ChannelRecord } from "./channel_record.ts";
import { FormerSlots, Slots } from "./channel_slots.ts";
import { ChannelTotals } from "./channel_totals.ts";
import type { ClientRules } from "./client_rules.ts";
import { CreditPool } from "./flow.ts";
import { factsOf, type Observe, type Party, type RelayEvent } from "./relay_events.ts";
import type { Peer, Schedule } from "./transport.ts";
import type { ChannelOpen } from "./wire.ts";

/** What is kept of a client. */
export interface ClientRecord {
  readonly channels: Set<Channel>;
  /** What upstream may have under way to it. */
  readonly pool: CreditPool;
  /** It has said that it wants no more sessions. */
  refusesSessions: boolean;
  /** What it may do; everything where there are none. */
  readonly rules: ClientRules | undefined;
  /** Its channels that are closed: it may still speak of them. */
  readonly former: FormerSlots;
}

/** What the table is given. */
export interface ChannelTableOptions {
  schedule: Schedule;
  /** The time, in milliseconds. */
  now(): number;
  /** Takes what is told of channels, for a record. */
  observe?: Observe<Peer>;
}

/** All channels; a channel's slot is the relay's own number of it, on both sides. */
export class ChannelTable {
  readonly #channels = new Map<number, Channel>();
  readonly #ownerless = new Set<Channel>();
  readonly #slots: Slots;
  readonly #clients = new Map<Peer, ClientRecord>();
  readonly #onEmpty: (() => void)[] = [];
  readonly #aheadPool = new AheadPool();
  #opened = 0;

  readonly #now: () => number;
  readonly #observe: Observe<Peer> | undefined;
  readonly totals = new ChannelTotals();

  constructor({ schedule, now, observe }: ChannelTableOptions) {
    this.#slots = new Slots(schedule);
    this.#now = now;
    this.#observe = observe;
  }

  /** How many slots are taken. */
  get size(): number {
    return this.#channels.size;
  }

  /** How many channels look for their owner. */
  get ownerlessCount(): number {
    return this.#ownerless.size;
  }

  /** Resolves when no channel is left. */
  async whenEmpty(): Promise<void> {
    if (this.#channels.size === 0) return;
    await new Promise<void>((resolve) => this.#onEmpty.push(resolve));
  }

  addClient(client: Peer, rules: ClientRules | undefined): void {
    this.#clients.set(client, {
      rules,
      channels: new Set(),
      pool: new CreditPool(() => client.backlogBytes),
      refusesSessions: false,
      former: new FormerSlots(),
    });
  }

  /** @returns what was kept of the client; `undefined` if it has left before. */
  removeClient(client: Peer): ClientRecord | undefined {
    const record = this.#clients.get(client);
    this.#clients.delete(client);
    return record;
  }

  /** `undefined` once the client has left. */
  client(client: Peer): ClientRecord | undefined {
    return this.#clients.get(client);
  }

  get(slot: number): Channel | undefined {
    return this.#channels.get(slot);
  }

  /** All channels in the order in which they were opened; some may be removed meanwhile. */
  all(): Channel[] {
    return [...this.#channels.values()];
  }

  /** Takes a free slot for a channel that is to come. */
  takeSlot(): number {
    return this.#slots.take();
  }

  /** Such a slot is free again. */
  freeSlot(slot: number): void {
    this.#slots.free(slot);
  }

  /** Makes a new channel; it takes a free slot, if it is given none. */
  add(message: ChannelOpen, owner: Peer | undefined, { slot = this.takeSlot(), ...ends }: {
    downstream: EndState;
    upstream: EndState;
    slot?: number;
  }): Channel {
    const [order, type] = [this.#opened++, message.channelType];
    const openedBy = ends.downstream === "asking" ? "client" : "host";
    const tell = (event: RelayEvent) => this.#observe?.(channel.owner, event);
    const record = this.#observe &&
      new ChannelRecord(order, { facts: factsOf(message, openedBy), tell });
    const account = new ChannelAccount(message, {
      openedBy,
      openedAt: this.#now(),
      totals: this.totals,
      record,
    });
    const ahead = { pool: this.#aheadPool, now: this.#now };
    const channel = new Channel({ slot, order, type, account, ahead }, ends);
    this.#channels.set(channel.slot, channel);
    if (owner) this.adopt(channel, owner);
    else this.#ownerless.add(channel);
    return channel;
  }

  /** A channel was refused before there was one; `owner` is whose it would have been. */
  onRefused(
    message: ChannelOpen,
    owner: Peer | undefined,
    { openedBy, reason, code }: { openedBy: Party; reason: string; code: number },
  ): void {
    this.totals.onRefused(message.channelType);
    const facts = this.#observe && factsOf(message, openedBy);
    this.#observe?.(owner, { event: "channel-refused", ...facts!, by: "sshshim", code, reason });
  }

  /** A channel belongs to a client from now on. */
  adopt(channel: Channel, owner: Peer): void {
    const record = this.#clients.get(owner);
    channel.owner = owner;
    channel.rules = record?.rules;
    this.#ownerless.delete(channel);
    channel.downstream.flow.joinPool(record?.pool);
    record?.channels.add(channel);
  }

  /** Frees a channel's slot; `false` if it was free already. */
  remove(channel: Channel): boolean {
    if (!this.#channels.delete(channel.slot)) return false;
    this.#slots.free(channel.slot);
    this.#ownerless.delete(channel);
    channel.link = undefined;
    channel.downstream.flow.joinPool(undefined);
    channel.ahead.close();
    const record = channel.owner && this.#clients.get(channel.owner);
    record?.channels.delete(channel);
    if (channel.downstream.knowsSlot) record?.former.add(channel.slot);
    if (this.#channels.size === 0) { for (const resolve of this.#onEmpty.splice(0)) resolve(); }
    return true;
  }

  /** The channels of clients that can be told something. */
  *live(): Generator<Channel & { owner: Peer }> {
    for (const channel of this.#channels.values()) {
      if (channel.owner && channel.downstream.listens) yield channel as Channel & { owner: Peer };
    }
  }
}
