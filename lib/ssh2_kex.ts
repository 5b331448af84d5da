/**
 * Adds mlkem768x25519-sha256 to an ssh2 connection, which has no post-quantum key exchange.
 *
 * Our KEXINIT offers it first, while the list that ssh2 negotiates from leaves it out, so that ssh2
 * settles on a classical exchange; where both sides' lists begin with the hybrid in common, the
 * exchange that ssh2 has made is turned into it before it sends anything. Like `transport.ts` this
 * builds on private fields of ssh2 1.17.0.
 */

import { Buffer } from "node:buffer";
import {
  beginClientExchange,
  beginServerExchange,
  type HybridExchange,
  hybridKexName,
} from "./hybrid_kex.ts";
import { Reader } from "./wire.ts";

/** ssh2's lists for KEXINIT; `all` is what it sends, `lists.kex.array` what it chooses from. */
interface KexOffer {
  totalSize: number;
  lists: { kex: { array: string[] }; all: Buffer };
}

/** ssh2's `KeyExchange`. */
interface KeyExchange {
  sessionID: Uint8Array;
  negotiated: { kex: string };
  hashName: string;
  _remoteKexinit: Uint8Array;
  generateKeys(): void;
  getPublicKey(): Buffer;
  convertPublicKey(key: Buffer): Buffer;
  computeSecret(otherPublicKey: Buffer): Buffer | Error;
}

/** The fields of ssh2's `Protocol` that key exchange touches. */
export interface KexProtocol {
  _server: boolean;
  _offer: KexOffer;
  _kex: KeyExchange | undefined;
  _skipNextInboundPacket: boolean;
}

/** KEXINIT's lists begin behind the message number and a cookie of 16 bytes. */
const firstListAt = 17;

/** Offers the hybrid key exchange; before the connection has sent KEXINIT. */
export function offerHybridKex(protocol: KexProtocol): void {
  addToOffer(protocol._offer);
  let kex = protocol._kex;
  Object.defineProperty(protocol, "_kex", {
    configurable: true,
    enumerable: true,
    get: () => kex,
    set: (next: KeyExchange | undefined) => {
      kex = next;
      if (next && isHybridChosen(protocol, next)) becomeHybrid(protocol, next);
    },
  });
}

/** Puts the name first into the bytes that are sent. A server's connections share one offer. */
function addToOffer(offer: KexOffer): void {
  const { all } = offer.lists;
  const names = Buffer.from(new Reader(all).bytes()).toString();
  if (names.startsWith(hybridKexName)) return;
  const length = Buffer.alloc(4);
  const list = Buffer.from(`${hybridKexName},${names}`);
  length.writeUInt32BE(list.length);
  offer.lists.all = Buffer.concat([length, list, all.subarray(4 + names.length)]);
  offer.totalSize = offer.lists.all.length;
}

/** RFC 4253, section 7.1: the client's first name that the server has too; ours is first here. */
function isHybridChosen(protocol: KexProtocol, kex: KeyExchange): boolean {
  const theirs = namesOf(kex._remoteKexinit);
  if (!protocol._server) return theirs.includes(hybridKexName);
  const ours = [hybridKexName, ...protocol._offer.lists.kex.array];
  return theirs.find((name) => ours.includes(name)) === hybridKexName;
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
  // A peer that guessed the hybrid right has sent its first packet already (RFC 4253, section 7).
  if (namesOf(kex._remoteKexinit)[0] === hybridKexName) protocol._skipNextInboundPacket = false;
}

/** The key exchange names of a KEXINIT. */
function namesOf(kexinit: Uint8Array): string[] {
  return Buffer.from(new Reader(kexinit, firstListAt).bytes()).toString().split(",");
}
