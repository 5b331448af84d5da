/** What is told of one channel, and what has to be kept of it until then. */

import type { Side } from "./channel_end.ts";
import type { ChannelFacts, Party, RelayEvent } from "./relay_events.ts";
import { displayText, Reader } from "./ssh_data.ts";
import type { ChannelRequest } from "./wire.ts";

/** Requests that come on and on while a session is used. */
const unlisted = ["window-change", "keepalive@openssh.com"];

/** How many requests of a channel are told one by one. */
const mostRequests = 64;

type RequestEvent = Extract<RelayEvent, { event: "channel-request" }>;

/** The requests of one end that want an answer: how many there were, and how many have had one. */
interface Asked {
  count: number;
  answeredCount: number;
  /** Those that are told, with their place among all, and that have had none. */
  told: { place: number; event: RequestEvent }[];
}

/** The record of a channel. */
export class ChannelRecord {
  readonly #channel: number;
  readonly #facts: ChannelFacts;
  readonly #tell: (event: RelayEvent) => void;
  readonly #asked: Record<Side, Asked> = {
    downstream: { count: 0, answeredCount: 0, told: [] },
    upstream: { count: 0, answeredCount: 0, told: [] },
  };
  #state: "asked" | "open" | "over" = "asked";
  #listedCount = 0;
  #unlistedCount = 0;

  /** @param channel the number by which it is named. */
  constructor(
    channel: number,
    { facts, tell }: { facts: ChannelFacts; tell(event: RelayEvent): void },
  ) {
    this.#channel = channel;
    this.#facts = facts;
    this.#tell = tell;
  }

  /** Both ends have it. */
  onOpened(): void {
    if (this.#state !== "asked") return;
    this.#state = "open";
    this.#tell({ event: "channel-open", channel: this.#channel, ...this.#facts });
  }

  /** It will not be opened. */
  onRefused(by: Party, reason: string, code?: number): void {
    if (this.#state !== "asked") return;
    this.#state = "over";
    const channel = this.#channel;
    this.#tell({ event: "channel-refused", channel, ...this.#facts, by, code, reason });
  }

  /** A request crosses it. */
  onRequest(from: Side, { requestType, wantReply, data }: ChannelRequest): void {
    const isListed = this.#state === "open" && !unlisted.includes(requestType) &&
      this.#listedCount < mostRequests;
    const event: RequestEvent | undefined = isListed
      ? {
        event: "channel-request",
        channel: this.#channel,
        type: displayText(requestType),
        by: from === "downstream" ? "client" : "host",
        ...(requestType === "subsystem" ? { name: displayText(new Reader(data).text()) } : {}),
      }
      : undefined;
    if (isListed) this.#listedCount++;
    else this.#unlistedCount++;
    if (!wantReply) return event && this.#tell(event);
    const asked = this.#asked[from];
    asked.count++;
    if (event) asked.told.push({ place: asked.count, event });
  }

  /** The first request of an end that has had no answer has one. */
  onReply(asker: Side, { isGranted }: { isGranted: boolean }): void {
    const asked = this.#asked[asker];
    if (asked.told[0]?.place !== ++asked.answeredCount) return;
    const { event } = asked.told.shift()!;
    this.#tell({ ...event, outcome: isGranted ? "granted" : "refused" });
  }

  /** Its client has left, for whom it is over; so much data came from each end. May be called twice. */
  onLeft(bytes: Readonly<Record<Side, number>>): void {
    this.onRefused("client", "the client has left");
    this.onClosed(bytes);
  }

  /** It is closed in both directions. May be called twice. */
  onClosed(bytes: Readonly<Record<Side, number>>): void {
    this.onRefused("sshshim", "no client was found for it");
    if (this.#state === "over") return;
    this.#state = "over";
    for (const { event } of [...this.#asked.downstream.told, ...this.#asked.upstream.told]) {
      this.#tell({ ...event, outcome: "unanswered" });
    }
    this.#tell({
      event: "channel-close",
      channel: this.#channel,
      toHostBytes: bytes.downstream,
      toClientBytes: bytes.upstream,
      requestsNotListed: this.#unlistedCount,
    });
  }
}
