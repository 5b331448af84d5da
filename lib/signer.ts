/**
 * What signs for public-key authentication (RFC 4252, section 7), wherever the private key is.
 */

import { MalformedDataError } from "./errors.ts";
import { Reader } from "./ssh_data.ts";

/** A key or certificate that can sign. */
export interface Signer {
  /** For messages: the key's file, or its comment in the agent. */
  readonly name: string;
  /**
   * What a USERAUTH_REQUEST names: a plain key (RFC 4253, section 6.6) or a certificate (OpenSSH's
   * PROTOCOL.certkeys).
   */
  readonly publicKey: Uint8Array;
  /**
   * The algorithm names for a USERAUTH_REQUEST with this key, best first. For RSA the last is SHA-1
   * ("ssh-rsa"), which OpenSSH no longer uses unless its configuration says so.
   */
  readonly algorithms: readonly string[];
  /** Whether a signature waits for a person at a security key. */
  readonly needsTouch: boolean;
  /**
   * Signs `data` with one of `algorithms`.
   *
   * @returns the signature as USERAUTH_REQUEST carries it: string algorithm, string blob, and for
   *   security keys what OpenSSH's PROTOCOL.u2f adds.
   * @throws {AuthenticationError} where the key's holder refuses or cannot be reached.
   */
  sign(data: Uint8Array, algorithm: string): Promise<Uint8Array>;
}

/** Whether two public keys or certificates are the same, byte for byte. */
export function isSameKey(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

const certificateSuffix = "-cert-v01@openssh.com";

/**
 * The type that a public key or certificate states: its first field.
 *
 * @throws {MalformedDataError} where the bytes are too short for one.
 */
export function keyTypeOf(publicKey: Uint8Array): string {
  return new Reader(publicKey).text();
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

/**
 * Refuses an algorithm that a key does not have.
 *
 * @throws {TypeError} for a mistake of the caller's.
 */
export function requireAlgorithm(signer: Signer, algorithm: string): void {
  if (!signer.algorithms.includes(algorithm)) {
    throw new TypeError(`${signer.name} does not sign with ${algorithm}`);
  }
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
  const modulus = readModulus(reader, type);
  const first = modulus.findIndex((byte) => byte !== 0);
  if (first === -1) return 0;
  return (modulus.length - first) * 8 - Math.clz32(modulus[first]!) + 24;
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
