/** What the status line tells, and when: as soon as something has changed, and not too often. */

import { noRates, type Rates, ratesBetween, statusLineText } from "./status_line.ts";
import type { LineText } from "./status_line_terminal.ts";
import type { ShimStatus } from "./status.ts";
import type { Schedule } from "./transport.ts";

/** The time from one text to the next is no shorter; in milliseconds. */
const shortestMs = 500;

/** What rates are found over, at least; in milliseconds. */
const rateMs = 900;

/** What the line is made of. */
export interface StatusLineOptions {
  line: { show(text: LineText | undefined): void };
  /** What runs at this moment, by host. */
  readStatuses(): Promise<readonly ShimStatus[]>;
  schedule: Schedule;
  /** A time that is never set back, in milliseconds; by default that since the start. */
  now?(): number;
}

/** The status line, until it is closed. */
export class StatusLine {
  readonly #options: StatusLineOptions;
  readonly #now: () => number;
  #cancelTimer: (() => void) | undefined;
  /** When it was last told. */
  #toldAt = -Infinity;
  /** Since when the rates are counted. */
  #sample: { at: number; statuses: readonly ShimStatus[] } | undefined;
  #rates: Rates = noRates;
  #isClosed = false;

  constructor(options: StatusLineOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.onChange();
  }

  /** Something has changed that is shown soon. */
  onChange(): void {
    if (this.#cancelTimer || this.#isClosed) return;
    const delayMs = Math.max(0, this.#toldAt + shortestMs - this.#now());
    this.#cancelTimer = this.#options.schedule(delayMs, () => {
      this.#cancelTimer = undefined;
      void this.#tell();
    });
  }

  /** The process is awake: whatever has no event of its own is shown, such as the rates. */
  onTick(): void {
    if (this.#isClosed || this.#now() - this.#toldAt < rateMs) return;
    void this.#tell();
  }

  /** There is no line any more. May be called twice. */
  close(): void {
    this.#isClosed = true;
    this.#cancelTimer?.();
    this.#options.line.show(undefined);
  }

  async #tell(): Promise<void> {
    const at = this.#now();
    this.#toldAt = at;
    const statuses = await this.#options.readStatuses();
    if (this.#isClosed) return;
    if (this.#sample === undefined || at - this.#sample.at >= rateMs) {
      this.#rates = ratesBetween(this.#sample?.statuses ?? statuses, statuses);
      this.#sample = { at, statuses };
    }
    const rates = this.#rates;
    this.#options.line.show((columns) => statusLineText(statuses, { columns, rates }));
  }
}
