/** Notices that the machine has slept: its wall clock has moved against the monotonic one. */

const tickMs = 1000;
/** The clocks' usual drift is far below this, a sleep far above. In milliseconds. */
const thresholdMs = 4000;

/** Calls `onWake` after each sleep, and `onTick` once a second, until `stop`. */
export class SleepWatch {
  readonly #timer: ReturnType<typeof setInterval>;
  #offsetMs = clockOffset();

  constructor({ onWake, onTick }: { onWake(): void; onTick(): void }) {
    this.#timer = setInterval(() => {
      const offsetMs = clockOffset();
      const hasSlept = Math.abs(offsetMs - this.#offsetMs) > thresholdMs;
      this.#offsetMs = offsetMs;
      if (hasSlept) onWake();
      onTick();
    }, tickMs);
  }

  /** May be called twice. */
  stop(): void {
    clearInterval(this.#timer);
  }
}

function clockOffset(): number {
  return Date.now() - performance.now();
}
