/**
 * Public keys as messages and files carry them (RFC 4253, section 6.6): the names of their types
 * and algorithms, also for certificates (OpenSSH's PROTOCOL.certkeys) and for keys in FIDO hardware
 * (PROTOCOL.u2f), and what is read from their bytes.
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { MalformedDataError } from "./errors.ts";
import { bitsOf, integerOf, Reader } from "./ssh_data.ts";

const certificateSuffix = "-cert-v01@openssh.com";

/** How many `string`s follow the type (RFC 4253, 5656, 8709 and PROTOCOL.u2f). */
const fieldCounts: Readonly<Record<string, number>> = {
  "ssh-rsa": 2,
  "ssh-ed25519": 1,
  "ecdsa-sha2-nistp256": 2,
  "ecdsa-sha2-nistp384": 2,
  "ecdsa-sha2-nistp521": 2,
  "sk-ssh-ed25519@openssh.com": 2,
  "sk-ecdsa-sha2-nistp256@openssh.com": 3,
};

/** How many fields follow the type in a plain key; `undefined` for a type that is not known. */
export function fieldCountOf(keyType: string): number | undefined {
  return Object.hasOwn(fieldCounts, keyType) ? fieldCounts[keyType] : undefined;
}

/** Whether two public keys or certificates are the same, byte for byte. */
export function isSameKey(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** Whether a public key is among others. */
export function hasKey(keys: readonly Uint8Array[], key: Uint8Array): boolean {
  return keys.some((it) => isSameKey(it, key));
}

/** A public key as files have it: its type, and all of it in base64. */
export function publicKeyLine(publicKey: Uint8Array): string {
  return `${keyTypeOf(publicKey)} ${Buffer.from(publicKey).toString("base64")}`;
}

/** The fingerprint of a public key as OpenSSH prints it: `SHA256:` and base64 without padding. */
export function fingerprint(publicKey: Uint8Array): string {
  return "SHA256:" + createHash("sha256").update(publicKey).digest("base64").replace(/=+$/, "");
}

/**
 * The type that a public key or certificate states: its first field.
 *
 * @throws {MalformedDataError} where the bytes are too short for one.
 */
export function keyTypeOf(publicKey: Uint8Array): string {
  return new Reader(publicKey).text();
}

/** The fields of a plain public key, its type first; `undefined` where the lengths do not add up. */
export function fieldsOf(publicKey: Uint8Array): Buffer[] | undefined {
  const reader = new Reader(publicKey);
  const fields: Buffer[] = [];
  try {
    while (!reader.isAtEnd) fields.push(Buffer.from(reader.bytes()));
    return fields;
  } catch (error) {
    if (error instanceof MalformedDataError) return undefined;
    throw error;
  }
}

/**
 * Whether bytes are a plain public key of a type: its name and as many fields as it has, or any
 * number of them where the type is not known.
 */
export function isPublicKey(bytes: Uint8Array, keyType: string): boolean {
  const [type, ...fields] = fieldsOf(bytes) ?? [];
  if (type?.toString("latin1") !== keyType) return false;
  if (fields.length !== (fieldCountOf(keyType) ?? fields.length)) return false;
  return keyType !== "ssh-ed25519" || fields[0]!.length === 32;
}

/** Whether the name of a key type or algorithm stands for a certificate. */
export function isCertificateName(name: string): boolean {
  return name.endsWith(certificateSuffix);
}

/** Whether the name of a key type or algorithm stands for a key in FIDO hardware. */
export function isSecurityKeyName(name: string): boolean {
  return name.startsWith("sk-");
}

/**
 * The name without its mark of a certificate: of a certificate type the type of its key, of a
 * certificate's algorithm the algorithm of its signatures.
 */
export function plainName(name: string): string {
  if (!isCertificateName(name)) return name;
  const stem = name.slice(0, -certificateSuffix.length);
  return isSecurityKeyName(stem) ? `${stem}@openssh.com` : stem;
}

/** The name with which a certificate states the type or algorithm of its plain key. */
export function certificateName(plain: string): string {
  return plain.replace(/@openssh\.com$/, "") + certificateSuffix;
}

/** The types of certificates that are known. */
export const certificateTypes: readonly string[] = Object.keys(fieldCounts).map(certificateName);

/** The type of the keys or certificates that sign by an algorithm. */
export function keyTypeFor(algorithm: string): string {
  return algorithm.replace(/^rsa-sha2-\d+/, "ssh-rsa");
}

/** The algorithms of a key type or certificate type, best first; an unknown type names itself. */
export function algorithmsFor(keyType: string): readonly string[] {
  if (plainName(keyType) !== "ssh-rsa") return [keyType];
  const names = ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"];
  return isCertificateName(keyType) ? names.map(certificateName) : names;
}

/**
 * The size of an RSA key or certificate, in bits; `undefined` for other types. One that is cut short
 * has none: whoever made it, it is too short for every use.
 *
 * @throws {MalformedDataError} where the bytes are too short for a type.
 */
export function rsaBits(publicKey: Uint8Array): number | undefined {
  const reader = new Reader(publicKey);
  const type = reader.text();
  if (plainName(type) !== "ssh-rsa") return undefined;
  return bitsOf(integerOf(readModulus(reader, type)));
}

/** The modulus behind the type; no bytes where it is cut short. */
function readModulus(reader: Reader, type: string): Uint8Array {
  try {
    if (isCertificateName(type)) reader.bytes(); // The nonce.
    reader.bytes(); // The exponent.
    return reader.bytes();
  } catch (error) {
    if (!(error instanceof MalformedDataError)) throw error;
    return new Uint8Array();
  }
}
