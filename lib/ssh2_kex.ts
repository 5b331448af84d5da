/**
 * What ssh2's key exchanges lack: mlkem768x25519-sha256, a look at Diffie-Hellman values, and the
 * limits of the strict exchange.
 *
 * Our KEXINIT offers the hybrid, while the list that ssh2 negotiates from leaves it out, so that
 * ssh2 settles on a classical exchange; where the hybrid is what both sides' lists lead to, the
 * exchange that ssh2 has made is turned into it before it sends anything. Like `ssh2_transport.ts`
 * this builds on private fields of ssh2 1.17.0.
 */

import { Buffer } from "node:buffer";
import {
  beginClientExchange,
  beginServerExchange,
  type HybridExchange,
  hybridKexName,
} from "./hybrid_kex.ts";
import { MalformedDataError } from "./errors.ts";
import { Reader } from "./ssh_data.ts";

/** ssh2's lists for KEXINIT; `all` is what it sends, `lists.kex.array` what it chooses from. */
interface KexOffer {
  totalSize: number;
  lists: { kex: { array: string[] }; all: Buffer };
}

/** ssh2's `KeyExchange`. */
interface KeyExchange {
  sessionID: Uint8Array;
  /** `group` and `groupex` for exchanges in a finite field, `25519` for X25519. */
  type: string;
  negotiated: { kex: string };
  _dh: { getPrime(): Buffer } | null;
  hashName: string;
  _remoteKexinit: Uint8Array;
  generateKeys(): void;
  getPublicKey(): Buffer;
  convertPublicKey(key: Buffer): Buffer;
  computeSecret(otherPublicKey: Buffer): Buffer | Error;
}

/** What an ssh2 decipher hands its payloads to. */
export interface KexDecipher {
  _onPayload(payload: Uint8Array): unknown;
}

/** The fields of ssh2's `Protocol` that key exchange touches. */
export interface KexProtocol {
  _server: boolean;
  /** Whether both sides know the strict exchange (OpenSSH's PROTOCOL, section 1.10). */
  _strictMode: boolean | undefined;
  _offer: KexOffer;
  _kex: KeyExchange | undefined;
  _decipher: KexDecipher | undefined;
  _skipNextInboundPacket: boolean;
}

/**
 * SSH_MSG_KEXINIT (RFC 4253, section 7.1): its lists begin behind a cookie of 16 bytes, and after
 * them come a boolean, whether a guess follows, and a reserved number.
 */
const kexinitMessage = 20;
const firstListAt = 17;
const reservedBytes = 4;

/** SSH_MSG_IGNORE, SSH_MSG_UNIMPLEMENTED and SSH_MSG_DEBUG (RFC 4253, section 11). */
const chatter: readonly unknown[] = [2, 3, 4];

/**
 * Offers key exchanges in this order, and watches over each one; before the connection has sent
 * KEXINIT.
 *
 * @param names all of them; ssh2 was given the others of the list, and at least one.
 */
export function offerKeyExchanges(protocol: KexProtocol, names: readonly string[]): void {
  setOffer(protocol._offer, names);
  const hybrid = names.includes(hybridKexName) ? new HybridOffer(protocol, names) : undefined;
  const onReceived = (payload: Uint8Array) => hybrid?.onReceived(payload) ?? payload;
  let decipher = protocol._decipher;
  if (decipher) watch(decipher, onReceived);
  Object.defineProperty(protocol, "_decipher", {
    configurable: true,
    enumerable: true,
    get: () => decipher,
    set: (next: KexDecipher | undefined) => {
      decipher = next;
      if (next) watch(next, onReceived);
    },
  });
  let kex = protocol._kex;
  Object.defineProperty(protocol, "_kex", {
    configurable: true,
    enumerable: true,
    get: () => kex,
    set: (next: KeyExchange | undefined) => {
      // ssh2 has just handed the decipher to the new exchange.
      if (kex && decipher) tolerateChatter(protocol, decipher);
      kex = next;
      if (next === undefined) return;
      checkPublicValues(next);
      hybrid?.onExchange(next);
    },
  });
}

/** Our offer of the hybrid, and what comes of it. */
class HybridOffer {
  readonly #protocol: KexProtocol;
  readonly #names: readonly string[];
  /** The peer's KEXINIT that leads to the hybrid, as it came: it is hashed. */
  #kexinit: Uint8Array | undefined;

  constructor(protocol: KexProtocol, names: readonly string[]) {
    this.#protocol = protocol;
    this.#names = names;
  }

  /** @returns what ssh2 is to see of the message. */
  onReceived(payload: Uint8Array): Uint8Array {
    const theirs = payload[0] === kexinitMessage ? namesOf(payload) : undefined;
    if (theirs === undefined) return payload;
    const names = this.#names;
    const isHybrid = isHybridChosen(this.#protocol, { names, theirs });
    this.#kexinit = isHybrid ? payload : undefined;
    const known = this.#protocol._offer.lists.kex.array[0]!;
    // Then ssh2 finds an exchange that it knows, to be turned into the hybrid.
    if (isHybrid) return withNames(payload, [...theirs, known]);
    // It was given that one because it has to have one, but it is not offered: none will do.
    return names.includes(known) ? payload : withNames(payload, []);
  }

  onExchange(kex: KeyExchange): void {
    if (this.#kexinit === undefined) return;
    kex._remoteKexinit = this.#kexinit;
    becomeHybrid(this.#protocol, kex);
  }
}

/**
 * The strict exchange forbids these messages in the first exchange alone, which is the one that is
 * not authenticated; ssh2 fails on them in each.
 */
function tolerateChatter(protocol: KexProtocol, decipher: KexDecipher): void {
  const onPayload = decipher._onPayload;
  decipher._onPayload = (payload) => {
    if (!protocol._strictMode || !chatter.includes(payload[0])) return onPayload(payload);
  };
}

/** A public value of X25519, in bytes. */
const x25519ValueBytes = 32;

/**
 * RFC 8731, section 3: values of X25519 have 32 bytes; ssh2 takes what follows for nothing.
 * RFC 4253, section 8: values outside of [1, p-1] must not be accepted. As OpenSSH does, 1 and p-1
 * are refused too: with them the secret is known to everybody.
 */
function checkPublicValues(kex: KeyExchange): void {
  const isInField = kex.type === "group" || kex.type === "groupex";
  if (!isInField && kex.type !== "25519") return;
  const computeSecret = kex.computeSecret.bind(kex);
  kex.computeSecret = (otherPublicKey) => {
    if (!isInField) {
      const { length } = otherPublicKey;
      return length === x25519ValueBytes
        ? computeSecret(otherPublicKey)
        : new Error(`a public value of ${length} bytes`);
    }
    kex.generateKeys();
    const value = integerOf(otherPublicKey);
    const isValid = value > 1n && value < integerOf(kex._dh!.getPrime()) - 1n;
    return isValid ? computeSecret(otherPublicKey) : new Error("the public value is out of range");
  };
}

/** An integer of bytes in network order. */
function integerOf(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString("hex") || "0"}`);
}

/** Lets a function change what the peer sends. The first decipher is there before any hook is. */
function watch(decipher: KexDecipher, onReceived: (payload: Uint8Array) => Uint8Array): void {
  const onPayload = decipher._onPayload;
  decipher._onPayload = (payload) => onPayload(onReceived(payload));
}

/** Puts the names into the bytes that are sent. A server's connections share one offer. */
function setOffer(offer: KexOffer, names: readonly string[]): void {
  const { all } = offer.lists;
  const before = Buffer.from(new Reader(all).bytes()).toString();
  // What ssh2 says there of itself, such as that it knows the strict exchange.
  const signs = before.split(",").filter((name) => /^(ext-info|kex-strict)-/.test(name));
  const list = Buffer.from([...names, ...signs].join(","));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(list.length);
  offer.lists.all = Buffer.concat([length, list, all.subarray(4 + before.length)]);
  offer.totalSize = offer.lists.all.length;
}

/** RFC 4253, section 7.1: the client's first name that the server has too. */
function isHybridChosen(
  protocol: KexProtocol,
  { names, theirs }: { names: readonly string[]; theirs: readonly string[] },
): boolean {
  const [clients, servers] = protocol._server ? [theirs, names] : [names, theirs];
  return clients.find((name) => servers.includes(name)) === hybridKexName;
}

/** A KEXINIT with other key exchanges. */
function withNames(kexinit: Uint8Array, names: readonly string[]): Buffer {
  const list = Buffer.from(names.join(","));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(list.length);
  const rest = firstListAt + 4 + new Reader(kexinit, firstListAt).bytes().length;
  return Buffer.concat([kexinit.subarray(0, firstListAt), length, list, kexinit.subarray(rest)]);
}

function becomeHybrid(protocol: KexProtocol, kex: KeyExchange): void {
  const exchange: HybridExchange = protocol._server ? beginServerExchange() : beginClientExchange();
  kex.negotiated.kex = hybridKexName;
  kex.hashName = "sha256";
  kex.generateKeys = () => {};
  kex.getPublicKey = () => exchange.publicValue;
  kex.convertPublicKey = (key) => key;
  kex.computeSecret = (otherPublicKey) => {
    try {
      return exchange.computeSecret(otherPublicKey);
    } catch (error) {
      return error as Error;
    }
  };
  // A peer that guesses has sent its first packet already (RFC 4253, section 7).
  const { _remoteKexinit: kexinit } = kex;
  const hasGuessed = kexinit.at(-reservedBytes - 1) === 1;
  if (hasGuessed) protocol._skipNextInboundPacket = namesOf(kexinit)?.[0] !== hybridKexName;
}

/** The key exchange names of a KEXINIT; `undefined` where it is cut short, as ssh2 will tell. */
function namesOf(kexinit: Uint8Array): string[] | undefined {
  try {
    return Buffer.from(new Reader(kexinit, firstListAt).bytes()).toString().split(",");
  } catch (error) {
    if (error instanceof MalformedDataError) return undefined;
    throw error;
  }
}
