/** Waits for many descriptors at a time: one thread, however many there are (poll(2)). */

import { setImmediate } from "node:timers/promises";
import type { Libc } from "./libc.ts";

/** What a descriptor is waited for. */
export type Readiness = "readable" | "writable";

const bits: Record<Readiness, number> = { readable: 0x1, writable: 0x4 };
/** An error, the other side's end, no such descriptor: whoever tries is told which. */
const always = 0x8 | 0x10 | 0x20;

/** A structure of poll(2), in bytes: descriptor, what is waited for, what is so. */
const entryBytes = 8;

const closedOnExec = 0o2000000;
const withoutWaiting = 0o4000;

interface Wish {
  descriptor: number;
  bits: number;
  onReady(): void;
}

/** All that is waited for; `close` ends it. */
export class ReadinessWatch {
  readonly #symbols: Libc["symbols"];
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
  constructor({ symbols }: Libc) {
    this.#symbols = symbols;
    const ends = new Int32Array(2);
    if (symbols.pipe2(ends, closedOnExec | withoutWaiting) < 0) {
      throw new Error("no pipe can be had");
    }
    this.#bell = { hear: ends[0]!, ring: ends[1]! };
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
    const wish = { descriptor, bits: bits[readiness], onReady: () => settle(true) };
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
    this.#symbols.write(this.#bell.ring, new Uint8Array(1), 1n);
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
    const entries = new DataView(new ArrayBuffer((wishes.length + 1) * entryBytes));
    entries.setInt32(0, this.#bell.hear, true);
    entries.setInt16(4, bits.readable, true);
    wishes.forEach((wish, index) => {
      entries.setInt32((index + 1) * entryBytes, wish.descriptor, true);
      entries.setInt16((index + 1) * entryBytes + 4, wish.bits, true);
    });
    const bytes = new Uint8Array(entries.buffer);
    this.#isWaiting = true;
    // A signal that came between is as good as nothing.
    await this.#symbols.waitingPoll(bytes, BigInt(wishes.length + 1), -1);
    this.#isWaiting = false;
    if (entries.getInt16(6, true) !== 0) {
      this.#symbols.read(this.#bell.hear, new Uint8Array(16), 16n);
      this.#isRung = false;
    }
    for (const next of this.#onNext.splice(0)) next();
    wishes.forEach((wish, index) => {
      const found = entries.getInt16((index + 1) * entryBytes + 6, true);
      if ((found & (wish.bits | always)) !== 0 && this.#wishes.has(wish)) wish.onReady();
    });
  }

  #end(): void {
    for (const settle of this.#unsettled) settle(false);
    for (const descriptor of [this.#bell.hear, this.#bell.ring]) this.#symbols.close(descriptor);
  }
}
