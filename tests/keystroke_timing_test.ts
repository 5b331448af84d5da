/** Chaff around keystrokes: OpenSSH's clients send it only where the server answers pings. */

import assert from "node:assert/strict";
import { loginEnvironment, serverArguments, startServing } from "./support/login.ts";
import { findPostQuantumSsh } from "./support/openssh10.ts";
import { Terminal } from "./support/pty.ts";
import { startProxy } from "./support/proxy.ts";
import { text } from "./support/run.ts";
import { startSecondSshd } from "./support/second_sshd.ts";
import { startSshd } from "./support/sshd.ts";

Deno.test("ssh hides the timing of keystrokes through the shim, and the network beyond sees the chaff", async () => {
  await using openssh = await findPostQuantumSsh();
  if (openssh === undefined) {
    console.warn("No OpenSSH that obfuscates keystroke timing here: nothing was tried.");
    return;
  }
  await using keys = await startSshd();
  const { folder, keyFile } = keys;
  await using sshd = await startSecondSshd(keys, {
    command: [openssh.sshd],
    config: openssh.config,
  });
  const { host, port } = sshd;
  await using network = await startProxy({ target: { hostname: host, port } });
  const args = [
    ...serverArguments({ ...sshd, port: network.port }),
    ...["-o", `HostKeyAlias=[${host}]:${port}`, "--ed25519-key", keyFile],
  ];
  await using shim = await startServing(args, { folder });
  const [, ...words] = shim.target.sshCommand("cat", ["-tt", "-vvv"]);
  await using terminal = new Terminal([openssh.ssh, ...words], {
    environment: loginEnvironment(folder),
  });
  await terminal.screen.waitFor(/exec request accepted/);
  const before = network.passedBytes.toTarget;
  await terminal.type("typed");
  await terminal.screen.waitFor(/obfuscate_keystroke_timing: starting/);
  const [, chaff] = await terminal.screen.waitFor(
    /chaff time expired \((\d+) chaff packets sent\)/,
  );
  // Each is sent on as a packet of its own, with a length, padding and an authentication tag.
  const passed = network.passedBytes.toTarget - before;
  assert(passed > Number(chaff) * 36, `${passed} bytes for ${chaff} packets`);
  await terminal.type("\x04\x04");
  assert.equal(await terminal.exit, 0);
  assert.match(terminal.screen.text, /kex_ext_info_check_ver: ping@openssh.com=<0>/);
});

Deno.test("a server that answers no pings is not said to, and ssh sends no chaff", async () => {
  await using sshd = await startSshd();
  const { folder, keyFile } = sshd;
  const args = [...serverArguments(sshd), "--ed25519-key", keyFile];
  await using shim = await startServing(args, { folder });
  const { code, stderr } = await shim.target.ssh("true", { options: ["-vvv"] });
  assert.equal(code, 0);
  const log = text(stderr);
  assert.match(log, /server-sig-algs=<ssh-ed25519,.*ecdsa-sha2-nistp521,rsa-sha2-512,/);
  assert(!log.includes("ping@openssh.com"), log);
});
