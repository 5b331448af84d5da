/** What waits to be sent upstream: a line for each channel, and all lines in turn by bytes. */

import { PacketMemory } from "./packet_memory.ts";
import { buildMessage } from "./ssh_data.ts";
import { type ChannelData, MessageType, parseMessage } from "./wire.ts";

/** How much a line may send when its turn comes, in bytes: the largest usual message. */
const turnBytes = 32 * 1024;

interface Line<Key> {
  key: Key;
  payloads: Uint8Array[];
  bytes: number;
  /** How much of its turns it has not used, in bytes. */
  creditBytes: number;
}

/** Messages in lines. */
export class PaceQueue<Key> {
  readonly #memory = new PacketMemory();
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
      line = { key, payloads: [], bytes: 0, creditBytes: turnBytes };
      this.#lines.set(key, line);
      this.#turns.push(line);
    }
    const copy = this.#memory.take(payload.length);
    copy.set(payload);
    line.payloads.push(copy);
    line.bytes += payload.length;
    this.#bytes += payload.length;
  }

  /**
   * Takes the message whose turn it is, or of data a part of about `mostBytes`: a slow link carries
   * nothing else as long as it carries a message. The bytes are there until `send` returns.
   */
  take(mostBytes: number, send: (payload: Uint8Array) => void): void {
    const line = this.#nextLine(mostBytes);
    if (line === undefined) return;
    const payload = line.payloads[0]!;
    const parts = payload.length > mostBytes ? split(payload, mostBytes) : undefined;
    const taken = parts?.first ?? payload;
    const leftBytes = parts?.rest.length ?? 0;
    if (parts) line.payloads[0] = parts.rest;
    else line.payloads.shift();
    line.creditBytes -= taken.length;
    line.bytes -= payload.length - leftBytes;
    this.#bytes -= payload.length - leftBytes;
    if (line.payloads.length === 0) this.#remove(line);
    send(taken);
    PacketMemory.release(payload);
  }

  /** Forgets what waits in a line. */
  discard(key: Key): void {
    const line = this.#lines.get(key);
    if (line === undefined) return;
    this.#bytes -= line.bytes;
    for (const payload of line.payloads) PacketMemory.release(payload);
    this.#remove(line);
  }

  #nextLine(mostBytes: number): Line<Key> | undefined {
    for (let line = this.#turns[0]; line !== undefined; line = this.#turns[0]) {
      if (Math.min(line.payloads[0]!.length, mostBytes) <= line.creditBytes) return line;
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

/** Makes two messages of one with so much data; others stay whole. */
function split(
  payload: Uint8Array,
  bytes: number,
): { first: Uint8Array; rest: Uint8Array } | undefined {
  const { channelData, channelExtendedData } = MessageType;
  if (payload[0] !== channelData && payload[0] !== channelExtendedData) return undefined;
  const { type, recipientChannel, dataTypeCode, data } = parseMessage(payload) as ChannelData;
  if (data.length <= bytes) return undefined;
  const code = type === channelData ? [] : [dataTypeCode];
  const build = (part: Uint8Array) => buildMessage(type, recipientChannel, ...code, part);
  return { first: build(data.subarray(0, bytes)), rest: build(data.subarray(bytes)) };
}
