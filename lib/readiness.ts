/** Waits for many descriptors at a time: one thread, however many there are. */

import { setImmediate } from "node:timers/promises";
import { type Libc, openPipe } from "./libc.ts";
import { type Question, type Readiness, readyOnes } from "./readiness_query.ts";

export type { Readiness };

interface Wish extends Question {
  onReady(): void;
}

/** All that is waited for; `close` ends it. */
export class ReadinessWatch {
  readonly #libc: Libc;
  readonly #wishes = new Set<Wish>();
  /** By which a wait is cut short: there is something new to wait for. */
  readonly #bell: { hear: number; ring: number };
  readonly #unsettled = new Set<(isReady: boolean) => void>();
  /** What comes after the present wait. */
  #onNext: (() => void)[] = [];
  #isAtWork = false;
  #isWaiting = false;
  #isRung = false;
  #isClosed = false;

  /** @throws {Error} where the system gives no pipe. */
  constructor(libc: Libc) {
    this.#libc = libc;
    const { output, input } = openPipe(libc);
    this.#bell = { hear: output, ring: input };
  }

  /**
   * Resolves as soon as a descriptor is ready, with `true`; when it is not waited for any more, with
   * `false`. Until then it is not to be closed.
   */
  when(descriptor: number, readiness: Readiness, signal?: AbortSignal): Promise<boolean> {
    if (this.#isClosed || signal?.aborted) return Promise.resolve(false);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const settle = (isReady: boolean) => {
      this.#wishes.delete(wish);
      signal?.removeEventListener("abort", onAbort);
      resolve(isReady);
    };
    // The wait itself may still have the descriptor: it is cut short first.
    const onAbort = () => {
      if (!this.#isWaiting) return settle(false);
      this.#wishes.delete(wish);
      this.#onNext.push(() => settle(false));
      this.#ring();
    };
    const wish = { descriptor, readiness, onReady: () => settle(true) };
    signal?.addEventListener("abort", onAbort);
    this.#wishes.add(wish);
    this.#unsettled.add(settle);
    void promise.then(() => this.#unsettled.delete(settle));
    this.#ring();
    if (!this.#isAtWork) void this.#work();
    return promise;
  }

  /** Nothing is waited for any more. May be called twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#isAtWork) this.#ring();
    else this.#end();
  }

  #ring(): void {
    if (this.#isRung || !this.#isWaiting) return;
    this.#isRung = true;
    this.#libc.symbols.write(this.#bell.ring, new Uint8Array(1), 1n);
  }

  async #work(): Promise<void> {
    this.#isAtWork = true;
    while (this.#wishes.size > 0 && !this.#isClosed) {
      await this.#wait();
      // Most of those whose wish came true read, and wish the same again: one wait is for all of it.
      await setImmediate();
    }
    this.#isAtWork = false;
    if (this.#isClosed) this.#end();
  }

  async #wait(): Promise<void> {
    const wishes = [...this.#wishes];
    const bell: Question = { descriptor: this.#bell.hear, readiness: "readable" };
    this.#isWaiting = true;
    const [isRung, ...ready] = await readyOnes(this.#libc, [bell, ...wishes]);
    this.#isWaiting = false;
    if (isRung) {
      this.#libc.symbols.read(this.#bell.hear, new Uint8Array(16), 16n);
      this.#isRung = false;
    }
    for (const next of this.#onNext.splice(0)) next();
    wishes.forEach((wish, index) => {
      if (ready[index] && this.#wishes.has(wish)) wish.onReady();
    });
  }

  #end(): void {
    for (const settle of this.#unsettled) settle(false);
    for (const descriptor of [this.#bell.hear, this.#bell.ring]) {
      this.#libc.symbols.close(descriptor);
    }
  }
}
