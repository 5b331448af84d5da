/**
 * HMAC-SHA1 (RFC 2104, RFC 3174) of one message under many keys, as the hashed names of a
 * known_hosts file ask for it. `node:crypto` makes several objects a key for that, which takes many
 * times as long as the hashing.
 */

import { Buffer } from "node:buffer";

const blockBytes = 64;
const digestBytes = 20;
const innerMask = 0x36363636;
const outerMask = 0x5c5c5c5c;
const initialState = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];

/** The message as the blocks that SHA-1 takes, and room for what comes of it. */
export class HmacSha1 {
  readonly #message: Buffer;
  readonly #inner = blocksOf(Buffer.alloc(digestBytes));
  readonly #digest = Buffer.alloc(digestBytes);
  readonly #state = new Int32Array(5);
  /** A block and what is made of it. */
  readonly #words = new Int32Array(80);

  constructor(message: Uint8Array) {
    this.#message = blocksOf(message);
  }

  /** The digest under a key of 20 bytes; the next call overwrites it. */
  under(key: Buffer): Buffer {
    this.#hash(key, innerMask, this.#message, this.#inner);
    this.#hash(key, outerMask, this.#inner, this.#digest);
    return this.#digest;
  }

  /** Hashes a block with the key, and `blocks`. */
  #hash(key: Buffer, mask: number, blocks: Buffer, digest: Buffer): void {
    const words = this.#words;
    this.#state.set(initialState);
    words.fill(mask, 0, 16);
    for (let word = 0; word < 5; word++) words[word]! ^= key.readInt32BE(4 * word);
    this.#addBlock();
    for (let at = 0; at < blocks.length; at += blockBytes) {
      for (let word = 0; word < 16; word++) words[word] = blocks.readInt32BE(at + 4 * word);
      this.#addBlock();
    }
    for (let word = 0; word < 5; word++) digest.writeInt32BE(this.#state[word]!, 4 * word);
  }

  /** RFC 3174, section 6.1. */
  #addBlock(): void {
    const words = this.#words;
    const state = this.#state;
    for (let at = 16; at < 80; at++) {
      words[at] = rotated(
        words[at - 3]! ^ words[at - 8]! ^ words[at - 14]! ^ words[at - 16]!,
        1,
      );
    }
    let a = state[0]!;
    let b = state[1]!;
    let c = state[2]!;
    let d = state[3]!;
    let e = state[4]!;
    for (let at = 0; at < 80; at++) {
      const next = rotated(a, 5) + mixed(at, b, c, d) + e + words[at]! | 0;
      e = d;
      d = c;
      c = rotated(b, 30);
      b = a;
      a = next;
    }
    state[0]! += a;
    state[1]! += b;
    state[2]! += c;
    state[3]! += d;
    state[4]! += e;
  }
}

/** The function and the constant of one of the 80 steps, added (RFC 3174, section 5). */
function mixed(step: number, b: number, c: number, d: number): number {
  if (step < 20) return (b & c | ~b & d) + 0x5a827999;
  if (step < 40) return (b ^ c ^ d) + 0x6ed9eba1;
  if (step < 60) return (b & c | b & d | c & d) + 0x8f1bbcdc;
  return (b ^ c ^ d) + 0xca62c1d6;
}

function rotated(word: number, bits: number): number {
  return word << bits | word >>> 32 - bits;
}

/** Bytes that follow the block of a key, filled up to whole blocks (RFC 3174, section 4). */
function blocksOf(bytes: Uint8Array): Buffer {
  const size = Math.ceil((bytes.length + 9) / blockBytes) * blockBytes;
  const blocks = Buffer.alloc(size);
  blocks.set(bytes);
  blocks[bytes.length] = 0x80;
  blocks.writeBigUInt64BE(BigInt(8 * (blockBytes + bytes.length)), size - 8);
  return blocks;
}
