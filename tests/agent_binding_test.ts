/** Keys of an agent that are bound to hosts (`ssh-add -h`). */

import assert from "node:assert/strict";
import { clientEnvironment } from "./support/both.ts";
import { logIn } from "./support/login.ts";
import { run, runChecked, text } from "./support/run.ts";
import { makeKey, startAgent, withFolder } from "./support/signing.ts";
import { startSshd } from "./support/sshd.ts";

Deno.test("a signature names the host's key where the server takes that, as with ssh", async (t) => {
  await using sshd = await startSshd({ config: ["LogLevel DEBUG"] });
  const { host, port, username, folder, keyFile, knownHostsFile } = sshd;
  const request = /userauth-request for user \S+ service ssh-connection method (publickey\S*)/g;
  const cases = [
    ["yes", "publickey-hostbound-v00@openssh.com"],
    ["host-bound", "publickey-hostbound-v00@openssh.com"],
    ["unbound", "publickey"],
  ] as const;
  for (const [value, last] of cases) {
    await t.step(value, async () => {
      const option = ["-o", `PubkeyAuthentication=${value}`];
      const methods = async (logsIn: () => Promise<unknown>) => {
        const before = sshd.log.text.length;
        await logsIn();
        await sshd.log.waitFor(/^Accepted publickey /m, { from: before });
        return [...sshd.log.text.slice(before).matchAll(request)].map((match) => match[1]);
      };
      const direct = await methods(() =>
        runChecked([
          ...["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentityAgent=none", ...option],
          ...["-i", keyFile, "-o", `UserKnownHostsFile=${knownHostsFile}`],
          ...["-p", String(port), `${username}@${host}`, "true"],
        ])
      );
      const through = await methods(async () => {
        const args = [`${username}@${host}:${port}`, "--known-hosts", knownHostsFile, ...option];
        const { isIn, log } = await logIn([...args, "--ed25519-key", keyFile], { folder });
        assert(isIn, log);
      });
      assert.equal(direct.at(-1), last);
      assert.deepEqual(through, direct);
    });
  }
});

Deno.test("a key that is bound to hosts logs in to these alone, as with ssh", (t) =>
  withFolder(async (folder) => {
    await using sshd = await startSshd();
    await using agent = await startAgent(folder);
    const { host, port, username, knownHostsFile } = sshd;
    const name = `[${host}]:${port}`;
    await makeKey(`${folder}/other`, "-t", "ed25519");
    const other = await Deno.readTextFile(`${folder}/other.pub`);
    const known = `${folder}/known_hosts`;
    await Deno.writeTextFile(known, `${await Deno.readTextFile(knownHostsFile)}another ${other}`);
    const cases: [what: string, constraints: string[], options: string[], isIn: boolean][] = [
      ["to this host", ["-h", name], [], true],
      [
        "to this host, by its RSA key",
        ["-h", name],
        ["-o", "HostKeyAlgorithms=rsa-sha2-512"],
        true,
      ],
      ["to this account", ["-h", `${username}@${name}`], [], true],
      ["to another account", ["-h", `nobody@${name}`], [], false],
      ["to another host", ["-h", "another"], [], false],
      ["to nothing", [], [], true],
    ];
    for (const [what, constraints, options, isIn] of cases) {
      await t.step(what, async () => {
        await agent.add("-q", "-D");
        await agent.add("-q", "-H", known, ...constraints, sshd.keyFile);
        const common = ["-o", `IdentityAgent=${agent.path}`, "-o", "IdentityFile=none", ...options];
        const [direct, through] = await Promise.all([
          run([
            ...["ssh", "-F", "none", "-o", "BatchMode=yes", ...common],
            ...["-o", `UserKnownHostsFile=${known}`, "-o", "GlobalKnownHostsFile=/dev/null"],
            ...["-p", String(port), `${username}@${host}`, "true"],
          ], { environment: clientEnvironment(folder) }),
          logIn(
            [
              `${username}@${host}:${port}`,
              "--known-hosts",
              known,
              "-o",
              "BatchMode=yes",
              ...common,
            ],
            { folder },
          ),
        ]);
        assert.equal(direct.code === 0, isIn, text(direct.stderr));
        assert.equal(through.isIn, isIn, through.log);
        if (!isIn) assert.equal(through.status, 3, through.log);
      });
    }
  }));
