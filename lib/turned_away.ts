/** Log lines about connections that are turned away: a flood of them makes few lines. */

import { logger } from "./log.ts";

const log = logger("endpoint");

/** How long a series is summed into one line, in milliseconds. */
const seriesMs = 10_000;

/** How many kinds are told apart in a series; the others share one line. */
const maximumKinds = 16;

/**
 * Counts connections that were turned away, by a phrase that says whose or why. The first of a
 * series is told at once, the others together every 10 s, until 10 s pass without any.
 */
export class TurnedAway {
  readonly #onTold: (phrase: string, count: number) => void;
  #counts = new Map<string, number>();
  #total = 0;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param onTold called with each line. */
  constructor(onTold: (phrase: string, count: number) => void = () => {}) {
    this.#onTold = onTold;
  }

  /** How many there were in all. */
  get total(): number {
    return this.#total;
  }

  /** @param phrase goes on after "turned away a connection". */
  add(phrase: string): void {
    this.#total++;
    if (this.#timer === undefined) {
      this.#timer = setInterval(() => this.#onSeriesEnd(), seriesMs);
      log.warn("turned away a connection {phrase}", { phrase });
      this.#onTold(phrase, 1);
      return;
    }
    const isNew = !this.#counts.has(phrase);
    const kind = isNew && this.#counts.size >= maximumKinds ? "of others" : phrase;
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
  }

  /** Tells what has been counted since the last line. May be called twice. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#tell();
  }

  #onSeriesEnd(): void {
    if (this.#counts.size === 0) this.close();
    else this.#tell();
  }

  #tell(): void {
    for (const [phrase, count] of this.#counts) {
      this.#onTold(phrase, count);
      log.warn("turned away {count} connections {phrase} in {seconds} s", {
        count,
        phrase,
        seconds: seriesMs / 1000,
      });
    }
    this.#counts.clear();
  }
}
