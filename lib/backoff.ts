/** How long to wait before the next attempt to connect. */

const firstDelayMs = 200;

/** Doubling delays with full jitter, so that many programs do not come back at the same moment. */
export class Backoff {
  readonly #maximumMs: number;
  readonly #random: () => number;
  #failures = 0;

  /** @param random from 0 to below 1. */
  constructor(maximumMs: number, random: () => number = Math.random) {
    this.#maximumMs = maximumMs;
    this.#random = random;
  }

  /** The next delay in milliseconds; the one after it will be longer. */
  next(): number {
    const ceilingMs = Math.min(this.#maximumMs, firstDelayMs * 2 ** this.#failures++);
    return firstDelayMs + this.#random() * Math.max(0, ceilingMs - firstDelayMs);
  }

  /** The connection has lived: the next failure is a first one. */
  reset(): void {
    this.#failures = 0;
  }
}
