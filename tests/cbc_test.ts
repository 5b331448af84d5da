/** What an attacker learns of a block that is put among a server's: nothing, as with OpenSSH. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import ssh2Crypto from "ssh2/lib/protocol/crypto.js";
import "../lib/ssh2.ts";
import { allowLargePackets } from "../lib/ssh2_packets.ts";

/** The part of ssh2 1.17.0 that is used here. */
interface Cipher {
  _cipherInstance: { final(): void };
  allocPacket(payloadBytes: number): Buffer;
  encrypt(packet: Buffer): void;
}
interface Decipher {
  _decipherInstance: { final(): void };
  _len: number;
  decrypt(data: Buffer, at: number, end: number): number | undefined;
}
const { createCipher, createDecipher, CIPHER_INFO, MAC_INFO } = ssh2Crypto as {
  createCipher(config: unknown): Cipher;
  createDecipher(config: unknown): Decipher;
  CIPHER_INFO: Record<string, { keyLen: number; ivLen: number }>;
  MAC_INFO: Record<string, { len: number }>;
};

/** OpenSSH's PACKET_MAX_SIZE: after so many bytes, or one more write, a bad packet is given up. */
const limitBytes = 256 * 1024;

/** Both ends of one direction, and what has come through it. */
function direction(cipherName: string, macName: string) {
  const [cipherInfo, macInfo] = [CIPHER_INFO[cipherName]!, MAC_INFO[macName]!];
  const [key, iv] = [Buffer.alloc(cipherInfo.keyLen, 1), Buffer.alloc(cipherInfo.ivLen, 2)];
  const macKey = Buffer.alloc(macInfo.len, 3);
  const received: string[] = [];
  const decipher = createDecipher({
    inbound: {
      seqno: 0,
      onPayload: (payload: Buffer) => void received.push(payload.toString()),
      decipherInfo: cipherInfo,
      decipherKey: key,
      decipherIV: iv,
      macInfo,
      macKey,
    },
  });
  allowLargePackets(decipher);
  const seal = (payloads: string[], { macKey: ownMacKey = macKey } = {}) => {
    const written: Uint8Array[] = [];
    const outbound = { seqno: 0, onWrite: (data: Uint8Array) => void written.push(data) };
    const cipher = createCipher({
      outbound: {
        ...outbound,
        ...{ cipherInfo, cipherKey: key, cipherIV: iv, macInfo, macKey: ownMacKey },
      },
    });
    for (const payload of payloads) {
      const packet = cipher.allocPacket(payload.length);
      packet.write(payload, 5);
      cipher.encrypt(packet);
    }
    cipher._cipherInstance.final();
    return Buffer.concat(written);
  };
  const end = () => decipher._decipherInstance.final();
  return { decipher, seal, received, macKey, [Symbol.dispose]: end };
}

/** How many bytes are taken before the connection would end, and what it would end with. */
function givenUpAfter(
  decipher: Decipher,
  data: Buffer,
  step: number,
): [bytes: number, why: string] {
  for (let at = 0;;) {
    const piece = at < data.length ? data.subarray(at, at + step) : Buffer.alloc(step);
    try {
      decipher.decrypt(piece, 0, piece.length);
    } catch (error) {
      return [at + piece.length, (error as Error).message];
    }
    at += piece.length;
    assert(at < 2 * limitBytes, "it is never given up");
  }
}

for (
  const [cipher, blockBytes] of [["aes128-cbc", 16], ["aes256-cbc", 16], ["3des-cbc", 8]] as const
) {
  for (const mac of ["hmac-sha2-256", "hmac-sha1-96"]) {
    Deno.test(`${cipher} with ${mac}: a bad packet ends the connection at one place, whatever is wrong`, () => {
      using whole = direction(cipher, mac);
      const data = whole.seal(["a first one", "x".repeat(60_000), ""]);
      for (let at = 0; at < data.length; at += 7) {
        whole.decipher.decrypt(data, at, Math.min(at + 7, data.length));
      }
      assert.deepEqual(whole.received, ["a first one", "x".repeat(60_000), ""]);

      for (const step of [1, blockBytes]) {
        using badLength = direction(cipher, mac);
        const block = Buffer.alloc(blockBytes, 0x5a);
        const [atLength, why] = givenUpAfter(badLength.decipher, block, step);
        assert.equal(why, "Bad packet length");
        for (const payloadBytes of [1, 1000, 30_000]) {
          using badMac = direction(cipher, mac);
          const { seal, decipher, macKey, received } = badMac;
          const forged = seal(["y".repeat(payloadBytes)], { macKey: Buffer.alloc(macKey.length) });
          const [atMac, why] = givenUpAfter(decipher, forged, step);
          assert.equal(why, "Invalid MAC");
          assert(Math.abs(atMac - atLength) < step + blockBytes, `${atMac} and ${atLength}`);
          if (step === 1) assert.equal(atMac, limitBytes);
          assert.deepEqual(received, []);
        }
        if (step === 1) assert.equal(atLength, limitBytes);
      }
    });
  }
}

Deno.test("where the MAC covers the encrypted bytes, a bad packet ends the connection at once", () => {
  using badMac = direction("aes128-cbc", "hmac-sha2-256-etm@openssh.com");
  const { decipher, seal, macKey } = badMac;
  const forged = seal(["y"], { macKey: Buffer.alloc(macKey.length) });
  assert.deepEqual(givenUpAfter(decipher, forged, 1), [forged.length, "Invalid MAC"]);
});
