/** How far upstream is away when nothing waits on the path. */

/** How old that may be before it is looked for again, in milliseconds. */
const floorAgeMs = 10_000;
/** The same where nobody waits for anybody. */
const loneFloorAgeMs = 30_000;

/** A round trip so little longer than the shortest one is as short; in milliseconds. */
const floorToleranceMs = 1;

/** The shortest round trip of a path, when nothing waits on it. */
export class RoundTripFloor {
  #ms = Infinity;
  #seenAt = -Infinity;

  /** In milliseconds; infinite before the first round trip. */
  get ms(): number {
    return this.#ms;
  }

  /** Whether the path may have become longer since it was seen. */
  isStale(now: number, isShared: boolean): boolean {
    const ageMs = now - this.#seenAt;
    return this.#ms < Infinity && ageMs > (isShared ? floorAgeMs : loneFloorAgeMs);
  }

  take(roundTripMs: number, now: number): void {
    if (roundTripMs > this.#ms + floorToleranceMs) return;
    this.#ms = Math.min(this.#ms, roundTripMs);
    this.#seenAt = now;
  }

  /** This is the shortest from now on, whatever it was before. */
  reset(roundTripMs: number, now: number): void {
    this.#ms = roundTripMs;
    this.#seenAt = now;
  }
}
