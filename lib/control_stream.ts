/**
 * One connection to the control socket, as bytes and the descriptors that come along. Without the
 * system's library there are bytes alone.
 */

import type { ByteConnection } from "./byte_connection.ts";
import { type Credentials, type Descriptors, failed, nothingNow } from "./descriptors.ts";
import { MessageStore } from "./message_store.ts";
import { ReadBuffer } from "./read_buffer.ts";
import { unexplained } from "./timing.ts";

/** What is read at a time, at first and as long as there is more. */
const readSizes = { firstBytes: 4 * 1024, mostBytes: 64 * 1024 };

/** How many descriptors may wait for the message that they belong to. */
const mostWaiting = 3;

/** A connection to the control socket. */
export interface ControlStream {
  /** Who has connected, where the system tells. */
  readonly peer: Credentials | undefined;
  /** Whether descriptors can come along. Where they cannot, they hold up what comes with them. */
  readonly passesDescriptors: boolean;
  /** The next bytes, valid until the next read; `undefined` at the end. */
  read(): Promise<Uint8Array | undefined>;
  /** Sends behind all that was sent. */
  send(bytes: Uint8Array): void;
  /** What was sent and not taken by the system yet, in bytes. */
  readonly backlogBytes: number;
  /** Calls this whenever the backlog has shrunk. */
  onDrain: (() => void) | undefined;
  /**
   * Takes so many descriptors, which are the taker's from then on; `undefined` where others have come,
   * which are closed.
   */
  takeDescriptors(count: number): number[] | undefined;
  /** Closes descriptors that nobody wants after all. */
  closeDescriptors(descriptors: readonly number[]): void;
  /** Ends it, once what was sent is taken; at once with `isLost`. May be called twice. */
  close(options?: { isLost: boolean }): void;
}

/** A connection by the system's own calls. */
export class DescriptorStream implements ControlStream {
  readonly passesDescriptors = true;
  readonly peer: Credentials | undefined;
  onDrain: (() => void) | undefined;
  readonly #system: Descriptors;
  readonly #socket: number;
  readonly #buffer = new ReadBuffer(readSizes);
  readonly #ended = new AbortController();
  /** What was not taken yet is not to be sent any more. */
  readonly #lost = new AbortController();
  #waiting: number[] = [];
  #unsent = new MessageStore();
  #unsentBytes = 0;
  #isSending = false;
  #isReading = false;
  #isClosing = false;
  #isClosed = false;

  constructor(system: Descriptors, socket: number) {
    this.#system = system;
    this.#socket = socket;
    this.peer = system.credentialsOf(socket);
  }

  get backlogBytes(): number {
    return this.#unsentBytes;
  }

  async read(): Promise<Uint8Array | undefined> {
    this.#isReading = true;
    let received;
    while (!this.#ended.signal.aborted) {
      received = this.#system.receive(this.#socket, this.#buffer.space());
      if (received) break;
      await this.#system.when(this.#socket, "readable", this.#ended.signal);
    }
    if (received) this.#buffer.onRead(received.bytes.length);
    this.#isReading = false;
    this.#closeIfUnused();
    for (const descriptor of received?.descriptors ?? []) {
      if (this.#waiting.length < mostWaiting) this.#waiting.push(descriptor);
      else this.#system.closeOne(descriptor);
    }
    return received && received.bytes.length > 0 ? received.bytes : undefined;
  }

  send(bytes: Uint8Array): void {
    if (this.#isClosing) return;
    const sent = this.#isSending ? 0 : this.#sendNow(bytes);
    if (sent === bytes.length) return;
    if (sent === failed) return this.close({ isLost: true });
    const rest = bytes.subarray(sent);
    this.#unsent.append(rest);
    this.#unsentBytes += rest.length;
    if (!this.#isSending) void this.#flush();
  }

  takeDescriptors(count: number): number[] | undefined {
    const descriptors = this.#waiting.splice(0);
    if (descriptors.length === count) return descriptors;
    this.closeDescriptors(descriptors);
    return undefined;
  }

  closeDescriptors(descriptors: readonly number[]): void {
    for (const descriptor of descriptors) this.#system.closeOne(descriptor);
  }

  close({ isLost } = { isLost: false }): void {
    this.#isClosing = true;
    if (isLost) {
      this.#unsent = new MessageStore();
      this.#lost.abort(unexplained);
    }
    this.#ended.abort(unexplained);
    this.#closeIfUnused();
  }

  async #flush(): Promise<void> {
    this.#isSending = true;
    for (let first = this.#unsent.first; first; first = this.#unsent.first) {
      const sent = this.#sendNow(first);
      if (sent === failed) break;
      this.#unsentBytes -= sent;
      this.#unsent.skip(sent);
      if (sent > 0) this.onDrain?.();
      else if (!await this.#system.when(this.#socket, "writable", this.#lost.signal)) break;
    }
    this.#isSending = false;
    this.#closeIfUnused();
  }

  /** @returns how much the system has taken. */
  #sendNow(bytes: Uint8Array): number {
    const sent = this.#system.sendNow(this.#socket, bytes as Uint8Array<ArrayBuffer>);
    return sent === nothingNow ? 0 : sent;
  }

  #closeIfUnused(): void {
    if (!this.#isClosing || this.#isReading || this.#isSending || this.#isClosed) return;
    this.#isClosed = true;
    this.takeDescriptors(0);
    this.#system.closeOne(this.#socket);
  }
}

/** A connection by Deno's own, where the system's library cannot be used. */
export class PlainStream implements ControlStream {
  readonly passesDescriptors = false;
  readonly peer = undefined;
  onDrain: (() => void) | undefined;
  readonly #connection: ByteConnection;
  readonly #buffer = new ReadBuffer(readSizes);
  readonly #unsent = new MessageStore();
  #unsentBytes = 0;
  #isSending = false;
  #isClosing = false;
  #hasEnded = false;

  constructor(connection: ByteConnection) {
    this.#connection = connection;
  }

  get backlogBytes(): number {
    return this.#unsentBytes;
  }

  async read(): Promise<Uint8Array | undefined> {
    try {
      const buffer = this.#buffer.space();
      const count = await this.#connection.read(buffer);
      if (count === null) return undefined;
      this.#buffer.onRead(count);
      return buffer.subarray(0, count);
    } catch {
      // It was ended, by them or by us.
      return undefined;
    }
  }

  send(bytes: Uint8Array): void {
    if (this.#isClosing) return;
    this.#unsent.append(bytes);
    this.#unsentBytes += bytes.length;
    if (!this.#isSending) void this.#flush();
  }

  takeDescriptors(): undefined {
    return undefined;
  }

  closeDescriptors(): void {}

  close({ isLost } = { isLost: false }): void {
    this.#isClosing = true;
    if (!this.#isSending || isLost) this.#end();
  }

  async #flush(): Promise<void> {
    this.#isSending = true;
    try {
      for (let first = this.#unsent.first; first; first = this.#unsent.first) {
        const sent = await this.#connection.write(first);
        this.#unsent.skip(sent);
        this.#unsentBytes -= sent;
        this.onDrain?.();
      }
    } catch {
      // Whoever reads notices the end.
      this.#isClosing = true;
    }
    this.#isSending = false;
    if (this.#isClosing) this.#end();
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#connection.close();
  }
}
