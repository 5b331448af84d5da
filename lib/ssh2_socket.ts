/**
 * A byte stream as ssh2 wants it, over a connection as Deno gives it.
 *
 * ssh2 writes a packet in several pieces and takes what it reads in small portions. This socket
 * joins everything written in one turn of the event loop into one write, reads into large buffers,
 * and hands over the identification line in one piece, which ssh2 needs (RFC 4253, section 4.2).
 */

import { Buffer } from "node:buffer";
import { EventEmitter } from "node:events";
import type { ByteConnection } from "./byte_connection.ts";
import { PacketMemory } from "./packet_memory.ts";
import { concatenate } from "./ssh_data.ts";

/** A buffer is read into until less than this is left of it, in bytes. */
const smallestReadBytes = 16 * 1024;
const largestBufferBytes = 256 * 1024;
/** Pieces up to the first size are collected in slabs of the second: each would cost more than it is. */
const smallPieceBytes = 2048;
const slabBytes = 16 * 1024;
/** Queued pieces below this size are joined, in bytes. */
const joinedPieceBytes = 32 * 1024;
/** How long what is queued may take to leave once the socket is to close, in milliseconds. */
const lingerMs = 2000;
/**
 * How long what was read is worked on before the event loop has its turn, in milliseconds. A read
 * that can be answered at once does not go through the loop: a peer that sends without a pause would
 * keep everybody else's sockets and timers waiting, for seconds.
 */
const turnMs = 20;
/** What was read is handed over in portions that take about this long, in milliseconds. */
const portionMs = 5;
const smallestPortionBytes = 8 * 1024;
/** `drain` is emitted once the backlog, having been over the first, is under the second; bytes. */
const highBacklogBytes = 1024 * 1024;
const lowBacklogBytes = 512 * 1024;

/**
 * Emits `data` (Buffer), `end`, `error` (with a Node error code), `drain`, and `close` exactly once.
 * ssh2 reads `writable`, `_readableState.ended` and the `remote…` fields.
 */
export class ByteSocket extends EventEmitter {
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly remoteFamily: string | undefined;
  readonly connecting = false;
  writable = true;
  readonly _readableState = { ended: false };

  /** Whether whoever hears `data` keeps nothing of it: the memory is read into again. */
  keepsNothing = false;

  /** When the last bytes came, by `performance.now()`. */
  lastByteAt = performance.now();

  readonly #connection: ByteConnection;
  readonly #identification: IdentificationCollector;
  #isPaused = true;
  #resume: (() => void) | undefined;
  #isReading = false;
  #portionBytes = largestBufferBytes;
  /** Time spent on what was read since the event loop had its turn, in milliseconds. */
  #workedMs = 0;
  #turnTimer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;
  #queue: Uint8Array[] = [];
  /** Holds small pieces; those that are not in the queue yet lie between the two places. */
  #slab = new Uint8Array();
  #slabFrom = 0;
  #slabTo = 0;
  #backlogBytes = 0;
  #isFlushing = false;
  #owesDrain = false;
  #closesWhenFlushed = false;
  #lingerTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    connection: ByteConnection,
    options: { role: "server" | "client"; remote?: { hostname: string; port: number } },
  ) {
    super();
    this.#connection = connection;
    this.#identification = new IdentificationCollector(options.role);
    this.remoteAddress = options.remote?.hostname;
    this.remotePort = options.remote?.port;
    this.remoteFamily = options.remote?.hostname.includes(":") ? "IPv6" : "IPv4";
  }

  /** Since when the connection can carry bytes, by `performance.now()`; infinite while it cannot. */
  get carriedSince(): number {
    return this.#connection.carriedSince ?? -Infinity;
  }

  /** Bytes written here and not taken by the kernel yet. */
  get backlogBytes(): number {
    return this.#backlogBytes;
  }

  /** Stops `data` events after the one under way, until `resume`. */
  pause(): this {
    this.#isPaused = true;
    return this;
  }

  resume(): this {
    this.#isPaused = false;
    this.#resume?.();
    if (!this.#isReading) {
      this.#isReading = true;
      void this.#read();
    }
    return this;
  }

  /** Queues bytes, which must not be changed afterwards; memory of packets is released in time. */
  write(data: Uint8Array | string): boolean {
    if (this.#isClosed || !this.writable) return false;
    const bytes = typeof data === "string" ? Buffer.from(data, "latin1") : data;
    if (bytes.length > smallPieceBytes) {
      this.#enqueue(bytes);
    } else {
      this.#collect(bytes);
      PacketMemory.release(bytes);
    }
    this.#backlogBytes += bytes.length;
    if (this.#backlogBytes > highBacklogBytes) this.#owesDrain = true;
    if (!this.#isFlushing) {
      this.#isFlushing = true;
      queueMicrotask(() => void this.#flush());
    }
    return true;
  }

  #collect(bytes: Uint8Array): void {
    if (this.#slab.length - this.#slabTo < bytes.length) {
      this.#enqueueSlab();
      this.#slab = new Uint8Array(slabBytes);
      this.#slabFrom = this.#slabTo = 0;
    }
    this.#slab.set(bytes, this.#slabTo);
    this.#slabTo += bytes.length;
  }

  #enqueue(bytes: Uint8Array): void {
    this.#enqueueSlab();
    const last = this.#queue.at(-1);
    if (last && isBehind(bytes, last)) {
      const { buffer, byteOffset, length } = last;
      bytes = new Uint8Array(buffer, byteOffset, length + bytes.length);
      this.#queue.pop();
    }
    this.#queue.push(bytes);
  }

  /** What was collected takes its place in the queue. */
  #enqueueSlab(): void {
    if (this.#slabFrom === this.#slabTo) return;
    this.#queue.push(this.#slab.subarray(this.#slabFrom, this.#slabTo));
    this.#slabFrom = this.#slabTo;
  }

  /** Nothing more is written or read: closes once what is queued has left, or cannot leave. */
  end(): this {
    if (this.#isClosed || this.#closesWhenFlushed) return this;
    this.writable = false;
    this.#closesWhenFlushed = true;
    if (this.#isFlushing) this.#lingerTimer = setTimeout(() => this.destroy(), lingerMs);
    else this.destroy();
    return this;
  }

  /** Closes at once. May be called twice. */
  destroy(): this {
    if (this.#isClosed) return this;
    this.#isClosed = true;
    this.writable = false;
    clearTimeout(this.#lingerTimer);
    clearTimeout(this.#turnTimer);
    this.#queue = [];
    this.#slab = new Uint8Array();
    this.#slabFrom = this.#slabTo = 0;
    this.#backlogBytes = 0;
    this.#resume?.();
    this.#connection.close();
    queueMicrotask(() => this.emit("close"));
    return this;
  }

  async #read(): Promise<void> {
    let buffer = new Uint8Array(smallestReadBytes);
    let used = 0;
    /** Nobody keeps anything of it. */
    let isOurs = false;
    try {
      while (!this.#isClosed) {
        const isFull = buffer.length - used < smallestReadBytes;
        const isGrowing = isFull && !(isOurs && buffer.length === largestBufferBytes);
        // What was read before may still be in use.
        if (isGrowing || isOurs !== this.keepsNothing) {
          const bytes = isGrowing ? buffer.length * 2 : buffer.length;
          buffer = new Uint8Array(Math.min(bytes, largestBufferBytes));
          isOurs = this.keepsNothing;
          used = 0;
        }
        if (isOurs) used = 0;
        const count = await this.#connection.read(buffer.subarray(used));
        this.lastByteAt = performance.now();
        if (count === null) {
          await this.#untilResumed();
          return this.#onEnd();
        }
        for (const end = used + count; used < end;) {
          const portion = buffer.subarray(used, Math.min(end, used + this.#portionBytes));
          used += portion.length;
          await this.#untilResumed();
          this.#work(portion);
          if (this.#workedMs > turnMs) await this.#yield();
        }
      }
    } catch (error) {
      this.#onError(error);
    }
  }

  async #untilResumed(): Promise<void> {
    while (this.#isPaused && !this.#isClosed) {
      await new Promise<void>((resolve) => this.#resume = resolve);
    }
  }

  /** Lets everything else that is due happen. */
  async #yield(): Promise<void> {
    this.#workedMs = 0;
    await new Promise((resolve) => this.#turnTimer = setTimeout(resolve, 0));
  }

  /** Hands a portion over, and notes how long that has taken. */
  #work(portion: Uint8Array): void {
    const startedAt = performance.now();
    this.#onData(portion);
    const tookMs = performance.now() - startedAt;
    this.#workedMs += tookMs;
    if (tookMs > portionMs) {
      this.#portionBytes = Math.max(smallestPortionBytes, this.#portionBytes / 2);
    } else if (tookMs < portionMs / 4) {
      this.#portionBytes = Math.min(largestBufferBytes, this.#portionBytes * 2);
    }
  }

  #onData(bytes: Uint8Array): void {
    if (this.#isClosed || this.#closesWhenFlushed) return;
    const ready = this.#identification.isComplete ? bytes : this.#identification.push(bytes);
    if (ready === undefined) return;
    this.emit("data", Buffer.from(ready.buffer, ready.byteOffset, ready.byteLength));
  }

  #onEnd(): void {
    if (this.#isClosed) return;
    this._readableState.ended = true;
    this.emit("end");
    this.end();
  }

  async #flush(): Promise<void> {
    try {
      while (this.#backlogBytes > 0) {
        const data = this.#takeQueued();
        for (let sent = 0; sent < data.length;) {
          const count = await this.#connection.write(data.subarray(sent));
          if (this.#isClosed) return;
          sent += count;
          this.#backlogBytes -= count;
        }
        PacketMemory.release(data);
        if (this.#owesDrain && this.#backlogBytes < lowBacklogBytes) {
          this.#owesDrain = false;
          this.emit("drain");
        }
      }
    } catch (error) {
      this.#onError(error);
    }
    this.#isFlushing = false;
    if (this.#closesWhenFlushed) this.destroy();
  }

  /** The next piece of the queue, or the next small ones joined. */
  #takeQueued(): Uint8Array {
    this.#enqueueSlab();
    let size = 0;
    let count = 0;
    while (count < this.#queue.length && this.#queue[count]!.length < joinedPieceBytes) {
      size += this.#queue[count++]!.length;
    }
    if (count <= 1) return this.#queue.shift()!;
    const pieces = this.#queue.splice(0, count);
    const joined = Buffer.concat(pieces, size);
    for (const piece of pieces) PacketMemory.release(piece);
    return joined;
  }

  #onError(error: unknown): void {
    if (this.#isClosed) return;
    this._readableState.ended = true;
    this.emit("error", asNodeError(error));
    this.destroy();
  }
}

/** Whether bytes lie directly behind others. */
function isBehind(bytes: Uint8Array, others: Uint8Array): boolean {
  return bytes.buffer === others.buffer && bytes.byteOffset === others.byteOffset + others.length;
}

/** ssh2 and its users tell network errors apart by Node's codes. */
function asNodeError(error: unknown): Error & { code?: string } {
  const codes: [new (...args: never[]) => Error, string][] = [
    [Deno.errors.ConnectionReset, "ECONNRESET"],
    [Deno.errors.ConnectionAborted, "ECONNABORTED"],
    [Deno.errors.BrokenPipe, "EPIPE"],
    [Deno.errors.TimedOut, "ETIMEDOUT"],
  ];
  const result: Error & { code?: string } = error instanceof Error
    ? error
    : new Error(String(error));
  const code = codes.find(([type]) => error instanceof type)?.[1];
  if (code !== undefined && result.code === undefined) result.code = code;
  return result;
}

const newline = 10;
const identificationPrefix = "SSH-";
const maximumLineBytes = 255;
/** A server may greet before it identifies itself; RFC 4253 sets no limit, OpenSSH these. */
const maximumGreetingBytes = 8192;
const maximumGreetingLines = 1024;

/**
 * Collects the first bytes of a connection until the identification line is among them (RFC 4253,
 * section 4.2): ssh2 fails on a line that comes in three or more pieces. What is not SSH is noticed
 * here, before ssh2 sees any of it.
 */
export class IdentificationCollector {
  readonly #mayGreet: boolean;
  #collected: Uint8Array = new Uint8Array();
  #lineStart = 0;
  #lines = 0;
  #isComplete = false;

  /** @param role ours; the peer of a client is a server, which may greet first. */
  constructor(role: "server" | "client") {
    this.#mayGreet = role === "client";
  }

  get isComplete(): boolean {
    return this.#isComplete;
  }

  /**
   * Takes the next bytes.
   *
   * @returns everything so far once the line is complete, `undefined` before.
   * @throws {Error} where the peer does not speak SSH.
   */
  push(bytes: Uint8Array): Uint8Array | undefined {
    this.#collected = concatenate([this.#collected, bytes]);
    while (true) {
      const end = this.#collected.indexOf(newline, this.#lineStart);
      const line = this.#collected.subarray(
        this.#lineStart,
        end === -1 ? undefined : end,
      );
      const isIdentification = beginsLikeIdentification(line) &&
        (end === -1 || line.length >= identificationPrefix.length);
      const isTooLong = isIdentification
        ? line.length > maximumLineBytes
        : this.#lineStart + line.length >= maximumGreetingBytes ||
          this.#lines >= maximumGreetingLines;
      if (isTooLong || (!isIdentification && !this.#mayGreet)) {
        throw new Error("the peer does not speak SSH");
      }
      if (end === -1) return undefined;
      if (isIdentification) {
        this.#isComplete = true;
        return this.#collected;
      }
      this.#lineStart = end + 1;
      this.#lines++;
    }
  }
}

/** Whether these bytes are, or may become, an identification line. */
function beginsLikeIdentification(line: Uint8Array): boolean {
  for (let at = 0; at < Math.min(line.length, identificationPrefix.length); at++) {
    if (line[at] !== identificationPrefix.charCodeAt(at)) return false;
  }
  return true;
}
