/** How far upstream is away: the time until it answers a keepalive. */

import type { RoundTripStatus } from "./status.ts";
import { within } from "./timing.ts";

/** How long an answer is waited for by whoever wants to know, in milliseconds. */
const patienceMs = 5000;

/** The round trips of one connection, until `stop`. */
export class RoundTrips {
  readonly #sendKeepalive: (onReply: () => void) => void;
  #smoothedMs: number | undefined;
  #last: RoundTripStatus | undefined;
  /** One that somebody wants to know: all who ask meanwhile share it, however long it takes. */
  #measuring: Promise<void> | undefined;
  #onStop: (() => void) | undefined;
  #isStopped = false;

  /** @param sendKeepalive sends a keepalive, and calls `onReply` when it is answered. */
  constructor(sendKeepalive: (onReply: () => void) => void) {
    this.#sendKeepalive = sendKeepalive;
  }

  /** The smoothed round trip, once one was measured, in milliseconds. */
  get smoothedMs(): number | undefined {
    return this.#smoothedMs;
  }

  /** The last one that was measured. */
  get last(): RoundTripStatus | undefined {
    return this.#last;
  }

  /** Asks for a sign of life; `onReply` is called when it comes. */
  ask(onReply: () => void): void {
    const sentAt = performance.now();
    this.#sendKeepalive(() => {
      this.#onMeasured(performance.now() - sentAt);
      onReply();
    });
  }

  /** Measures one now; resolves with `undefined` where no answer comes. */
  async measure(): Promise<RoundTripStatus | undefined> {
    if (this.#isStopped) return undefined;
    const before = this.#last;
    this.#measuring ??= new Promise((resolve) => {
      const onEnd = () => {
        this.#measuring = undefined;
        resolve();
      };
      this.#onStop = onEnd;
      this.ask(onEnd);
    });
    await within(patienceMs, this.#measuring);
    return this.#last === before ? undefined : this.#last;
  }

  /** Nobody waits for an answer any more. May be called twice. */
  stop(): void {
    this.#isStopped = true;
    this.#onStop?.();
  }

  #onMeasured(milliseconds: number): void {
    this.#last = { milliseconds, time: new Date().toISOString() };
    this.#smoothedMs = this.#smoothedMs === undefined
      ? milliseconds
      : 0.75 * this.#smoothedMs + 0.25 * milliseconds;
  }
}
