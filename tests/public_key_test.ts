/** What is read from public keys, which anybody may have made. */

import assert from "node:assert/strict";
import { rsaBits } from "../lib/public_key.ts";
import { encodeFields } from "../lib/ssh_data.ts";

Deno.test("the bits of an RSA key are counted, also of one that is cut short", () => {
  const exponent = Uint8Array.of(1, 0, 1);
  const modulus = Uint8Array.of(0, 0x40, ...new Uint8Array(255));
  const key = encodeFields("ssh-rsa", exponent, modulus);
  assert.equal(rsaBits(key), 2047);
  assert.equal(rsaBits(encodeFields("ssh-rsa", exponent, new Uint8Array(256))), 0);
  assert.equal(rsaBits(encodeFields("ssh-ed25519", new Uint8Array(32))), undefined);
  // Such a key is too short for every RequiredRSASize, as a host's key and as an agent's.
  const typeEnd = encodeFields("ssh-rsa").length;
  for (let length = typeEnd; length < key.length; length++) {
    assert.equal(rsaBits(key.subarray(0, length)), 0);
  }
});
