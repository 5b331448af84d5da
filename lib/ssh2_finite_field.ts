/**
 * Diffie-Hellman in finite fields (RFC 4253, section 8; RFC 4419) as OpenSSH's client does it: which
 * groups and public values are taken, how large a group is asked for, how long our secret is.
 *
 * ssh2 takes any group of a server, and Deno any public value, and our secret would be as long as
 * the group's prime, which costs half a second each time in the largest one.
 *
 * Like `ssh2_transport.ts` this builds on private fields of ssh2 1.17.0.
 */

import type { Buffer } from "node:buffer";
import {
  createDiffieHellman,
  createDiffieHellmanGroup,
  type DiffieHellman,
  randomBytes,
} from "node:crypto";
import constants from "ssh2/lib/protocol/constants.js";
import ssh2Crypto from "ssh2/lib/protocol/crypto.js";
import { KeyExchangeError } from "./errors.ts";
import { bitsOf, integerOf } from "./ssh_data.ts";

/** OpenSSH's DH_GRP_MIN and DH_GRP_MAX. */
const smallestGroupBits = 2048;
const largestGroupBits = 8192;

/** Our secret: twice the longest key that is derived, that of chacha20-poly1305@openssh.com. */
const secretBits = 1024;

/** A public value with fewer ones among its bits gives its exponent away, as OpenSSH sees it. */
const fewestOnes = 4;

/** What one direction has agreed upon; the MAC's name is empty where the cipher brings its own. */
interface Direction {
  cipher: string;
  mac: string;
}

/** ssh2's exchanges of this kind. */
export interface FiniteFieldExchange {
  /** `groupex` where the server chooses the group. */
  type: "group" | "groupex";
  negotiated: { kex: string; cs: Direction; sc: Direction };
  _protocol: { _compatFlags: number };
  /** The name of a fixed group in node:crypto. */
  groupName?: string;
  /** The group that a server chose. */
  _prime?: Buffer | null;
  _generator?: Buffer | null;
  /** The size that a server is asked for, in bits. */
  _prefBits?: number;
  _dh: DiffieHellman | null;
  _public: Buffer | null;
  generateKeys(): void;
  setDHParams?(prime: Buffer, generator: Buffer): void;
  computeSecret(otherPublicKey: Buffer): Buffer | Error;
}

const { COMPAT } = constants as { COMPAT: { BUG_DHGEX_LARGE: number } };
const { CIPHER_INFO: ciphers, MAC_INFO: macs } = ssh2Crypto as {
  CIPHER_INFO: Record<string, { sslName: string; keyLen: number; blockLen: number; ivLen: number }>;
  MAC_INFO: Record<string, { len: number }>;
};

/** Called before the exchange has sent anything. */
export function guardFiniteField(kex: FiniteFieldExchange): void {
  if (kex.type === "groupex") guardGroup(kex);
  kex.generateKeys = () => {
    if (kex._dh || kex.type === "groupex" && !kex._prime) return;
    const dh = kex.type === "groupex"
      ? createDiffieHellman(kex._prime!, kex._generator!)
      : fixedGroup(kex.groupName!);
    const bits = Math.min(secretBits, bitsOf(integerOf(dh.getPrime())) - 1);
    const secret = randomBytes(Math.ceil(bits / 8));
    secret[0]! >>>= -bits & 7;
    dh.setPrivateKey(secret);
    kex._public = dh.generateKeys();
    kex._dh = dh;
  };
  const computeSecret = kex.computeSecret.bind(kex);
  kex.computeSecret = (otherPublicKey) => {
    kex.generateKeys();
    return isPublicValue(otherPublicKey, integerOf(kex._dh!.getPrime()))
      ? computeSecret(otherPublicKey)
      : new KeyExchangeError("the public value is out of range");
  };
}

/** The size to ask for, and what is taken in answer. */
function guardGroup(kex: FiniteFieldExchange): void {
  const { cs, sc } = kex.negotiated;
  const bits = groupBitsFor(8 * Math.max(keyBytesOf(cs), keyBytesOf(sc)));
  const isBounded = (kex._protocol._compatFlags & COMPAT.BUG_DHGEX_LARGE) !== 0;
  kex._prefBits = isBounded ? Math.min(bits, 4096) : bits;
  const setDHParams = kex.setDHParams!.bind(kex);
  kex.setDHParams = (prime, generator) => {
    checkGroup(prime, generator);
    setDHParams(prime, generator);
  };
}

/** node:crypto's fixed groups take no secret of ours. */
function fixedGroup(name: string): DiffieHellman {
  const group = createDiffieHellmanGroup(name);
  return createDiffieHellman(group.getPrime(), group.getGenerator());
}

/** OpenSSH's dh_estimate (RFC 4419, section 6.2): a group that is as hard to break as the keys. */
function groupBitsFor(keyBits: number): number {
  if (keyBits <= 112) return 2048;
  if (keyBits <= 128) return 3072;
  if (keyBits <= 192) return 7680;
  return largestGroupBits;
}

/** What the security of one direction rests on; three keys of DES are worth two. */
function keyBytesOf({ cipher, mac }: Direction): number {
  const { sslName, keyLen, blockLen, ivLen } = ciphers[cipher]!;
  const strength = sslName === "des-ede3-cbc" ? 14 : keyLen;
  return Math.max(strength, blockLen, ivLen, macs[mac]?.len ?? 0);
}

/**
 * @throws {KeyExchangeError} where a server's group is not one to use; "no matching" is how ssh2
 *   says that.
 */
function checkGroup(prime: Buffer, generator: Buffer): void {
  const isPositive = [prime, generator].every((mpint) => ((mpint[0] ?? 0) & 0x80) === 0);
  const [p, g] = [integerOf(prime), integerOf(generator)];
  const bits = bitsOf(p);
  if (!isPositive || bits < smallestGroupBits || bits > largestGroupBits) {
    throw new KeyExchangeError(
      `no matching Diffie-Hellman group: the server's has ${bits} bits, and ` +
        `${smallestGroupBits} to ${largestGroupBits} are taken`,
    );
  }
  if ((p & 1n) === 0n || g <= 1n || g >= p - 1n) {
    throw new KeyExchangeError(
      "no matching Diffie-Hellman group: the server's has numbers that make none",
    );
  }
}

/** OpenSSH's dh_pub_is_valid: with 0, 1, p-1 and beyond the secret is known to everybody. */
function isPublicValue(mpint: Buffer, prime: bigint): boolean {
  if ((mpint[0] ?? 0) & 0x80) return false;
  const value = integerOf(mpint);
  const ones = value.toString(2).replaceAll("0", "").length;
  return value > 1n && value < prime - 1n && ones >= fewestOnes;
}
