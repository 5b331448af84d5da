import assert from "node:assert/strict";
import { join } from "node:path";
import {
  type BannerFacts,
  bannerProperties,
  bannerText,
  type HostKeyFacts,
} from "../lib/banner.ts";

const facts: BannerFacts = {
  host: "prod.example.com",
  port: 22,
  username: "ubuntu",
  localAddress: "127.0.0.1",
  localPort: 2222,
  hostKeys: [
    {
      fingerprint: "SHA256:0eQZpIxc8Tw4QAvZyQIdWgOTYk+JPVJUyPnBPIUIzUM",
      line: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPVkqlyJWd2JNVGLvcQTPtqoNUdcVYZWzUUEiPMLJRa",
    },
    {
      fingerprint: "SHA256:L9SdRhHvRRpX5Q7hqWqFx0yCVAeyBCRk2NRLHsN8WBk",
      line: "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA==",
    },
  ],
  localAuth: "same-user",
};

const [{ line: first }, { line: second }] = facts.hostKeys as [HostKeyFacts, HostKeyFacts];

/** The commands of the banner, by their first word and options. */
function commandsOf(banner: string): string[] {
  return banner.split("\n").map((line) => line.trim())
    .filter((line) => /^(ssh|sftp|scp|echo|Add-Content) /.test(line));
}

Deno.test("the banner tells the local address, upstream and the fingerprint", () => {
  const banner = bannerText({ ...facts, port: 2200 }, "linux");
  assert.match(banner, /^sshshim: ubuntu@prod\.example\.com:2200 is at 127\.0\.0\.1:2222\n/);
  for (const { fingerprint } of facts.hostKeys) assert(banner.includes(`  ${fingerprint}\n`));
  assert.match(banner, /Its host keys; to have them known:\n/);
  const one = bannerText({ ...facts, hostKeys: facts.hostKeys.slice(0, 1) }, "linux");
  assert.match(one, /Its host key; to have it known:\n/);
  assert(banner.endsWith("\n"));
});

Deno.test("each example names the port in the way of its tool", () => {
  const commands = commandsOf(bannerText(facts, "linux"));
  assert.deepEqual(commands, [
    `echo '[127.0.0.1]:2222 ${first}' >> ~/.ssh/known_hosts`,
    `echo '[127.0.0.1]:2222 ${second}' >> ~/.ssh/known_hosts`,
    "ssh -p 2222 127.0.0.1",
    "ssh -p 2222 127.0.0.1 COMMAND",
    "sftp -P 2222 127.0.0.1",
    "scp -P 2222 FILE 127.0.0.1:",
    "ssh -p 2222 -N -L 8080:localhost:80 127.0.0.1",
    "ssh -p 2222 -N -R 9090:localhost:3000 127.0.0.1",
  ]);
});

Deno.test("an IPv6 address is in brackets where the tool wants them, and quoted for the shell", () => {
  const banner = bannerText({ ...facts, host: "2001:db8::1", localAddress: "::1" }, "linux");
  assert.match(banner, /^sshshim: ubuntu@\[2001:db8::1\]:22 is at \[::1\]:2222\n/);
  const commands = commandsOf(banner);
  assert.equal(commands[0], `echo '[::1]:2222 ${first}' >> ~/.ssh/known_hosts`);
  assert(commands.includes("ssh -p 2222 ::1"));
  assert(commands.includes("sftp -P 2222 '[::1]'"));
  assert(commands.includes("scp -P 2222 FILE '[::1]:'"));
});

Deno.test("no example wants to listen on the port of the endpoint", () => {
  for (const localPort of [8080, 9090, 10080]) {
    const forwards = commandsOf(bannerText({ ...facts, localPort }, "linux"))
      .map((command) => /-([LR]) (\d+):/.exec(command)).filter((match) => match !== null);
    assert.deepEqual(forwards.map((match) => match[1]), ["L", "R"]);
    assert(forwards.every((match) => Number(match[2]) !== localPort));
    assert.notEqual(forwards[0]?.[2], forwards[1]?.[2]);
  }
});

Deno.test("on Windows the host key is remembered in a way that PowerShell understands", () => {
  assert.equal(
    commandsOf(bannerText(facts, "windows"))[0],
    `Add-Content -Encoding ascii ~/.ssh/known_hosts '[127.0.0.1]:2222 ${first}'`,
  );
});

Deno.test("ssh-keygen finds the endpoint's key under the line for known_hosts", async () => {
  const folder = await Deno.makeTempDir();
  try {
    for (const localPort of [22, 2222]) {
      for (const localAddress of ["127.0.0.1", "::1"]) {
        const { knownHostsLine } = bannerProperties({ ...facts, localAddress, localPort });
        const file = join(folder, "known_hosts");
        await Deno.writeTextFile(file, `${knownHostsLine}\n`);
        const name = localPort === 22 ? localAddress : `[${localAddress}]:${localPort}`;
        const { code, stdout } = await new Deno.Command("ssh-keygen", {
          args: ["-l", "-F", name, "-f", file],
        }).output();
        assert.equal(code, 0, name);
        assert.match(new TextDecoder().decode(stdout), /SHA256:\S+/);
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("ssh reads the address and the port from each of its examples", async () => {
  for (const localAddress of ["127.0.0.1", "::1"]) {
    const commands = commandsOf(bannerText({ ...facts, localAddress }, "linux"))
      .filter((command) => command.startsWith("ssh "));
    assert.equal(commands.length, 4);
    for (const command of commands) {
      const { code, stdout } = await new Deno.Command("ssh", {
        args: ["-G", "-F", "none", ...command.split(" ").slice(1)],
      }).output();
      assert.equal(code, 0, command);
      const settings = new TextDecoder().decode(stdout).split(/\r?\n/);
      assert(settings.includes(`hostname ${localAddress}`), command);
      assert(settings.includes("port 2222"), command);
    }
  }
});

Deno.test("only without local authentication the banner warns of the other users", () => {
  assert.doesNotMatch(bannerText(facts, "linux"), /Warning/);
  assert.match(
    bannerText({ ...facts, localAuth: "none" }, "linux"),
    /\nWarning: .*every user of this machine can use this account/,
  );
});

Deno.test("where keys are asked for, each example names the one that sshshim has made", async () => {
  // With a blank in it, as on macOS; ssh passes over a file that is not there.
  const clientKeyFile = await Deno.makeTempFile({ prefix: "Application Support" });
  const banner = bannerText({ ...facts, localAuth: "publickey", clientKeyFile }, "darwin");
  const commands = commandsOf(banner).filter((command) => /^(ssh|sftp|scp) /.test(command));
  assert.equal(commands.length, 6);
  for (const command of commands.filter((it) => it.startsWith("ssh "))) {
    const words = command.replace(/^ssh /, "ssh -G -F none ");
    const { stdout } = await new Deno.Command("sh", { args: ["-c", words] }).output();
    const settings = new TextDecoder().decode(stdout).split(/\r?\n/);
    assert(settings.includes(`identityfile ${clientKeyFile}`), command);
    assert(settings.includes("hostname 127.0.0.1"), command);
  }
  await Deno.remove(clientKeyFile);
  assert.equal(bannerProperties({ ...facts, clientKeyFile }).clientKeyFile, clientKeyFile);
});

Deno.test("what listens at every address is reached at loopback", () => {
  for (const [localAddress, address] of [["0.0.0.0", "127.0.0.1"], ["::", "::1"]] as const) {
    const banner = bannerText({ ...facts, localAddress, localAuth: "publickey" }, "linux");
    assert.match(banner, new RegExp(`^sshshim: .* is at \\[?${localAddress}\\]?:2222\n`));
    assert.ok(commandsOf(banner).includes(`ssh -p 2222 ${address}`));
    assert.ok(commandsOf(banner)[0]!.startsWith(`echo '[${address}]:2222 `));
  }
});

Deno.test("the JSON form has every fact, the line for known_hosts, and the warning", () => {
  const hostKeys = facts.hostKeys.map(({ fingerprint, line }) => ({
    fingerprint,
    knownHostsLine: `[127.0.0.1]:2222 ${line}`,
  }));
  const closed = { ...facts, ...hostKeys[0], hostKeys };
  assert.deepEqual(bannerProperties(facts), closed);
  const { warning, ...open } = bannerProperties({ ...facts, localAuth: "none" });
  assert.deepEqual(open, { ...closed, localAuth: "none" });
  assert.match(String(warning), /every user of this machine/);
});
