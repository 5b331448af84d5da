/**
 * The channels that clients open: which are refused, which wait for upstream or for a free session
 * there, and in what order they are sent.
 */

import type { Channel, Link } from "./channel.ts";
import type { ChannelEndings } from "./channel_endings.ts";
import type { ChannelLimits } from "./channel_limits.ts";
import type { Links } from "./channel_links.ts";
import { openFailure } from "./channel_reason.ts";
import type { ChannelTable } from "./channel_table.ts";
import { ChannelOpenFailureReason, ProtocolError } from "./errors.ts";
import type { Refusal } from "./session_room.ts";
import { objectionTo, type Usage } from "./share.ts";
import { type Peer, type Schedule, usualPayloadBytes } from "./transport.ts";
import { WaitingLine } from "./waiting_line.ts";
import type { WarmSession } from "./warm_session.ts";
import type { ChannelOpen } from "./wire.ts";

/** What the openings are given. */
export interface ClientOpensOptions {
  table: ChannelTable;
  links: Links;
  endings: ChannelEndings;
  limits: ChannelLimits;
  warm: WarmSession;
  schedule: Schedule;
  /** What a client takes of what all share. */
  usageOf(client: Peer): Usage;
  /** A client wants a channel and upstream is away. */
  onWanted(): void;
  /** Whether what waits for upstream goes on waiting, however long. */
  isPatient(): boolean;
  /** A session waits because upstream allows no more. */
  onCrowded(): void;
}

/**
 * Whether channels can be opened: `open`; `away`, upstream will come back; `refused`, it will not,
 * or not by itself.
 */
type Availability = { kind: "open" } | { kind: "away" | "refused"; reason: string };

/** Why nothing but sessions passes to a host whose key has changed. */
const doubted = "the remote host's key is not trusted";

/** How long until one session is tried on connections that had none left, in milliseconds. */
const retryMs = 1000;

/** Opens the channels of clients. */
export class ClientOpens {
  readonly #options: ClientOpensOptions;
  /** Channels that upstream has not been asked for; forwards take no room of sessions. */
  readonly #waitingSessions = new WaitingLine<Channel>();
  readonly #waitingForwards = new WaitingLine<Channel>();
  #availability: Availability = { kind: "away", reason: "not connected to the remote host yet" };
  /** Upstream's words, where a session waits after them. */
  #lastRefusal = "";
  #cancelRetry: (() => void) | undefined;

  constructor(options: ClientOpensOptions) {
    this.#options = options;
  }

  /** Whether a client waits for a channel that upstream has not been asked for. */
  get isWanted(): boolean {
    return this.#waitingSessions.size + this.#waitingForwards.size > 0;
  }

  /** How many sessions upstream has not been asked for. */
  get waitingSessionCount(): number {
    return this.#waitingSessions.size;
  }

  /** Why no channel can be opened now; `undefined` where they can. */
  get obstacle(): string | undefined {
    return this.#availability.kind === "open" ? undefined : this.#availability.reason;
  }

  /** Upstream is there: what waits for it goes on. */
  onUpstream(): void {
    this.#availability = { kind: "open" };
    if (!this.#options.links.allowsForwards) this.#refuse(this.#waitingForwards, doubted);
    this.offerWaiting();
  }

  /** Upstream is gone, but will come back. */
  onUpstreamLost(reason: string): void {
    this.#availability = { kind: "away", reason };
  }

  /** Upstream will not come back by itself: what waits for it is refused, and so is what comes. */
  refuseAll(reason: string): void {
    this.#availability = { kind: "refused", reason };
    this.#refuse([...this.#waitingSessions, ...this.#waitingForwards], reason);
    this.#endRetry();
  }

  /** Opens wait again for an upstream that was thought lost for good. */
  awaitUpstream(): void {
    if (this.#availability.kind !== "refused") return;
    this.#availability = { kind: "away", reason: this.#availability.reason };
  }

  /** A client asks for a channel; `payload` is the same message as bytes, and is rewritten. */
  onOpen(client: Peer, message: ChannelOpen, payload: Uint8Array): void {
    const { table, links, limits, warm, schedule } = this.#options;
    const record = table.client(client);
    if (record === undefined) throw new ProtocolError("the client has left");
    const refuse = (code: number, reason: string) => {
      client.send(openFailure(message.senderChannel, code, reason));
      table.onRefused(message, client, { openedBy: "client", code, reason });
    };
    const { administrativelyProhibited, connectFailed, resourceShortage } =
      ChannelOpenFailureReason;

    const objection = record.rules?.objectionToOpen(message);
    if (objection !== undefined) return refuse(administrativelyProhibited, objection);
    if (this.#availability.kind === "refused") {
      return refuse(connectFailed, this.#availability.reason);
    }
    if (message.channelType === "session" && record.refusesSessions) {
      return refuse(administrativelyProhibited, "no more sessions were announced");
    }
    if (message.channelType !== "session" && !links.allowsForwards) {
      return refuse(administrativelyProhibited, doubted);
    }
    if (record.channels.size >= limits.channels) {
      return refuse(resourceShortage, "too many channels of this client");
    }
    if (message.channelType !== "session") {
      const shortage = objectionTo(1, this.#options.usageOf(client));
      if (shortage !== undefined) return refuse(resourceShortage, shortage);
    }
    // It may have to wait for another connection, which need not take more.
    if (payload.length > usualPayloadBytes) return refuse(resourceShortage, "too long a request");

    const slot = warm.slotFor(message);
    const channel = table.add(message, client, {
      downstream: "asking",
      upstream: "unasked",
      slot,
    });
    if (channel.type === "session") channel.downstream.flow.reserve(limits.noticeBytes);
    channel.paceBy(links.first);
    channel.waiting = {
      opening: channel.takeOpening("downstream", message, payload),
      cancelTimeout: schedule(limits.openTimeoutMs, () => this.#onWaitedLong(channel)),
    };
    if (slot !== undefined) return warm.handTo(channel);
    this.#lineOf(channel).add(channel);
    this.offerWaiting();
    if (this.#availability.kind === "away") this.#options.onWanted();
  }

  /** A channel that upstream was asked for in vain waits where it has waited before. */
  waitAgain(channel: Channel): void {
    channel.link = undefined;
    channel.isWarm = false;
    channel.upstream.state = "unasked";
    this.#lineOf(channel).putBack(channel);
  }

  /** Upstream has opened a channel. */
  onConfirmed({ type }: Channel, { wasExhausted }: { wasExhausted: boolean }): void {
    if (type === "session") this.#options.warm.onSession();
    if (wasExhausted) this.offerWaiting();
    else if (type === "session") this.#refillWarm();
  }

  /** Upstream has refused a session that may wait. */
  onRefused(
    channel: Channel,
    link: Link,
    { meaning, words }: { meaning: Refusal; words: string },
  ): void {
    if (channel.waiting) channel.waiting.refusedBy = link;
    this.#lastRefusal = words;
    this.waitAgain(channel);
    if (meaning === "exhausted") {
      this.#cancelRetry ??= this.#options.schedule(retryMs, () => {
        this.#endRetry();
        this.offerWaiting();
      });
    }
    this.offerWaiting();
  }

  /** @returns those that a connection has refused and that wait; they wait no more. */
  takeRefused(link: Link): Channel[] {
    const refused = [...this.#waitingSessions].filter(({ waiting }) => waiting?.refusedBy === link);
    for (const channel of refused) this.#waitingSessions.delete(channel);
    return refused;
  }

  /** Sends upstream what waits for it, in order, as far as it can take it. */
  offerWaiting(): void {
    const { links } = this.#options;
    if (links.first === undefined) return;
    while (true) {
      const link = links.withRoom;
      const session = link && this.#waitingSessions.first;
      const forward = this.#waitingForwards.first;
      if (forward && (session === undefined || forward.order < session.order)) {
        this.#offer(forward, links.first);
      } else if (session) {
        this.#offer(session, link);
      } else {
        break;
      }
    }
    if (this.#waitingSessions.size === 0) {
      this.#endRetry();
      this.#refillWarm();
    } else if (!this.#options.warm.giveUp() || this.#waitingSessions.size > 1) {
      this.#options.onCrowded(); // The warm session makes room for one.
    }
  }

  /** Those who wait come before whoever may come. */
  #refillWarm(): void {
    const { kind } = this.#availability;
    if (kind === "open" && this.#waitingSessions.size === 0) this.#options.warm.refill();
  }

  /** A channel's slot is free. */
  onFreed(channel: Channel): void {
    this.#lineOf(channel).delete(channel);
    if (this.#waitingSessions.size === 0) this.#endRetry();
    if (channel.type === "session") this.offerWaiting();
  }

  /** What was to be tried again later may be tried now, by whoever comes. */
  #endRetry(): void {
    if (this.#cancelRetry === undefined) return;
    this.#cancelRetry();
    this.#cancelRetry = undefined;
    this.#options.links.tryAgain();
  }

  #refuse(waiting: Iterable<Channel>, reason: string): void {
    for (const channel of waiting) this.#options.endings.leave(channel, "upstream", reason);
  }

  #lineOf({ type }: Channel): WaitingLine<Channel> {
    return type === "session" ? this.#waitingSessions : this.#waitingForwards;
  }

  #offer(channel: Channel, link: Link): void {
    this.#lineOf(channel).delete(channel);
    channel.link = link;
    link.room.ask(channel, { isSession: channel.type === "session" });
    channel.upstream.state = "awaiting";
    channel.send("upstream", channel.waiting!.opening);
  }

  #onWaitedLong(channel: Channel): void {
    if (channel.upstream.state !== "unasked") {
      channel.waiting = undefined; // Upstream has been asked: its answer counts, whatever it is.
      return;
    }
    const { links, limits, endings, schedule, isPatient } = this.#options;
    if (this.#availability.kind === "away" && isPatient()) {
      channel.waiting!.cancelTimeout = schedule(
        limits.openTimeoutMs,
        () => this.#onWaitedLong(channel),
      );
      return;
    }
    const seconds = limits.openTimeoutMs / 1000;
    const limit = links.first?.room.limit;
    const allows = limit === 0 ? `refuses one: ${this.#lastRefusal}` : `allows ${limit}`;
    const reason = this.#availability.kind === "open"
      ? `no session became free within ${seconds} s; the remote host ${allows}`
      : `waited ${seconds} s: ${this.#availability.reason}`;
    endings.leave(channel, "upstream", reason);
  }
}
