/**
 * Verifies signatures by public keys as messages carry them (RFC 4253, 5656, 8332 and 8709, and
 * OpenSSH's PROTOCOL.u2f): those of authorities under certificates, for example.
 */

import { Buffer } from "node:buffer";
import { createHash, createPublicKey, type JsonWebKey, verify } from "node:crypto";
import { MalformedDataError } from "./errors.ts";
import { encodeDer, encodeDerUnsigned, Tag } from "./key_der.ts";
import { isSecurityKeyName, keyTypeFor, rsaBits } from "./public_key.ts";
import { RsaPublicKey } from "./rsa_signature.ts";
import { Reader } from "./ssh_data.ts";

const rsaHashes: Readonly<Record<string, string>> = {
  "ssh-rsa": "sha1",
  "rsa-sha2-256": "sha256",
  "rsa-sha2-512": "sha512",
};

/** OpenSSH's SSH_RSA_MINIMUM_MODULUS_SIZE. */
const minimumRsaBits = 1024;

const curves: Readonly<Record<string, { jwkName: string; hash: string; bytes: number }>> = {
  nistp256: { jwkName: "P-256", hash: "sha256", bytes: 32 },
  nistp384: { jwkName: "P-384", hash: "sha384", bytes: 48 },
  nistp521: { jwkName: "P-521", hash: "sha512", bytes: 66 },
};

/** By which algorithms clients may sign to log in: sshd's, but for certificates. */
export const loginAlgorithms: readonly string[] = [
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "rsa-sha2-512",
  "rsa-sha2-256",
  "sk-ssh-ed25519@openssh.com",
  "sk-ecdsa-sha2-nistp256@openssh.com",
];

/** The algorithm that a signature states. */
export function signatureAlgorithm(signature: Uint8Array): string {
  return new Reader(signature).text();
}

/**
 * Whether a signature is of these data and by this plain key. As with ssh, RSA with SHA-1 is one:
 * whether it will do is the caller's to say.
 *
 * @param signature string algorithm, string blob; for security keys also their flags and counter.
 * @returns false also for what is malformed, and for types that are not known
 */
export function verifySignature(
  publicKey: Uint8Array,
  data: Uint8Array,
  signature: Uint8Array,
): boolean {
  try {
    return verifies(publicKey, data, signature);
  } catch {
    // The key or the signature is no such thing, in the words of whoever has looked at it.
    return false;
  }
}

function verifies(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean {
  const key = new Reader(publicKey);
  const type = key.text();
  const signed = new Reader(signature);
  const algorithm = signed.text();
  if (keyTypeFor(algorithm) !== type) return false;
  const blob = signed.bytes();
  if (type === "ssh-rsa") {
    signed.end();
    if (rsaBits(publicKey)! < minimumRsaBits) return false;
    return new RsaPublicKey(key.rest()).verifies(blob, data, rsaHashes[algorithm]!);
  }
  const plainType = type.replace(/^sk-|@openssh\.com$/g, "");
  const check = plainType === "ssh-ed25519" ? ed25519(key) : ecdsa(key, plainType);
  if (!isSecurityKeyName(type)) {
    key.end();
    signed.end();
    return check(data, blob);
  }
  const application = key.bytes();
  key.end();
  const flagsAndCounter = signed.rest();
  if (flagsAndCounter.length !== 5) throw new MalformedDataError("no flags and counter");
  const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();
  return check(Buffer.concat([hash(application), flagsAndCounter, hash(data)]), blob);
}

type Check = (data: Uint8Array, blob: Uint8Array) => boolean;

function ed25519(key: Reader): Check {
  const publicKey = importKey({ kty: "OKP", crv: "Ed25519", x: base64url(key.bytes()) });
  return (data, blob) => verify(null, data, publicKey, blob);
}

function ecdsa(key: Reader, type: string): Check {
  const name = key.text();
  const curve = curves[name];
  const point = key.bytes();
  if (curve === undefined || type !== `ecdsa-sha2-${name}`) throw new MalformedDataError("a curve");
  const { bytes, jwkName, hash } = curve;
  if (point.length !== 1 + 2 * bytes || point[0] !== 4) throw new MalformedDataError("no point");
  const [x, y] = [point.subarray(1, 1 + bytes), point.subarray(1 + bytes)].map(base64url);
  const publicKey = importKey({ kty: "EC", crv: jwkName, x, y });
  return (data, blob) => {
    const pair = new Reader(blob);
    const numbers = [pair.bytes(), pair.bytes()].map((it) => encodeDerUnsigned(it));
    pair.end();
    return verify(hash, data, publicKey, encodeDer(Tag.sequence, ...numbers));
  };
}

function importKey(key: JsonWebKey) {
  return createPublicKey({ key, format: "jwk" });
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}
