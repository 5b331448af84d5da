/**
 * chacha20-poly1305@openssh.com for ssh2 (OpenSSH's PROTOCOL.chacha20poly1305), and a defence for
 * the ciphers in CBC mode.
 *
 * ssh2 makes three cipher objects for every packet and finishes none of them, and Deno keeps each
 * unfinished one for ever: a twentieth of all bytes relayed would stay in memory. These encrypt and
 * decrypt packets where they lie, by libcrypto where the system has it, and have the shape of ssh2's
 * own classes. Elsewhere they make one cipher object for a long packet, and finish it, and Poly1305
 * is the WebAssembly that ssh2 brings. Packets have up to 256 KiB, as with OpenSSH.
 *
 * Imported before ssh2 is, by `ssh2.ts`: ssh2 takes these functions when it is loaded. For that
 * reason nothing may be awaited at this file's top level.
 */

import { Buffer } from "node:buffer";
import { createCipheriv, randomFillSync } from "node:crypto";
import ssh2Crypto from "ssh2/lib/protocol/crypto.js";
import loadPoly1305 from "ssh2/lib/protocol/crypto/poly1305.js";
import { ChaCha20 } from "./chacha20.ts";
import { type Libcrypto, loadLibcrypto } from "./libcrypto.ts";
import { PacketMemory } from "./packet_memory.ts";
import { type CbcDecipher, hideFailures } from "./ssh2_cbc.ts";

const keyBytes = 32;
const lengthBytes = 4;
const macBytes = 16;
const blockBytes = 8;
const smallestPaddingBytes = 4;
/** OpenSSH's PACKET_MAX_SIZE. */
const maximumPacketBytes = 256 * 1024;

/** Longer ones are worth calls of libcrypto, or an object of `node:crypto`; in bytes. */
const shortPacketBytes = { libcrypto: 64, node: 512 };

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
  readonly #messageAt: number;

  constructor(module: Poly1305Module) {
    this.#module = module;
    this.#resultAt = module._malloc(macBytes);
    this.#keyAt = module._malloc(keyBytes);
    this.#messageAt = module._malloc(lengthBytes + maximumPacketBytes);
  }

  authenticate(message: Uint8Array, key: Uint8Array, mac: Uint8Array): void {
    const { HEAPU8: heap } = this.#module;
    heap.set(message, this.#messageAt);
    heap.set(key, this.#keyAt);
    this.#module._poly1305_auth(
      this.#resultAt,
      this.#messageAt,
      lengthBytes,
      this.#messageAt + lengthBytes,
      message.length - lengthBytes,
      this.#keyAt,
    );
    mac.set(heap.subarray(this.#resultAt, this.#resultAt + macBytes));
  }
}

/** Loaded before any connection starts: ssh2 waits for it. */
let poly1305: Poly1305;

/** Where it can be had; used where it is right. */
const foundLibcrypto = loadLibcrypto();
let libcrypto: Libcrypto | undefined;

/** Whether a library does what everybody else does. */
function agrees({ applyChaCha20, authenticate }: Libcrypto): boolean {
  const [key, start] = [randomFillSync(Buffer.alloc(keyBytes)), randomFillSync(Buffer.alloc(16))];
  const sample = randomFillSync(Buffer.alloc(1000));
  const [ours, theirs] = [Buffer.alloc(macBytes), Buffer.alloc(macBytes)];
  try {
    authenticate(sample, key, theirs);
    poly1305.authenticate(sample, key, ours);
    const cipher = createCipheriv("chacha20", key, start);
    const encrypted = cipher.update(sample);
    cipher.final();
    applyChaCha20(sample, key, start);
    return ours.equals(theirs) && encrypted.equals(sample);
  } catch {
    return false;
  }
}

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

  /** Encrypts or decrypts a packet's length, in place. */
  applyToLength(bytes: Uint8Array): void {
    this.#lengthCipher.apply(bytes, bytes);
  }

  /** Encrypts or decrypts what follows the length, in place. */
  applyToBody(bytes: Uint8Array): void {
    if (bytes.length <= (libcrypto ? shortPacketBytes.libcrypto : shortPacketBytes.node)) {
      this.#shortCipher.apply(bytes, bytes, 1);
    } else if (libcrypto) {
      libcrypto.applyChaCha20(bytes, this.#mainKey, this.#bodyStart);
    } else {
      const cipher = createCipheriv("chacha20", this.#mainKey, this.#bodyStart);
      bytes.set(cipher.update(bytes));
      cipher.final();
    }
  }

  /** Writes the MAC over the encrypted length and the encrypted packet. */
  authenticate(message: Uint8Array, mac: Uint8Array): void {
    this.#shortCipher.apply(zeroKey, this.#macKey);
    (libcrypto ?? poly1305).authenticate(message, this.#macKey, mac);
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

class ChaChaCipher {
  outSeqno: number;
  readonly #keys: Keys;
  readonly #memory = new PacketMemory();
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
    const packet = this.#memory.take(size + macBytes).subarray(0, size);
    packet.writeUInt32BE(packetBytes);
    packet[lengthBytes] = paddingBytes;
    fillRandom(packet.subarray(size - paddingBytes));
    return packet;
  }

  /** Encrypts a packet that comes from `allocPacket`; its MAC has room behind it. */
  encrypt(packet: Buffer): void {
    if (this.#isFreed) return;
    const { buffer, byteOffset, length } = packet;
    const mac = new Uint8Array(buffer, byteOffset + length, macBytes);
    this.#keys.sequenceNumber = this.outSeqno;
    this.#keys.applyToLength(new Uint8Array(buffer, byteOffset, lengthBytes));
    this.#keys.applyToBody(new Uint8Array(buffer, byteOffset + lengthBytes, length - lengthBytes));
    this.#keys.authenticate(packet, mac);
    this.#onWrite(new Uint8Array(buffer, byteOffset, length + macBytes));
    this.outSeqno = (this.outSeqno + 1) >>> 0;
  }
}

class ChaChaDecipher {
  /** What it is given may be overwritten once it returns. */
  readonly keepsNothing = true;
  inSeqno: number;
  readonly #keys: Keys;
  /** ssh2 puts another function here for the length of a key exchange. */
  _onPayload: (payload: Buffer) => false | number | undefined;
  readonly #length = Buffer.alloc(lengthBytes);
  readonly #plainLength = Buffer.alloc(lengthBytes);
  readonly #mac = Buffer.alloc(macBytes);
  /** The packet that is being received, its length and MAC included, where it comes in pieces. */
  #packet: Buffer | undefined;
  #packetBytes = 0;
  #filled = 0;

  constructor({ inbound }: CipherConfig) {
    this.inSeqno = inbound.seqno;
    this.#keys = new Keys(inbound.decipherKey);
    this._onPayload = inbound.onPayload;
  }

  free(): void {}

  /**
   * Takes the bytes of `data` from `at` to `end`, which are decrypted there.
   *
   * @returns where to go on with another decipher, if this one is replaced.
   */
  decrypt(data: Buffer, at: number, end: number): number | undefined {
    while (at < end) {
      if (this.#filled < lengthBytes) {
        const count = Math.min(lengthBytes - this.#filled, end - at);
        data.copy(this.#length, this.#filled, at, at += count);
        this.#filled += count;
        if (this.#filled < lengthBytes) return;
        const isWhole = this.#onLength() <= end - at && count === lengthBytes;
        if (!isWhole) this.#collect();
      }
      let packet = this.#packet;
      if (packet) {
        const count = Math.min(this.#packetBytes - this.#filled, end - at);
        data.copy(packet, this.#filled, at, at += count);
        this.#filled += count;
        if (this.#filled < this.#packetBytes) return;
      } else {
        packet = data.subarray(at - lengthBytes, at - lengthBytes + this.#packetBytes);
        at += this.#packetBytes - lengthBytes;
      }
      const result = this._onPayload(this.#open(packet));
      if (result !== undefined) return result === false ? at : result;
    }
  }

  /** @returns how much follows the length. */
  #onLength(): number {
    this.#keys.sequenceNumber = this.inSeqno;
    this.#length.copy(this.#plainLength);
    this.#keys.applyToLength(this.#plainLength);
    const bytes = this.#plainLength.readUInt32BE();
    if (bytes > maximumPacketBytes || bytes < blockBytes || bytes % blockBytes !== 0) {
      throw new Error("Bad packet length");
    }
    this.#packetBytes = lengthBytes + bytes + macBytes;
    return bytes + macBytes;
  }

  /** The packet comes in pieces. */
  #collect(): void {
    this.#packet = Buffer.allocUnsafe(this.#packetBytes);
    this.#length.copy(this.#packet);
  }

  /** Verifies and decrypts a packet. */
  #open(packet: Buffer): Buffer {
    this.#keys.authenticate(packet.subarray(0, -macBytes), this.#mac);
    if (!isSameMac(this.#mac, packet)) throw new Error("Invalid MAC");
    const plain = packet.subarray(lengthBytes, -macBytes);
    this.#keys.applyToBody(plain);
    const paddingBytes = plain[0]!;
    if (paddingBytes >= plain.length) throw new Error("Bad padding length");
    this.inSeqno = (this.inSeqno + 1) >>> 0;
    this.#filled = 0;
    this.#packet = undefined;
    const payload = plain.subarray(1, plain.length - paddingBytes);
    if (isData(payload)) return payload;
    const kept = Buffer.allocUnsafeSlow(payload.length);
    payload.copy(kept);
    return kept;
  }
}

/** Whether a packet ends with this MAC; that takes as long wherever they differ. */
function isSameMac(mac: Uint8Array, packet: Uint8Array): boolean {
  let difference = 0;
  const start = packet.length - macBytes;
  for (let at = 0; at < macBytes; at++) difference |= mac[at]! ^ packet[start + at]!;
  return difference === 0;
}

/** CHANNEL_DATA and CHANNEL_EXTENDED_DATA: nobody keeps those; all others are kept as they are. */
function isData(payload: Buffer): boolean {
  return payload[0] === 94 || payload[0] === 95;
}

function onLoaded(module: Poly1305Module): void {
  poly1305 = new Poly1305(module);
  if (foundLibcrypto && agrees(foundLibcrypto)) libcrypto = foundLibcrypto;
}

const target = ssh2Crypto as Ssh2Crypto;
const { init, createCipher, createDecipher } = target;
const loading = (loadPoly1305 as () => Promise<Poly1305Module>)();
target.init = Promise.all([init, loading.then(onLoaded)]);
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
