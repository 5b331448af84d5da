/**
 * The data types of RFC 4251, section 5, as bytes: in messages, keys, certificates and the agent's
 * protocol.
 *
 * A `string` of the RFC is kept as a byte string (one character per byte), so that no name or path
 * is changed by decoding.
 */

import { Buffer } from "node:buffer";
import { MalformedDataError } from "./errors.ts";

const encoder = new TextEncoder();
const utf8 = new TextDecoder();

/**
 * Reads the data types of RFC 4251, section 5, one after the other.
 *
 * Every method throws a MalformedDataError where the bytes end too soon.
 */
export class Reader {
  readonly #bytes: Uint8Array;
  #position: number;

  constructor(bytes: Uint8Array, position = 0) {
    this.#bytes = bytes;
    this.#position = position;
  }

  uint32(): number {
    const at = this.#advance(4);
    return readUint32(this.#bytes, at);
  }

  uint64(): bigint {
    return BigInt(this.uint32()) << 32n | BigInt(this.uint32());
  }

  byte(): number {
    return this.#bytes[this.#advance(1)]!;
  }

  boolean(): boolean {
    return this.byte() !== 0;
  }

  get isAtEnd(): boolean {
    return this.#position === this.#bytes.length;
  }

  /** A `string` of any bytes, as a view. */
  bytes(): Uint8Array {
    const length = this.uint32();
    const at = this.#advance(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** A `string` that names something: a byte string without NUL, except that one may end it. */
  text(): string {
    const text = byteString(this.bytes());
    const nul = text.indexOf("\0");
    if (nul === -1) return text;
    if (nul < text.length - 1) throw new MalformedDataError("a NUL byte within a string");
    return text.slice(0, nul);
  }

  /** A `string` of terminal modes (RFC 4254, section 8), parsed as strictly as sshd does. */
  modes(): void {
    const modes = new Reader(this.bytes());
    while (!modes.isAtEnd) {
      const opcode = modes.#bytes[modes.#advance(1)]!;
      if (opcode === 0 || opcode >= 160) return;
      modes.uint32();
    }
  }

  /** What has not been read, as a view. */
  rest(): Uint8Array {
    return this.#bytes.subarray(this.#advance(this.#bytes.length - this.#position));
  }

  end(): void {
    if (!this.isAtEnd) throw new MalformedDataError("bytes after the end");
  }

  #advance(length: number): number {
    const at = this.#position;
    if (at + length > this.#bytes.length) throw new MalformedDataError("the message is truncated");
    this.#position = at + length;
    return at;
  }
}

/** The fields of a message to build: a number is a uint32, a string or bytes a `string`. */
export type Field = number | boolean | string | Uint8Array | { raw: Uint8Array };

/** Builds a message; `raw` bytes are appended without a length. */
export function buildMessage(type: number, ...fields: Field[]): Uint8Array {
  const message = new Uint8Array(1 + encodedBytes(fields));
  message[0] = type;
  writeFields(message, 1, fields);
  return message;
}

/** Encodes fields without a message number before them. */
export function encodeFields(...fields: Field[]): Uint8Array {
  const encoded = new Uint8Array(encodedBytes(fields));
  writeFields(encoded, 0, fields);
  return encoded;
}

/** How long fields become. They are measured first, since an allocation costs more than the rest. */
function encodedBytes(fields: readonly Field[]): number {
  let length = 0;
  for (const field of fields) {
    if (typeof field === "number") length += 4;
    else if (typeof field === "boolean") length += 1;
    else if (typeof field === "string" || !("raw" in field)) length += 4 + field.length;
    else length += field.raw.length;
  }
  return length;
}

function writeFields(bytes: Uint8Array, at: number, fields: readonly Field[]): void {
  for (const field of fields) {
    if (typeof field === "number") {
      writeUint32(bytes, at, field);
      at += 4;
    } else if (typeof field === "boolean") {
      bytes[at++] = field ? 1 : 0;
    } else if (typeof field === "string") {
      writeUint32(bytes, at, field.length);
      at += 4;
      for (let index = 0; index < field.length; index++) bytes[at++] = field.charCodeAt(index);
    } else if ("raw" in field) {
      bytes.set(field.raw, at);
      at += field.raw.length;
    } else {
      writeUint32(bytes, at, field.length);
      bytes.set(field, at + 4);
      at += 4 + field.length;
    }
  }
}

/** A text for people (UTF-8) as the byte string that messages carry. */
export function utf8String(text: string): string {
  return byteString(encoder.encode(text));
}

/** A byte string as a text for people. */
export function displayText(text: string): string {
  return utf8.decode(bytesOf(text));
}

function byteString(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return text;
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** Joins byte arrays into one. */
export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** The uint32 at a place. */
export function readUint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>>
    0;
}

/** Writes a uint32 at a place. */
export function writeUint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** A number of any size from its bytes in network order, without a sign. */
export function integerOf(bytes: Uint8Array): bigint {
  return BigInt(`0x0${Buffer.from(bytes).toString("hex")}`);
}

/** How many binary digits a number has. */
export function bitsOf(value: bigint): number {
  return value === 0n ? 0 : value.toString(2).length;
}

/**
 * The shortest form of an unsigned big-endian number that reads as positive: a zero stands first
 * only before a byte of 0x80 or more. DER's INTEGER has it, and the mpint of RFC 4251, section 5,
 * except that the latter writes zero as nothing.
 */
export function unsignedBytes(bytes: Uint8Array): Uint8Array {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const digits = bytes.subarray(start);
  if (digits.length > 0 && digits[0]! < 0x80) return digits;
  const padded = new Uint8Array(digits.length + 1);
  padded.set(digits, 1);
  return padded;
}
