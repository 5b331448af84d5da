/** Packets longer than the 35,000 bytes that every implementation takes (RFC 4253, section 6.1). */

import assert from "node:assert/strict";
import { serverArguments, startServing } from "./support/login.ts";
import { text } from "./support/run.ts";
import { startSshd } from "./support/sshd.ts";

/** A cipher and a MAC, for each way in which ssh2 reads a packet's length. */
const protections = [
  ["chacha20-poly1305@openssh.com", "hmac-sha2-256"],
  ["aes128-gcm@openssh.com", "hmac-sha2-256"],
  ["aes128-ctr", "hmac-sha2-256-etm@openssh.com"],
  ["aes128-ctr", "hmac-sha2-256"],
  ["aes256-ctr", "hmac-sha2-512"],
] as const;

Deno.test("a command of 100,000 bytes passes under every cipher and MAC, and others after it", async () => {
  await using sshd = await startSshd();
  const { folder, keyFile } = sshd;
  const args = [...serverArguments(sshd), "--ed25519-key", keyFile];
  await using shim = await startServing(args, { folder });
  const command = `printf %s ${"x".repeat(100_000)} | wc -c; cat`;
  for (const [cipher, mac] of protections) {
    const { code, stdout, stderr } = await shim.target.ssh(command, {
      options: ["-c", cipher, "-m", mac],
      stdin: "what follows",
    });
    assert.equal(text(stdout), "100000\nwhat follows", `${cipher} ${mac}: ${text(stderr)}`);
    assert.equal(code, 0);
  }
});
