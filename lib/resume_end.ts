/**
 * One end of a stream that outlives the connections that carry it, without any input or output.
 *
 * What is written is kept until the other end has it. At each new carrier both ends tell how many
 * bytes they have, and go on from there: no byte is lost, and none comes twice.
 *
 * A carrier has frames: a type, a length of 4 bytes, and the body.
 */

import { ProtocolError } from "./errors.ts";
import { MessageStore } from "./message_store.ts";

/** The types of frames, which are letters. */
export const FrameType = {
  /** The next bytes of the stream. */
  data: 68,
  /** How many bytes the sender of this has, in 8 bytes. */
  acknowledgment: 65,
  /** The server's side of the stream has ended; the body says why. */
  end: 69,
  /** The client does not want the stream any more. */
  close: 88,
} as const;

/** What is kept of one direction at most, in bytes: more is not taken. */
export const keptBytes = 8 * 1024 * 1024;

/** So much may come before it is acknowledged, in bytes: each acknowledgment is a packet of its own. */
const acknowledgeBytes = 512 * 1024;

/** The longest body, in bytes. */
const longestBody = 128 * 1024;

const headerBytes = 5;

/** With its header, what is sent at once is two packets of OpenSSH's largest, in bytes. */
const sentBytes = 2 * 32_768 - headerBytes;

/** Smaller pieces are joined, in bytes. */
const smallBytes = 16 * 1024;

/** A frame that is being received. */
interface Incoming {
  type: number;
  /** What is still to come of it, in bytes. */
  rest: number;
  /** What has come, unless it is data. */
  body: number[];
}

/** One end: what it has sent and received, whatever carries it. */
export class ResumeEnd {
  readonly #keptBytes: number;
  readonly #acknowledgeBytes: number;
  /**
   * What the other end is not known to have, each piece with room for a header before it, and where
   * in the stream the first byte of it is.
   */
  #kept: Uint8Array[] = [];
  #base = 0;
  #written = 0;
  /** Where the next byte for this carrier is: in the stream, and in what is kept. */
  #sent = 0;
  #cursor = { chunk: 0, offset: 0 };
  #has = 0;
  #acknowledged = 0;
  #header: number[] = [];
  #incoming: Incoming | undefined;
  #isAttached = false;
  /** A frame to be sent when all data has been. */
  #last: Uint8Array | undefined;
  #isLastSent = false;
  readonly #received = new MessageStore();
  #unreadBytes = 0;
  #end: string | undefined;
  #isClosed = false;

  /** How much is kept of what is written, and how much may come before it is acknowledged. */
  constructor({ kept = keptBytes, acknowledged = acknowledgeBytes } = {}) {
    this.#keptBytes = kept;
    this.#acknowledgeBytes = acknowledged;
  }

  /** How many bytes of the stream have come. */
  get has(): number {
    return this.#has;
  }

  /** How many bytes have come and were not read. */
  get unreadBytes(): number {
    return this.#unreadBytes;
  }

  /** How many bytes can be written now. */
  get roomBytes(): number {
    return Math.max(0, this.#keptBytes - (this.#written - this.#base));
  }

  /** Why the other end has ended the stream; what came before can still be read. */
  get end(): string | undefined {
    return this.#end;
  }

  /** Whether the other end does not want the stream any more. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /**
   * A new carrier is there.
   *
   * @param peerHas how many bytes the other end has.
   * @throws {ProtocolError} where it cannot have so many, or so few.
   */
  attach(peerHas: number): void {
    this.#header = [];
    this.#incoming = undefined;
    this.#forget(peerHas);
    this.#sent = this.#base;
    this.#cursor = { chunk: 0, offset: 0 };
    // The other end has just been told.
    this.#acknowledged = this.#has;
    this.#isLastSent = false;
    this.#isAttached = true;
  }

  /** The carrier is gone. */
  detach(): void {
    this.#isAttached = false;
  }

  /** Takes bytes, no more than there is room for; they are copied. @returns how many. */
  write(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.roomBytes);
    for (let at = 0; at < count; at += sentBytes) {
      const part = bytes.subarray(at, Math.min(count, at + sentBytes));
      this.#kept.push(frame(FrameType.data, part).subarray(headerBytes));
    }
    this.#written += count;
    return count;
  }

  /** Ends the stream behind all that was written: `type` is `end` or `close`. */
  finish(type: number, reason = ""): void {
    this.#last ??= frame(type, new TextEncoder().encode(reason).subarray(0, longestBody));
  }

  /** The next bytes for the carrier, which has to take all of them; `undefined` for none. */
  next(): Uint8Array | undefined {
    if (!this.#isAttached) return undefined;
    if (this.#has - this.#acknowledged >= this.#acknowledgeBytes) {
      this.#acknowledged = this.#has;
      return frame(FrameType.acknowledgment, countBytes(this.#has));
    }
    const size = Math.min(sentBytes, this.#written - this.#sent);
    if (size > 0) return this.#takePiece() ?? this.#takeData(size);
    if (this.#last === undefined || this.#isLastSent) return undefined;
    this.#isLastSent = true;
    return this.#last;
  }

  /**
   * Bytes have come by the carrier, which nobody else uses any more.
   *
   * @throws {ProtocolError} where they are no frames.
   */
  receive(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const frame = this.#incoming;
      if (frame === undefined) {
        this.#header.push(bytes[at++]!);
        if (this.#header.length === headerBytes) this.#onHeader();
        continue;
      }
      const part = bytes.subarray(at, at + frame.rest);
      at += part.length;
      frame.rest -= part.length;
      if (frame.type === FrameType.data) this.#onData(part);
      else frame.body.push(...part);
      if (frame.rest === 0) this.#onFrame(frame);
    }
  }

  /** Bytes of the stream in their order. @returns how many; 0 where there are none now. */
  read(buffer: Uint8Array): number {
    const part = this.#received.first?.subarray(0, buffer.length);
    if (part === undefined) return 0;
    buffer.set(part);
    this.#received.skip(part.length);
    this.#unreadBytes -= part.length;
    return part.length;
  }

  /** The next piece as it was kept, unless it is small and others follow, or was sent in part. */
  #takePiece(): Uint8Array | undefined {
    const { chunk, offset } = this.#cursor;
    const piece = this.#kept[chunk]!;
    const isJoined = piece.length < smallBytes && chunk + 1 < this.#kept.length;
    if (offset > 0 || piece.byteOffset !== headerBytes || isJoined) return undefined;
    this.#cursor = { chunk: chunk + 1, offset: 0 };
    this.#sent += piece.length;
    return new Uint8Array(piece.buffer, 0, headerBytes + piece.length);
  }

  #takeData(size: number): Uint8Array {
    const result = new Uint8Array(headerBytes + size);
    writeHeader(result, FrameType.data, size);
    for (let at = headerBytes; at < result.length;) {
      const { chunk, offset } = this.#cursor;
      const part = this.#kept[chunk]!.subarray(offset, offset + result.length - at);
      result.set(part, at);
      at += part.length;
      const isAll = offset + part.length === this.#kept[chunk]!.length;
      this.#cursor = isAll
        ? { chunk: chunk + 1, offset: 0 }
        : { chunk, offset: offset + part.length };
    }
    this.#sent += size;
    return result;
  }

  #onHeader(): void {
    const [type, a, b, c, d] = this.#header as [number, number, number, number, number];
    const rest = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
    this.#header = [];
    const isKnown = Object.values<number>(FrameType).includes(type);
    if (!isKnown || rest > longestBody) throw new ProtocolError("no frame of a resumable stream");
    const frame = { type, rest, body: [] };
    if (rest === 0) this.#onFrame(frame);
    else this.#incoming = frame;
  }

  #onData(part: Uint8Array): void {
    if (this.#end !== undefined) throw new ProtocolError("data after the end");
    this.#has += part.length;
    this.#unreadBytes += part.length;
    this.#received.append(part);
  }

  #onFrame({ type, body }: Incoming): void {
    this.#incoming = undefined;
    const bytes = Uint8Array.from(body);
    if (type === FrameType.acknowledgment) this.#onAcknowledgment(bytes);
    if (type === FrameType.end) this.#end = new TextDecoder().decode(bytes);
    if (type === FrameType.close) this.#isClosed = true;
  }

  #onAcknowledgment(body: Uint8Array): void {
    if (body.length !== 8) throw new ProtocolError("an acknowledgment of another size");
    const count = Number(new DataView(body.buffer, body.byteOffset).getBigUint64(0));
    if (count > this.#sent) throw new ProtocolError("an acknowledgment of what was not sent");
    this.#forget(count);
  }

  /** The other end has `count` bytes. */
  #forget(count: number): void {
    if (!(count >= this.#base && count <= this.#written)) {
      throw new ProtocolError(`a count of ${count} bytes beyond what is kept`);
    }
    let bytes = count - this.#base;
    let whole = 0;
    while (whole < this.#kept.length && this.#kept[whole]!.length <= bytes) {
      bytes -= this.#kept[whole++]!.length;
    }
    this.#kept.splice(0, whole);
    this.#cursor.chunk -= whole;
    if (bytes > 0) {
      this.#kept[0] = this.#kept[0]!.subarray(bytes);
      if (this.#cursor.chunk === 0) this.#cursor.offset -= bytes;
    }
    this.#base = count;
  }
}

function countBytes(count: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(count));
  return bytes;
}

/** A frame as it is sent. */
export function frame(type: number, body: Uint8Array): Uint8Array {
  const result = new Uint8Array(headerBytes + body.length);
  writeHeader(result, type, body.length);
  result.set(body, headerBytes);
  return result;
}

function writeHeader(result: Uint8Array, type: number, size: number): void {
  result[0] = type;
  new DataView(result.buffer).setUint32(1, size);
}
