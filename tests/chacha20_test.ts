import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createCipheriv, randomBytes } from "node:crypto";
import { ChaCha20 } from "../lib/chacha20.ts";

Deno.test("ChaCha20 is that of node:crypto, for all lengths, from any block on", () => {
  const key = randomBytes(32);
  const cipher = new ChaCha20(key);
  for (let length = 0; length <= 300; length++) {
    for (const firstBlock of [0, 1, 0x7fff_ffff, 0xffff_fff0]) {
      const nonce = randomBytes(8);
      const input = randomBytes(length);
      const output = Buffer.alloc(length);
      cipher.nonce = nonce;
      cipher.apply(input, output, firstBlock);
      const start = Buffer.concat([Buffer.alloc(8), nonce]);
      start.writeUInt32LE(firstBlock);
      const reference = createCipheriv("chacha20", key, start);
      const expected = reference.update(input);
      reference.final();
      assert.deepEqual(output, expected, `${length} bytes from block ${firstBlock}`);
      // In place, too, and the same way back.
      cipher.apply(output, output, firstBlock);
      assert.deepEqual(output, input);
    }
  }
});
