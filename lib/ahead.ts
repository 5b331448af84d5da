/**
 * What upstream sends ahead of a client's window, so that a download fills a path that holds more.
 *
 * A window of 2 MiB is used up in a round trip of a long path, and nothing comes until it has been
 * granted again. So upstream is granted more than the client has, as long as the client proves to
 * read on; what comes beyond the client's window waits here, in its order among all that upstream
 * says on the channel.
 */

import { ChannelProtocolError } from "./errors.ts";
import { type Flow, maximumCreditBytes } from "./flow.ts";
import { MessageStore } from "./message_store.ts";
import { readUint32, writeUint32 } from "./ssh_data.ts";
import type { ChannelData } from "./wire.ts";

/** The most that is granted ahead on one channel, and on all of them together, in bytes. */
export const maximumAheadBytes = 14 * 1024 * 1024;
const poolBytes = 64 * 1024 * 1024;

/** Credit grows when it was used up within so many round trips: granted in halves, it takes two. */
const roundTripsToGrow = 3;

/** Data that waits is joined up to so many bytes. */
const joinedBytes = 32 * 1024;

/** What may wait of messages without data, which no window bounds. */
const mostMessages = 4096;
const mostMessageBytes = 1024 * 1024;

/** What is granted ahead on all channels of a relay. */
export class AheadPool {
  #usedBytes = 0;

  get leftBytes(): number {
    return poolBytes - this.#usedBytes;
  }

  add(bytes: number): void {
    this.#usedBytes += bytes;
  }
}

/** What waits: data; another message; the news that upstream is gone, behind all that it said. */
export type Waiting =
  | { kind: "data"; data: WaitingData }
  | { kind: "message"; payload: Uint8Array }
  | { kind: "lost"; reason: string };

/** Data of one kind that waits. */
export type WaitingPart = Pick<ChannelData, "type" | "dataTypeCode"> & { length: number };

/** What stands before data of one kind: its type, and its code in four bytes. */
const headBytes = 5;

/** Data without anything else among it, of which small pieces of one kind are joined. */
export class WaitingData {
  readonly #parts = new MessageStore();
  #last: WaitingPart | undefined;
  /** How much of the first part was taken, in bytes. */
  #taken = 0;
  #length = 0;

  /** All of it, in bytes. */
  get length(): number {
    return this.#length;
  }

  /** What is next, as far as it is of one kind. */
  get first(): WaitingPart {
    const part = this.#parts.first!;
    const length = part.length - headBytes - this.#taken;
    return { type: part[0] as ChannelData["type"], dataTypeCode: readUint32(part, 1), length };
  }

  /** Adds data, which must not be empty. */
  append({ type, dataTypeCode, data }: ChannelData): void {
    const last = this.#last;
    this.#length += data.length;
    const isJoined = type === last?.type && dataTypeCode === last.dataTypeCode &&
      last.length + data.length <= joinedBytes && this.#parts.extend(data);
    if (isJoined) return void (last.length += data.length);
    const head = new Uint8Array(headBytes);
    head[0] = type;
    writeUint32(head, 1, dataTypeCode);
    this.#parts.add(head, data);
    this.#last = { type, dataTypeCode, length: data.length };
  }

  /** The next bytes, of one kind, which are gone with that. */
  take(bytes: number): Uint8Array {
    const part = this.#parts.first!;
    const start = headBytes + this.#taken;
    this.#taken += bytes;
    this.#length -= bytes;
    if (headBytes + this.#taken === part.length) {
      this.#parts.take();
      this.#taken = 0;
    }
    return part.subarray(start, start + bytes);
  }
}

/** What one channel has ahead of its client. */
export class Ahead {
  readonly #flow: Flow;
  readonly #pool: AheadPool;
  readonly #now: () => number;
  #queue: Waiting[] = [];
  #messageBytes = 0;
  #messages = 0;
  /** Which of the last messages are among what waits. */
  hasEof = false;
  hasClose = false;
  /** Whether a request that wants a reply is among it. */
  wantsReply = false;
  /** Whether data was dropped: what follows it is of no use either. */
  hasGap = false;
  /** What is to be granted ahead; more may be under way. */
  #wantedBytes = 0;
  /** What has come since when, in bytes and milliseconds. */
  #arrivedBytes = 0;
  #since = -Infinity;
  /** Since when something waits without a break, in milliseconds. */
  #waitsSince = 0;
  #isClosed = false;

  /** @param now the time, in milliseconds. */
  constructor(flow: Flow, { pool, now }: { pool: AheadPool; now: () => number }) {
    this.#flow = flow;
    this.#pool = pool;
    this.#now = now;
  }

  /** The channel is open: so many bytes may be sent ahead. */
  begin(bytes: number): void {
    this.#since = this.#now();
    this.#wantedBytes = Math.min(bytes, this.#pool.leftBytes);
    this.settle();
  }

  get isEmpty(): boolean {
    return this.#queue.length === 0;
  }

  /** What is next. */
  get first(): Waiting | undefined {
    return this.#queue[0];
  }

  /** Queues data behind all that waits. */
  pushData(message: ChannelData): void {
    if (message.data.length === 0) return; // No window would bound it.
    if (this.isEmpty) this.#waitsSince = this.#now();
    let last = this.#queue.at(-1);
    if (last?.kind !== "data") {
      last = { kind: "data", data: new WaitingData() };
      this.#queue.push(last);
    }
    last.data.append(message);
  }

  /** Queues behind all that waits. @throws {ChannelProtocolError} where it is too much. */
  push(waiting: Exclude<Waiting, { kind: "data" }>): void {
    if (waiting.kind === "message") {
      this.#messages++;
      this.#messageBytes += waiting.payload.length;
      if (this.#messages > mostMessages || this.#messageBytes > mostMessageBytes) {
        throw new ChannelProtocolError("too many messages behind data that wait");
      }
    }
    this.#queue.push(waiting);
  }

  shift(): void {
    const waiting = this.#queue.shift();
    if (waiting?.kind === "message") {
      this.#messages--;
      this.#messageBytes -= waiting.payload.length;
    }
    if (this.isEmpty) this.hasEof = this.hasClose = this.wantsReply = false;
  }

  /** So many bytes that wait have nowhere to go. */
  drop(bytes: number): void {
    this.hasGap = true;
    this.#flow.dropWaiting(bytes);
  }

  /** Data has come. @param roundTripMs how far upstream is away; `undefined` where unknown. */
  onData(bytes: number, roundTripMs: number | undefined): void {
    this.#arrivedBytes += bytes;
    if (this.#arrivedBytes < this.#flow.mostCreditBytes) return this.settle();
    const now = this.#now();
    const tookMs = now - this.#since;
    this.#arrivedBytes = 0;
    this.#since = now;
    const totalBytes = this.#flow.mostCreditBytes;
    // A round trip's data may come at once: whoever has taken it before the next one is not slow.
    const isSlow = !this.isEmpty && now - this.#waitsSince > (roundTripMs ?? 0);
    if (isSlow && this.#flow.waitingBytes > totalBytes / 2) {
      this.#wantedBytes = Math.max(0, Math.floor(totalBytes / 2) - maximumCreditBytes);
    } else if (roundTripMs !== undefined && tookMs < roundTripMs * roundTripsToGrow) {
      const most = Math.min(maximumAheadBytes, this.#wantedBytes + this.#pool.leftBytes);
      this.#wantedBytes = Math.min(most, this.#wantedBytes + totalBytes);
    }
    this.settle();
  }

  /** What is granted ahead is what is wanted; what is under way already stays counted. */
  settle(): void {
    if (this.#isClosed) return;
    const bytes = Math.max(this.#wantedBytes, this.#flow.excessBytes);
    if (bytes === this.#flow.aheadBytes) return;
    this.#pool.add(bytes - this.#flow.aheadBytes);
    this.#flow.aheadBytes = bytes;
  }

  /** The channel is gone. May be called twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#queue = [];
    this.#pool.add(-this.#flow.aheadBytes);
  }
}
