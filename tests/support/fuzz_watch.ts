/** Watches what a case leaves behind in the runtime: exceptions that nobody caught, and timers. */

import assert from "node:assert/strict";

const { setTimeout, clearTimeout } = globalThis;

/** How often nothing must have moved before things are at rest. */
const quietTurns = 3;

/** More turns than anything takes that does not wait for a timer. */
const mostTurns = 500;

const deadlineMs = 30_000;

/** From its making to `end`. */
export class RuntimeWatch {
  readonly #faults: unknown[] = [];
  readonly #timers = new Map<unknown, Error>();
  readonly #onFault = (event: ErrorEvent | PromiseRejectionEvent) => {
    event.preventDefault();
    this.#faults.push(event instanceof ErrorEvent ? event.error : event.reason);
  };

  constructor() {
    globalThis.addEventListener("error", this.#onFault);
    globalThis.addEventListener("unhandledrejection", this.#onFault);
    globalThis.setTimeout = ((action: () => void, delayMs?: number) => {
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        action();
      }, delayMs);
      this.#timers.set(timer, new Error(`a timer of ${delayMs} ms`));
      return timer;
    }) as typeof setTimeout;
    globalThis.clearTimeout = (timer) => {
      this.#timers.delete(timer);
      clearTimeout(timer);
    };
  }

  /** Resolves when `moved` has stayed the same for a while. */
  async untilQuiet(moved: () => number): Promise<void> {
    let before = moved();
    for (let turn = 0, quiet = 0; quiet < quietTurns; turn++, quiet++) {
      assert(turn < mostTurns, "no end in sight");
      await new Promise((resolve) => setTimeout(resolve, 0));
      if (moved() !== before) quiet = 0;
      before = moved();
    }
  }

  /** Resolves as `promise` does. */
  async withinDeadline(promise: Promise<void>): Promise<void> {
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(
      () => late.reject(new Error("the connection is not closed")),
      deadlineMs,
    );
    await Promise.race([promise, late.promise]).finally(() => clearTimeout(timer));
  }

  /** @throws {Error} where something was left behind. */
  end(): void {
    globalThis.removeEventListener("error", this.#onFault);
    globalThis.removeEventListener("unhandledrejection", this.#onFault);
    Object.assign(globalThis, { setTimeout, clearTimeout });
    if (this.#faults.length > 0) throw new Error("nobody caught it", { cause: this.#faults[0] });
    const [left] = this.#timers.values();
    for (const timer of this.#timers.keys()) clearTimeout(timer as number);
    if (left) throw new Error("a timer is left", { cause: left });
  }
}
