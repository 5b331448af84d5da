/** Whether the host is believed to be who it says, with what ssh makes of the same files. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { fingerprint } from "../lib/public_key.ts";
import { clientEnvironment } from "./support/both.ts";
import { logIn, type LoginResult, startServing } from "./support/login.ts";
import { atTerminal, type Dialog, key, type Session } from "./support/person.ts";
import { freePort } from "./support/ports.ts";
import { run, runChecked, text } from "./support/run.ts";
import { startScriptedServer } from "./support/scripted_server.ts";
import { makeKey, type Sshd, startSshd } from "./support/sshd.ts";

/** A server, and a known_hosts file of the test's own. */
interface Ground extends AsyncDisposable {
  readonly sshd: Sshd;
  readonly folder: string;
  /** How the server is listed. */
  readonly name: string;
  /** Its keys as `type base64`. */
  readonly ed25519: string;
  readonly rsa: string;
  /** An Ed25519 key that it does not have. */
  readonly other: string;
  /** The arguments for the server; further ones follow. */
  args(...more: string[]): string[];
  /** Writes known_hosts. */
  know(...lines: string[]): Promise<void>;
  /** The lines that known_hosts has; none where there is no such file. */
  known(): Promise<string[]>;
  /** What sshd has logged since the last call, up to the end of the connections. */
  authentications(): Promise<string[]>;
}

async function startGround(config: string[] = []): Promise<Ground> {
  const sshd = await startSshd({ config });
  const { folder, port, username, keyFile, host } = sshd;
  const [ed25519 = "", rsa = ""] = sshd.hostKeys;
  await makeKey(`${folder}/other`, "ed25519");
  const other = (await Deno.readTextFile(`${folder}/other.pub`)).trim();
  const file = `${folder}/own_known_hosts`;
  let position = sshd.log.text.length;
  return {
    ...{ sshd, folder, ed25519, rsa, other, name: `[${host}]:${port}` },
    args: (...more) => [
      ...[`${username}@${host}:${port}`, "--ed25519-key", keyFile, "--known-hosts", file],
      ...more,
    ],
    know: (...lines) => Deno.writeTextFile(file, lines.map((line) => `${line}\n`).join("")),
    known: async () => (await Deno.readTextFile(file).catch(() => "")).split("\n").slice(0, -1),
    authentications: async () => {
      await sshd.log.waitFor(/ port \d+ \[preauth\]|^Disconnected from/m, { from: position });
      const lines = sshd.log.text.slice(position).split("\n");
      position = sshd.log.text.length;
      return lines.filter((line) => /authenticating|Accepted|Failed|Postponed|user /.test(line));
    },
    [Symbol.asyncDispose]: () => sshd[Symbol.asyncDispose](),
  };
}

/** Asserts that the host key was refused in these words. */
function assertRefused({ isIn, status, log }: LoginResult | Session, message: RegExp): void {
  assert(!isIn, log);
  assert.equal(status, 4, log);
  assert.match(log, message);
}

function fingerprintOf(key: string): string {
  return fingerprint(Buffer.from(key.split(" ")[1]!, "base64"));
}

Deno.test("an unknown host key is asked about at the terminal, once", async (t) => {
  await using ground = await startGround();
  const { folder, name, ed25519 } = ground;
  const question = /No known_hosts file has a key for "127\.0\.0\.1"[^]*SHA256:[^]*yes, no[^]*: /;
  const answers: [what: string, dialog: Dialog, isIn: boolean][] = [
    ["yes", [[question, "yes\r"]], true],
    ["its fingerprint", [[question, `${fingerprintOf(ed25519)}\r`]], true],
    [
      "another fingerprint, and then yes",
      [[question, `${fingerprintOf(ground.other)}\r`], [/another fingerprint/, "yes\r"]],
      true,
    ],
    ["no", [[question, "no\r"]], false],
    ["the end of input", [[question, key.end]], false],
  ];
  for (const [what, dialog, isIn] of answers) {
    await t.step(what, async () => {
      await ground.know("# a comment");
      const session = await atTerminal(ground.args(), { folder, dialog });
      assert(session.isRestored);
      assert.match(session.screen, new RegExp(fingerprintOf(ed25519).replaceAll("+", "\\+")));
      if (!isIn) {
        assertRefused(session, /Host key of "127\.0\.0\.1" is unknown: ssh-ed25519 SHA256:/);
        assert.deepEqual(await ground.known(), ["# a comment"]);
        return;
      }
      assert(session.isIn, session.log);
      assert.deepEqual(await ground.known(), ["# a comment", `${name} ${ed25519}`]);
      const again = await atTerminal(ground.args(), { folder, dialog: [] });
      assert(again.isIn, again.log);
      assert.doesNotMatch(again.screen, /yes, no/);
      assert.equal((await ground.known()).length, 2);
    });
  }
  await t.step("without a terminal the answer is no", async () => {
    await ground.know();
    const result = await logIn(ground.args(), { folder });
    assertRefused(result, /Connect once with ssh, pass --accept-new .* --fingerprint/);
    assert.deepEqual(await ground.known(), []);
  });
});

Deno.test("nothing is sent to a host whose key has changed", async (t) => {
  await using ground = await startGround();
  const { folder, name, ed25519, other } = ground;
  const cases: [what: string, options: string[], lines: string[]][] = [
    ["by default", [], [`${name} ${other}`]],
    ["with accept-new", ["--accept-new"], [`${name} ${other}`]],
    ["where only the bare name of the host is revoked", [], [`@revoked 127.0.0.1 ${ed25519}`]],
    ["where another line knows the key", [], [`@revoked ${name} ${ed25519}`, `${name} ${ed25519}`]],
  ];
  for (const [what, options, lines] of cases) {
    await t.step(what, async () => {
      await ground.know("# a comment", ...lines);
      const result = await logIn(ground.args(...options), { folder });
      const [file, line] = [`${folder}/own_known_hosts`, 2];
      assertRefused(
        result,
        lines[0]!.startsWith("@revoked")
          ? new RegExp(`is revoked: ${file} line ${line} has ssh-ed25519 SHA256:`)
          : new RegExp(
            `changed: ${file} line ${line} has ssh-ed25519 SHA256:\\S+, the host offers ` +
              `ssh-ed25519 SHA256:\\S+\\. Somebody may be listening in`,
          ),
      );
      assert.deepEqual(await ground.authentications(), []);
      assert.deepEqual(await ground.known(), ["# a comment", ...lines]);
    });
  }
});

Deno.test("StrictHostKeyChecking decides as with ssh, and adds the same lines", async (t) => {
  await using ground = await startGround();
  const { folder, sshd, name, ed25519, rsa, other } = ground;
  const files: [what: string, lines: string[]][] = [
    ["unknown", []],
    ["known", [`${name} ${ed25519}`]],
    ["known by its bare name", [`127.0.0.1 ${ed25519}`]],
    ["known by its RSA key", [`${name} ${rsa}`]],
    ["changed", [`${name} ${other}`]],
    ["changed, by its bare name", [`127.0.0.1 ${other}`]],
    ["revoked", [`@revoked ${name} ${ed25519}`, `@revoked ${name} ${rsa}`]],
  ];
  for (const mode of ["yes", "ask", "accept-new", "no"]) {
    // What is known is known in every mode.
    const interesting = files.filter(([what]) => mode === "yes" || !what.startsWith("known"));
    for (const [what, lines] of interesting) {
      await t.step(`${mode}, ${what}`, async () => {
        const directFile = `${folder}/direct_known_hosts`;
        await Deno.writeTextFile(directFile, lines.map((line) => `${line}\n`).join(""));
        await ground.know(...lines);
        const option = ["-o", `StrictHostKeyChecking=${mode}`];
        const [direct, through] = await Promise.all([
          run([
            ...["ssh", "-F", "none", ...option, "-o", "BatchMode=yes", "-i", sshd.keyFile],
            ...["-o", `UserKnownHostsFile=${directFile}`, "-o", "GlobalKnownHostsFile=/dev/null"],
            ...["-p", String(sshd.port), sshd.host, "true"],
          ], { environment: clientEnvironment(folder) }),
          logIn(ground.args(...option), { folder }),
        ]);
        const told = `${text(direct.stderr)}\n${through.log}`;
        if (mode === "no" && what === "revoked") {
          // ssh warns and goes on; there is nothing to be said for that.
          assertRefused(through, /is revoked/);
          return;
        }
        assert.equal(through.isIn, direct.code === 0, told);
        assert.equal(through.status, direct.code === 0 ? 0 : 4, told);
        const after = (await Deno.readTextFile(directFile)).split("\n").slice(0, -1);
        assert.deepEqual(await ground.known(), after);
      });
    }
  }
});

Deno.test("without a file of one's own no unknown key is taken, as with ssh", async (t) => {
  await using ground = await startGround();
  const { folder, sshd, name, ed25519 } = ground;
  const target = [`${sshd.username}@${sshd.host}:${sshd.port}`, "--ed25519-key", sshd.keyFile];
  const system = `${folder}/system_known_hosts`;
  const cases: [mode: string, lines: string[], isIn: boolean][] = [
    ["no", [], false],
    ["accept-new", [], false],
    ["ask", [], false],
    ["yes", [`${name} ${ed25519}`], true],
  ];
  for (const [mode, lines, isIn] of cases) {
    await t.step(`${mode}${isIn ? ", with a key that the system's file has" : ""}`, async () => {
      await Deno.writeTextFile(system, lines.map((line) => `${line}\n`).join(""));
      const options = [
        `StrictHostKeyChecking=${mode}`,
        "UserKnownHostsFile=none",
        `GlobalKnownHostsFile=${system}`,
      ].flatMap((option) => ["-o", option]);
      const direct = await run([
        ...["ssh", "-F", "none", ...options, "-o", "BatchMode=yes", "-i", sshd.keyFile],
        ...["-p", String(sshd.port), sshd.host, "true"],
      ], { environment: clientEnvironment(folder), folder });
      const through = await logIn([...target, ...options], { folder });
      assert.equal(direct.code === 0, isIn, text(direct.stderr));
      assert.equal(through.isIn, isIn, through.log);
      if (!isIn) assertRefused(through, /is unknown: .*UserKnownHostsFile is none/);
    });
  }
});

Deno.test("a file that cannot be read is passed over, as with ssh", async (t) => {
  await using ground = await startGround();
  const { folder, sshd, name, ed25519 } = ground;
  const good = `${folder}/good_known_hosts`;
  await Deno.writeTextFile(good, `${name} ${ed25519}\n`);
  const target = [`${sshd.username}@${sshd.host}:${sshd.port}`, "--ed25519-key", sshd.keyFile];
  for (const bad of [folder, `${good}/within`, `/proc/self/mem`]) {
    await t.step(bad.replace(folder, "FOLDER"), async () => {
      const option = ["-o", `UserKnownHostsFile=${bad} ${good}`];
      const [direct, through] = await Promise.all([
        run([
          ...["ssh", "-F", "none", ...option, "-o", "BatchMode=yes", "-i", sshd.keyFile],
          ...["-o", "GlobalKnownHostsFile=/dev/null", "-p", String(sshd.port), sshd.host, "true"],
        ], { environment: clientEnvironment(folder) }),
        logIn([...target, ...option], { folder }),
      ]);
      assert.equal(direct.code, 0, text(direct.stderr));
      assert(through.isIn, through.log);
      assert(through.log.includes(`the known_hosts file ${bad} is passed over: `), through.log);
    });
  }
});

Deno.test("a changed key that is not checked gets no password, and leads to no forwards", async (t) => {
  await using ground = await startGround();
  const { folder, name, other, sshd } = ground;
  await ground.know(`${name} ${other}`);
  const unchecked = ["-o", "StrictHostKeyChecking=no"];
  await t.step("a session works, and forwards are refused", async () => {
    await using shim = await startServing(ground.args(...unchecked), { folder });
    await shim.log.waitFor(/changed: .*going on without passwords or forwards/);
    const { stdout } = await shim.target.ssh("echo session");
    assert.equal(text(stdout), "session\n");
    const remote = await shim.target.ssh("echo never", {
      options: ["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"],
    });
    assert.equal(remote.code, 255);
    const local = freePort();
    await using client = shim.target.startSsh("cat", {
      options: ["-L", `127.0.0.1:${local}:127.0.0.1:${sshd.port}`, "-v"],
    });
    await client.stderr.waitFor(/Sending command: cat/);
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: local });
    assert.equal(await connection.read(new Uint8Array(1)), null);
    await client.stderr.waitFor(/open failed: administratively prohibited/);
  });
  await t.step("passwords and answers stay here", async () => {
    await using server = await startScriptedServer([
      { method: "password", password: "right" },
      {
        method: "keyboard-interactive",
        rounds: [{ prompts: [{ prompt: "Password: ", echo: false }], answers: ["right"] }],
      },
    ]);
    await Deno.writeTextFile(`${folder}/changed`, `[127.0.0.1]:${server.port} ${other}\n`);
    const args = [`jane@127.0.0.1:${server.port}`, "--known-hosts", `${folder}/changed`];
    const { status, log } = await logIn([...args, ...unchecked, "--password-file", "-"], {
      folder,
      stdin: "right\n",
    });
    assert.equal(status, 3, log);
    assert.deepEqual(server.attempts, ["none"]);
  });
});

Deno.test("HostKeyAlias is the name that counts", async (t) => {
  await using ground = await startGround();
  const { folder, ed25519, other, name } = ground;
  const alias = ["-o", "HostKeyAlias=Prod.Example.COM"];
  await t.step("a key known by the alias", async () => {
    await ground.know(`${name} ${other}`, `prod.example.com ${ed25519}`);
    const { isIn, log } = await logIn(ground.args(...alias), { folder });
    assert(isIn, log);
  });
  await t.step("a key known by the host's own name only", async () => {
    await ground.know(`${name} ${ed25519}`);
    assertRefused(
      await logIn(ground.args(...alias), { folder }),
      /"prod\.example\.com" is unknown/,
    );
  });
  await t.step("a new key is added by the alias, without the port", async () => {
    await ground.know();
    assert((await logIn(ground.args(...alias, "--accept-new"), { folder })).isIn);
    assert.deepEqual(await ground.known(), [`prod.example.com ${ed25519}`]);
  });
});

Deno.test("with HashKnownHosts a new name cannot be read, but ssh-keygen finds it", async () => {
  await using ground = await startGround();
  const { folder, name, ed25519 } = ground;
  const args = ground.args("-o", "HashKnownHosts=yes", "--accept-new");
  for (let round = 0; round < 2; round++) assert((await logIn(args, { folder })).isIn);
  const [line = "", ...others] = await ground.known();
  assert.deepEqual(others, []);
  assert.match(line, /^\|1\|\S+\|\S+ ssh-ed25519 /);
  const found = await runChecked(["ssh-keygen", "-F", name, "-f", `${folder}/own_known_hosts`]);
  assert(found.includes(ed25519), found);
});

Deno.test("a new key is added once, however many add it at the same time", async () => {
  await using ground = await startGround();
  const { folder, name, ed25519 } = ground;
  const args = ground.args("--accept-new");
  const results = await Promise.all(Array.from({ length: 4 }, () => logIn(args, { folder })));
  for (const { isIn, log } of results) assert(isIn, log);
  assert.deepEqual(await ground.known(), [`${name} ${ed25519}`]);
});

Deno.test("a key that any of the files knows is not added to the first", async () => {
  await using ground = await startGround();
  const { folder, name, ed25519, sshd } = ground;
  await Deno.writeTextFile(`${folder}/second`, `${name} ${ed25519}\n`);
  const files = `UserKnownHostsFile=${folder}/first ${folder}/second`;
  const target = [`${sshd.username}@127.0.0.1:${sshd.port}`, "--ed25519-key", sshd.keyFile];
  const { isIn, log } = await logIn([...target, "-o", files, "--accept-new"], { folder });
  assert(isIn, log);
  await assert.rejects(Deno.stat(`${folder}/first`), Deno.errors.NotFound);
});

Deno.test("--fingerprint takes one key and no other, whatever the files have", async (t) => {
  await using ground = await startGround();
  const { folder, name, other, ed25519 } = ground;
  await ground.know(`${name} ${other}`);
  await t.step("another one", async () => {
    const args = ground.args("--fingerprint", fingerprintOf(other));
    assertRefused(
      await logIn(args, { folder }),
      /"127\.0\.0\.1" is another one: SHA256:\S+ is expected, the host offers ssh-ed25519 SHA256:/,
    );
    assert.deepEqual(await ground.authentications(), []);
  });
  await t.step("the right one", async () => {
    const args = ground.args("--fingerprint", fingerprintOf(ed25519));
    const { isIn, log } = await logIn(args, { folder });
    assert(isIn, log);
  });
  await t.step("the one of its RSA key", async () => {
    const rsaAlone = ["-o", "HostKeyAlgorithms=rsa-sha2-512"];
    const args = ground.args("--fingerprint", fingerprintOf(ground.rsa), ...rsaAlone);
    const { isIn, log } = await logIn(args, { folder });
    assert(isIn, log);
  });
  assert.deepEqual(await ground.known(), [`${name} ${other}`]);
});

Deno.test("the host key that is asked for is of a type that known_hosts has", async (t) => {
  await using ground = await startGround();
  const { folder, name, ed25519, rsa } = ground;
  const cases: [what: string, lines: string[], options: string[], negotiated: string][] = [
    ["RSA alone", [`${name} ${rsa}`], [], "rsa-sha2-512"],
    ["Ed25519 alone", [`${name} ${ed25519}`], [], "ssh-ed25519"],
    ["RSA by the bare name", [`127.0.0.1 ${rsa}`], [], "rsa-sha2-512"],
    ["a revoked Ed25519", [`@revoked ${name} ${ed25519}`, `${name} ${rsa}`], [], "rsa-sha2-512"],
    [
      "both, but another order is configured",
      [`${name} ${ed25519}`, `${name} ${rsa}`],
      ["-o", "HostKeyAlgorithms=rsa-sha2-256,ssh-ed25519"],
      "rsa-sha2-256",
    ],
  ];
  for (const [what, lines, options, negotiated] of cases) {
    await t.step(what, async () => {
      await ground.know(...lines);
      const { isIn, log } = await logIn(ground.args(...options), { folder });
      assert(isIn, log);
      assert(log.includes(`host key ${negotiated},`), log);
    });
  }
});
