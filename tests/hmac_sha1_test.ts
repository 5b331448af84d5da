import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { HmacSha1 } from "../lib/hmac_sha1.ts";

Deno.test("HMAC-SHA1 is that of node:crypto, for messages of all lengths under many keys", () => {
  // Up to four blocks, with every length of their last one.
  for (let length = 0; length <= 256; length++) {
    const message = randomBytes(length);
    const hmac = new HmacSha1(message);
    for (let count = 0; count < 3; count++) {
      const key = randomBytes(20);
      const expected = createHmac("sha1", key).update(message).digest();
      assert.deepEqual(hmac.under(key), expected, `${length}: ${message.toString("hex")}`);
    }
  }
});
