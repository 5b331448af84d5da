/**
 * Private keys as text: OpenSSH's own format and PEM. Any type can be read to sign with it; RSA and
 * Ed25519 are also written, for the local endpoint.
 */

import { Buffer } from "node:buffer";
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { damagedKey, publicKeyOf, type StoredKey, UnusableKey } from "./key_object.ts";
import { openSshMagic, openSshPublicKey, parseOpenSshKey } from "./openssh_key.ts";
import { parsePemKey } from "./pem_key.ts";
import { keyTypeOf } from "./signer.ts";

export { UnusableKey } from "./key_object.ts";

/** A key type that the local endpoint can have. */
export type KeyType = "rsa" | "ed25519";

/** A private key without passphrase. */
export interface PrivateKey {
  type: KeyType;
  /** OpenSSH's format for Ed25519, PKCS#1 in PEM for RSA. */
  privateKey: string;
  /** The public key in the wire format of RFC 4253, section 6.6. */
  publicKey: Buffer;
}

/** Makes an Ed25519 key. */
export function generateKey(): PrivateKey {
  return toEd25519(generateKeyPairSync("ed25519").privateKey);
}

/**
 * Parses a private key without passphrase in OpenSSH's format or in PEM, and rewrites it in the
 * form that ssh2 takes. `file` is named in advice only.
 *
 * @throws {UnusableKey} when it is something else, or damaged.
 */
export function parsePrivateKey(text: string, { file }: { file: string }): PrivateKey {
  const [label, body] = findPrivateKey(text, file);
  if (label === "OPENSSH PRIVATE KEY") return fromOpenSshKey(body, file);
  if (label === "ENCRYPTED PRIVATE KEY" || /^Proc-Type:.*ENCRYPTED/m.test(body)) {
    throw encryptedKey(file);
  }
  const key = importKey(text);
  if (key.asymmetricKeyType === "ed25519") return toEd25519(key);
  if (key.asymmetricKeyType === "rsa") return toRsa(key);
  throw new UnusableKey(`it is of type ${key.asymmetricKeyType}, not rsa or ed25519`);
}

/**
 * Parses a private key of any type in OpenSSH's format or in PEM, which may be encrypted. `file` is
 * named in advice only.
 *
 * @throws {UnusableKey} when it is something else, damaged, or of a type that cannot sign here.
 */
export function parseStoredKey(text: string, { file }: { file: string }): StoredKey {
  const [label, body] = findPrivateKey(text, file);
  if (label === "OPENSSH PRIVATE KEY") return parseOpenSshKey(Buffer.from(body, "base64"));
  return parsePemKey(label, body);
}

/**
 * The public key that a private key's file shows without a passphrase, if it does; also of keys
 * that cannot sign here, such as those of security keys.
 */
export function publicKeyInside(text: string): Uint8Array | undefined {
  try {
    const [label, body] = findPrivateKey(text, "");
    if (label === "OPENSSH PRIVATE KEY") return openSshPublicKey(Buffer.from(body, "base64"));
    return parsePemKey(label, body).publicKey;
  } catch (error) {
    if (error instanceof UnusableKey) return undefined;
    throw error;
  }
}

/** The first private key's label, and the lines between its first and its last. */
function findPrivateKey(text: string, file: string): [label: string, body: string] {
  const [, label] = /^-----BEGIN ([A-Z ]*PRIVATE KEY)-----/m.exec(text) ?? [];
  if (label === undefined) throw notAPrivateKey(text, file);
  const [, body] = /^-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END/ms.exec(text) ?? [];
  if (body === undefined) throw damagedKey();
  return [label, body];
}

function fromOpenSshKey(body: string, file: string): PrivateKey {
  const stored = parseOpenSshKey(Buffer.from(body, "base64"));
  if (stored.isEncrypted) throw encryptedKey(file);
  const { key, publicKey } = stored;
  if (key.asymmetricKeyType === "ed25519") return toEd25519(key);
  if (key.asymmetricKeyType === "rsa") return toRsa(key);
  throw new UnusableKey(`it is of type ${keyTypeOf(publicKey)}, not rsa or ed25519`);
}

function importKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    // What exactly is wrong inside would not help anybody.
    throw damagedKey();
  }
}

function notAPrivateKey(text: string, file: string): UnusableKey {
  if (text.startsWith("PuTTY-User-Key-File-")) {
    const advice = `Convert it: puttygen "${file}" -O private-openssh -o NEW_FILE`;
    return new UnusableKey("it has PuTTY's format", advice);
  }
  if (/^(ssh|ecdsa|sk)-\S+ AAAA/.test(text)) {
    return new UnusableKey("it is a public key", "Pass the private one, without .pub.");
  }
  return new UnusableKey("it is not a private key");
}

function encryptedKey(file: string): UnusableKey {
  const advice = `Choose a key without, or remove it: ssh-keygen -p -N "" -f "${file}"`;
  return new UnusableKey("it has a passphrase", advice);
}

/** Writes an Ed25519 key in OpenSSH's format, the only one that OpenSSH reads for this type. */
function toEd25519(key: KeyObject): PrivateKey {
  const { d, x } = key.export({ format: "jwk" });
  const seed = Buffer.from(d!, "base64url");
  const point = Buffer.from(x!, "base64url");
  const publicKey = Buffer.concat([encodeString("ssh-ed25519"), encodeString(point)]);
  // Two equal numbers, by which a reader notices a wrong passphrase. Here there is none.
  const check = Buffer.alloc(8);
  const comment = encodeString("sshshim");
  const fields = [publicKey, encodeString(Buffer.concat([seed, point])), comment];
  const unpadded = Buffer.concat([check, ...fields]);
  // Padded to a multiple of 8 with 1, 2, 3, …
  const padding = Buffer.from([1, 2, 3, 4, 5, 6, 7]).subarray(0, -unpadded.length & 7);
  const file = Buffer.concat([
    openSshMagic,
    encodeString("none"),
    encodeString("none"),
    encodeString(""),
    Buffer.of(0, 0, 0, 1),
    encodeString(publicKey),
    encodeString(Buffer.concat([unpadded, padding])),
  ]);
  const lines = file.toString("base64").match(/.{1,70}/g)!.join("\n");
  const privateKey = `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines}\n` +
    `-----END OPENSSH PRIVATE KEY-----\n`;
  return { type: "ed25519", privateKey, publicKey };
}

function toRsa(key: KeyObject): PrivateKey {
  const publicKey = Buffer.from(publicKeyOf(key));
  return {
    type: "rsa",
    privateKey: key.export({ format: "pem", type: "pkcs1" }).toString(),
    publicKey,
  };
}

/** A string of RFC 4251, section 5. */
function encodeString(value: string | Buffer): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
