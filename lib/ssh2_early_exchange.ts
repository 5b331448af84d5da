/**
 * A key exchange that begins before the server has said anything: where it is known on which one
 * both sides will agree, our KEXINIT and its first message follow our identification at once.
 *
 * RFC 4253, section 7, has a flag for that, `first_kex_packet_follows`, which helps only where both
 * sides name the same exchange and the same type of host key first: OpenSSH's usually do not. Here
 * nothing is guessed, and the flag stays 0: what is sent is what would follow the server's KEXINIT,
 * and a server that reads its messages in order finds nothing else. Its KEXINIT is held against that
 * when it comes; where it leads elsewhere, the connection ends.
 *
 * Like `ssh2_transport.ts` this builds on private fields of ssh2 1.17.0.
 */

import { Buffer } from "node:buffer";
import { generateKeyPairSync } from "node:crypto";
import { beginClientExchange, hybridKexName } from "./hybrid_kex.ts";
import { buildMessage } from "./ssh_data.ts";

const kexinitMessage = 20;
/** SSH_MSG_KEX_ECDH_INIT (RFC 5656, section 4), by whatever name an exchange has it. */
const kexFirstMessage = 30;
/** What precedes the lists of a KEXINIT, and what follows them (RFC 4253, section 7.1). */
const cookieBytes = 16;
const flagBytes = 5;
/** What precedes the payload of a packet (RFC 4253, section 6). */
const lengthFieldsBytes = 5;

/** ssh2's `KeyExchange`, as far as it is used here. */
export interface EarlyKeyExchange {
  negotiated: { kex: string };
  /** The key pair of an X25519 exchange. */
  _keys?: unknown;
  generateKeys(): void;
  getPublicKey(): Buffer;
  computeSecret(otherPublicKey: Buffer): Buffer | Error;
  start(): void;
  parse(payload: Uint8Array): unknown;
}

/** The fields of ssh2's `Protocol` that are used here. */
export interface EarlyProtocol {
  /** Sends the identification line. */
  start(): void;
  _kexinit: unknown;
  _offer: { lists: { all: Uint8Array } };
  _cipher: { encrypt(packet: Uint8Array): void };
  _packetRW: {
    write: {
      allocStartKEX: number;
      alloc(payloadLength: number, force: boolean): Uint8Array;
      finalize(packet: Uint8Array, force: boolean): Uint8Array;
    };
  };
}

/** Our half of an exchange, made before there is one. */
interface Half {
  publicValue: Uint8Array;
  /** Has ssh2's exchange go on with it. */
  give(kex: EarlyKeyExchange): void;
}

const halves: Record<string, () => Half> = {
  [hybridKexName]: beginHybrid,
  "curve25519-sha256": beginX25519,
  "curve25519-sha256@libssh.org": beginX25519,
};

/** Whether an exchange of this name can begin early. */
export function canBeginEarly(name: string): boolean {
  return Object.hasOwn(halves, name);
}

/** The first exchange of one connection. */
export class EarlyExchange {
  readonly #name: string;
  readonly #onUnforeseen: () => void;
  readonly #half: Half;
  #isAsSent = false;

  /**
   * @param name for which `canBeginEarly`.
   * @param onUnforeseen called where the server leads elsewhere: nothing comes of the connection.
   */
  constructor(name: string, onUnforeseen: () => void) {
    this.#name = name;
    this.#onUnforeseen = onUnforeseen;
    this.#half = halves[name]!();
  }

  /** Has it follow the identification; before that is sent, and with the offer complete. */
  attach(protocol: EarlyProtocol): void {
    const identify = protocol.start;
    protocol.start = () => {
      identify();
      const kexinit = makeKexinit(protocol);
      send(protocol, kexinit);
      send(protocol, buildMessage(kexFirstMessage, this.#half.publicValue));
      this.#takePlace(protocol, kexinit);
    };
  }

  /** Both KEXINITs are there, and ssh2 has made this of them. */
  onExchange(kex: EarlyKeyExchange): void {
    if (kex.negotiated.kex === this.#name && this.#isAsSent) {
      this.#half.give(kex);
      // It has been sent.
      kex.start = () => {};
    } else {
      kex.parse = () => {};
      kex.start = () => this.#onUnforeseen();
    }
  }

  /** ssh2 makes a KEXINIT when the server has identified itself: ours stands for it. */
  #takePlace(protocol: EarlyProtocol, kexinit: Buffer): void {
    const cipher = protocol._cipher;
    const encrypt = cipher.encrypt;
    cipher.encrypt = (packet) => {
      if (packet[lengthFieldsBytes] !== kexinitMessage) return encrypt.call(cipher, packet);
      cipher.encrypt = encrypt;
      const from = 1 + cookieBytes;
      // It has other names for servers of which it knows that they cannot do something.
      const [theirs, ours] = [packet.subarray(lengthFieldsBytes + from), kexinit.subarray(from)];
      this.#isAsSent = ours.every((byte, at) => theirs[at] === byte);
      protocol._kexinit = kexinit;
    };
  }
}

function makeKexinit({ _offer: { lists } }: EarlyProtocol): Buffer {
  const cookie = crypto.getRandomValues(new Uint8Array(cookieBytes));
  return Buffer.concat(
    [[kexinitMessage], cookie, lists.all, new Uint8Array(flagBytes)].map((it) =>
      Uint8Array.from(it)
    ),
  );
}

function send(protocol: EarlyProtocol, payload: Uint8Array): void {
  const { write } = protocol._packetRW;
  const packet = write.alloc(payload.length, true);
  packet.set(payload, write.allocStartKEX);
  protocol._cipher.encrypt(write.finalize(packet, true));
}

function beginHybrid(): Half {
  const exchange = beginClientExchange();
  return {
    publicValue: exchange.publicValue,
    give: (kex) => {
      // The exchange was turned into the hybrid already, with values of its own.
      kex.getPublicKey = () => exchange.publicValue;
      kex.computeSecret = (otherPublicKey) => {
        try {
          return exchange.computeSecret(otherPublicKey);
        } catch (error) {
          return error as Error;
        }
      };
    },
  };
}

function beginX25519(): Half {
  const keys = generateKeyPairSync("x25519");
  const x25519Bytes = 32;
  return {
    publicValue: keys.publicKey.export({ type: "spki", format: "der" }).subarray(-x25519Bytes),
    give: (kex) => kex._keys = keys,
  };
}
