/** Which channels of a connection download, and how what may be under way is shared among them. */

import type { PacedChannel } from "./pace_activity.ts";

/** The least that a channel that downloads is granted, in bytes. */
const smallestShareBytes = 8 * 1024;

/** What any other is granted at least, in bytes. */
const smallestCreditBytes = 64 * 1024;

/** Rates are taken over one to two of these, in milliseconds. */
const slotMs = 250;

/** The shortest time that rates are taken over, in milliseconds. */
const shortestMs = 20;

/** A channel has a share if it is not slower than this part of the fastest one's rate. */
const fastPart = 1 / 4;

/** Slower ones are forgotten, and those that have no share yet are not counted; bytes a millisecond. */
const slowBytesPerMs = 4;
const countedBytesPerMs = 64;

interface Download {
  slotAt: number;
  slotBytes: number;
  /** In the slot before; `undefined` where there was none. */
  previousBytes: number | undefined;
  hasShare: boolean;
}

/** The downloads of one connection. */
export class PaceDownloads<Channel extends PacedChannel> {
  readonly #channels: ReadonlySet<Channel>;
  readonly #downloads = new Map<Channel, Download>();
  #shares = 0;

  constructor(channels: ReadonlySet<Channel>) {
    this.#channels = channels;
  }

  /** Whether something is downloaded. */
  get isBusy(): boolean {
    return this.#shares > 0;
  }

  onData(channel: Channel, bytes: number, now: number): void {
    let download = this.#downloads.get(channel);
    if (download === undefined) {
      download = {
        slotAt: now,
        slotBytes: 0,
        previousBytes: undefined,
        hasShare: false,
      };
      this.#downloads.set(channel, download);
    }
    turnSlot(download, now);
    download.slotBytes += bytes;
  }

  /** What a channel may have under way, where all may have `bytes`. */
  creditBytes(channel: Channel, bytes: number): number {
    return this.#downloads.get(channel)?.hasShare
      ? Math.max(smallestShareBytes, bytes / this.#shares)
      : Math.max(smallestCreditBytes, bytes / (this.#shares + 1));
  }

  /** How much more those that download have under way than they may, in bytes. */
  excessBytes(bytes: number, now: number): number {
    let excess = 0;
    for (const [channel, download] of this.#downloads) {
      if (!download.hasShare && rateOf(download, now) < countedBytesPerMs) continue;
      excess += channel.downstream.flow.creditBytes - this.creditBytes(channel, bytes);
    }
    return excess;
  }

  /** Finds which of them have a share. */
  classify(now: number): void {
    let fastest = 0;
    for (const [channel, download] of this.#downloads) {
      const rate = rateOf(download, now);
      if (!this.#channels.has(channel) || rate < slowBytesPerMs) this.#downloads.delete(channel);
      else fastest = Math.max(fastest, rate);
    }
    this.#shares = 0;
    for (const download of this.#downloads.values()) {
      download.hasShare = rateOf(download, now) >= fastest * fastPart;
      if (download.hasShare) this.#shares++;
    }
  }
}

function turnSlot(download: Download, now: number): void {
  const ageMs = now - download.slotAt;
  if (ageMs < slotMs) return;
  download.previousBytes = ageMs < 2 * slotMs ? download.slotBytes : 0;
  download.slotBytes = 0;
  download.slotAt = now - ageMs % slotMs;
}

/** In bytes a millisecond. */
function rateOf(download: Download, now: number): number {
  turnSlot(download, now);
  const elapsedMs = now - download.slotAt + (download.previousBytes === undefined ? 0 : slotMs);
  return (download.slotBytes + (download.previousBytes ?? 0)) / Math.max(shortestMs, elapsedMs);
}
