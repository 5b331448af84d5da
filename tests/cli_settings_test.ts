import assert from "node:assert/strict";
import { parseArguments } from "../lib/cli.ts";
import { UsageError } from "../lib/errors.ts";
import { type HostConfig, printHostConfig } from "../lib/host_config.ts";
import { readUpstreamConfig } from "../lib/hosts.ts";
import { runChecked } from "./support/run.ts";
import { assertShownAlike, withFolder, writeCase } from "./support/ssh_g.ts";

/** What the program makes of its arguments. */
function configOf(args: readonly string[]): Promise<HostConfig> {
  const command = parseArguments(args);
  assert(command.kind === "run");
  return readUpstreamConfig(command.options, command.options.destinations[0]!);
}

/** Runs `body` with a configuration file and two keys. */
function withConfig(
  config: string,
  body: (paths: { configFile: string; key: string; other: string }) => Promise<void>,
): Promise<void> {
  return withFolder(async (folder) => {
    const configFile = await writeCase(folder, { config, files: { key: "", other: "" } });
    await body({ configFile, key: `${folder}/key`, other: `${folder}/other` });
  });
}

const everything = `Match user typed
  IdentityFile ~/of-%r-at-%p
Match exec "test %p = 7"
  HostKeyAlias seven
Host box
  User filed
  Port 9
  IdentityFile configured
  IdentitiesOnly yes
  StrictHostKeyChecking yes
  UserKnownHostsFile /configured
  ServerAliveInterval 60
  ServerAliveCountMax 9
  ProxyCommand nc %h %p
Host *
  ProxyJump elsewhere
`;

Deno.test("each option shows in the configuration as its counterpart does in that of ssh", async (t) => {
  for (const config of ["", everything]) {
    await withConfig(config, async ({ configFile, key, other }) => {
      const missing = `${key}-missing`;
      const cases: { ours: string[]; ssh?: string[] }[] = [
        { ours: [] },
        { ours: ["-i", key] },
        { ours: ["-i", key, "-i", other, "-i", key] },
        { ours: ["-i", missing] },
        { ours: ["-i", missing, "-i", key, "-o", "IdentityFile=x"] },
        { ours: ["-i", key, "-o", "IdentityFile=none"] },
        { ours: ["-i", key, "-o", "IdentitiesOnly=no", "-o", "CertificateFile=c"] },
        { ours: ["--username", "typed"], ssh: ["-l", "typed"] },
        { ours: ["--port", "7"], ssh: ["-p", "7"] },
        {
          ours: ["--username", "typed", "--port", "7", "-i", key],
          ssh: ["-l", "typed", "-p", "7", "-i", key],
        },
        { ours: ["-J", "hop"] },
        { ours: ["-J", "me@hop:7,other"] },
        { ours: ["-J", "none"] },
        { ours: ["-J", "hop", "-o", "ProxyCommand=x"] },
        { ours: ["-J", "hop", "-o", "ProxyJump=x"] },
        { ours: ["-o", "User=typed", "-o", "Port=7"] },
        { ours: ["-o", "ProxyJump=hop", "-o", "Ciphers=aes128-ctr"] },
        { ours: ["--accept-new"], ssh: ["-o", "StrictHostKeyChecking=accept-new"] },
        {
          ours: ["--known-hosts", key, "--known-hosts", other],
          ssh: [
            ...["-o", `UserKnownHostsFile=${key} ${other}`],
            ...["-o", "GlobalKnownHostsFile=none"],
          ],
        },
        {
          ours: ["--keepalive-interval", "7", "--keepalive-count", "2"],
          ssh: ["-o", "ServerAliveInterval=7", "-o", "ServerAliveCountMax=2"],
        },
        { ours: ["--password-file", missing], ssh: [] },
        { ours: ["--password", "secret"], ssh: [] },
      ];
      for (const { ours, ssh = ours } of cases) {
        const name = ours.join(" ").replaceAll(key.slice(0, -3), "") || "none";
        await t.step(`${name}; ${config === "" ? "no" : "a"} configuration`, async () => {
          const file = ["-F", configFile];
          const expected = await runChecked(["ssh", "-G", ...file, ...ssh, "box"]);
          const actual = printHostConfig(await configOf([...file, ...ours, "box"]));
          assertShownAlike(actual, expected, ours.join(" "));
        });
      }
    });
  }
});

Deno.test("a key that is to be the only one shows, and no other file does", () =>
  withConfig(everything, async ({ configFile, key, other }) => {
    const args = ["-F", configFile, "-o", "IdentityFile=more", "-i", other, "box"];
    for (const option of ["--ed25519-key", "--rsa-key"]) {
      const config = await configOf([option, key, ...args]);
      assert.deepEqual(config.identityFiles, [key, other]);
      const shown = printHostConfig(config);
      assert.match(shown, /^identitiesonly yes$/m);
      assert.deepEqual(shown.match(/^identityfile .*$/gm), [
        `identityfile ${key}`,
        `identityfile ${other}`,
      ]);
    }
  }));

Deno.test("options win over -o, wherever they stand", async () => {
  const args = "-o User=b -o Port=8 -o ProxyJump=b -o StrictHostKeyChecking=no -o " +
    "UserKnownHostsFile=b -o ServerAliveInterval=8 --username a --port 7 -J a --accept-new " +
    "--known-hosts a --keepalive-interval 7 -F none box";
  const config = await configOf(args.split(" "));
  assert.deepEqual([config.user, config.port, config.proxyJump?.[0]?.host], ["a", 7, "a"]);
  assert.deepEqual(config.userKnownHostsFiles, ["a"]);
  assert.equal(config.strictHostKeyChecking, "accept-new");
  assert.equal(config.serverAliveIntervalSeconds, 7);
});

Deno.test("tokens are replaced in files of -i, which ssh does, and in no other option", () =>
  withConfig("", async ({ key }) => {
    const named = `${key}-%%`;
    await Deno.writeTextFile(named, "");
    const { identityFiles } = await configOf(["-F", "none", "-i", named, "me@box"]);
    assert.deepEqual(identityFiles, [`${key}-%`]);
    for (const file of ["~/%h", "none", "a ${NO_SUCH} %Z"]) {
      const files = ["--known-hosts", file, "--known-hosts", "x", "--ed25519-key", file];
      const config = await configOf(["-F", "none", ...files, "box"]);
      assert.deepEqual(config.userKnownHostsFiles, [file, "x"]);
      assert.deepEqual(config.globalKnownHostsFiles, []);
      assert.deepEqual(config.identityFiles, [file]);
    }
  }));

Deno.test("what is wrong with an option is said under its name", async () => {
  await assert.rejects(configOf(["-F", "none", "-J", "a,,b", "box"]), (error) => {
    assert(error instanceof UsageError);
    assert.match(error.message, /^-J: proxyjump takes \[USER@\]HOST/);
    return true;
  });
});
