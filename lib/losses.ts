/** The times in which upstream was away. */

import { shownText } from "./shown_text.ts";
import type { AttemptCause, LossStatus } from "./status.ts";
import type { ConnectionEnd } from "./transport.ts";

/** How many are kept. */
const mostLosses = 20;

/** How much of a reason is shown, in characters. */
const longestReason = 500;

/** Why upstream is away, with what it may have said itself. */
export function shownReason({ message }: Error): string {
  return shownText(message, longestReason);
}

interface Loss {
  /** In milliseconds since 1970. */
  since: number;
  /** `undefined` while it is away. */
  until: number | undefined;
  reason: string;
  endedBy: ConnectionEnd["endedBy"];
  attempts: number;
  backBy: AttemptCause | undefined;
}

/** The last losses, and how many times the connection came back. */
export class Losses {
  readonly #losses: Loss[] = [];
  readonly #now: () => number;
  #reconnections = 0;

  /** @param now the time, in milliseconds since 1970. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** How many times it came back. */
  get reconnections(): number {
    return this.#reconnections;
  }

  /** The connection is lost. */
  onLost({ reason, endedBy }: ConnectionEnd): void {
    this.#losses.push({
      since: this.#now(),
      until: undefined,
      reason: shownReason(reason),
      endedBy,
      attempts: 0,
      backBy: undefined,
    });
    if (this.#losses.length > mostLosses) this.#losses.shift();
  }

  /** It is tried again. */
  onAttempt(): void {
    const loss = this.#losses.at(-1);
    if (loss) loss.attempts++;
  }

  /** It is there; `cause` is why it was tried. The first time of all it comes, and not back. */
  onReady(cause: AttemptCause): void {
    const loss = this.#losses.at(-1);
    if (loss === undefined) return;
    loss.until = this.#now();
    loss.backBy = cause;
    this.#reconnections++;
  }

  /** The last ones, the newest last. */
  describe(): LossStatus[] {
    return this.#losses.map((
      { since, until = this.#now(), reason, endedBy, attempts, backBy },
    ) => ({
      since: new Date(since).toISOString(),
      reason,
      endedBy,
      awayMs: Math.max(0, until - since),
      attempts,
      backBy: backBy ?? null,
    }));
  }
}
