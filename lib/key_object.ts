/**
 * Private keys in memory: built from their numbers, checked, and used to sign.
 *
 * All are KeyObjects of node:crypto, which keep the secret outside of JavaScript's own memory.
 */

import { Buffer } from "node:buffer";
import {
  createPrivateKey,
  createPublicKey,
  getCurves,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import { DerReader, encodeDer, encodeDerUnsigned, Tag } from "./key_der.ts";
import { plainName } from "./public_key.ts";
import { bitsOf, encodeFields, integerOf, unsignedBytes } from "./ssh_data.ts";

/** Says what is wrong with a key ("it …") and, unless that is plain, what to do about it. */
export class UnusableKey extends Error {
  override name = "UnusableKey";

  constructor(problem: string, readonly advice?: string) {
    super(problem);
  }
}

/** A private key that can sign, and its public key (RFC 4253, section 6.6). */
export interface OpenKey {
  key: KeyObject;
  publicKey: Uint8Array;
}

/** A private key as a file holds it. */
export type StoredKey =
  | { isEncrypted: false } & OpenKey
  | {
    isEncrypted: true;
    /** The public key, where the format has it outside of what is encrypted. */
    publicKey?: Uint8Array;
    /**
     * Resolves with `undefined` when the passphrase is wrong.
     *
     * @throws {UnusableKey} when it may be right, and the key cannot be used all the same.
     */
    decrypt(passphrase: string): Promise<OpenKey | undefined>;
  };

/** A key that is not what its format says. */
export function damagedKey(): UnusableKey {
  return new UnusableKey("it is damaged");
}

/** An elliptic curve that SSH has keys on (RFC 5656, section 10.1). */
interface Curve {
  keyType: string;
  /** Its name in a key of RFC 5656. */
  name: string;
  /** Its name in a JSON Web Key. */
  jwkName: string;
  opensslName: string;
  objectIdentifier: string;
  /** The object identifier as DER has it. */
  der: Uint8Array;
  scalarBytes: number;
  hash: string;
}

const curves: readonly Curve[] = [
  {
    ...{ keyType: "ecdsa-sha2-nistp256", name: "nistp256" },
    ...{ jwkName: "P-256", opensslName: "prime256v1" },
    ...{ objectIdentifier: "1.2.840.10045.3.1.7", der: Buffer.from("2a8648ce3d030107", "hex") },
    ...{ scalarBytes: 32, hash: "sha256" },
  },
  {
    ...{ keyType: "ecdsa-sha2-nistp384", name: "nistp384" },
    ...{ jwkName: "P-384", opensslName: "secp384r1" },
    ...{ objectIdentifier: "1.3.132.0.34", der: Buffer.from("2b81040022", "hex") },
    ...{ scalarBytes: 48, hash: "sha384" },
  },
  {
    ...{ keyType: "ecdsa-sha2-nistp521", name: "nistp521" },
    ...{ jwkName: "P-521", opensslName: "secp521r1" },
    ...{ objectIdentifier: "1.3.132.0.35", der: Buffer.from("2b81040023", "hex") },
    ...{ scalarBytes: 66, hash: "sha512" },
  },
];

/** The numbers of an RSA key, big-endian. */
export interface RsaNumbers {
  n: Uint8Array;
  e: Uint8Array;
  d: Uint8Array;
  /** The inverse of q modulo p. */
  inverseOfQ: Uint8Array;
  p: Uint8Array;
  q: Uint8Array;
}

/** OpenSSH's RequiredRSASize. */
const minimumRsaBits = 1024;

/** Builds an RSA key (PKCS#1). */
export function rsaKey({ n, e, d, inverseOfQ, p, q }: RsaNumbers): KeyObject {
  const [dp, dq] = [p, q].map((prime) => {
    const modulus = integerOf(prime) - 1n;
    if (modulus < 1n) throw damagedKey();
    return toBytes(integerOf(d) % modulus);
  });
  const numbers = [Uint8Array.of(0), n, e, d, p, q, dp!, dq!, inverseOfQ];
  const der = encodeDer(Tag.sequence, ...numbers.map(encodeDerUnsigned));
  return importDer(der, "pkcs1");
}

/** Builds an Ed25519 key from its seed of 32 bytes (RFC 8410, section 7). */
export function ed25519Key(seed: Uint8Array): KeyObject {
  if (seed.length !== 32) throw damagedKey();
  const identifier = encodeDer(Tag.objectIdentifier, Uint8Array.of(0x2b, 0x65, 0x70));
  const der = encodeDer(
    Tag.sequence,
    encodeDerUnsigned(Uint8Array.of(0)),
    encodeDer(Tag.sequence, identifier),
    encodeDer(Tag.octetString, encodeDer(Tag.octetString, seed)),
  );
  return importDer(der, "pkcs8");
}

/**
 * Builds an ECDSA key (RFC 5915).
 *
 * `curve` is a name of RFC 5656 or an object identifier with dots. `scalar` may have leading zeros
 * or lack them: it is written with the curve's full width, without which it is not accepted.
 */
export function ecdsaKey(
  curveName: string,
  { scalar, point }: { scalar: Uint8Array; point?: Uint8Array },
): KeyObject {
  const curve = curves.find((curve) =>
    curve.name === curveName || curve.objectIdentifier === curveName
  );
  if (curve === undefined) {
    throw new UnusableKey(`it is on the curve ${curveName}, which SSH has no keys for`);
  }
  // Older versions of Deno have no P-521.
  if (!getCurves().includes(curve.opensslName)) {
    throw new UnusableKey(
      `it is on the curve ${curve.jwkName}, which this build of sshshim cannot sign with`,
      "Add it to an SSH agent with ssh-add: the agent can.",
    );
  }
  const digits = toBytes(integerOf(scalar));
  if (digits.length > curve.scalarBytes) throw damagedKey();
  const fullWidth = new Uint8Array(curve.scalarBytes);
  fullWidth.set(digits, fullWidth.length - digits.length);
  const identifier = encodeDer(Tag.objectIdentifier, curve.der);
  const parts = [
    encodeDerUnsigned(Uint8Array.of(1)),
    encodeDer(Tag.octetString, fullWidth),
    encodeDer(Tag.context(0), identifier),
  ];
  if (point !== undefined) {
    const bits = encodeDer(Tag.bitString, Uint8Array.of(0), point);
    parts.push(encodeDer(Tag.context(1), bits));
  }
  return importDer(encodeDer(Tag.sequence, ...parts), "sec1");
}

/** Imports DER, and overwrites it. */
export function importDer(der: Uint8Array, type: "pkcs1" | "pkcs8" | "sec1"): KeyObject {
  const key = Buffer.from(der);
  try {
    return createPrivateKey({ key, format: "der", type });
  } catch {
    // What exactly is wrong inside would not help anybody.
    throw damagedKey();
  } finally {
    der.fill(0);
    key.fill(0);
  }
}

/**
 * The public key of a private one, in the wire format of RFC 4253, section 6.6.
 *
 * @throws {UnusableKey} for a type that SSH does not have, and for RSA keys that are too short.
 */
export function publicKeyOf(key: KeyObject): Uint8Array {
  const { kty, crv, x, y, n, e } = createPublicKey(key).export({ format: "jwk" });
  const bytes = (text?: string): Uint8Array => new Uint8Array(Buffer.from(text!, "base64url"));
  if (kty === "RSA") {
    const bits = bitsOf(integerOf(bytes(n)));
    if (bits < minimumRsaBits) {
      throw new UnusableKey(`it has ${bits} bits, and SSH wants ${minimumRsaBits} at least`);
    }
    return encodeFields("ssh-rsa", unsignedBytes(bytes(e)), unsignedBytes(bytes(n)));
  }
  if (crv === "Ed25519") return encodeFields("ssh-ed25519", bytes(x));
  const curve = curves.find((curve) => curve.jwkName === crv);
  if (curve === undefined) {
    throw new UnusableKey(`it is of type ${crv ?? key.asymmetricKeyType}, which SSH does not have`);
  }
  const point = Buffer.concat([Uint8Array.of(4), bytes(x), bytes(y)]);
  return encodeFields(curve.keyType, curve.name, point);
}

/**
 * Signs with one of the algorithms of the key's type (RFC 4253, 8332, 5656 and 8709), also by its
 * name for certificates.
 *
 * @returns string algorithm, string blob
 */
export function signWith(key: KeyObject, data: Uint8Array, algorithm: string): Uint8Array {
  const name = plainName(algorithm);
  const signature = sign(hashOf(name), data, key);
  return encodeFields(name, name.startsWith("ecdsa-") ? toSshSignature(signature) : signature);
}

/**
 * Adds the public key to a private one, which signs once for a trial. A key file may be damaged in
 * a way that is not seen in its structure (not by Deno 2.4, at least), and the server would only say
 * that it refuses the signature.
 *
 * @throws {UnusableKey} where the numbers of a key do not belong together, and for a type that SSH
 *   does not have.
 */
export function openKey(key: KeyObject): OpenKey {
  const publicKey = publicKeyOf(key);
  const hash = key.asymmetricKeyType === "ed25519" ? null : "sha512";
  const data = Buffer.from("sshshim");
  let isWhole: boolean;
  try {
    isWhole = verify(hash, data, createPublicKey(key), sign(hash, data, key));
  } catch {
    isWhole = false;
  }
  if (!isWhole) throw damagedKey();
  return { key, publicKey };
}

function hashOf(algorithm: string): string | null {
  switch (algorithm) {
    case "ssh-ed25519":
      return null;
    case "rsa-sha2-512":
      return "sha512";
    case "rsa-sha2-256":
      return "sha256";
    case "ssh-rsa":
      return "sha1";
    default: {
      const curve = curves.find(({ keyType }) => keyType === algorithm);
      if (curve === undefined) throw new TypeError(`no private key signs with ${algorithm}`);
      return curve.hash;
    }
  }
}

/** DER's pair of numbers as that of RFC 5656, section 3.1.2: mpint r, mpint s. */
function toSshSignature(der: Uint8Array): Uint8Array {
  const pair = new DerReader(der).sequence();
  return encodeFields(pair.value(Tag.integer), pair.value(Tag.integer));
}

/** The big-endian bytes of a number, without leading zeros. */
function toBytes(value: bigint): Uint8Array {
  const hex = value.toString(16);
  return new Uint8Array(Buffer.from(hex.padStart(hex.length + hex.length % 2, "0"), "hex"));
}
