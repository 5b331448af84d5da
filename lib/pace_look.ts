/**
 * Looks how long a round trip is with less under way: in both directions, to see the path without a
 * queue; or in one, to see the queue of the other.
 */

import type { PaceReply } from "./pace_marks.ts";

/** One of the two directions of a connection. */
export type PaceDirection = "up" | "down";

/** How many round trips are enough, and how long they are waited for, in milliseconds. */
const lookingSamples = 3;
const lookingMs = 1000;

/** In which direction less is under way, since when, and the round trips that tell of it. */
interface Look {
  cut: PaceDirection | "both";
  since: number;
  roundTripsMs: number[];
}

/** What was seen: how long a round trip is then; `undefined` where nothing was in all that time. */
export interface Seen {
  cut: Look["cut"];
  roundTripMs: number | undefined;
}

/** The looks at one path. */
export class PaceLook {
  #look: Look | undefined;

  get isUnderWay(): boolean {
    return this.#look !== undefined;
  }

  /** Whether less is under way in a direction for its sake. */
  cuts(direction: PaceDirection): boolean {
    return this.#look?.cut === direction || this.#look?.cut === "both";
  }

  begin(cut: Look["cut"], now: number): void {
    this.#look = { cut, since: now, roundTripsMs: [] };
  }

  end(): void {
    this.#look = undefined;
  }

  /** Takes a round trip. @returns what was seen, once that is enough; `samples` may be less. */
  take(reply: PaceReply, samples = lookingSamples): Seen | undefined {
    const look = this.#look;
    if (look === undefined) return undefined;
    const { sentAt, isClean, roundTripMs, now } = reply;
    if (sentAt >= look.since && isClean) look.roundTripsMs.push(roundTripMs);
    const isEnough = look.roundTripsMs.length >= samples;
    if (!isEnough && now - look.since < lookingMs) return undefined;
    this.#look = undefined;
    if (!isEnough) return { cut: look.cut, roundTripMs: undefined };
    // Without any queue the shortest counts; one that is there comes and goes.
    const sorted = look.roundTripsMs.toSorted((one, two) => one - two);
    return { cut: look.cut, roundTripMs: sorted[look.cut === "both" ? 0 : (samples - 1) >> 1] };
  }
}
