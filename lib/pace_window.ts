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

/** What a client is granted there at least, where it is granted anything; in bytes. */
export const leastNearBytes = 64 * 1024;

/** How long it may be where nobody else waits in it, in milliseconds; as long as the way, if more. */
const loneQueueMs = 100;

/** What may be under way in any case, and at most; in bytes. */
const smallestBytes = 8 * 1024;
const largestBytes = 32 * 1024 * 1024;

/** What may be under way before anything is known, in bytes. */
export const initialBytes = 128 * 1024;

/** So much has passed in a round trip where a direction has a part in the queue, in bytes. */
export const bulkBytes = 64 * 1024;

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
const nearSpacingPart = 1 / 3;
const loneSpacingPart = 1 / 8;
const smallestSpacingBytes = 6 * 1024;

/** What the path is like, and who uses it. */
export interface PacePath {
  /** The shortest round trip; infinite before there was one. */
  floorMs: number;
  /** Whether more than one channel is in use. */
  isShared: boolean;
}

/** Whether the way to upstream is hardly longer than the one to the clients. */
export function isNear({ floorMs }: PacePath): boolean {
  return floorMs < nearMs;
}

/** How long the queue may be, in milliseconds. */
export function queueMs(path: PacePath): number {
  if (!path.isShared) return Math.max(loneQueueMs, path.floorMs);
  return isNear(path) ? nearQueueMs : targetQueueMs;
}

/** A round trip: when it began, and when it was over. */
interface RoundTrip {
  roundTripMs: number;
  sentAt: number;
  now: number;
}

/** What a decision depends on beside the round trips. */
export interface PaceRound {
  path: PacePath;
  /** Whether more would have been sent, had it been allowed. */
  isLimited: boolean;
  /** What was under way in the last round trip, in bytes. */
  flightBytes: number;
  /** On how many queues a round trip waits: on two where both directions are full. */
  queues: number;
  now: number;
}

/** One direction of a connection. */
export class PaceWindow {
  #bytes = initialBytes;
  /** Whether anything may be under way. */
  #isOpen = true;
  /** Only what was sent since the last decision tells what has come of it. */
  #decidedAt = -Infinity;
  #samples: number[] = [];
  #firstSampleAt = 0;
  /** Of the last decision: whether there was nearly no queue, and whether it was a deep cut. */
  #last = { wasCalm: false, wasCut: false };

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** What may be under way, in bytes. */
  get bytes(): number {
    return this.#isOpen ? Infinity : this.#bytes;
  }

  /** Anything may be under way. */
  open(): void {
    this.#isOpen = true;
  }

  /** So much may be under way from now on; as much as at first where that is not known. */
  close(now: number, bytes = initialBytes): void {
    this.#isOpen = false;
    this.#bytes = Math.min(largestBytes, Math.max(smallestBytes, bytes));
    this.restart(now);
  }

  /** So many times as much may be under way, where that is limited. */
  scale(now: number, factor: number): void {
    if (!this.#isOpen) this.close(now, this.#bytes * factor);
  }

  /** What may be under way so that nothing waits on the path, in bytes. */
  queuelessBytes(path: PacePath): number {
    if (this.#isOpen) return Infinity;
    if (this.#bytes <= fewMessagesBytes) return 0; // Any message would wait for another.
    const { floorMs } = path;
    const targetMs = this.#targetMs(path, floorMs);
    const bytes = queuelessPart * this.#bytes * floorMs / (floorMs + targetMs);
    return isNear(path) && bytes < leastNearBytes ? 0 : bytes; // Whoever may send sends more.
  }

  /** What passes in a part of the shortest round trip that a keepalive can tell of, in bytes. */
  spacingBytes(path: PacePath): number {
    const part = !path.isShared
      ? loneSpacingPart
      : isNear(path)
      ? nearSpacingPart
      : Math.min(spacingMs / (path.floorMs + targetQueueMs), spacingPart);
    return Math.max(smallestSpacingBytes, this.#bytes * part);
  }

  /** What passes in so many milliseconds, in bytes. */
  bytesIn(ms: number, path: PacePath): number {
    return this.bytes * ms / (path.floorMs + queueMs(path));
  }

  /**
   * Takes a round trip that began at `sentAt`, while no more was under way than may be.
   *
   * @returns whether a decision is due, with `decide`.
   */
  onRoundTrip({ roundTripMs, sentAt, now }: RoundTrip): boolean {
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
  decide(
    { path, isLimited, flightBytes, queues, now }: PaceRound,
  ): "unlimited" | "fine" | "cut" | "vain" {
    const roundTripMs = medianOf(this.#samples);
    const shortestMs = Math.min(...this.#samples);
    const { wasCalm, wasCut } = this.#last;
    this.restart(now);
    const { floorMs } = path;
    const targetMs = queues * this.#targetMs(path, roundTripMs);
    const isCalm = roundTripMs - floorMs < targetMs / 2;
    const goalMs = floorMs + targetMs;
    if (!isLimited) {
      // What the windows of channels allow may be too much for the path all the same.
      if (queues > 1 || shortestMs <= goalMs || flightBytes < bulkBytes) return "unlimited";
      this.#bytes = Math.min(this.#bytes, flightBytes);
    }
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
  #targetMs(path: PacePath, roundTripMs: number): number {
    return queueMs(path) + messageBytes * roundTripMs / this.#bytes;
  }
}

function medianOf(values: readonly number[]): number {
  return values.toSorted((one, two) => one - two)[(values.length - 1) >> 1]!;
}
