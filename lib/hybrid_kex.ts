/**
 * The key exchange mlkem768x25519-sha256 (draft-ietf-sshm-mlkem-hybrid-kex): ML-KEM-768 (FIPS 203)
 * and X25519 (RFC 8731) side by side, so that breaking either one alone reveals nothing.
 *
 * The client sends its ML-KEM public key and its X25519 public key, the server an ML-KEM
 * ciphertext and its X25519 public key; the shared secret is SHA-256 over both secrets.
 */

import { Buffer } from "node:buffer";
import {
  createHash,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js";
import { KeyExchangeError } from "./errors.ts";

/** The name in KEXINIT. */
export const hybridKexName = "mlkem768x25519-sha256";

const x25519KeyBytes = 32;
/** What precedes the 32 bytes of an X25519 public key in SubjectPublicKeyInfo (RFC 8410). */
const x25519SpkiPrefix = Buffer.from("302a300506032b656e032100", "hex");

/** One side of one exchange: `publicValue` is sent to the other, whose value makes the secret. */
export interface HybridExchange {
  /** What this side sends; a server's is there once the secret is. */
  readonly publicValue: Buffer;
  /**
   * The shared secret K, 32 bytes, to be hashed as a `string`.
   *
   * @throws {Error} where the other side's value is not valid.
   */
  computeSecret(otherPublicValue: Uint8Array): Buffer;
}

/** Begins an exchange as the client. */
export function beginClientExchange(): HybridExchange {
  const kem = ml_kem768.keygen();
  const ecdh = generateKeyPairSync("x25519");
  return {
    publicValue: Buffer.concat([kem.publicKey, rawPublicKey(ecdh.publicKey)]),
    computeSecret(serverValue) {
      const [cipherText, ecdhKey] = splitValue(serverValue, ml_kem768.lengths.cipherText!);
      return combine(
        ml_kem768.decapsulate(cipherText, kem.secretKey),
        agree(ecdh.privateKey, ecdhKey),
      );
    },
  };
}

/** Begins an exchange as the server; its public value answers the client's. */
export function beginServerExchange(): HybridExchange {
  const ecdh = generateKeyPairSync("x25519");
  let publicValue: Buffer | undefined;
  return {
    get publicValue() {
      if (publicValue === undefined) throw new KeyExchangeError("the client's value has not come");
      return publicValue;
    },
    computeSecret(clientValue) {
      const [kemKey, ecdhKey] = splitValue(clientValue, ml_kem768.lengths.publicKey!);
      const { cipherText, sharedSecret } = ml_kem768.encapsulate(kemKey);
      publicValue = Buffer.concat([cipherText, rawPublicKey(ecdh.publicKey)]);
      return combine(sharedSecret, agree(ecdh.privateKey, ecdhKey));
    },
  };
}

function splitValue(value: Uint8Array, kemBytes: number): [Uint8Array, Uint8Array] {
  if (value.length !== kemBytes + x25519KeyBytes) {
    throw new KeyExchangeError(`a public value of ${value.length} bytes`);
  }
  return [Uint8Array.from(value.subarray(0, kemBytes)), value.subarray(kemBytes)];
}

function rawPublicKey(key: KeyObject): Buffer {
  return key.export({ type: "spki", format: "der" }).subarray(-x25519KeyBytes);
}

function agree(privateKey: KeyObject, otherKey: Uint8Array): Buffer {
  const publicKey = createPublicKey({
    key: Buffer.concat([x25519SpkiPrefix, otherKey]),
    type: "spki",
    format: "der",
  });
  const secret = diffieHellman({ privateKey, publicKey });
  if (secret.every((byte) => byte === 0)) throw new KeyExchangeError("an X25519 key of low order");
  return secret;
}

function combine(kemSecret: Uint8Array, ecdhSecret: Uint8Array): Buffer {
  return createHash("sha256").update(kemSecret).update(ecdhSecret).digest();
}
