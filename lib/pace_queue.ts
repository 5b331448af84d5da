/** What waits to be sent upstream: a line for each channel, and all lines in turn by bytes. */

import { MessageStore } from "./message_store.ts";
import { writeUint32 } from "./ssh_data.ts";
import { MessageType } from "./wire.ts";

/** How much a line may send when its turn comes, in bytes: the largest usual message. */
const turnBytes = 32 * 1024;

interface Line<Key> {
  key: Key;
  payloads: MessageStore;
  bytes: number;
  /** How much of its turns it has not used, in bytes. */
  creditBytes: number;
}

/** Messages in lines. */
export class PaceQueue<Key> {
  readonly #lines = new Map<Key, Line<Key>>();
  /** The first one has its turn. */
  readonly #turns: Line<Key>[] = [];
  #bytes = 0;

  /** What waits, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many lines there are. */
  get lines(): number {
    return this.#turns.length;
  }

  /** What waits in a line, in bytes. */
  bytesOf(key: Key): number {
    return this.#lines.get(key)?.bytes ?? 0;
  }

  has(key: Key): boolean {
    return this.#lines.has(key);
  }

  /** Adds a copy of a message to the end of a line. */
  add(key: Key, payload: Uint8Array): void {
    let line = this.#lines.get(key);
    if (line === undefined) {
      line = { key, payloads: new MessageStore(), bytes: 0, creditBytes: turnBytes };
      this.#lines.set(key, line);
      this.#turns.push(line);
    }
    line.payloads.add(payload);
    line.bytes += payload.length;
    this.#bytes += payload.length;
  }

  /**
   * Takes the message whose turn it is, or of data a part of `mostBytes`: a slow link carries nothing
   * else as long as it carries a message.
   */
  take(mostBytes: number): Uint8Array | undefined {
    const line = this.#nextLine(mostBytes);
    if (line === undefined) return undefined;
    const { payloads } = line;
    const messageBytes = payloads.first!.length;
    const part = takePart(payloads, mostBytes);
    const taken = part ?? payloads.take()!;
    const goneBytes = part ? messageBytes - payloads.first!.length : messageBytes;
    line.creditBytes -= taken.length;
    line.bytes -= goneBytes;
    this.#bytes -= goneBytes;
    if (payloads.isEmpty) this.#remove(line);
    return taken;
  }

  /** Forgets what waits in a line. */
  discard(key: Key): void {
    const line = this.#lines.get(key);
    if (line === undefined) return;
    this.#bytes -= line.bytes;
    this.#remove(line);
  }

  #nextLine(mostBytes: number): Line<Key> | undefined {
    for (let line = this.#turns[0]; line !== undefined; line = this.#turns[0]) {
      if (Math.min(line.payloads.first!.length, mostBytes) <= line.creditBytes) return line;
      line.creditBytes += turnBytes;
      this.#turns.push(this.#turns.shift()!);
    }
    return undefined;
  }

  #remove(line: Line<Key>): void {
    this.#lines.delete(line.key);
    this.#turns.splice(this.#turns.indexOf(line), 1);
  }
}

/**
 * Takes so much data of the first message, as a message; what is left of it is the first one then.
 *
 * @returns `undefined` where it is not data, or no more than that.
 */
function takePart(payloads: MessageStore, bytes: number): Uint8Array | undefined {
  const message = payloads.first!;
  const headerBytes = headerBytesOf(message);
  if (headerBytes === undefined || message.length - headerBytes <= bytes) return undefined;
  const part = message.slice(0, headerBytes + bytes);
  setDataLength(part, headerBytes);
  payloads.skip(bytes);
  const rest = payloads.first!;
  rest.set(part.subarray(0, headerBytes));
  setDataLength(rest, headerBytes);
  return part;
}

/** What stands before the data (RFC 4254, 5.2), its length included. */
function headerBytesOf(message: Uint8Array): number | undefined {
  switch (message[0]) {
    case MessageType.channelData:
      return 9;
    case MessageType.channelExtendedData:
      return 13;
    default:
      return undefined;
  }
}

function setDataLength(message: Uint8Array, headerBytes: number): void {
  writeUint32(message, headerBytes - 4, message.length - headerBytes);
}
