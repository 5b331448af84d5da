/**
 * OpenSSH's user certificates (PROTOCOL.certkeys in its sources): a public key with a name, a
 * period and the signature of an authority. The private key stays the plain one.
 */

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

/** A certificate; its signature is the server's to verify. */
export interface Certificate {
  /** For messages: the file that it comes from. */
  readonly name: string;
  /** The certificate itself, as a USERAUTH_REQUEST carries it. */
  readonly blob: Uint8Array;
  /** Such as "ssh-ed25519-cert-v01@openssh.com". */
  readonly type: string;
  /** The plain public key that it certifies. */
  readonly subjectKey: Uint8Array;
  /** Servers take "user" only; an authority may have signed for a host by mistake. */
  readonly kind: "user" | "host" | "unknown";
  readonly serial: bigint;
  /** The authority's words for whom it is, which the server logs. */
  readonly keyId: string;
  /** The accounts that it is for; an empty list depends on the server. */
  readonly principals: readonly string[];
  /** The period; `undefined` where it has no beginning or no end. */
  readonly validAfter: Date | undefined;
  readonly validBefore: Date | undefined;
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
  const serial = readUint64(reader);
  const kind = ([undefined, "user", "host"] as const)[reader.uint32()] ?? "unknown";
  const keyId = displayText(reader.text());
  const principals = readPrincipals(reader.bytes());
  const validAfter = toDate(readUint64(reader));
  const validBefore = toDate(readUint64(reader));
  // Critical options, extensions, a reserved field, the authority's key and its signature.
  for (let field = 0; field < 5; field++) reader.bytes();
  reader.end();
  return {
    ...{ name, blob, type, subjectKey: encodeFields(plainType, ...fields) },
    ...{ kind, serial, keyId, principals, validAfter, validBefore },
  };
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
    async sign(data, algorithm) {
      requireAlgorithm(certified, algorithm);
      return await signer.sign(data, plainName(algorithm));
    },
  };
  return certified;
}

function readUint64(reader: Reader): bigint {
  return BigInt(reader.uint32()) << 32n | BigInt(reader.uint32());
}

function readPrincipals(bytes: Uint8Array): string[] {
  const reader = new Reader(bytes);
  const principals: string[] = [];
  while (!reader.isAtEnd) principals.push(displayText(reader.text()));
  return principals;
}

/** Seconds since 1970; the smallest and the largest number mean no limit. */
function toDate(seconds: bigint): Date | undefined {
  const isLimit = seconds > 0n && seconds <= latestSecond;
  return isLimit ? new Date(Number(seconds) * 1000) : undefined;
}

/** The last one that a Date can have. */
const latestSecond = 8_640_000_000_000n;
