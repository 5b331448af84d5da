/** Simulated time for code that asks the system for it. */

import { ManualClock } from "./memory.ts";

/**
 * While it is in scope, `setTimeout`, `setInterval`, their ends and `performance.now` follow this
 * clock, and time passes by `advance` alone. Sockets and processes stay real.
 */
export class FakeTime extends ManualClock implements Disposable {
  readonly #cancels = new Map<number, () => void>();
  readonly #restore: () => void;
  #lastId = 0;

  constructor() {
    super();
    const { setTimeout, clearTimeout, setInterval, clearInterval } = globalThis;
    const real = { setTimeout, clearTimeout, setInterval, clearInterval };
    const now = performance.now;
    this.#restore = () => {
      Object.assign(globalThis, real);
      performance.now = now;
    };
    const clear = (id?: number) => {
      this.#cancels.get(id ?? 0)?.();
      this.#cancels.delete(id ?? 0);
    };
    Object.assign(globalThis, {
      setTimeout: (action: () => void, ms = 0) => this.#start(action, { ms, repeats: false }),
      setInterval: (action: () => void, ms = 0) => this.#start(action, { ms, repeats: true }),
      clearTimeout: clear,
      clearInterval: clear,
    });
    performance.now = () => this.nowMs;
  }

  [Symbol.dispose](): void {
    this.#restore();
  }

  #start(action: () => void, { ms, repeats }: { ms: number; repeats: boolean }): number {
    const id = ++this.#lastId;
    const plan = () => {
      this.#cancels.set(
        id,
        this.schedule(ms, () => {
          if (repeats) plan();
          else this.#cancels.delete(id);
          action();
        }),
      );
    };
    plan();
    return id;
  }
}
