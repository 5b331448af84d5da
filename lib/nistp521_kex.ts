/** The key exchange ecdh-sha2-nistp521 (RFC 5656, section 4), whose curve Deno's ECDH lacks. */

import { Buffer } from "node:buffer";
import type { p521 } from "@noble/curves/nist.js";
import { KeyExchangeError } from "./errors.ts";
import { unsignedBytes } from "./ssh_data.ts";

/** The name in KEXINIT. */
export const nistp521KexName = "ecdh-sha2-nistp521";

const coordinateBytes = 66;
/** The first byte of a point that is not compressed, the only form that OpenSSH takes. */
const uncompressed = 4;

let curve: typeof p521 | undefined;

/** Loads what exchanges need: it takes a tenth of the program's start, and is hardly ever used. */
export async function loadNistp521(): Promise<void> {
  curve ??= (await import("@noble/curves/nist.js")).p521;
}

/** One side of one exchange. */
export interface Nistp521Exchange {
  /** The point that is sent to the other side. */
  readonly publicValue: Buffer;
  /**
   * The shared secret K as the contents of an `mpint`.
   *
   * @throws {Error} where the other side's value is no point of the curve.
   */
  computeSecret(otherPublicValue: Uint8Array): Buffer;
}

/** Begins an exchange, once the curve is loaded; both sides do the same. */
export function beginNistp521Exchange(): Nistp521Exchange {
  if (curve === undefined) throw new Error("the curve of ecdh-sha2-nistp521 is not loaded");
  const p521 = curve;
  const { secretKey } = p521.keygen();
  return {
    publicValue: Buffer.from(p521.getPublicKey(secretKey, false)),
    computeSecret(otherPublicValue) {
      const bytes = 1 + 2 * coordinateBytes;
      if (otherPublicValue.length !== bytes || otherPublicValue[0] !== uncompressed) {
        throw new KeyExchangeError("the public value is no uncompressed point");
      }
      const point = p521.getSharedSecret(secretKey, Uint8Array.from(otherPublicValue), false);
      return Buffer.from(unsignedBytes(point.subarray(1, 1 + coordinateBytes)));
    },
  };
}
