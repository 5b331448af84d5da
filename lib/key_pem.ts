/**
 * Private keys in PEM: PKCS#1 (RFC 8017), SEC1 (RFC 5915) and PKCS#8 (RFC 5958), plain, encrypted
 * as PKCS#8 (RFC 8018), or in the older way of OpenSSL's "DEK-Info" header.
 *
 * The decryption is done here because node:crypto on Deno cannot tell a wrong passphrase from an
 * encryption that it does not know, and takes no PBKDF2 with SHA-1, which macOS and Java write.
 */

import { Buffer } from "node:buffer";
import {
  createDecipheriv,
  createHash,
  getCiphers,
  type KeyObject,
  pbkdf2,
  scrypt,
} from "node:crypto";
import { promisify } from "node:util";
import { DerReader, Tag } from "./key_der.ts";
import {
  damagedKey,
  ecdsaKey,
  importDer,
  type OpenKey,
  openKey,
  type StoredKey,
  UnusableKey,
} from "./key_object.ts";

/** The structures that a label of PEM names. */
type Structure = "pkcs1" | "sec1" | "pkcs8";

const structures: Record<string, Structure> = {
  "RSA PRIVATE KEY": "pkcs1",
  "EC PRIVATE KEY": "sec1",
  "PRIVATE KEY": "pkcs8",
};

/**
 * Parses one block of PEM: its label, and the lines between the first and the last.
 *
 * @throws {UnusableKey} when it is damaged, or holds a key that cannot be used.
 */
export function parsePemKey(label: string, body: string): StoredKey {
  if (label === "ENCRYPTED PRIVATE KEY") {
    const der = Buffer.from(body, "base64");
    return { isEncrypted: true, decrypt: (passphrase) => decryptPkcs8(der, passphrase) };
  }
  const structure = Object.hasOwn(structures, label) ? structures[label] : undefined;
  if (structure === undefined) {
    const advice = "Make a new one: ssh-keygen -t ed25519";
    throw new UnusableKey(`it is a "${label}", which sshshim cannot sign with`, advice);
  }
  const [headers, base64] = splitHeaders(body);
  const data = Buffer.from(base64, "base64");
  if (/^Proc-Type:.*ENCRYPTED/m.test(headers)) {
    const decrypt = (passphrase: string) => decryptLegacy({ structure, headers, data }, passphrase);
    return { isEncrypted: true, decrypt };
  }
  return { isEncrypted: false, ...toKey(data, structure) };
}

/** Headers as in e-mail, if there are any, end with an empty line. */
function splitHeaders(body: string): [headers: string, base64: string] {
  const [headers, ...rest] = body.trimStart().split(/\r?\n[ \t]*\r?\n/);
  return headers!.includes(":") ? [headers!, rest.join("\n")] : ["", body];
}

/** Builds and checks the key; the bytes are overwritten. */
function toKey(der: Uint8Array, structure: Structure): OpenKey {
  try {
    const key = structure === "sec1"
      ? readSec1(der)
      : structure === "pkcs8"
      ? readPkcs8(der)
      : importDer(der, structure);
    return openKey(key);
  } catch (error) {
    // The reader's word for a value that is missing or cannot be.
    if (error instanceof RangeError) throw damagedKey();
    throw error;
  } finally {
    der.fill(0);
  }
}

/** OpenSSL once left out a scalar's leading zeros, so that what is read is built anew. */
function readSec1(der: Uint8Array, curveOfPkcs8?: string): KeyObject {
  const fields = new DerReader(der).sequence();
  if (fields.number() !== 1) throw damagedKey();
  const scalar = fields.value(Tag.octetString);
  const curve = fields.nextTag === Tag.context(0)
    ? readCurve(fields.reader(Tag.context(0)))
    : curveOfPkcs8;
  const point = fields.nextTag === Tag.context(1)
    ? readPoint(fields.reader(Tag.context(1)))
    : undefined;
  fields.end();
  if (curve === undefined) throw damagedKey();
  return ecdsaKey(curve, { scalar, point });
}

function readPkcs8(der: Uint8Array): KeyObject {
  const fields = new DerReader(der).sequence();
  fields.number();
  const algorithm = fields.sequence();
  const isEllipticCurve = algorithm.objectIdentifier() === "1.2.840.10045.2.1";
  if (!isEllipticCurve) return importDer(der, "pkcs8");
  const curve = readCurve(algorithm);
  const privateKey = fields.value(Tag.octetString);
  if (fields.nextTag === Tag.context(0)) fields.value(Tag.context(0)); // Attributes.
  fields.end();
  return readSec1(privateKey, curve);
}

function readCurve(reader: DerReader): string {
  if (reader.nextTag !== Tag.objectIdentifier) {
    throw new UnusableKey("it is on a curve without a name, which SSH has no keys for");
  }
  const curve = reader.objectIdentifier();
  reader.end();
  return curve;
}

/** The bits, without the byte that says how many of the last ones are unused. */
function readPoint(reader: DerReader): Uint8Array {
  const bits = reader.value(Tag.bitString);
  reader.end();
  return bits.subarray(1);
}

/** What is encrypted, and how. */
interface Encryption {
  cipher: string;
  iv: Uint8Array;
  data: Uint8Array;
}

const keyBytesOf: Record<string, number> = {
  "aes-128-cbc": 16,
  "aes-192-cbc": 24,
  "aes-256-cbc": 32,
  "des-ede3-cbc": 24,
};

/** The length of the key that a decryption needs, if it is possible here. */
function keyBytesFor({ cipher, iv, data }: Encryption): number {
  const keyBytes = Object.hasOwn(keyBytesOf, cipher) ? keyBytesOf[cipher] : undefined;
  if (keyBytes === undefined || !getCiphers().includes(cipher)) throw unknownEncryption(cipher);
  const blockBytes = cipher.startsWith("aes") ? 16 : 8;
  if (iv.length !== blockBytes || data.length % blockBytes !== 0) throw damagedKey();
  return keyBytes;
}

function unknownEncryption(what: string): UnusableKey {
  const problem = `it is encrypted with ${what}, which this build of sshshim cannot read`;
  return new UnusableKey(problem, "Encrypt it anew with ssh-keygen -p.");
}

/** Decrypts, or returns `undefined` when the padding tells that the key is wrong. */
function decryptCbc({ cipher, iv, data }: Encryption, key: Uint8Array): Uint8Array | undefined {
  try {
    const decipher = createDecipheriv(cipher, key, iv);
    return Buffer.concat([decipher.update(data), decipher.final()]);
  } catch {
    return undefined;
  } finally {
    key.fill(0);
  }
}

/** A wrong passphrase is not noticed by the padding once in 256 cases, but by what comes out. */
function toKeyIfRight(der: Uint8Array | undefined, structure: Structure): OpenKey | undefined {
  if (der === undefined) return undefined;
  try {
    new DerReader(der).sequence();
  } catch {
    return undefined;
  }
  return toKey(der, structure);
}

/** The older way (RFC 1421 and OpenSSL): the key is a chain of MD5 over the passphrase and salt. */
function decryptLegacy(
  { structure, headers, data }: { structure: Structure; headers: string; data: Uint8Array },
  passphrase: string,
): Promise<OpenKey | undefined> {
  return Promise.resolve().then(() => {
    const [, name, ivText] = /^DEK-Info: *([A-Za-z0-9-]+),([0-9A-Fa-f]+)/m.exec(headers) ?? [];
    if (name === undefined || ivText === undefined) throw damagedKey();
    const cipher = name.toLowerCase();
    const iv = Buffer.from(ivText, "hex");
    const encryption = { cipher, iv, data };
    const key = deriveByMd5(passphrase, iv.subarray(0, 8), keyBytesFor(encryption));
    return toKeyIfRight(decryptCbc(encryption, key), structure);
  });
}

function deriveByMd5(passphrase: string, salt: Uint8Array, keyBytes: number): Uint8Array {
  const digests: Uint8Array[] = [];
  for (let length = 0; length < keyBytes; length += 16) {
    const hash = createHash("md5").update(digests.at(-1) ?? "").update(passphrase).update(salt);
    digests.push(hash.digest());
  }
  return Buffer.concat(digests).subarray(0, keyBytes);
}

/** The object identifiers of RFC 8018 and RFC 3565. */
const encryptionSchemes: Record<string, string> = {
  "2.16.840.1.101.3.4.1.2": "aes-128-cbc",
  "2.16.840.1.101.3.4.1.22": "aes-192-cbc",
  "2.16.840.1.101.3.4.1.42": "aes-256-cbc",
  "1.2.840.113549.3.7": "des-ede3-cbc",
};

const hashes: Record<string, string> = {
  "1.2.840.113549.2.7": "sha1",
  "1.2.840.113549.2.8": "sha224",
  "1.2.840.113549.2.9": "sha256",
  "1.2.840.113549.2.10": "sha384",
  "1.2.840.113549.2.11": "sha512",
};

type KeyDerivation = (passphrase: string, keyBytes: number) => Promise<Uint8Array>;

async function decryptPkcs8(der: Uint8Array, passphrase: string): Promise<OpenKey | undefined> {
  const { encryption, derive } = readEncryption(der);
  const key = await derive(passphrase, keyBytesFor(encryption));
  return toKeyIfRight(decryptCbc(encryption, key), "pkcs8");
}

/** Reads an EncryptedPrivateKeyInfo of scheme PBES2 (RFC 8018, section 6.2). */
function readEncryption(der: Uint8Array): { encryption: Encryption; derive: KeyDerivation } {
  try {
    const fields = new DerReader(der).sequence();
    const algorithm = fields.sequence();
    const scheme = algorithm.objectIdentifier();
    if (scheme !== "1.2.840.113549.1.5.13") throw unknownEncryption(`the scheme ${scheme}`);
    const parameters = algorithm.sequence();
    const derive = readDerivation(parameters.sequence());
    const encryptionScheme = parameters.sequence();
    const identifier = encryptionScheme.objectIdentifier();
    const cipher = encryptionSchemes[identifier] ?? identifier;
    const iv = encryptionScheme.value(Tag.octetString);
    return { encryption: { cipher, iv, data: fields.value(Tag.octetString) }, derive };
  } catch (error) {
    if (error instanceof RangeError) throw damagedKey();
    throw error;
  }
}

function readDerivation(reader: DerReader): KeyDerivation {
  const identifier = reader.objectIdentifier();
  const parameters = reader.sequence();
  const salt = parameters.value(Tag.octetString);
  const cost = parameters.number();
  if (cost === 0) throw damagedKey();
  switch (identifier) {
    case "1.2.840.113549.1.5.12": {
      if (parameters.nextTag === Tag.integer) parameters.number(); // The key's length.
      const prf = parameters.nextTag === Tag.sequence
        ? parameters.sequence().objectIdentifier()
        : "1.2.840.113549.2.7";
      const hash = hashes[prf];
      if (hash === undefined) throw unknownEncryption(`PBKDF2 with ${prf}`);
      return (passphrase, keyBytes) => promisify(pbkdf2)(passphrase, salt, cost, keyBytes, hash);
    }
    case "1.3.6.1.4.1.11591.4.11": {
      const [r, p] = [parameters.number(), parameters.number()];
      const options = { N: cost, r, p, maxmem: scryptMemoryBytes };
      return (passphrase, keyBytes) =>
        new Promise<Uint8Array>((resolve, reject) => {
          scrypt(
            passphrase,
            salt,
            keyBytes,
            options,
            (error, key) => error === null ? resolve(key) : reject(error),
          );
        }).catch(() => {
          throw damagedKey();
        });
    }
    default:
      throw unknownEncryption(`the key derivation ${identifier}`);
  }
}

/** OpenSSL takes 16 MiB unless it is told otherwise. */
const scryptMemoryBytes = 256 * 2 ** 20;
