/**
 * Private keys in OpenSSH's own format (PROTOCOL.key in its sources).
 */

import { Buffer } from "node:buffer";
import { createDecipheriv, getCiphers, type KeyObject } from "node:crypto";
import { bcryptPbkdf } from "./bcrypt_pbkdf.ts";
import { MalformedDataError } from "./errors.ts";
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
import { openChaCha20Poly1305 } from "./key_chacha20.ts";
import { isSameKey, isSecurityKeyName, keyTypeOf } from "./signer.ts";
import { Reader } from "./ssh_data.ts";

/** What stands before the first field. */
export const openSshMagic: Uint8Array = Buffer.from("openssh-key-v1\0");

interface Cipher {
  /** Its name in node:crypto. */
  name: string;
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
  "chacha20-poly1305@openssh.com": {
    ...{ name: "chacha20", keyBytes: 64, ivBytes: 0, blockBytes: 8, tagBytes: 16 },
  },
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
  if (opened === null) throw damagedKey();
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

function readEnvelope(bytes: Uint8Array): Envelope {
  const magic = bytes.subarray(0, openSshMagic.length);
  if (Buffer.compare(magic, openSshMagic) !== 0) throw damagedKey();
  const reader = new Reader(bytes, openSshMagic.length);
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

async function decryptKey(envelope: Envelope, passphrase: string): Promise<OpenKey | null> {
  const { cipherName, derivation, derivationOptions, privatePart, tag } = envelope;
  const cipher = Object.hasOwn(ciphers, cipherName) ? ciphers[cipherName] : undefined;
  if (cipher === undefined || derivation !== "bcrypt" || !getCiphers().includes(cipher.name)) {
    throw new UnusableKey(
      `it is encrypted with ${cipherName}, which this build of sshshim cannot read`,
      "Encrypt it anew with ssh-keygen -p -Z aes256-ctr.",
    );
  }
  if (privatePart.length % cipher.blockBytes !== 0 || tag.length !== cipher.tagBytes) {
    throw damagedKey();
  }
  // OpenSSH never encrypts with the empty one.
  if (passphrase === "") return null;
  const { salt, rounds } = orDamaged(() => {
    const reader = new Reader(derivationOptions);
    return { salt: reader.bytes(), rounds: reader.uint32() };
  });
  if (salt.length === 0 || rounds === 0) throw damagedKey();
  const length = cipher.keyBytes + cipher.ivBytes;
  const secret = new TextEncoder().encode(passphrase);
  const keyAndIv = await bcryptPbkdf(secret, { salt, rounds, length });
  const plain = decrypt(cipher, { keyAndIv, data: privatePart, tag });
  secret.fill(0);
  keyAndIv.fill(0);
  if (plain === null) return null;
  try {
    return orDamaged(() => readPrivatePart({ ...envelope, privatePart: plain }));
  } finally {
    plain.fill(0);
  }
}

/** Returns `null` where the cipher itself notices a wrong key. */
function decrypt(
  cipher: Cipher,
  { keyAndIv, data, tag }: { keyAndIv: Uint8Array; data: Uint8Array; tag: Uint8Array },
): Uint8Array | null {
  const key = keyAndIv.subarray(0, cipher.keyBytes);
  if (cipher.name === "chacha20") return openChaCha20Poly1305(key, data, tag);
  const iv = keyAndIv.subarray(cipher.keyBytes);
  if (cipher.name === "aes-128-gcm" || cipher.name === "aes-256-gcm") {
    const decipher = createDecipheriv(cipher.name, key, iv).setAuthTag(tag);
    const plain = decipher.update(data);
    try {
      decipher.final();
      return plain;
    } catch {
      // The tag does not fit.
      return null;
    }
  }
  const decipher = createDecipheriv(cipher.name, key, iv).setAutoPadding(false);
  return Buffer.concat([decipher.update(data), decipher.final()]);
}

/** Reads the decrypted part. Returns `null` where its check fails: after a wrong passphrase. */
function readPrivatePart({ publicKey, privatePart }: Envelope): OpenKey | null {
  const reader = new Reader(privatePart);
  if (reader.uint32() !== reader.uint32()) return null;
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
