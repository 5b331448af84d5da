/**
 * The relay's own numbers of channels. What a peer says late is about the channel that had a number
 * before: the next one must not be taken for it, so that a freed number is out of use for a while.
 */

import type { Schedule } from "./transport.ts";

/** How long a freed slot rests at least, in milliseconds, and at most twice as long. */
export const slotRestMs = 60_000;

/** How many slots rest at most, and how many former ones are kept of a peer: the latest. */
export const restingSlotsLimit = 1024;

/** All slots. */
export class Slots {
  readonly #schedule: Schedule;
  readonly #free: number[] = [];
  /** Those that rest, the longest first. */
  readonly #resting: number[] = [];
  /** How many of them have rested when the timer is over: one timer is for many. */
  #rested = 0;
  #isTimed = false;
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
    this.#resting.push(slot);
    if (!this.#isTimed) this.#time();
    if (this.#resting.length <= restingSlotsLimit) return;
    this.#free.push(this.#resting.shift()!);
    this.#rested = Math.max(0, this.#rested - 1);
  }

  #time(): void {
    this.#isTimed = true;
    this.#rested = this.#resting.length;
    this.#schedule(slotRestMs, () => {
      this.#isTimed = false;
      this.#free.push(...this.#resting.splice(0, this.#rested));
      if (this.#resting.length > 0) this.#time();
    });
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
