/**
 * What ssh2's key exchanges lack: mlkem768x25519-sha256, ecdh-sha2-nistp521 on Deno, certificates
 * of hosts, a look at groups and values of Diffie-Hellman, and the limits of the strict exchange.
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
import { KeyExchangeError, MalformedDataError } from "./errors.ts";
import { beginNistp521Exchange, type Nistp521Exchange, nistp521KexName } from "./nistp521_kex.ts";
import {
  type CertificateExchange,
  type NegotiatedHostKey,
  takeCertificate,
} from "./ssh2_certificates.ts";
import type { EarlyExchange, EarlyKeyExchange, EarlyProtocol } from "./ssh2_early_exchange.ts";
import { type FiniteFieldExchange, guardFiniteField } from "./ssh2_finite_field.ts";
import { encodeFields, Reader } from "./ssh_data.ts";

/**
 * ssh2's lists for KEXINIT: `all` is what it sends, `kex.array` what it chooses from, and
 * `kex.buffer` tells it how long the names in `all` are.
 */
interface KexOffer {
  totalSize: number;
  lists: { kex: { array: string[]; buffer: Buffer }; all: Buffer };
}

/** ssh2's `KeyExchange`. */
interface KeyExchange extends CertificateExchange, EarlyKeyExchange {
  sessionID: Uint8Array;
  /** `group` and `groupex` for exchanges in a finite field, `25519` for X25519. */
  type: string;
  negotiated: { kex: string } & NegotiatedHostKey;
  hashName: string;
  _remoteKexinit: Uint8Array;
  /** What the server has shown, and its signature. */
  _hostKey: Uint8Array;
  _sig: Uint8Array;
  convertPublicKey(key: Buffer): Buffer;
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
 * @param names all of them; ssh2 was given the others of the list, and with the hybrid at least one
 *   that can stand in for it.
 * @param early the first exchange, where that begins before the peer has said anything.
 * @param takes called with what comes between the peer's KEXINIT and its NEWKEYS, but for the first
 *   exchange; ssh2 does not see what it takes.
 */
export function offerKeyExchanges(
  protocol: KexProtocol,
  names: readonly string[],
  { early, takes = () => false }: {
    early?: EarlyExchange | undefined;
    takes?(payload: Uint8Array): boolean;
  } = {},
): void {
  setOffer(protocol._offer, names);
  early?.attach(protocol as unknown as EarlyProtocol);
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
      if (kex && decipher) tolerateMore(protocol, decipher, takes);
      const isFirst = kex === undefined;
      kex = next;
      if (next === undefined) return;
      prepare(next);
      hybrid?.onExchange(next);
      if (isFirst) early?.onExchange(next);
    },
  });
}

/** Our offer of the hybrid, and what comes of it. */
class HybridOffer {
  readonly #protocol: KexProtocol;
  readonly #names: readonly string[];
  /** The peer's KEXINIT as it came, which is hashed, and whether it leads to the hybrid. */
  #received: { kexinit: Uint8Array; isHybrid: boolean } | undefined;

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
    this.#received = { kexinit: payload, isHybrid };
    const standIn = this.#protocol._offer.lists.kex.array.find(canStandIn)!;
    // Then ssh2 settles on an exchange that can be turned into the hybrid.
    if (isHybrid) return withNames(payload, [standIn, ...theirs.filter(isSign)]);
    // It was given that one because it has to have one, but it is not offered.
    if (names.includes(standIn)) return payload;
    return withNames(payload, theirs.filter((name) => name !== standIn));
  }

  onExchange(kex: KeyExchange): void {
    if (this.#received === undefined) return;
    kex._remoteKexinit = this.#received.kexinit;
    if (this.#received.isHybrid) becomeHybrid(this.#protocol, kex);
  }
}

/** Whether ssh2's exchange of this name can be turned into another: it has two messages. */
export function canStandIn(name: string): boolean {
  return !name.startsWith("diffie-hellman-group-exchange-");
}

/** Whether a name is no exchange, but says something of its sender. */
function isSign(name: string): boolean {
  return /^(ext-info|kex-strict)-/.test(name);
}

/**
 * The strict exchange forbids chatter in the first exchange alone, which is the one that is not
 * authenticated; ssh2 fails on it in each.
 */
function tolerateMore(
  protocol: KexProtocol,
  decipher: KexDecipher,
  takes: (payload: Uint8Array) => boolean,
): void {
  const onPayload = decipher._onPayload;
  decipher._onPayload = (payload) => {
    if (protocol._strictMode && chatter.includes(payload[0])) return;
    if (!takes(payload)) return onPayload(payload);
  };
}

/** Gives an exchange what ssh2 leaves out of it, before it sends anything. */
function prepare(kex: KeyExchange): void {
  if (kex.type === "group" || kex.type === "groupex") {
    guardFiniteField(kex as unknown as FiniteFieldExchange);
  }
  if (kex.type === "25519") guardX25519(kex);
  takeCertificate(kex);
  // Deno has no ECDH on this curve.
  if (kex.negotiated.kex === nistp521KexName) replaceValues(kex, beginNistp521Exchange());
}

/** A public value of X25519, in bytes. */
const x25519ValueBytes = 32;

/** RFC 8731, section 3: values have 32 bytes; ssh2 takes what follows for nothing. */
function guardX25519(kex: KeyExchange): void {
  const computeSecret = kex.computeSecret.bind(kex);
  kex.computeSecret = (otherPublicKey) => {
    const { length } = otherPublicKey;
    return length === x25519ValueBytes
      ? computeSecret(otherPublicKey)
      : new KeyExchangeError(`a public value of ${length} bytes`);
  };
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
  const signs = before.split(",").filter(isSign);
  const list = Buffer.from([...names, ...signs].join(","));
  offer.lists.all = Buffer.concat([encodeFields(list), all.subarray(4 + before.length)]);
  offer.lists.kex.buffer = list;
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
  const list = encodeFields(Buffer.from(names.join(",")));
  const rest = firstListAt + 4 + new Reader(kexinit, firstListAt).bytes().length;
  return Buffer.concat([kexinit.subarray(0, firstListAt), list, kexinit.subarray(rest)]);
}

function becomeHybrid(protocol: KexProtocol, kex: KeyExchange): void {
  replaceValues(kex, protocol._server ? beginServerExchange() : beginClientExchange());
  kex.negotiated.kex = hybridKexName;
  kex.hashName = "sha256";
  // A peer that guesses has sent its first packet already (RFC 4253, section 7).
  const { _remoteKexinit: kexinit } = kex;
  const hasGuessed = kexinit.at(-reservedBytes - 1) === 1;
  if (hasGuessed) protocol._skipNextInboundPacket = namesOf(kexinit)?.[0] !== hybridKexName;
}

/** Has the public values and the secret of an exchange be those of ours. */
function replaceValues(kex: KeyExchange, exchange: HybridExchange | Nistp521Exchange): void {
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
