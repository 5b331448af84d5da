/** ssh2's own ciphers, as they are before ours take their place: imported before `lib/ssh2.ts`. */

import type { Buffer } from "node:buffer";
import ssh2Crypto from "ssh2/lib/protocol/crypto.js";

/** A cipher of ssh2's, ours or its own. */
export interface Cipher {
  allocPacket(payloadBytes: number): Buffer;
  encrypt(packet: Buffer): void;
}

/** A decipher of ssh2's, ours or its own. */
export interface Decipher {
  decrypt(data: Buffer, at: number, end: number): unknown;
}

/** Where ssh2 takes them from. */
export interface Ciphers {
  init: Promise<unknown>;
  createCipher(config: unknown): Cipher;
  createDecipher(config: unknown): Decipher;
}

/** The module, whose functions are ours once `lib/ssh2.ts` is loaded. */
export const present = ssh2Crypto as Ciphers;

/** ssh2's own. */
export const own: Ciphers = { ...present };
