/**
 * How much one direction of a connection may have under way: what the path carries in a round trip,
 * and a short queue. Both are found from round trips alone, as FAST TCP does: the amount grows while
 * they are as short as they can be, and shrinks by as much as they are longer than they should be.
 */

/**
 * How long what is under way may wait in the queues of the path: milliseconds, and what so many bytes
 * take. Messages are no smaller, and the path must not run dry before the next one.
 */
const targetQueueMs = 15;
const messageBytes = 4 * 1024;

/**
 * Where a round trip is shorter than this, the machines are more in the way than the network: the
 * queue may be longer, and keepalives fewer, which cost what data costs. In milliseconds.
 */
const nearMs = 3;
const nearQueueMs = 30;

/** What may be under way in any case, and at most; in bytes. */
const smallestBytes = 48 * 1024;
const largestBytes = 32 * 1024 * 1024;

/** What may be under way before anything is known, in bytes. */
const initialBytes = 128 * 1024;

/** How many round trips make a decision: one alone may have waited for something else. */
const samplesPerRound = 4;

/** For how long they are taken at least, a part of one or milliseconds; then half of them do. */
const roundPart = 1 / 4;
const shortestRoundMs = 50;
const longestRoundMs = 150;

/** A shrinking by more than this that has not shortened the queue is one in vain. */
const deepCut = 0.7;

/** Where no more than this may be under way, the path is seen empty only without any; in bytes. */
const fewMessagesBytes = 96 * 1024;

/** How much of a path without a queue is used to see that it has none. */
const queuelessPart = 0.75;

/** How often keepalives are sent: in milliseconds, and as a part of a round trip. */
const spacingMs = 10;
const spacingPart = 1 / 4;
const nearSpacingPart = 1 / 2;

/** How old the shortest round trip may be before it is looked for again, in milliseconds. */
const floorAgeMs = 10_000;

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
  isStale(now: number): boolean {
    return this.#ms < Infinity && now - this.#seenAt > floorAgeMs;
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

/** What a decision depends on beside the round trips. */
export interface PaceRound {
  floorMs: number;
  /** Whether more would have been sent, had it been allowed. */
  isLimited: boolean;
  /** On how many queues a round trip waits: on two where both directions are full. */
  queues: number;
  now: number;
}

/** One direction of a connection. */
export class PaceWindow {
  #bytes = initialBytes;
  /** Only what was sent since the last decision tells what has come of it. */
  #decidedAt = -Infinity;
  #samples: number[] = [];
  #firstSampleAt = 0;
  /** Of the last decision: whether there was nearly no queue, and whether it was a deep cut. */
  #last = { wasCalm: false, wasCut: false };

  /** What may be under way, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What may be under way so that nothing waits on the path, in bytes. */
  queuelessBytes(floorMs: number): number {
    if (this.#bytes <= fewMessagesBytes) return 0; // Any message would wait for another.
    const targetMs = this.#targetMs({ floorMs, roundTripMs: floorMs });
    return queuelessPart * this.#bytes * floorMs / (floorMs + targetMs);
  }

  /** What passes in a part of the shortest round trip that a keepalive can tell of, in bytes. */
  spacingBytes(floorMs: number): number {
    if (floorMs < nearMs) return this.#bytes * nearSpacingPart;
    return this.#bytes * Math.min(spacingMs / (floorMs + targetQueueMs), spacingPart);
  }

  /** The longest round trip of the round under way, in milliseconds. */
  get longestMs(): number {
    return Math.max(...this.#samples);
  }

  /** When the round under way began. */
  get decidedAt(): number {
    return this.#decidedAt;
  }

  /**
   * Takes a round trip that began at `sentAt`, while no more was under way than may be.
   *
   * @returns whether a decision is due, with `decide`.
   */
  onRoundTrip(roundTripMs: number, { sentAt, now }: { sentAt: number; now: number }): boolean {
    if (sentAt < this.#decidedAt) return false;
    if (this.#samples.length === 0) this.#firstSampleAt = now;
    this.#samples.push(roundTripMs);
    const elapsedMs = now - this.#firstSampleAt;
    const { length } = this.#samples;
    if (length >= samplesPerRound / 2 && elapsedMs >= longestRoundMs) return true;
    const leastMs = Math.max(shortestRoundMs, roundTripMs * roundPart);
    return length >= samplesPerRound && elapsedMs >= leastMs;
  }

  /** Begins another round: what was seen before does not count. */
  restart(now: number): void {
    this.#samples = [];
    this.#decidedAt = now;
    this.#last = { wasCalm: false, wasCut: false };
  }

  /**
   * Ends the round: what may be under way from now on.
   *
   * @returns what has come of it; `vain` is a cut after another one: what makes round trips so long
   *   may be the path.
   */
  decide({ floorMs, isLimited, queues, now }: PaceRound): "unlimited" | "fine" | "cut" | "vain" {
    const roundTripMs = medianOf(this.#samples);
    const shortestMs = Math.min(...this.#samples);
    const { wasCalm, wasCut } = this.#last;
    this.restart(now);
    if (!isLimited) return "unlimited";
    const targetMs = queues * this.#targetMs({ floorMs, roundTripMs });
    const isCalm = roundTripMs - floorMs < targetMs / 2;
    const goalMs = floorMs + targetMs;
    // A queue that stands is never empty; one that comes and goes is no reason for a cut.
    const factor = roundTripMs > goalMs
      ? Math.min(1, goalMs / shortestMs)
      : isCalm && wasCalm
      ? 2
      : Math.min(2, goalMs / roundTripMs);
    this.#bytes = Math.min(largestBytes, Math.max(smallestBytes, this.#bytes * factor));
    const isCut = factor < deepCut;
    this.#last = { wasCalm: isCalm, wasCut: isCut };
    if (!isCut) return "fine";
    return wasCut ? "vain" : "cut";
  }

  /** How long the queue may be where the window takes `roundTripMs`. */
  #targetMs({ floorMs, roundTripMs }: { floorMs: number; roundTripMs: number }): number {
    return (floorMs < nearMs ? nearQueueMs : targetQueueMs) +
      messageBytes * roundTripMs / this.#bytes;
  }
}

function medianOf(values: readonly number[]): number {
  return values.toSorted((one, two) => one - two)[(values.length - 1) >> 1]!;
}
