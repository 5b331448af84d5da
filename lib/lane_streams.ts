/**
 * The standard streams of a client that has passed them to us: it shares them with whoever started
 * it, and they go on without us.
 */

import type { Descriptors, Dimensions } from "./descriptors.ts";
import { PassedStream } from "./passed_stream.ts";
import { ReadBuffer } from "./read_buffer.ts";
import { concatenate } from "./ssh_data.ts";
import { isRaw } from "./terminal_modes.ts";
import { isWaitingToRead } from "./terminal_owner.ts";
import { pause, unexplained } from "./timing.ts";

export type { Dimensions };

/**
 * What is joined to be written at once, in bytes: where each write takes a thread, and where it
 * takes less time than joining.
 */
const joinedBytes = { waiting: 256 * 1024, prompt: 16 * 1024 };

/** What is read at a time, at first and as long as there is more. */
const readSizes = { firstBytes: 16 * 1024, mostBytes: 256 * 1024 };

/** How long until a terminal that is another program's for now is looked at again, in milliseconds. */
const otherOwnerMs = 200;

/** How long a terminal is waited for, and how often it is looked at, in milliseconds. */
const rawTimeoutMs = 2000;
const rawPollMs = 5;

/** The descriptors of one client. */
export interface Passed {
  input: number;
  output: number;
  /** Absent where bytes are all that passes. */
  errors?: number;
}

/** What has become of output. */
export interface Written {
  isTaken: boolean;
  bytes: number;
  /** Whether it went where standard output does not go. */
  isStderr: boolean;
}

type OnWritten = (written: Written) => void;

/** Output that waits; small pieces are joined, in `memory`: each would cost more than it is. */
export interface Piece {
  data: Uint8Array;
  onDone: OnWritten;
  memory?: Uint8Array;
}

/** Output that is written in its order, as fast as whoever reads it takes it. */
interface Outlet {
  stream: PassedStream;
  queue: Piece[];
  isWriting: boolean;
  /** Aborted when nobody takes any more. */
  broken: AbortController;
}

/** The streams of one client; `close` closes our copies of them. */
export class LaneStreams {
  readonly #system: Descriptors;
  readonly #pid: number | undefined;
  readonly #isTerminal: boolean;
  readonly #input: PassedStream;
  readonly #output: Outlet;
  readonly #errors: Outlet;
  readonly #all: readonly PassedStream[];
  /** One is read into while the other one is sent. */
  readonly #buffers: [ReadBuffer, ReadBuffer] = [
    new ReadBuffer(readSizes),
    new ReadBuffer(readSizes),
  ];
  /** Until then nothing is written. */
  #raw: Promise<void> | undefined;
  /** What the terminal was like before its client made it raw. */
  readonly terminalModes: Uint8Array | undefined;

  /** @param pid the client, by which it is told whether the terminal is its own at the moment. */
  constructor(system: Descriptors, { passed, pid }: { passed: Passed; pid: number | undefined }) {
    this.#system = system;
    this.#pid = pid;
    const { input, output, errors } = passed;
    this.#isTerminal = system.isTerminal(input);
    this.terminalModes = system.terminalModes(input);
    this.#input = new PassedStream(system, { descriptor: input, direction: "input" });
    const outputs = [output, ...errors === undefined ? [] : [errors]].map((descriptor) =>
      new PassedStream(system, { descriptor, direction: "output" })
    );
    this.#all = [this.#input, ...outputs];
    this.#output = outlet(outputs[0]!);
    this.#errors = errors === undefined || system.leadToOneFile(output, errors)
      ? this.#output
      : outlet(outputs[1]!);
  }

  /** Of its terminal; `undefined` where it has none. */
  get dimensions(): Dimensions | undefined {
    return this.#system.dimensions(this.#input.descriptor);
  }

  /**
   * Reads from the client, at most so many bytes; they are valid until the read after the next one.
   *
   * @returns `undefined` at the end, or when it is not wanted any more.
   */
  async read(mostBytes: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    this.#buffers.reverse();
    const [buffer] = this.#buffers;
    const part = buffer.space(mostBytes);
    const isOurs = this.#isTerminal ? () => this.#hasTerminal(signal) : undefined;
    const count = await this.#input.read(part, signal, isOurs);
    buffer.onRead(count);
    return count === 0 ? undefined : part.subarray(0, count);
  }

  async #hasTerminal(signal: AbortSignal): Promise<boolean> {
    const isOurs = await isWaitingToRead(this.#pid);
    if (!isOurs) await pause(otherOwnerMs, signal);
    return isOurs;
  }

  /**
   * The client makes its terminal raw once it hears of the session: what is written before that would
   * be shown otherwise than it was meant. One that does not, such as one in the background, is not
   * waited for longer than {@link rawTimeoutMs}.
   */
  holdUntilRaw(): void {
    if (this.#isTerminal) this.#raw = this.#untilRaw();
  }

  async #untilRaw(): Promise<void> {
    for (let ms = 0; ms < rawTimeoutMs; ms += rawPollMs) {
      const modes = this.#system.terminalModes(this.#input.descriptor);
      if (modes === undefined || isRaw(modes) || this.#output.broken.signal.aborted) return;
      await new Promise((resolve) => setTimeout(resolve, rawPollMs));
    }
  }

  /**
   * Writes behind all that was written; `onDone` is told what has become of it. It may be called once
   * for several times that it was given.
   */
  write(data: Uint8Array, isStderr: boolean, onDone: OnWritten): void {
    const outlet = isStderr ? this.#errors : this.#output;
    enqueueOutput(outlet.queue, { data, onDone });
    if (!outlet.isWriting) void this.#write(outlet);
  }

  /** What was not written yet is not written any more. */
  dropOutput(): void {
    for (const { broken } of [this.#output, this.#errors]) broken.abort(unexplained);
  }

  /** Closes our copies, as soon as nothing uses them. */
  close(): void {
    this.dropOutput();
    for (const stream of this.#all) stream.close();
  }

  /** Resolves when our copies are closed. */
  get whenClosed(): Promise<unknown> {
    return Promise.all(this.#all.map(({ whenClosed }) => whenClosed));
  }

  async #write(outlet: Outlet): Promise<void> {
    outlet.isWriting = true;
    // What comes in the same turn is written together.
    await this.#raw;
    const { queue, stream, broken } = outlet;
    while (queue.length > 0) {
      const parts = takeUpTo(queue, stream.waits ? joinedBytes.waiting : joinedBytes.prompt);
      const isTaken = await stream.write(joined(parts.map(({ data }) => data)), broken.signal);
      if (!isTaken) broken.abort(unexplained);
      const isStderr = outlet !== this.#output;
      for (const { data, onDone } of parts) onDone({ isTaken, bytes: data.length, isStderr });
    }
    outlet.isWriting = false;
  }
}

function outlet(stream: PassedStream): Outlet {
  return { stream, queue: [], isWriting: false, broken: new AbortController() };
}

/** Puts output behind all that waits; unlike in a `MessageStore`, long pieces are not copied. */
export function enqueueOutput(queue: Piece[], piece: Piece): void {
  const last = queue.at(-1);
  const bytes = piece.data.length + (last?.data.length ?? 0);
  if (last?.onDone !== piece.onDone || bytes > joinedBytes.prompt) return void queue.push(piece);
  if (last.memory === undefined || last.memory.length < bytes) {
    last.memory = new Uint8Array(Math.min(2 * bytes, joinedBytes.prompt));
    last.memory.set(last.data);
  }
  last.memory.set(piece.data, last.data.length);
  last.data = last.memory.subarray(0, bytes);
}

function takeUpTo<T extends { data: Uint8Array }>(queue: T[], mostBytes: number): T[] {
  let [count, bytes] = [0, 0];
  while (count < queue.length && (count === 0 || bytes + queue[count]!.data.length <= mostBytes)) {
    bytes += queue[count++]!.data.length;
  }
  return queue.splice(0, count);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return (parts.length === 1 ? parts[0]! : concatenate(parts)) as Uint8Array<ArrayBuffer>;
}
