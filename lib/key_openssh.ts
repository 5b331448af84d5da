/**
 * Private keys in OpenSSH's own format (PROTOCOL.key in its sources).
 */

import { Buffer } from "node:buffer";
import { createDecipheriv, getCiphers, type KeyObject, timingSafeEqual } from "node:crypto";
import { MalformedDataError } from "./errors.ts";
import { bcryptPbkdf } from "./key_bcrypt.ts";
import {
  damagedKey,
  ecdsaKey,
  ed25519Key,
  type OpenKey,
  openKey,
  rsaKey,
  type StoredKey,
  UnusableKey,
} from "./key_object.ts";
import { isSameKey, isSecurityKeyName, keyTypeOf } from "./public_key.ts";
import { concatenate, encodeFields, Reader } from "./ssh_data.ts";

/** What a file in this format calls itself in its first line and its last. */
export const openSshLabel = "OPENSSH PRIVATE KEY";

/** What stands before the first field. */
const magic: Uint8Array = Buffer.from("openssh-key-v1\0");

interface Cipher {
  /** Its name in node:crypto, which lacks one of them. */
  name?: string;
  keyBytes: number;
  ivBytes: number;
  blockBytes: number;
  /** The length of an authentication tag behind the encrypted part. */
  tagBytes: number;
}

const aes = { ivBytes: 16, blockBytes: 16, tagBytes: 0 };
const aesGcm = { ivBytes: 12, blockBytes: 16, tagBytes: 16 };

/** What `ssh-keygen -Z` can choose, and what it chose in former times. */
const ciphers: Record<string, Cipher> = {
  "aes128-ctr": { ...aes, name: "aes-128-ctr", keyBytes: 16 },
  "aes192-ctr": { ...aes, name: "aes-192-ctr", keyBytes: 24 },
  "aes256-ctr": { ...aes, name: "aes-256-ctr", keyBytes: 32 },
  "aes128-cbc": { ...aes, name: "aes-128-cbc", keyBytes: 16 },
  "aes192-cbc": { ...aes, name: "aes-192-cbc", keyBytes: 24 },
  "aes256-cbc": { ...aes, name: "aes-256-cbc", keyBytes: 32 },
  "aes128-gcm@openssh.com": { ...aesGcm, name: "aes-128-gcm", keyBytes: 16 },
  "aes256-gcm@openssh.com": { ...aesGcm, name: "aes-256-gcm", keyBytes: 32 },
  "3des-cbc": { name: "des-ede3-cbc", keyBytes: 24, ivBytes: 8, blockBytes: 8, tagBytes: 0 },
  "chacha20-poly1305@openssh.com": { keyBytes: 64, ivBytes: 0, blockBytes: 8, tagBytes: 16 },
};

/** The parts of a file; the private one is still encrypted. */
interface Envelope {
  cipherName: string;
  derivation: string;
  derivationOptions: Uint8Array;
  publicKey: Uint8Array;
  privatePart: Uint8Array;
  tag: Uint8Array;
}

/**
 * Parses the bytes of a file in OpenSSH's format.
 *
 * @throws {UnusableKey} when they are damaged, or hold a key that cannot be used.
 */
export function parseOpenSshKey(bytes: Uint8Array): StoredKey {
  const envelope = orDamaged(() => readEnvelope(bytes));
  const { publicKey, cipherName } = envelope;
  requireKeyType(orDamaged(() => keyTypeOf(publicKey)));
  if (cipherName !== "none") {
    return {
      isEncrypted: true,
      publicKey,
      decrypt: (passphrase) => decryptKey(envelope, passphrase),
    };
  }
  const opened = orDamaged(() => readPrivatePart(envelope));
  bytes.fill(0);
  if (opened === undefined) throw damagedKey();
  return { isEncrypted: false, ...opened };
}

/**
 * The public key of a file in OpenSSH's format, also when it cannot be used here.
 *
 * @throws {UnusableKey} when the bytes are damaged.
 */
export function openSshPublicKey(bytes: Uint8Array): Uint8Array {
  return orDamaged(() => readEnvelope(bytes).publicKey);
}

/**
 * Writes an Ed25519 key without a passphrase, as text. OpenSSH reads this type in no other format.
 */
export function formatEd25519Key(key: KeyObject): string {
  const { d, x } = key.export({ format: "jwk" });
  const [seed, point] = [d, x].map((text) => new Uint8Array(Buffer.from(text!, "base64url")));
  const publicKey = encodeFields("ssh-ed25519", point!);
  const seedAndPoint = concatenate([seed!, point!]);
  // The two equal numbers are there for readers to notice a wrong passphrase.
  const unpadded = encodeFields(0, 0, { raw: publicKey }, seedAndPoint, "sshshim");
  // Padded to a multiple of 8 with 1, 2, 3, …
  const padding = Uint8Array.of(1, 2, 3, 4, 5, 6, 7).subarray(0, -unpadded.length & 7);
  const privatePart = concatenate([unpadded, padding]);
  const bytes = encodeFields({ raw: magic }, "none", "none", "", 1, publicKey, privatePart);
  const lines = Buffer.from(bytes).toString("base64").match(/.{1,70}/g)!.join("\n");
  return `-----BEGIN ${openSshLabel}-----\n${lines}\n-----END ${openSshLabel}-----\n`;
}

function readEnvelope(bytes: Uint8Array): Envelope {
  if (Buffer.compare(bytes.subarray(0, magic.length), magic) !== 0) throw damagedKey();
  const reader = new Reader(bytes, magic.length);
  const cipherName = reader.text();
  const derivation = reader.text();
  const derivationOptions = reader.bytes();
  // The format allows several keys, but no program has ever written them.
  if (reader.uint32() !== 1) throw damagedKey();
  const publicKey = new Uint8Array(reader.bytes());
  const privatePart = reader.bytes();
  return { cipherName, derivation, derivationOptions, publicKey, privatePart, tag: reader.rest() };
}

function requireKeyType(type: string): void {
  if (isSecurityKeyName(type)) {
    throw new UnusableKey(
      "it belongs to a security key, which sshshim reaches through an SSH agent only",
      "Add it to the agent with ssh-add.",
    );
  }
  if (type === "ssh-dss") {
    throw new UnusableKey(
      "it is of type ssh-dss, which SSH has given up",
      "Make a new one: ssh-keygen -t ed25519",
    );
  }
}

async function decryptKey(envelope: Envelope, passphrase: string): Promise<OpenKey | undefined> {
  const { cipherName, derivation, derivationOptions, privatePart, tag } = envelope;
  const cipher = Object.hasOwn(ciphers, cipherName) ? ciphers[cipherName] : undefined;
  const isThere = cipher?.name === undefined || getCiphers().includes(cipher.name);
  if (cipher === undefined || derivation !== "bcrypt" || !isThere) {
    throw new UnusableKey(
      `it is encrypted with ${cipherName}, which this build of sshshim cannot read`,
      "Encrypt it anew with ssh-keygen -p -Z aes256-ctr.",
    );
  }
  if (privatePart.length % cipher.blockBytes !== 0 || tag.length !== cipher.tagBytes) {
    throw damagedKey();
  }
  // OpenSSH never encrypts with the empty one.
  if (passphrase === "") return undefined;
  const { salt, rounds } = orDamaged(() => {
    const reader = new Reader(derivationOptions);
    return { salt: reader.bytes(), rounds: reader.uint32() };
  });
  if (salt.length === 0 || rounds === 0) throw damagedKey();
  const length = cipher.keyBytes + cipher.ivBytes;
  const secret = new TextEncoder().encode(passphrase);
  const keyAndIv = await bcryptPbkdf(secret, { salt, rounds, length });
  const plain = await decrypt(cipher, { keyAndIv, data: privatePart, tag });
  secret.fill(0);
  keyAndIv.fill(0);
  if (plain === undefined) return undefined;
  try {
    return orDamaged(() => readPrivatePart({ ...envelope, privatePart: plain }));
  } finally {
    plain.fill(0);
  }
}

/** Resolves with `undefined` where the cipher itself notices a wrong key. */
async function decrypt(
  cipher: Cipher,
  { keyAndIv, data, tag }: { keyAndIv: Uint8Array; data: Uint8Array; tag: Uint8Array },
): Promise<Uint8Array | undefined> {
  const key = keyAndIv.subarray(0, cipher.keyBytes);
  if (cipher.name === undefined) return await openChaCha20Poly1305(key, data, tag);
  const iv = keyAndIv.subarray(cipher.keyBytes);
  if (cipher.name === "aes-128-gcm" || cipher.name === "aes-256-gcm") {
    const decipher = createDecipheriv(cipher.name, key, iv).setAuthTag(tag);
    const plain = decipher.update(data);
    try {
      decipher.final();
      return plain;
    } catch {
      // The tag does not fit.
      return undefined;
    }
  }
  const decipher = createDecipheriv(cipher.name, key, iv).setAutoPadding(false);
  return Buffer.concat([decipher.update(data), decipher.final()]);
}

/**
 * Decrypts chacha20-poly1305@openssh.com (PROTOCOL.chacha20poly1305): one packet with the number 0
 * and without a length before it, for which the second half of the 64 bytes of `key` would be.
 */
async function openChaCha20Poly1305(
  key: Uint8Array,
  data: Uint8Array,
  tag: Uint8Array,
): Promise<Uint8Array | undefined> {
  // Loaded here, because few keys need it.
  const { chacha20 } = await import("@noble/ciphers/chacha.js");
  const { poly1305 } = await import("@noble/ciphers/_poly1305.js");
  const packetKey = key.subarray(0, 32);
  const nonce = new Uint8Array(12);
  // The first block of the key stream is for the tag.
  const tagKey = chacha20(packetKey, nonce, new Uint8Array(32));
  const expected = poly1305(data, tagKey);
  tagKey.fill(0);
  if (!timingSafeEqual(expected, tag)) return undefined;
  return chacha20(packetKey, nonce, data, undefined, 1);
}

/** Reads the decrypted part. Returns `undefined` where its check fails: after a wrong passphrase. */
function readPrivatePart({ publicKey, privatePart }: Envelope): OpenKey | undefined {
  const reader = new Reader(privatePart);
  if (reader.uint32() !== reader.uint32()) return undefined;
  const opened = openKey(readKey(reader));
  reader.bytes(); // The comment.
  if (!reader.rest().every((byte, index) => byte === (index + 1) % 256)) throw damagedKey();
  if (!isSameKey(opened.publicKey, publicKey)) throw damagedKey();
  return opened;
}

function readKey(reader: Reader): KeyObject {
  const type = reader.text();
  switch (type) {
    case "ssh-ed25519": {
      reader.bytes(); // The public key, which is compared as a whole.
      const seedAndPoint = reader.bytes();
      if (seedAndPoint.length !== 64) throw damagedKey();
      return ed25519Key(seedAndPoint.subarray(0, 32));
    }
    case "ssh-rsa": {
      const [n, e, d, inverseOfQ, p, q] = Array.from({ length: 6 }, () => reader.bytes());
      return rsaKey({ n: n!, e: e!, d: d!, inverseOfQ: inverseOfQ!, p: p!, q: q! });
    }
    case "ecdsa-sha2-nistp256":
    case "ecdsa-sha2-nistp384":
    case "ecdsa-sha2-nistp521": {
      const curve = reader.text();
      const point = reader.bytes();
      return ecdsaKey(curve, { point, scalar: reader.bytes() });
    }
    default:
      throw new UnusableKey(
        `it is of type ${type}, which sshshim cannot sign with`,
        "Add it to an SSH agent that can, with ssh-add.",
      );
  }
}

/** Turns the reader's word for a field that is missing or cannot be into the file's. */
function orDamaged<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof MalformedDataError) throw damagedKey();
    throw error;
  }
}
