/**
 * The standard streams of a client that has passed them to us: descriptors that it shares with
 * whoever started it, and that go on without us.
 */

import type { Descriptors, Dimensions } from "./descriptors.ts";
import { isWaitingToRead } from "./terminal_owner.ts";

export type { Dimensions };

/** What is written at a time, in bytes. */
const longestWriteBytes = 256 * 1024;

/** How long until a terminal that is another program's for now is looked at again, in milliseconds. */
const otherOwnerMs = 200;

/** The descriptors of one client. */
export interface Passed {
  input: number;
  output: number;
  /** Absent where bytes are all that passes. */
  errors?: number;
}

/** Output that is written in its order, by calls that may wait as long as whoever reads. */
interface Outlet {
  descriptor: number;
  queue: { data: Uint8Array; onDone: (isTaken: boolean) => void }[];
  isWriting: boolean;
  /** Nobody takes any more. */
  isBroken: boolean;
}

/** The streams of one client; `close` closes our copies of them. */
export class LaneStreams {
  readonly #system: Descriptors;
  readonly #passed: Passed;
  readonly #pid: number | undefined;
  readonly #isTerminal: boolean;
  readonly #output: Outlet;
  readonly #errors: Outlet | undefined;
  /** Two halves: one is read into while the other one is sent. */
  readonly #buffers: (Uint8Array<ArrayBuffer> | undefined)[] = [undefined, undefined];
  /** What the terminal was like before its client made it raw. */
  readonly terminalModes: Uint8Array | undefined;
  /** Calls that have not returned. */
  #calls = 0;
  readonly #closed = Promise.withResolvers<void>();
  #isClosed = false;

  /** @param pid the client, by which it is told whether the terminal is its own at the moment. */
  constructor(system: Descriptors, { passed, pid }: { passed: Passed; pid: number | undefined }) {
    this.#system = system;
    this.#passed = passed;
    this.#pid = pid;
    this.#isTerminal = system.isTerminal(passed.input);
    this.terminalModes = system.terminalModes(passed.input);
    this.#output = outlet(passed.output);
    const { errors } = passed;
    if (errors !== undefined) {
      this.#errors = isSameFile(passed.output, errors) ? this.#output : outlet(errors);
    }
  }

  /** Of its terminal; `undefined` where it has none. */
  get dimensions(): Dimensions | undefined {
    return this.#system.dimensions(this.#passed.input);
  }

  /**
   * Reads from the client, at most so many bytes; they are valid until the read after the next one.
   *
   * @returns `undefined` at the end, or when it is not wanted any more.
   */
  async read(mostBytes: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const { input } = this.#passed;
    // Whoever shares it may have taken what was there.
    for (let failures = 0; failures < 16;) {
      if (this.#isClosed || !await this.#system.when(input, "readable", signal)) return undefined;
      if (this.#isTerminal && !await isWaitingToRead(this.#pid)) {
        await pause(otherOwnerMs, signal);
        continue;
      }
      const buffer = this.#buffer(mostBytes);
      const count = await this.#call(() => this.#system.read(input, buffer));
      if (count > 0) return buffer.subarray(0, count);
      if (count === 0) return undefined;
      failures++;
    }
    return undefined;
  }

  /** Writes behind all that was written; `onDone` is told whether it was taken. */
  write(data: Uint8Array, isStderr: boolean, onDone: (isTaken: boolean) => void): void {
    const outlet = isStderr && this.#errors ? this.#errors : this.#output;
    outlet.queue.push({ data, onDone });
    if (!outlet.isWriting) void this.#write(outlet);
  }

  /** What was not written yet is not written any more. */
  dropOutput(): void {
    for (const outlet of this.#outlets) outlet.isBroken = true;
  }

  /** Closes our copies, as soon as nothing uses them. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.dropOutput();
    this.#closeIfUnused();
  }

  /** Resolves when our copies are closed. */
  get whenClosed(): Promise<void> {
    return this.#closed.promise;
  }

  get #outlets(): Outlet[] {
    return this.#errors && this.#errors !== this.#output
      ? [this.#output, this.#errors]
      : [this.#output];
  }

  async #write(outlet: Outlet): Promise<void> {
    outlet.isWriting = true;
    // What comes in the same turn is written together.
    await undefined;
    while (outlet.queue.length > 0) {
      const parts = takeUpTo(outlet.queue, longestWriteBytes);
      let bytes = joined(parts.map(({ data }) => data));
      while (bytes.length > 0 && !outlet.isBroken) {
        const count = await this.#call(() => this.#system.write(outlet.descriptor, bytes));
        if (count >= 0) bytes = bytes.subarray(count);
        else outlet.isBroken = !await this.#takesMore(outlet.descriptor);
      }
      for (const { onDone } of parts) onDone(!outlet.isBroken);
    }
    outlet.isWriting = false;
  }

  /** A failure of a stream that somebody else has set to non-blocking is none. */
  async #takesMore(descriptor: number): Promise<boolean> {
    return this.#system.isFull(descriptor) && await this.#system.when(descriptor, "writable");
  }

  async #call(start: () => Promise<number>): Promise<number> {
    this.#calls++;
    const count = await start();
    this.#calls--;
    this.#closeIfUnused();
    return count;
  }

  #closeIfUnused(): void {
    if (!this.#isClosed || this.#calls > 0) return;
    const { input, output, errors } = this.#passed;
    for (const descriptor of [input, output, errors]) {
      if (descriptor !== undefined) this.#system.closeOne(descriptor);
    }
    this.#closed.resolve();
  }

  #buffer(mostBytes: number): Uint8Array<ArrayBuffer> {
    this.#buffers.reverse();
    const known = this.#buffers[0];
    const buffer = known && known.length >= mostBytes ? known : new Uint8Array(mostBytes);
    this.#buffers[0] = buffer;
    return buffer.subarray(0, mostBytes);
  }
}

function outlet(descriptor: number): Outlet {
  return { descriptor, queue: [], isWriting: false, isBroken: false };
}

/** Whether two descriptors lead to one file: then what goes there keeps its order. */
function isSameFile(one: number, other: number): boolean {
  try {
    const [a, b] = [one, other].map((it) => Deno.statSync(`/proc/self/fd/${it}`));
    return a!.dev === b!.dev && a!.ino === b!.ino;
  } catch {
    // The system does not tell.
    return false;
  }
}

function takeUpTo<T extends { data: Uint8Array }>(queue: T[], mostBytes: number): T[] {
  let [count, bytes] = [0, 0];
  while (count < queue.length && (count === 0 || bytes + queue[count]!.data.length <= mostBytes)) {
    bytes += queue[count++]!.data.length;
  }
  return queue.splice(0, count);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  if (parts.length === 1) return parts[0] as Uint8Array<ArrayBuffer>;
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
