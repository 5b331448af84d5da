/**
 * chacha20-poly1305@openssh.com for ssh2 (OpenSSH's PROTOCOL.chacha20poly1305), and a defence for
 * the ciphers in CBC mode.
 *
 * ssh2 makes three cipher objects for every packet and finishes none of them, and Deno keeps each
 * unfinished one for ever: a twentieth of all bytes relayed would stay in memory. These make one for
 * a long packet, and finish it, and none for a short one. They have the shape of ssh2's own classes,
 * and take packets of up to 256 KiB, as OpenSSH does. Poly1305 is the WebAssembly that ssh2 brings.
 *
 * Imported before ssh2 is, by `ssh2.ts`: ssh2 takes these functions when it is loaded. For that
 * reason nothing may be awaited at this file's top level.
 */

import { Buffer } from "node:buffer";
import { createCipheriv, randomFillSync, timingSafeEqual } from "node:crypto";
import ssh2Crypto from "ssh2/lib/protocol/crypto.js";
import loadPoly1305 from "ssh2/lib/protocol/crypto/poly1305.js";
import { ChaCha20 } from "./chacha20.ts";
import { type CbcDecipher, hideFailures } from "./ssh2_cbc.ts";

const keyBytes = 32;
const lengthBytes = 4;
const macBytes = 16;
const blockBytes = 8;
const smallestPaddingBytes = 4;
/** OpenSSH's PACKET_MAX_SIZE. */
const maximumPacketBytes = 256 * 1024;

/** Longer ones are worth an object of `node:crypto`; in bytes. */
const shortPacketBytes = 256;

const zeroKey = new Uint8Array(keyBytes);

/** What ssh2 hands to `createCipher` and `createDecipher`. */
interface CipherConfig {
  outbound: {
    seqno: number;
    onWrite(data: Uint8Array): void;
    cipherInfo: { sslName: string };
    cipherKey: Buffer;
  };
  inbound: {
    seqno: number;
    onPayload(payload: Buffer): false | number | undefined;
    decipherInfo: { sslName: string };
    decipherKey: Buffer;
    /** Absent where the cipher brings a MAC of its own. */
    macInfo?: { isETM: boolean };
  };
}

/** The functions of ssh2's module that are replaced. */
interface Ssh2Crypto {
  /** Every connection waits for it. */
  init: Promise<unknown>;
  createCipher(config: CipherConfig): unknown;
  createDecipher(config: CipherConfig): unknown;
}

/** The WebAssembly module of ssh2, as Emscripten makes them. */
interface Poly1305Module {
  readonly HEAPU8: Uint8Array;
  _malloc(bytes: number): number;
  _poly1305_auth(
    result: number,
    head: number,
    headBytes: number,
    body: number,
    bodyBytes: number,
    key: number,
  ): void;
}

/** Poly1305 and where its arguments lie in its memory. */
class Poly1305 {
  readonly #module: Poly1305Module;
  readonly #resultAt: number;
  readonly #keyAt: number;
  readonly #headAt: number;
  readonly #bodyAt: number;

  constructor(module: Poly1305Module) {
    this.#module = module;
    this.#resultAt = module._malloc(macBytes);
    this.#keyAt = module._malloc(keyBytes);
    this.#headAt = module._malloc(lengthBytes);
    this.#bodyAt = module._malloc(maximumPacketBytes);
  }

  /** The MAC over the encrypted length and the encrypted packet; a copy. */
  authenticate(head: Uint8Array, body: Uint8Array, key: Uint8Array): Buffer {
    const { HEAPU8: heap } = this.#module;
    heap.set(head, this.#headAt);
    heap.set(body, this.#bodyAt);
    heap.set(key, this.#keyAt);
    this.#module._poly1305_auth(
      this.#resultAt,
      this.#headAt,
      head.length,
      this.#bodyAt,
      body.length,
      this.#keyAt,
    );
    const result = Buffer.allocUnsafe(macBytes);
    result.set(heap.subarray(this.#resultAt, this.#resultAt + macBytes));
    return result;
  }
}

/** Loaded before any connection starts: ssh2 waits for it. */
let poly1305: Poly1305;

/** The keys of one direction: what they encrypt they also decrypt. */
class Keys {
  readonly #lengthCipher: ChaCha20;
  readonly #shortCipher: ChaCha20;
  readonly #mainKey: Buffer;
  /** The number of the body's first block, little-endian, and the nonce: the sequence number. */
  readonly #bodyStart = Buffer.alloc(16).fill(1, 0, 1);
  readonly #nonce = this.#bodyStart.subarray(8);
  readonly #macKey = Buffer.alloc(keyBytes);

  constructor(key: Buffer) {
    this.#mainKey = key.subarray(0, keyBytes);
    this.#shortCipher = new ChaCha20(this.#mainKey);
    this.#lengthCipher = new ChaCha20(key.subarray(keyBytes));
  }

  /** Begins a packet. */
  set sequenceNumber(value: number) {
    this.#nonce.writeUInt32BE(value, 4);
    this.#lengthCipher.nonce = this.#shortCipher.nonce = this.#nonce;
  }

  /** The packet's key for Poly1305, which is there until the next one is taken. */
  get macKey(): Uint8Array {
    this.#shortCipher.apply(zeroKey, this.#macKey);
    return this.#macKey;
  }

  applyToLength(bytes: Uint8Array): Buffer {
    const result = Buffer.allocUnsafe(lengthBytes);
    this.#lengthCipher.apply(bytes, result);
    return result;
  }

  /** @returns memory that nothing else lies in: it may be kept for long. */
  applyToBody(bytes: Uint8Array): Buffer {
    if (bytes.length <= shortPacketBytes) {
      const result = Buffer.allocUnsafeSlow(bytes.length);
      this.#shortCipher.apply(bytes, result, 1);
      return result;
    }
    const cipher = createCipheriv("chacha20", this.#mainKey, this.#bodyStart);
    const result = cipher.update(bytes);
    cipher.final();
    return result;
  }
}

/** Bytes for padding, fetched from the system many at a time. */
const randomBytes = Buffer.alloc(8192);
let randomAt = randomBytes.length;

function fillRandom(bytes: Buffer): void {
  if (randomAt + bytes.length > randomBytes.length) {
    randomFillSync(randomBytes);
    randomAt = 0;
  }
  randomBytes.copy(bytes, 0, randomAt, randomAt += bytes.length);
}

/** Packets are built here one after the other: each is encrypted in the turn in which it is made. */
const scratch = Buffer.alloc(64 * 1024);

class ChaChaCipher {
  outSeqno: number;
  readonly #keys: Keys;
  readonly #onWrite: (data: Uint8Array) => void;
  #isFreed = false;

  constructor({ outbound }: CipherConfig) {
    this.outSeqno = outbound.seqno;
    this.#keys = new Keys(outbound.cipherKey);
    this.#onWrite = outbound.onWrite;
  }

  free(): void {
    this.#isFreed = true;
  }

  /** A packet with its length and padding written; the payload belongs behind the fifth byte. */
  allocPacket(payloadBytes: number): Buffer {
    let paddingBytes = blockBytes - (1 + payloadBytes) % blockBytes;
    if (paddingBytes < smallestPaddingBytes) paddingBytes += blockBytes;
    const packetBytes = 1 + payloadBytes + paddingBytes;
    const size = lengthBytes + packetBytes;
    const packet = size <= scratch.length ? scratch.subarray(0, size) : Buffer.alloc(size);
    packet.writeUInt32BE(packetBytes);
    packet[lengthBytes] = paddingBytes;
    fillRandom(packet.subarray(size - paddingBytes));
    return packet;
  }

  encrypt(packet: Buffer): void {
    if (this.#isFreed) return;
    this.#keys.sequenceNumber = this.outSeqno;
    const length = this.#keys.applyToLength(packet.subarray(0, lengthBytes));
    const body = this.#keys.applyToBody(packet.subarray(lengthBytes));
    this.#onWrite(length);
    this.#onWrite(body);
    this.#onWrite(poly1305.authenticate(length, body, this.#keys.macKey));
    this.outSeqno = (this.outSeqno + 1) >>> 0;
  }
}

class ChaChaDecipher {
  inSeqno: number;
  readonly #keys: Keys;
  /** ssh2 puts another function here for the length of a key exchange. */
  _onPayload: (payload: Buffer) => false | number | undefined;
  readonly #length = Buffer.alloc(lengthBytes);
  #lengthFilled = 0;
  /** The packet that is being received, its MAC included, and how much of it is there. */
  #packetBytes = 0;
  #packet: Buffer | undefined;
  #packetFilled = 0;

  constructor({ inbound }: CipherConfig) {
    this.inSeqno = inbound.seqno;
    this.#keys = new Keys(inbound.decipherKey);
    this._onPayload = inbound.onPayload;
  }

  free(): void {}

  /**
   * Takes the bytes of `data` from `at` to `end`.
   *
   * @returns where to go on with another decipher, if this one is replaced.
   */
  decrypt(data: Buffer, at: number, end: number): number | undefined {
    while (at < end) {
      if (this.#lengthFilled < lengthBytes) {
        const count = Math.min(lengthBytes - this.#lengthFilled, end - at);
        data.copy(this.#length, this.#lengthFilled, at, at += count);
        this.#lengthFilled += count;
        if (this.#lengthFilled < lengthBytes) return;
        this.#onLength();
      }
      const count = Math.min(this.#packetBytes - this.#packetFilled, end - at);
      let packet: Buffer;
      if (count === this.#packetBytes) {
        packet = data.subarray(at, at + count);
      } else {
        packet = this.#packet ??= Buffer.allocUnsafe(this.#packetBytes);
        data.copy(packet, this.#packetFilled, at, at + count);
      }
      at += count;
      this.#packetFilled += count;
      if (this.#packetFilled < this.#packetBytes) return;

      const result = this._onPayload(this.#open(packet));
      if (result !== undefined) return result === false ? at : result;
    }
  }

  #onLength(): void {
    this.#keys.sequenceNumber = this.inSeqno;
    const bytes = this.#keys.applyToLength(this.#length).readUInt32BE();
    if (bytes > maximumPacketBytes || bytes < blockBytes || bytes % blockBytes !== 0) {
      throw new Error("Bad packet length");
    }
    this.#packetBytes = bytes + macBytes;
  }

  /** Verifies and decrypts a packet. */
  #open(packet: Buffer): Buffer {
    const body = packet.subarray(0, -macBytes);
    const mac = poly1305.authenticate(this.#length, body, this.#keys.macKey);
    if (!timingSafeEqual(mac, packet.subarray(-macBytes))) throw new Error("Invalid MAC");
    const plain = this.#keys.applyToBody(body);
    const paddingBytes = plain[0]!;
    if (paddingBytes >= plain.length) throw new Error("Bad padding length");
    this.inSeqno = (this.inSeqno + 1) >>> 0;
    this.#lengthFilled = 0;
    this.#packetFilled = 0;
    this.#packet = undefined;
    return plain.subarray(1, plain.length - paddingBytes);
  }
}

const target = ssh2Crypto as Ssh2Crypto;
const { init, createCipher, createDecipher } = target;
const loading = (loadPoly1305 as () => Promise<Poly1305Module>)();
target.init = Promise.all([init, loading.then((module) => poly1305 = new Poly1305(module))]);
target.createCipher = (config) =>
  config.outbound.cipherInfo.sslName === "chacha20"
    ? new ChaChaCipher(config)
    : createCipher(config);
target.createDecipher = (config) => {
  const { decipherInfo, macInfo } = config.inbound;
  if (decipherInfo.sslName === "chacha20") return new ChaChaDecipher(config);
  const decipher = createDecipher(config);
  const isCbc = decipherInfo.sslName.endsWith("-cbc");
  if (isCbc && !macInfo!.isETM) hideFailures(decipher as CbcDecipher);
  return decipher;
};
