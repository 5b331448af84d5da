/**
 * Verifies RSA signatures (RSASSA-PKCS1-v1_5, RFC 8017, section 8.2.2) with keys that are longer
 * than the runtime takes: Deno refuses public keys of more than 4,096 bits, OpenSSH goes up to
 * 16,384.
 *
 * All numbers here are public, so that the time which they take gives nothing away.
 */

import { Buffer } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import { bitsOf, integerOf, Reader } from "./ssh_data.ts";

/** OpenSSH's SSHBUF_MAX_BIGNUM. */
export const maximumRsaBits = 16_384;

/** OpenSSL's limit for long keys: a larger exponent would only cost time. */
const maximumExponentBits = 64;

/** What precedes the digest in a DigestInfo (RFC 8017, section 9.2, note 1). */
const digestInfoPrefixes: Readonly<Record<string, string>> = {
  sha1: "3021300906052b0e03021a05000414",
  sha256: "3031300d060960864801650304020105000420",
  sha512: "3051300d060960864801650304020305000440",
};

/** An RSA public key that is fit to verify with. */
export class RsaPublicKey {
  readonly #modulus: bigint;
  readonly #exponent: bigint;
  readonly #bytes: number;

  /**
   * @param numbers mpint e, mpint n: a public key of RFC 4253, section 6.6, behind its type.
   * @throws {Error} where they are no key that OpenSSH takes.
   */
  constructor(numbers: Uint8Array) {
    const reader = new Reader(numbers);
    this.#exponent = positive(reader.bytes());
    this.#modulus = positive(reader.bytes());
    reader.end();
    const bits = bitsOf(this.#modulus);
    if (bits > maximumRsaBits) throw new Error(`an RSA key of ${bits} bits`);
    const isFit = isOdd(this.#modulus) && isOdd(this.#exponent) && this.#exponent > 1n &&
      this.#exponent < this.#modulus && bitsOf(this.#exponent) <= maximumExponentBits;
    if (!isFit) throw new Error("a malformed RSA key");
    this.#bytes = Math.ceil(bits / 8);
  }

  /** @param hash `sha1`, `sha256` or `sha512`. */
  verifies(signature: Uint8Array, data: Uint8Array, hash: string): boolean {
    // As OpenSSH does, a signature may lack the zeros before it.
    if (signature.length > this.#bytes) return false;
    const value = integerOf(signature);
    if (value >= this.#modulus) return false;
    const hex = power(value, this.#exponent, this.#modulus).toString(16);
    const encoded = Buffer.from(hex.padStart(2 * this.#bytes, "0"), "hex");
    return timingSafeEqual(encoded, encode(data, hash, this.#bytes));
  }
}

/** EMSA-PKCS1-v1_5 (RFC 8017, section 9.2): of what was signed there is one encoding alone. */
function encode(data: Uint8Array, hash: string, bytes: number): Buffer {
  const prefix = Buffer.from(digestInfoPrefixes[hash]!, "hex");
  const digestInfo = Buffer.concat([prefix, createHash(hash).update(data).digest()]);
  const encoded = Buffer.alloc(bytes, 0xff);
  encoded[0] = 0;
  encoded[1] = 1;
  encoded[bytes - digestInfo.length - 1] = 0;
  encoded.set(digestInfo, bytes - digestInfo.length);
  return encoded;
}

function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n;
  for (const bit of exponent.toString(2)) {
    result = result * result % modulus;
    if (bit === "1") result = result * base % modulus;
  }
  return result;
}

function positive(mpint: Uint8Array): bigint {
  if (mpint.length > maximumRsaBits / 8 + 1) throw new Error("an RSA key that is too long");
  if ((mpint[0] ?? 0) & 0x80) throw new Error("an RSA key with a negative number");
  return integerOf(mpint);
}

function isOdd(value: bigint): boolean {
  return (value & 1n) === 1n;
}
