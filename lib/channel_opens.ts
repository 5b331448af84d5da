/** Channels that clients open: refused at once, or offered to upstream as soon as it can take them. */

import { type Channel, type Link, openFailure } from "./channel.ts";
import type { Links } from "./channel_links.ts";
import type { ChannelTable } from "./channel_table.ts";
import { ChannelOpenFailureReason, ProtocolError } from "./errors.ts";
import { objectionTo, type Usage } from "./share.ts";
import { type Peer, type Schedule, usualPayloadBytes } from "./transport.ts";
import { WaitingLine } from "./waiting_line.ts";
import type { ChannelOpen } from "./wire.ts";

/** What is given to `ChannelOpens`. */
export interface ChannelOpensOptions {
  table: ChannelTable;
  links: Links;
  /** How many channels one client may have. */
  maximum: number;
  /** How long a CHANNEL_OPEN waits for upstream, or for a free session there, in milliseconds. */
  timeoutMs: number;
  schedule: Schedule;
  /** What a client takes of what all share. */
  usageOf(client: Peer): Usage;
  /** A channel will not get to upstream. */
  giveUp(channel: Channel, reason: string): void;
  /** A client wants a channel and upstream is away. */
  onWanted(): void;
  /** A session waits because upstream allows no more. */
  onCrowded(): void;
}

/** Why nothing but sessions passes to a host whose key has changed. */
const doubted = "the remote host's key is not trusted";

/** What clients have opened and upstream has not been asked for. */
export class ChannelOpens {
  readonly #options: ChannelOpensOptions;
  /** Forwards take no room of sessions. */
  readonly #sessions = new WaitingLine<Channel>();
  readonly #forwards = new WaitingLine<Channel>();

  constructor(options: ChannelOpensOptions) {
    this.#options = options;
  }

  /** How many wait. */
  get size(): number {
    return this.#sessions.size + this.#forwards.size;
  }

  /** How many of those that wait are sessions. */
  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** A client sends CHANNEL_OPEN; `payload` is the same message as bytes. */
  open(client: Peer, message: ChannelOpen, payload: Uint8Array): void {
    const { table, links, timeoutMs, schedule, onWanted } = this.#options;
    const objection = this.#objectionTo(client, message, payload);
    if (objection) {
      const { reasonCode, description } = objection;
      return client.send(openFailure(message.senderChannel, reasonCode, description));
    }
    const channel = table.add(message.channelType, client, {
      downstream: "asking",
      upstream: "unasked",
    });
    channel.waiting = {
      opening: channel.takeOpening("downstream", message, payload),
      cancelTimeout: schedule(timeoutMs, () => this.#onTimeout(channel)),
    };
    this.#lineOf(channel).add(channel);
    this.offer();
    if (links.availability.kind === "away") onWanted();
  }

  /** Sends upstream what waits for it, in order, as far as it can take it. */
  offer(): void {
    const { links, onCrowded } = this.#options;
    if (links.upstream === undefined) return;
    while (true) {
      const link = links.withRoom();
      const session = link && this.#sessions.first;
      const forward = this.#forwards.first;
      if (forward && (session === undefined || forward.order < session.order)) {
        this.#offer(forward, links.upstream);
      } else if (session) {
        this.#offer(session, link);
      } else {
        break;
      }
    }
    if (this.#sessions.size > 0) onCrowded();
  }

  /** A channel that upstream was asked for in vain waits where it has waited before. */
  waitAgain(channel: Channel): void {
    channel.link = undefined;
    channel.upstream.state = "unasked";
    this.#lineOf(channel).putBack(channel);
  }

  /** A channel does not wait any more. May be called for one that does not wait. */
  delete(channel: Channel): void {
    this.#lineOf(channel).delete(channel);
  }

  /** Nothing that waits will get to upstream. */
  giveUpAll(reason: string): void {
    for (const channel of [...this.#sessions]) this.#options.giveUp(channel, reason);
    this.giveUpForwards(reason);
  }

  /** Nothing but sessions will get to upstream. */
  giveUpForwards(reason = doubted): void {
    for (const channel of [...this.#forwards]) this.#options.giveUp(channel, reason);
  }

  /** Why a channel cannot be opened, as a CHANNEL_OPEN_FAILURE says it. */
  #objectionTo(
    client: Peer,
    { channelType }: ChannelOpen,
    payload: Uint8Array,
  ): { reasonCode: number; description: string } | undefined {
    const { table, links, maximum, usageOf } = this.#options;
    const { administrativelyProhibited, connectFailed, resourceShortage } =
      ChannelOpenFailureReason;
    const record = table.client(client);
    if (record === undefined) throw new ProtocolError("the client has left");
    const because = (reasonCode: number, description: string) => ({ reasonCode, description });
    const { availability } = links;
    const isSession = channelType === "session";
    if (availability.kind === "refused") return because(connectFailed, availability.reason);
    if (isSession && record.refusesSessions) {
      return because(administrativelyProhibited, "no more sessions were announced");
    }
    if (!isSession && !links.allowsForwards) return because(administrativelyProhibited, doubted);
    if (record.channels.size >= maximum) {
      return because(resourceShortage, "too many channels of this client");
    }
    const shortage = isSession ? undefined : objectionTo(1, usageOf(client));
    if (shortage !== undefined) return because(resourceShortage, shortage);
    // It may have to wait for another connection, which need not take more.
    if (payload.length <= usualPayloadBytes) return undefined;
    return because(resourceShortage, "too long a request");
  }

  #offer(channel: Channel, link: Link): void {
    this.delete(channel);
    channel.link = link;
    link.room.ask(channel, { isSession: channel.type === "session" });
    channel.upstream.state = "awaiting";
    channel.send("upstream", channel.waiting!.opening);
  }

  #onTimeout(channel: Channel): void {
    if (channel.upstream.state !== "unasked") {
      channel.waiting = undefined; // Upstream has been asked: its answer counts, whatever it is.
      return;
    }
    const { links: { availability, upstream }, timeoutMs, giveUp } = this.#options;
    const seconds = timeoutMs / 1000;
    const reason = availability.kind === "open"
      ? `no session became free within ${seconds} s; the remote host allows ${upstream?.room.limit}`
      : `waited ${seconds} s: ${availability.reason}`;
    giveUp(channel, reason);
  }

  #lineOf({ type }: Channel): WaitingLine<Channel> {
    return type === "session" ? this.#sessions : this.#forwards;
  }
}
