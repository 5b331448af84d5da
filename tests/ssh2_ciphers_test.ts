import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createCipheriv, randomBytes } from "node:crypto";
import { poly1305 } from "@noble/ciphers/_poly1305.js";
import { fileURLToPath } from "node:url";
import ssh2Crypto from "ssh2/lib/protocol/crypto.js";
import "../lib/ssh2.ts";
import { runChecked } from "./support/run.ts";

const ciphers = ssh2Crypto as {
  init: Promise<unknown>;
  createCipher(config: unknown): {
    allocPacket(payloadBytes: number): Buffer;
    encrypt(packet: Buffer): void;
  };
  createDecipher(config: unknown): { decrypt(data: Buffer, at: number, end: number): void };
};

/** A packet as OpenSSH's PROTOCOL.chacha20poly1305 has it. */
function sealed(packet: Buffer, key: Buffer, sequenceNumber: number): Buffer {
  const apply = (key: Buffer, block: number, bytes: Buffer) => {
    const start = Buffer.alloc(16);
    start.writeUInt32LE(block, 0);
    start.writeUInt32BE(sequenceNumber, 12);
    const cipher = createCipheriv("chacha20", key, start);
    return Buffer.concat([cipher.update(bytes), cipher.final()]);
  };
  const [main, header] = [key.subarray(0, 32), key.subarray(32)];
  const encrypted = Buffer.concat([
    apply(header, 0, packet.subarray(0, 4)),
    apply(main, 1, packet.subarray(4)),
  ]);
  return Buffer.concat([encrypted, poly1305(encrypted, apply(main, 0, Buffer.alloc(32)))]);
}

Deno.test("packets of all lengths are sealed as OpenSSH's PROTOCOL says, and opened again", async () => {
  await ciphers.init;
  const key = randomBytes(64);
  let sequenceNumber = 0xffff_ff00;
  const sent: Buffer[] = [];
  const cipher = ciphers.createCipher({
    outbound: {
      seqno: sequenceNumber,
      onWrite: (data: Uint8Array) => sent.push(Buffer.from(data)),
      cipherInfo: { sslName: "chacha20" },
      cipherKey: key,
    },
  });
  const received: Buffer[] = [];
  const decipher = ciphers.createDecipher({
    inbound: {
      seqno: sequenceNumber,
      onPayload: (payload: Buffer) => void received.push(payload),
      decipherInfo: { sslName: "chacha20" },
      decipherKey: key,
    },
  });
  // Around one block, two, and where packets are not short any more.
  const lengths = [0, 1, ...range(40, 140), ...range(990, 1040), 4096, 32_768, 70_000, 250_000];
  for (const length of lengths) {
    const payload = randomBytes(length);
    const packet = cipher.allocPacket(length);
    payload.copy(packet, 5);
    const expected = sealed(packet, key, sequenceNumber);
    cipher.encrypt(packet);
    const bytes = Buffer.concat(sent.splice(0));
    assert(bytes.equals(expected), `${length} bytes, encrypted`);
    // In two pieces: the cut is somewhere else each time.
    const cut = length % bytes.length;
    decipher.decrypt(bytes.subarray(0, cut), 0, cut);
    decipher.decrypt(bytes, cut, bytes.length);
    assert(received.pop()?.equals(payload), `${length} bytes, decrypted`);
    sequenceNumber = (sequenceNumber + 1) >>> 0;
  }

  const packet = cipher.allocPacket(100);
  cipher.encrypt(packet);
  const damaged = Buffer.concat(sent);
  damaged[50]! ^= 1;
  assert.throws(() => decipher.decrypt(damaged, 0, damaged.length), /Invalid MAC/);
});

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}

Deno.test("thousands of packets pass between these ciphers and ssh2's own, with libcrypto and without", async () => {
  const program = fileURLToPath(new URL("ciphers.ts", import.meta.url));
  for (const permissions of [[], ["--deny-ffi"]]) {
    const words = [Deno.execPath(), "run", "--no-check", "-A", ...permissions, program, "4000"];
    assert.match(await runChecked(words), /\d{4} packets, no fault/);
  }
});
