/**
 * One stream of a client: a descriptor that it shares with others, read and written without holding
 * anybody up, and without making it non-blocking for those who share it.
 *
 * A pipe or a terminal is opened once more, which gives a description of our own (on macOS terminals
 * alone); a socket has calls that do not wait; a file is waited for on a thread. Whatever else there
 * is may keep a thread for as long as its other side likes: it is asked first, and few such calls are
 * under way at a time.
 */

import type { DescriptorKind } from "./descriptor_kind.ts";
import { type Descriptors, failed, nothingNow } from "./descriptors.ts";
import { Turns } from "./turns.ts";

/** How a stream is used: by calls that do not wait, or by calls that do, on threads. */
type Kind = Exclude<DescriptorKind, "reopened">;

/** Deno has 32 threads for all calls that wait, those on its own files among them. */
const turns = new Turns(12);

/** A pipe that takes anything takes so many bytes at once (PIPE_BUF). */
const promptBytes = Deno.build.os === "linux" ? 4096 : 512;

/** A descriptor that was passed; it is closed with `close`. */
export class PassedStream {
  readonly descriptor: number;
  readonly #system: Descriptors;
  readonly #kind: Kind;
  /** Our own description of the same, or the descriptor itself. */
  readonly #used: number;
  /** Calls that wait and have not returned. */
  #calls = 0;
  #isClosed = false;
  readonly #closed = Promise.withResolvers<void>();

  constructor(system: Descriptors, { descriptor, direction }: {
    descriptor: number;
    direction: "input" | "output";
  }) {
    this.#system = system;
    this.descriptor = descriptor;
    const kind = system.allows(descriptor, direction) ? system.kindOf(descriptor) : "waiting";
    const own = kind === "reopened" ? system.reopen(descriptor, direction) : undefined;
    this.#used = own ?? descriptor;
    this.#kind = kind === "reopened" ? (own === undefined ? "waiting" : "prompt") : kind;
  }

  /** Whether each call waits, on a thread of its own. */
  get waits(): boolean {
    return this.#kind === "waiting";
  }

  /**
   * Reads what there is.
   *
   * @param isOurs whether what has come is for us; it is asked before anything is taken.
   * @returns how many bytes, 0 at the end or when it is not wanted any more.
   */
  async read(
    buffer: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
    isOurs?: () => Promise<boolean>,
  ): Promise<number> {
    // Whoever shares it may have taken what was there.
    while (!signal.aborted && !this.#isClosed) {
      if (isOurs && !(await this.#ready("readable", signal) && await isOurs())) continue;
      const count = await this.#readOnce(buffer, signal);
      if (count >= 0) return count;
      if (count === failed) return 0;
    }
    return 0;
  }

  /** Writes all of it. @returns whether it was taken; a signal that is aborted ends the attempt. */
  async write(bytes: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<boolean> {
    for (let rest = bytes; rest.length > 0;) {
      if (signal.aborted) return false;
      const count = await this.#writeOnce(rest, signal);
      if (count === failed) return false;
      if (count > 0) rest = rest.subarray(count);
    }
    return true;
  }

  /** Closes our copies, as soon as nothing uses them. May be called twice. */
  close(): void {
    this.#isClosed = true;
    this.#closeIfUnused();
  }

  /** Resolves when our copies are closed. */
  get whenClosed(): Promise<void> {
    return this.#closed.promise;
  }

  async #readOnce(buffer: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<number> {
    if (this.#kind === "file" || this.#kind === "waiting") {
      if (!await this.#ready("readable", signal)) return nothingNow;
      return await this.#call(signal, () => this.#system.read(this.#used, buffer));
    }
    const count = this.#kind === "socket"
      ? this.#system.receiveNow(this.#used, buffer)
      : this.#system.readNow(this.#used, buffer);
    if (count === nothingNow) await this.#ready("readable", signal);
    return count;
  }

  async #writeOnce(bytes: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<number> {
    if (this.#kind === "file" || this.#kind === "waiting") {
      if (this.#kind === "waiting" && !await this.#ready("writable", signal)) return nothingNow;
      const part = this.#kind === "file" ? bytes : bytes.subarray(0, promptBytes);
      return await this.#call(signal, () => this.#system.write(this.#used, part));
    }
    const count = this.#kind === "socket"
      ? this.#system.sendNow(this.#used, bytes)
      : this.#system.writeNow(this.#used, bytes);
    if (count === nothingNow) await this.#ready("writable", signal);
    return count;
  }

  async #ready(readiness: "readable" | "writable", signal: AbortSignal): Promise<boolean> {
    this.#calls++;
    const isReady = await this.#system.when(this.#used, readiness, signal);
    this.#calls--;
    this.#closeIfUnused();
    return isReady && !this.#isClosed;
  }

  async #call(signal: AbortSignal, start: () => Promise<number>): Promise<number> {
    this.#calls++;
    const count = this.#kind === "file"
      ? await start()
      : await turns.take(signal, start) ?? nothingNow;
    this.#calls--;
    this.#closeIfUnused();
    return count;
  }

  #closeIfUnused(): void {
    if (!this.#isClosed || this.#calls > 0) return;
    if (this.#used !== this.descriptor) this.#system.closeOne(this.#used);
    this.#system.closeOne(this.descriptor);
    this.#closed.resolve();
  }
}
