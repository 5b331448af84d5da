/** Downloads over a path so long that a window of 2 MiB is used up before it can be granted anew. */

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { clientEnvironment, makeTarget, type Target } from "./support/both.ts";
import { startProxy } from "./support/proxy.ts";
import { startShim } from "./support/shim.ts";
import { startSshd } from "./support/sshd.ts";

const delayMs = 50;
const bytes = 24_000_000;

function sum(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

Deno.test("a download over a long path is whole, by the port and by the control socket", async (t) => {
  for (const config of [[], ["RekeyLimit 4M"]]) {
    await using sshd = await startSshd({ config });
    const target = { hostname: sshd.host, port: sshd.port };
    await using proxy = await startProxy({ target, delayMs, queueBytes: 32 << 20 });
    const knownHostsFile = `${sshd.folder}/known_hosts_of_proxy`;
    const lines = sshd.hostKeys.map((key) => `[${proxy.hostname}]:${proxy.port} ${key}\n`);
    await Deno.writeTextFile(knownHostsFile, lines.join(""));
    const data = randomBytes(bytes);
    await Deno.writeFile(`${sshd.folder}/data`, data);
    const { username, keyFile, folder } = sshd;
    const host = { host: proxy.hostname, port: proxy.port, username, keyFile, knownHostsFile };
    await using shim = await startShim(host);
    const facts = {
      ...{ username, keyFile, folder, environment: clientEnvironment(folder) },
      ...{ host: shim.host, port: shim.port, knownHostsFile: shim.knownHostsFile },
    };
    const { controlPath } = shim.banner;
    const ways: Target[] = [
      makeTarget({ ...facts, mode: "shim" }),
      makeTarget({ ...facts, mode: "lane", controlPath }),
    ];
    for (const way of ways) {
      const suffix = config.length > 0 ? ", with many key exchanges" : "";
      await t.step(`in mode "${way.mode}"${suffix}`, async () => {
        const { code, stdout } = await way.ssh(`cat ${folder}/data; echo end >&2; exit 3`);
        assert.equal(code, 3);
        assert.equal(sum(stdout), sum(data));
      });
    }
  }
});
