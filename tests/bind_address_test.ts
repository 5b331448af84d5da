/** BindAddress and BindInterface: the server sees the address that ssh would come from. */

import assert from "node:assert/strict";
import { clientEnvironment } from "./support/both.ts";
import { logIn, startServing } from "./support/login.ts";
import { run } from "./support/run.ts";
import { startSshd } from "./support/sshd.ts";

Deno.test("the server sees the address that is configured", async (t) => {
  await using sshd = await startSshd();
  const { folder, host, port, username, keyFile, knownHostsFile, log } = sshd;
  const lo = Deno.networkInterfaces().find(({ address }) => address === "127.0.0.1")!.name;
  const args = [`${username}@${host}:${port}`, "--ed25519-key", keyFile];
  const cases: [options: string[], seen: string | undefined][] = [
    [["BindAddress=127.0.0.7"], "127.0.0.7"],
    [["BindAddress=localhost"], "127.0.0.1"],
    [["BindAddress=127.0.0.7", "BindInterface=nowhere"], "127.0.0.7"],
    [[`BindInterface=${lo}`], "127.0.0.1"],
    [["BindInterface=nowhere"], undefined],
    [["BindAddress=198.51.100.7"], undefined],
    [["BindAddress=::1"], undefined],
  ];
  for (const [options, seen] of cases) {
    await t.step(options.join(", "), async () => {
      const settings = [...options, `UserKnownHostsFile=${knownHostsFile}`]
        .flatMap((option) => ["-o", option]);
      const ssh = ["ssh", "-F", "none", "-i", keyFile, "-p", `${port}`, ...settings];
      const ways = [
        async () => {
          const environment = clientEnvironment(folder);
          return (await run([...ssh, `${username}@${host}`, "true"], { environment })).code === 0;
        },
        async () => (await logIn([...args, ...settings], { folder })).isIn,
      ];
      for (const way of ways) {
        const from = log.text.length;
        assert.equal(await way(), seen !== undefined);
        if (seen === undefined) continue;
        const [, address] = await log.waitFor(/^Accepted publickey .* from (\S+) port/m, { from });
        assert.equal(address, seen);
      }
    });
  }
});

Deno.test("a connection from an address of its own carries all bytes, and ends", async () => {
  await using sshd = await startSshd();
  const { folder, host, port, username, keyFile, knownHostsFile } = sshd;
  await using shim = await startServing([
    ...[`${username}@${host}:${port}`, "--ed25519-key", keyFile, "--known-hosts", knownHostsFile],
    ...["-o", "BindAddress=127.0.0.9"],
  ], { folder });
  const bytes = 20_000_000;
  const { stdout } = await shim.target.ssh(`head -c ${bytes} /dev/zero`);
  assert.equal(stdout.length, bytes);
  await shim.target.ssh("kill $PPID");
  await shim.log.waitFor(/connection lost|the next client wakes/);
});
