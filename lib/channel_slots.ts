/**
 * The relay's own numbers of channels. What a peer says late is about the channel that had a number
 * before: the next one must not be taken for it, so that a freed number is out of use for a while.
 */

import type { Schedule } from "./transport.ts";

/** How long a freed slot rests, in milliseconds. */
export const slotRestMs = 60_000;

/** How many slots rest at most, and how many former ones are kept of a peer: the latest. */
export const restingSlotsLimit = 1024;

/** All slots. */
export class Slots {
  readonly #schedule: Schedule;
  readonly #free: number[] = [];
  /** What cancels the end of their rest, the longest first. */
  readonly #resting = new Map<number, () => void>();
  #count = 0;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  /** Takes one for a new channel. */
  take(): number {
    return this.#free.shift() ?? this.#count++;
  }

  /** One is free again, after its rest. */
  free(slot: number): void {
    this.#resting.set(slot, this.#schedule(slotRestMs, () => this.#wake(slot)));
    if (this.#resting.size <= restingSlotsLimit) return;
    for (const [longest, cancel] of this.#resting) {
      cancel();
      return this.#wake(longest);
    }
  }

  #wake(slot: number): void {
    this.#resting.delete(slot);
    this.#free.push(slot);
  }
}

/** The slots of channels that a peer was told of, and that are closed. */
export class FormerSlots {
  readonly #slots = new Set<number>();

  add(slot: number): void {
    this.#slots.delete(slot);
    this.#slots.add(slot);
    if (this.#slots.size <= restingSlotsLimit) return;
    for (const oldest of this.#slots) {
      this.#slots.delete(oldest);
      return;
    }
  }

  has(slot: number): boolean {
    return this.#slots.has(slot);
  }
}
