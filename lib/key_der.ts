/**
 * DER (ITU-T X.690) as far as private keys and ECDSA signatures need it.
 */

import { unsignedBytes } from "./ssh_data.ts";

/** The tags that occur in keys; `context(n)` is the constructed one of a field marked [n]. */
export const Tag = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  sequence: 0x30,
  context: (number: number): number => 0xa0 + number,
} as const;

/**
 * Reads DER values one after the other.
 *
 * Every method throws a RangeError where something else stands or the bytes end too soon.
 */
export class DerReader {
  readonly #bytes: Uint8Array;
  #position = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The tag of the next value, `undefined` at the end. */
  get nextTag(): number | undefined {
    return this.#bytes[this.#position];
  }

  /** The content of the next value, as a view. */
  value(tag: number): Uint8Array {
    if (this.nextTag !== tag) throw new RangeError("another DER value was expected");
    this.#position++;
    const length = this.#length();
    const end = this.#position + length;
    if (end > this.#bytes.length) throw new RangeError("the DER value is truncated");
    const content = this.#bytes.subarray(this.#position, end);
    this.#position = end;
    return content;
  }

  /** A reader of the values within the next one. */
  reader(tag: number): DerReader {
    return new DerReader(this.value(tag));
  }

  sequence(): DerReader {
    return this.reader(Tag.sequence);
  }

  /** A small number, such as a version or an iteration count. */
  number(): number {
    const content = this.value(Tag.integer);
    const isSmall = content.length > 0 && content.length <= 5 && content[0]! < 0x80;
    const isPadded = content.length > 1 && content[0] === 0 && content[1]! < 0x80;
    if (!isSmall || isPadded) throw new RangeError("the number is not usable");
    return content.reduce((value, byte) => value * 256 + byte, 0);
  }

  /** An object identifier with dots. */
  objectIdentifier(): string {
    const content = this.value(Tag.objectIdentifier);
    const parts: number[] = [];
    let part = 0;
    for (const byte of content) {
      if (part === 0 && byte === 0x80) throw new RangeError("the object identifier is padded");
      part = part * 128 + (byte & 0x7f);
      if (byte < 0x80) {
        parts.push(part);
        part = 0;
      }
    }
    const isWhole = content.length > 0 && content.at(-1)! < 0x80;
    if (!isWhole) throw new RangeError("the object identifier is truncated");
    const [first = 0, ...rest] = parts;
    const root = Math.min(Math.floor(first / 40), 2);
    return [root, first - 40 * root, ...rest].join(".");
  }

  end(): void {
    if (this.nextTag !== undefined) throw new RangeError("bytes after the end");
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const size = first - 0x80;
    if (size < 1 || size > 4) throw new RangeError("the DER length is not usable");
    let length = 0;
    for (let i = 0; i < size; i++) length = length * 256 + this.#byte();
    return length;
  }

  #byte(): number {
    const byte = this.#bytes[this.#position++];
    if (byte === undefined) throw new RangeError("the DER value is truncated");
    return byte;
  }
}

/** Encodes one value; several contents follow each other within it. */
export function encodeDer(tag: number, ...contents: Uint8Array[]): Uint8Array {
  const length = contents.reduce((sum, content) => sum + content.length, 0);
  const header = [tag];
  if (length < 0x80) header.push(length);
  else if (length < 0x100) header.push(0x81, length);
  else if (length < 0x10000) header.push(0x82, length >> 8, length & 0xff);
  else throw new RangeError("the content is too long");
  const bytes = new Uint8Array(header.length + length);
  bytes.set(header);
  let offset = header.length;
  for (const content of contents) {
    bytes.set(content, offset);
    offset += content.length;
  }
  return bytes;
}

/** Encodes an unsigned number that is given as big-endian bytes, of any length. */
export function encodeDerUnsigned(bytes: Uint8Array): Uint8Array {
  return encodeDer(Tag.integer, unsignedBytes(bytes));
}
