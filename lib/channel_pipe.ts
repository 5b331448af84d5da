/** A channel of a client in this process joined to a connection: what comes from one goes to the other. */

import { logger } from "./log.ts";
import { MessageStore } from "./message_store.ts";
import { ReadBuffer } from "./read_buffer.ts";
import type { ChannelOwner, RelayChannel } from "./relay_channel.ts";

const log = logger("forward");

/** What is read at a time, at first and as long as there is more. */
const readSizes = { firstBytes: 4 * 1024, mostBytes: 64 * 1024 };

/** A connection with an end of its own in each direction. */
export interface PipeEnd {
  read(buffer: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
  close(): void;
}

/**
 * Joins a connection to a channel, which is open or about to be; both are closed when both directions
 * have ended, or one of them is gone.
 */
export class ChannelPipe implements ChannelOwner {
  readonly #channel: RelayChannel;
  readonly #connection: PipeEnd;
  readonly #onOpen: (() => void) | undefined;
  readonly #onRefusal: ((reason: string) => void) | undefined;
  readonly #queue = new MessageStore();
  #isWriting = false;
  #hasEof = false;
  #hasSentEof = false;
  #isClosed = false;
  #onRoomAgain: (() => void) | undefined;

  constructor(channel: RelayChannel, { connection, onOpen, onRefusal }: {
    connection: PipeEnd;
    onOpen?: () => void;
    onRefusal?: (reason: string) => void;
  }) {
    this.#channel = channel;
    this.#connection = connection;
    this.#onOpen = onOpen;
    this.#onRefusal = onRefusal;
  }

  onOpen(): void {
    this.#onOpen?.();
    void this.#passOn();
  }

  onRefused(_reasonCode: number, description: string): void {
    this.#onRefusal?.(description);
    this.onClose();
  }

  onData(data: Uint8Array): void {
    this.#queue.append(data);
    if (!this.#isWriting) void this.#write();
  }

  onRoom(): void {
    this.#onRoomAgain?.();
  }

  onEof(): void {
    this.#hasEof = true;
    if (!this.#isWriting) void this.#write();
  }

  onClose(): void {
    this.#isClosed = true;
    this.onRoom();
    if (!this.#isWriting) this.#connection.close();
  }

  /** From the connection to the channel. */
  async #passOn(): Promise<void> {
    const buffer = new ReadBuffer(readSizes);
    try {
      for (;;) {
        while (this.#channel.roomBytes === 0 && !this.#isClosed) await this.#room();
        if (this.#isClosed) return;
        const part = buffer.space(this.#channel.roomBytes);
        const count = await this.#connection.read(part);
        if (count === null) break;
        this.#channel.send(part.subarray(0, count));
        buffer.onRead(count);
      }
    } catch (error) {
      if (!this.#isClosed) log.debug("a forwarded connection is gone: {error}", { error });
      return this.#channel.close();
    }
    this.#channel.sendEof();
    this.#hasSentEof = true;
    this.#closeIfDone();
  }

  /** From the channel to the connection. */
  async #write(): Promise<void> {
    this.#isWriting = true;
    try {
      for (let data = this.#queue.take(); data; data = this.#queue.take()) {
        for (let sent = 0; sent < data.length;) {
          sent += await this.#connection.write(data.subarray(sent));
        }
        this.#channel.consumed(data.length);
      }
      if (this.#hasEof) await this.#connection.closeWrite();
    } catch (error) {
      log.debug("a forwarded connection takes no more: {error}", { error });
      for (let data = this.#queue.take(); data; data = this.#queue.take()) {
        this.#channel.consumed(data.length);
      }
      this.#channel.close();
    }
    this.#isWriting = false;
    if (this.#isClosed) this.#connection.close();
    else this.#closeIfDone();
  }

  #closeIfDone(): void {
    if (this.#hasEof && this.#hasSentEof && !this.#isWriting) this.#channel.close();
  }

  #room(): Promise<void> {
    return new Promise((resolve) => this.#onRoomAgain = resolve);
  }
}
