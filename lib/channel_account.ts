/** What is known of one channel beside its state: since when, what for, and what has crossed it. */

import type { Side } from "./channel_end.ts";
import { runsOf, targetOf } from "./channel_purpose.ts";
import type { ChannelRecord } from "./channel_record.ts";
import type { ChannelTotals } from "./channel_totals.ts";
import type { Party } from "./relay_events.ts";
import type { RunsStatus } from "./status.ts";
import type { ChannelOpen, ChannelRequest } from "./wire.ts";

/** What an account is made of. */
export interface ChannelAccountOptions {
  openedBy: "client" | "host";
  /** By the relay's clock. */
  openedAt: number;
  /** Where all channels are counted. */
  totals: ChannelTotals;
  /** Where somebody is told of it. */
  record: ChannelRecord | undefined;
}

/** The account of a channel. */
export class ChannelAccount {
  readonly openedBy: "client" | "host";
  readonly openedAt: number;
  readonly target: string | undefined;
  /** Of a session, as far as it has asked. */
  runs: RunsStatus | undefined;
  /** Data that has come from each end, in bytes. */
  readonly bytes: Record<Side, number> = { downstream: 0, upstream: 0 };
  readonly #type: string;
  readonly #totals: ChannelTotals;
  readonly #record: ChannelRecord | undefined;
  #isSettled = false;

  constructor(
    opening: ChannelOpen,
    { openedBy, openedAt, totals, record }: ChannelAccountOptions,
  ) {
    this.openedBy = openedBy;
    this.openedAt = openedAt;
    this.target = targetOf(opening);
    this.#type = opening.channelType;
    this.#totals = totals;
    this.#record = record;
  }

  /** Both ends have it. May be called twice. */
  onOpened(): void {
    if (!this.#isSettled) this.#totals.onOpened(this.#type);
    this.#isSettled = true;
    this.#record?.onOpened();
  }

  /** It will not be opened. Does nothing for one that is. */
  onRefused(by: Party, reason: string, code?: number): void {
    this.#onUnopened();
    this.#record?.onRefused(by, reason, code);
  }

  /** Data crosses it. */
  onData(from: Side, bytes: number): void {
    this.bytes[from] += bytes;
    this.#totals.bytes[from] += bytes;
  }

  /** A request crosses it. */
  onRequest(from: Side, request: ChannelRequest): void {
    if (from === "downstream") this.runs = runsOf(request) ?? this.runs;
    this.#record?.onRequest(from, request);
  }

  /** The first request of an end that has had no answer has one. */
  onReply(asker: Side, answer: { isGranted: boolean }): void {
    this.#record?.onReply(asker, answer);
  }

  /** Its client has left, for whom it is over. May be called twice. */
  onLeft(): void {
    this.#onUnopened();
    this.#record?.onLeft(this.bytes);
  }

  /** It is closed in both directions. May be called twice. */
  onClosed(): void {
    this.#onUnopened();
    this.#record?.onClosed(this.bytes);
  }

  #onUnopened(): void {
    if (!this.#isSettled) this.#totals.onRefused(this.#type);
    this.#isSettled = true;
  }
}
