/**
 * ChaCha20 with a nonce of 64 bits (https://cr.yp.to/chacha/chacha-20080128.pdf), for short packets:
 * up to some 300 bytes it takes less time than `node:crypto` needs for an object.
 */

import type { Buffer } from "node:buffer";

const blockBytes = 64;
const doubleRounds = 10;

/** "expand 32-byte k" */
const constants = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574];
/** Where the number of the block and the nonce stand in a block, in words. */
const numberAt = 12;
const nonceAt = 14;

/** The key stream of one key; its bytes are those of a machine that is little-endian. */
export class ChaCha20 {
  readonly #start = new Int32Array(16);
  readonly #block = new Int32Array(16);
  readonly #blockBytes = new Uint8Array(this.#block.buffer);

  /** @param key 32 bytes. */
  constructor(key: Buffer) {
    this.#start.set(constants);
    for (let word = 0; word < 8; word++) this.#start[4 + word] = key.readInt32LE(4 * word);
  }

  /** Begins another stream of the key; `nonce` has eight bytes. */
  set nonce(nonce: Buffer) {
    this.#start[nonceAt] = nonce.readInt32LE(0);
    this.#start[nonceAt + 1] = nonce.readInt32LE(4);
  }

  /** Encrypts or decrypts with the stream from one of its blocks on. */
  apply(input: Uint8Array, output: Uint8Array, firstBlock = 0): void {
    this.#start[numberAt] = firstBlock;
    for (let at = 0; at < input.length; at++) {
      const inBlock = at % blockBytes;
      if (inBlock === 0) this.#nextBlock();
      output[at] = input[at]! ^ this.#blockBytes[inBlock]!;
    }
  }

  #nextBlock(): void {
    const start = this.#start;
    const block = this.#block;
    for (let word = 0; word < 16; word++) block[word] = start[word]!;
    for (let round = 0; round < doubleRounds; round++) {
      quarterRound(block, 0, 4, 8, 12);
      quarterRound(block, 1, 5, 9, 13);
      quarterRound(block, 2, 6, 10, 14);
      quarterRound(block, 3, 7, 11, 15);
      quarterRound(block, 0, 5, 10, 15);
      quarterRound(block, 1, 6, 11, 12);
      quarterRound(block, 2, 7, 8, 13);
      quarterRound(block, 3, 4, 9, 14);
    }
    for (let word = 0; word < 16; word++) block[word]! += start[word]!;
    start[numberAt]!++;
  }
}

function quarterRound(block: Int32Array, atA: number, atB: number, atC: number, atD: number): void {
  let a = block[atA]!;
  let b = block[atB]!;
  let c = block[atC]!;
  let d = block[atD]!;
  d = rotated(d ^ (a = a + b | 0), 16);
  b = rotated(b ^ (c = c + d | 0), 12);
  d = rotated(d ^ (a = a + b | 0), 8);
  b = rotated(b ^ (c = c + d | 0), 7);
  block[atA] = a;
  block[atB] = b;
  block[atC] = c;
  block[atD] = d;
}

function rotated(word: number, bits: number): number {
  return word << bits | word >>> 32 - bits;
}
