/**
 * chacha20-poly1305@openssh.com (OpenSSH's PROTOCOL.chacha20poly1305) as key files use it: one
 * packet with the number 0 and without a length before it.
 */

import { Buffer } from "node:buffer";
import { createDecipheriv, timingSafeEqual } from "node:crypto";

const blockBytes = 64;

/**
 * Decrypts what was encrypted with `key`, of 64 bytes, the second half of which serves packet
 * lengths and is not used here. Returns `null` where the tag does not fit.
 */
export function openChaCha20Poly1305(
  key: Uint8Array,
  data: Uint8Array,
  tag: Uint8Array,
): Uint8Array | null {
  // The first block of the key stream is for the tag: an all-zero nonce and counter, and zeros.
  const stream = createDecipheriv("chacha20", key.subarray(0, 32), Buffer.alloc(16));
  const tagKey = stream.update(Buffer.alloc(blockBytes)).subarray(0, 32);
  const expected = poly1305(tagKey, data);
  tagKey.fill(0);
  const plain = stream.update(data);
  stream.final(); // Without it, Deno keeps the cipher.
  if (tag.length === expected.length && timingSafeEqual(expected, tag)) return plain;
  plain.fill(0);
  return null;
}

/** Poly1305 (RFC 8439, section 2.5), for the few hundred bytes of a key. */
function poly1305(key: Uint8Array, data: Uint8Array): Uint8Array {
  const prime = (1n << 130n) - 5n;
  const r = littleEndian(key.subarray(0, 16)) & 0x0ffffffc0ffffffc0ffffffc0fffffffn;
  const s = littleEndian(key.subarray(16, 32));
  let sum = 0n;
  for (let at = 0; at < data.length; at += 16) {
    const chunk = data.subarray(at, at + 16);
    sum = (sum + littleEndian(chunk) + (1n << BigInt(8 * chunk.length))) * r % prime;
  }
  const tag = BigInt.asUintN(128, sum + s).toString(16).padStart(32, "0");
  return Buffer.from(tag, "hex").reverse();
}

function littleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x0${Buffer.from(bytes).reverse().toString("hex")}`);
}
