/**
 * OpenSSH's certificates (PROTOCOL.certkeys in its sources): a public key with names, a period and
 * the signature of an authority. The private key stays the plain one.
 */

import { MalformedDataError } from "./errors.ts";
import {
  certificateName,
  fieldCountOf,
  isCertificateName,
  isSameKey,
  keyTypeOf,
  plainName,
} from "./public_key.ts";
import { requireAlgorithm, type Signer } from "./signer.ts";
import { displayText, encodeFields, Reader } from "./ssh_data.ts";

/** A certificate; a user's is the server's to verify, a host's ours. */
export interface Certificate {
  /** For messages: where it comes from. */
  readonly name: string;
  /** The certificate itself, as a USERAUTH_REQUEST carries it. */
  readonly blob: Uint8Array;
  /** Such as "ssh-ed25519-cert-v01@openssh.com". */
  readonly type: string;
  /** The plain public key that it certifies. */
  readonly subjectKey: Uint8Array;
  /** An authority may have signed for the other by mistake. */
  readonly kind: "user" | "host" | "unknown";
  readonly serial: bigint;
  /** The authority's words for whom it is, which servers log. */
  readonly keyId: string;
  /** The accounts or hosts that it is for. */
  readonly principals: readonly string[];
  /** From then on it is valid, in seconds since 1970. */
  readonly validAfter: bigint;
  /** At that time it is no longer; 2^64-1 stands for no end. */
  readonly validBefore: bigint;
  /** Whether it demands something of whoever takes it. */
  readonly hasCriticalOptions: boolean;
  /** The authority's plain public key. */
  readonly authorityKey: Uint8Array;
  /** string algorithm, string blob, over `signedPart`. */
  readonly signature: Uint8Array;
  readonly signedPart: Uint8Array;
}

/**
 * Parses a certificate. Returns `undefined` when the bytes are a plain key, or of a type of
 * certificates that is not known.
 *
 * @throws {MalformedDataError} when they are damaged.
 */
export function parseCertificate(blob: Uint8Array, name: string): Certificate | undefined {
  const type = keyTypeOf(blob);
  const plainType = plainName(type);
  const fieldCount = fieldCountOf(plainType);
  if (!isCertificateName(type) || fieldCount === undefined) return undefined;
  const reader = new Reader(blob);
  reader.bytes(); // The type.
  reader.bytes(); // The nonce.
  const fields = Array.from({ length: fieldCount }, () => reader.bytes());
  const serial = reader.uint64();
  const kind = ([undefined, "user", "host"] as const)[reader.uint32()] ?? "unknown";
  const keyId = displayText(reader.text());
  const principals = readPrincipals(reader.bytes());
  const validAfter = reader.uint64();
  const validBefore = reader.uint64();
  const hasCriticalOptions = reader.bytes().length > 0;
  reader.bytes(); // Extensions.
  reader.bytes(); // Reserved.
  const authorityKey = reader.bytes();
  const signature = reader.bytes();
  reader.end();
  const signedPart = blob.subarray(0, blob.length - 4 - signature.length);
  return {
    ...{ name, blob, type, subjectKey: encodeFields(plainType, ...fields) },
    ...{ kind, serial, keyId, principals, validAfter, validBefore, hasCriticalOptions },
    ...{ authorityKey, signature, signedPart },
  };
}

/** The plain key of a certificate; all other bytes are as they are. */
export function plainKeyOf(publicKey: Uint8Array): Uint8Array {
  try {
    return parseCertificate(publicKey, "")?.subjectKey ?? publicKey;
  } catch (error) {
    if (error instanceof MalformedDataError) return publicKey;
    throw error;
  }
}

/**
 * The signer's key in the role of a certificate: it signs as before, and shows the certificate.
 *
 * @throws {TypeError} when the certificate is for another key.
 */
export function withCertificate(signer: Signer, certificate: Certificate): Signer {
  if (!isSameKey(signer.publicKey, certificate.subjectKey)) {
    throw new TypeError(`${certificate.name} is not a certificate for ${signer.name}`);
  }
  const certified: Signer = {
    name: certificate.name,
    publicKey: certificate.blob,
    algorithms: signer.algorithms.map(certificateName),
    needsTouch: signer.needsTouch,
    isOurs: signer.isOurs,
    async sign(data, algorithm) {
      requireAlgorithm(certified, algorithm);
      return await signer.sign(data, plainName(algorithm));
    },
  };
  return certified;
}

function readPrincipals(bytes: Uint8Array): string[] {
  const reader = new Reader(bytes);
  const principals: string[] = [];
  while (!reader.isAtEnd) principals.push(displayText(reader.text()));
  return principals;
}
