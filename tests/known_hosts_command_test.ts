/** KnownHostsCommand, with what ssh makes of the same command. */

import assert from "node:assert/strict";
import { logIn } from "./support/login.ts";
import { host, startProxiedGround } from "./support/proxied_host.ts";

Deno.test("what KnownHostsCommand prints is known, as with ssh", async (t) => {
  await using ground = await startProxiedGround();
  const { folder } = ground;
  const key = await ground.makeKey("key", "-t", "ed25519");
  await ground.makeKey("rsa_key", "-t", "rsa", "-b", "2048");
  const other = await ground.makeKey("other", "-t", "ed25519");
  const ca = await ground.makeKey("ca", "-t", "ed25519");
  const certificate = await ground.certify("key", "-s", `${folder}/ca`, "-h", "-n", host);
  let scripts = 0;
  async function script(...lines: string[]): Promise<string> {
    const file = `${folder}/script_${++scripts}`;
    await Deno.writeTextFile(file, ["#!/bin/sh", ...lines, ""].join("\n"), { mode: 0o700 });
    return file;
  }
  const printing = (...lines: string[]) => script(...lines.map((line) => `echo '${line}'`));
  const name = `[${host}]:2222`;
  const unknown = /Host key of "host\.example\.com" is unknown/;

  type Case = {
    what: string;
    command: string;
    outcome: "in" | RegExp;
    known?: string[];
    certificates?: string[];
    status?: number;
  };
  const cases: Case[] = [
    { what: "its key", command: await printing(`${name} ${key}`), outcome: "in" },
    { what: "another key", command: await printing(`${name} ${other}`), outcome: /changed: Known/ },
    { what: "nothing", command: await printing(), outcome: unknown },
    { what: "a key without the port", command: await printing(`${host} ${key}`), outcome: unknown },
    { what: "a key of another host", command: await printing(`a ${key}`), outcome: unknown },
    {
      what: "that the key is revoked",
      command: await printing(`@revoked * ${key}`),
      outcome: /is revoked: KnownHostsCommand-HOSTNAME line 1/,
      known: [`${name} ${key}`],
    },
    {
      what: "its authority",
      command: await printing(`@cert-authority * ${ca}`),
      outcome: "in",
      certificates: [certificate],
    },
    {
      what: "with a failure",
      command: await script(`echo '${name} ${key}'`, "exit 3"),
      outcome: /exit status 3/,
    },
    {
      what: "by a program that is not there",
      command: `${folder}/missing`,
      outcome: "in",
      known: [`${name} ${key}`],
    },
    {
      what: "by a program that has no whole path",
      command: "true",
      outcome: "in",
      known: [`${name} ${key}`],
    },
    {
      what: "by a token that is not known",
      command: `${await printing()} %Z`,
      outcome: /%Z cannot be used here/,
      status: 2,
    },
    {
      what: "by arguments with quotes and a #",
      command: `${await script(
        `[ "$1" = "a b" ] && [ "$2" = "#c" ] && echo '${name} ${key}'`,
      )} "a b" #c`,
      outcome: "in",
    },
  ];
  for (const { what, command, outcome, known = [], certificates = [], status = 4 } of cases) {
    await t.step(what, async () => {
      const server = { keys: ["key", "rsa_key"], certificates, known };
      const { direct, shim } = await ground.try(server, ["-o", `KnownHostsCommand=${command}`]);
      assert.equal(direct.isIn, outcome === "in", direct.log);
      assert.equal(shim.isIn, outcome === "in", shim.log);
      if (outcome === "in") return;
      assert.equal(shim.status, status, shim.log);
      assert.match(shim.log, outcome);
    });
  }
});

Deno.test("KnownHostsCommand is asked when ssh asks it, with the same words", async () => {
  await using ground = await startProxiedGround();
  const { folder } = ground;
  const alias = "other.example.com";
  await ground.makeKey("key", "-t", "ed25519");
  const ca = await ground.makeKey("ca", "-t", "ed25519");
  const certificate = await ground.certify("key", "-s", `${folder}/ca`, "-h", "-n", alias);
  const script = `${folder}/script`;
  const log = `${folder}/asked`;
  // ssh and the shim run at the same time: each has a log of its own.
  await Deno.writeTextFile(
    script,
    [
      "#!/bin/sh",
      `if [ "$(ps -o comm= -p $PPID)" = ssh ]; then to=${log}_direct; else to=${log}_shim; fi`,
      'for word; do echo "$word"; done >> "$to"',
      `echo 'password: '"\${SSHSHIM_PASSWORD-none}" >> "$to"`,
      'cat >> "$to"',
      `echo '@cert-authority * ${ca}'`,
      "",
    ].join("\n"),
    { mode: 0o700 },
  );
  const words = "%% %C %H %I %K %L %d %f %h %i %k %l %n %p %r %t %u ${HOME}";
  const server = { keys: ["key"], certificates: [certificate], known: [] };
  const options = [`KnownHostsCommand=${script} ${words}`, "HostKeyAlias=Other.Example.Com"];
  const { direct, shim } = await ground.try(server, options.flatMap((it) => ["-o", it]), {
    SSHSHIM_PASSWORD: "secret",
    HOME: folder,
  });
  assert(direct.isIn, direct.log);
  assert(shim.isIn, shim.log);
  const [asked, askedDirectly] = await Promise.all(
    [`${log}_shim`, `${log}_direct`].map((file) => Deno.readTextFile(file)),
  );
  assert.match(askedDirectly!, /^ORDER$[^]*^HOSTNAME$/m);
  // Older versions of ssh ask for the order by the host's bare name, and find no lines for others.
  const byAlias = askedDirectly!.replace(`${host}\nORDER`, `${alias}\nORDER`);
  assert.equal(asked, byAlias);
});

Deno.test("the host is asked for a key of a type that KnownHostsCommand has", async () => {
  await using ground = await startProxiedGround();
  const { folder } = ground;
  await ground.makeKey("key", "-t", "ed25519");
  const rsaKey = await ground.makeKey("rsa_key", "-t", "rsa", "-b", "2048");
  const script = `${folder}/script`;
  const line = `[${host}]:2222 ${rsaKey}`;
  await Deno.writeTextFile(script, `#!/bin/sh\necho '${line}'\n`, { mode: 0o700 });
  const server = { keys: ["key", "rsa_key"], certificates: [], known: [] };
  const args = await ground.args(server, ["-o", `KnownHostsCommand=${script}`]);
  const { isIn, log } = await logIn(args, { folder });
  assert(isIn, log);
  assert.match(log, /host key rsa-sha2-512,/);
});
