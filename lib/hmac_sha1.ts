/**
 * HMAC-SHA1 (RFC 2104) of one message under many keys, as the hashed names of a known_hosts file
 * ask for it. `node:crypto` makes several objects a key for that, which cost far more than SHA-1.
 */

import { Buffer } from "node:buffer";
import { _SHA1 } from "@noble/hashes/legacy.js";

const blockBytes = 64;
const digestBytes = 20;

/** The message as the blocks that SHA-1 takes, and room for what comes of it. */
export class HmacSha1 extends _SHA1 {
  readonly #initial = this.get();
  readonly #message: DataView;
  readonly #inner = blocksOf(new Uint8Array(digestBytes));
  readonly #digest = Buffer.alloc(digestBytes);
  readonly #digestView = viewOf(this.#digest);
  readonly #innerPad = padOf(0x36363636);
  readonly #outerPad = padOf(0x5c5c5c5c);

  constructor(message: Uint8Array) {
    super();
    this.#message = blocksOf(message);
  }

  /** The digest under a key of 20 bytes; the next call overwrites it. */
  under(key: Uint8Array): Buffer {
    const keyView = viewOf(key);
    this.#hash(this.#innerPad, keyView, this.#message, this.#inner);
    this.#hash(this.#outerPad, keyView, this.#inner, this.#digestView);
    return this.#digest;
  }

  /** Hashes `key` in a pad, and `blocks`. */
  #hash(pad: DataView, key: DataView, blocks: DataView, digest: DataView): void {
    // The pad's own value is behind the key's place.
    const value = pad.getInt32(digestBytes);
    for (let at = 0; at < digestBytes; at += 4) pad.setInt32(at, key.getInt32(at) ^ value);
    this.set(...this.#initial);
    this.process(pad, 0);
    for (let at = 0; at < blocks.byteLength; at += blockBytes) this.process(blocks, at);
    const state = this.get();
    for (let at = 0; at < digestBytes; at += 4) digest.setInt32(at, state[at / 4]!);
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

/** A block of one value. */
function padOf(value: number): DataView {
  return new DataView(new Int32Array(blockBytes / 4).fill(value).buffer);
}

/** Bytes that follow the block of a key, filled up to whole blocks (RFC 3174, section 4). */
function blocksOf(bytes: Uint8Array): DataView {
  const size = Math.ceil((bytes.length + 9) / blockBytes) * blockBytes;
  const blocks = new Uint8Array(size);
  blocks.set(bytes);
  blocks[bytes.length] = 0x80;
  const view = viewOf(blocks);
  view.setBigUint64(size - 8, BigInt(8 * (blockBytes + bytes.length)));
  return view;
}
