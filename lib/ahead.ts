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
import type { ChannelData } from "./wire.ts";

/** The most that is granted ahead on one channel, and on all of them together, in bytes. */
export const maximumAheadBytes = 14 * 1024 * 1024;
const poolBytes = 64 * 1024 * 1024;

/** Credit grows when it was used up within so many round trips. */
const roundTripsToGrow = 2;

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

/** Data of one kind, of which small pieces are joined: each would cost more than it is. */
export class WaitingData {
  readonly type: ChannelData["type"];
  readonly dataTypeCode: number;
  #bytes: Uint8Array;
  #start = 0;
  #end: number;

  constructor({ type, dataTypeCode, data }: ChannelData) {
    this.type = type;
    this.dataTypeCode = dataTypeCode;
    this.#bytes = data.slice();
    this.#end = data.length;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** Takes further data, if it is of the same kind and there is not much of it yet. */
  append({ type, dataTypeCode, data }: ChannelData): boolean {
    const end = this.#end + data.length;
    if (type !== this.type || dataTypeCode !== this.dataTypeCode || end > joinedBytes) return false;
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.min(joinedBytes, Math.max(end, 2 * this.#bytes.length)));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(data, this.#end);
    this.#end = end;
    return true;
  }

  /** The next bytes, which are gone with that. */
  take(bytes: number): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#start += bytes);
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
  #isClosed = false;

  /** @param now the time, in milliseconds. */
  constructor(flow: Flow, { pool, now }: { pool: AheadPool; now: () => number }) {
    this.#flow = flow;
    this.#pool = pool;
    this.#now = now;
  }

  /** The channel is open: so many bytes may be sent ahead. */
  begin(bytes: number): void {
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
    const last = this.#queue.at(-1);
    if (last?.kind === "data" && last.data.append(message)) return;
    this.#queue.push({ kind: "data", data: new WaitingData(message) });
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
    if (this.#flow.waitingBytes > totalBytes / 2) {
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
