/** RevokedHostKeys, with what ssh makes of the same files. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { MalformedDataError } from "../lib/errors.ts";
import { isRevoked } from "../lib/revoked_keys.ts";
import { encodeFields } from "../lib/ssh_data.ts";
import { logIn } from "./support/login.ts";
import { host, startProxiedGround } from "./support/proxied_host.ts";
import { runChecked } from "./support/run.ts";
import { readBlob } from "./support/signing.ts";

Deno.test("a key that RevokedHostKeys has is refused, as ssh refuses it", async (t) => {
  await using ground = await startProxiedGround();
  const { folder } = ground;
  const key = await ground.makeKey("key", "-t", "ed25519");
  const other = await ground.makeKey("other", "-t", "ecdsa");
  const ca = await ground.makeKey("ca", "-t", "ed25519");
  const otherCa = await ground.makeKey("other_ca", "-t", "ed25519");
  const certificate = await ground.certify("key", "-s", `${folder}/ca`, ...[
    "-h",
    "-z",
    "77",
    "-n",
    host,
  ]);
  const known = [`@cert-authority ${host} ${ca}`, `${host} ${key}`];

  let files = 0;
  async function list(...lines: string[]): Promise<string> {
    const file = `${folder}/revoked_${++files}`;
    await Deno.writeTextFile(file, lines.map((line) => `${line}\n`).join(""));
    return file;
  }
  async function krl(args: string[], ...lines: string[]): Promise<string> {
    const [file, specification] = [`${folder}/krl_${++files}`, await list(...lines)];
    await runChecked(["ssh-keygen", "-q", "-k", "-f", file, ...args, specification]);
    return file;
  }
  const byCa = ["-s", `${folder}/ca.pub`];
  const byOther = ["-s", `${folder}/other_ca.pub`];
  const damaged = await krl([], other);
  await Deno.truncate(damaged, (await Deno.stat(damaged)).size - 1);

  type Case = [what: string, file: string, outcome: "in" | RegExp, shows: "key" | "certificate"];
  const revoked = /Host key of "host\.example\.com" is revoked: \S+ has ssh-ed25519 SHA256:/;
  const unusable = /is not accepted: the file \S+ of RevokedHostKeys cannot be used: /;
  const cases: Case[] = [
    ["a list with it", await list("# a comment", "", other, `${key} a comment`), revoked, "key"],
    ["a list with others", await list(other, ca), "in", "key"],
    ["an empty list", await list(), "in", "key"],
    ["a list with its key", await list(key), revoked, "certificate"],
    ["a list with its certificate", certificate, revoked, "certificate"],
    ["a list with its key's certificate", certificate, revoked, "key"],
    ["a list with its authority", await list(ca), revoked, "certificate"],
    ["a list with a line that is no key", await list(other, "nonsense"), unusable, "key"],
    ["no such file", `${folder}/missing`, unusable, "key"],
    ["a folder", folder, unusable, "key"],
    ["a KRL with it", await krl([], key, other), revoked, "key"],
    ["a KRL with others", await krl([], other), "in", "key"],
    ["a KRL with its SHA-1", await krl([], `sha1: ${key}`), revoked, "key"],
    ["a KRL with its SHA-256", await krl([], `sha256: ${other}`, `sha256: ${key}`), revoked, "key"],
    ["a KRL with its key", await krl([], key), revoked, "certificate"],
    ["a KRL with its authority", await krl([], ca), revoked, "certificate"],
    ["a KRL that is cut short", damaged, unusable, "key"],
    ["a KRL with its serial number", await krl(byCa, "serial: 77"), revoked, "certificate"],
    ["a KRL with a range", await krl(byCa, "serial: 70-80"), revoked, "certificate"],
    ["a KRL with another range", await krl(byCa, "serial: 78-1000"), "in", "certificate"],
    [
      "a KRL with many numbers",
      await krl(byCa, ...[3, 5, 9, 77, 78, 80, 85].map((it) => `serial: ${it}`)),
      revoked,
      "certificate",
    ],
    [
      "a KRL with many others",
      await krl(byCa, ...[70, 72, 74, 76, 78, 80].map((it) => `serial: ${it}`)),
      "in",
      "certificate",
    ],
    [
      "a KRL with another authority's number",
      await krl(byOther, "serial: 77"),
      "in",
      "certificate",
    ],
    ["a KRL with its name", await krl(byCa, "id: a host"), revoked, "certificate"],
    ["a KRL with another name", await krl(byCa, "id: another"), "in", "certificate"],
  ];
  assert(otherCa);
  for (const [what, file, outcome, shows] of cases) {
    await t.step(what, async () => {
      const server = { keys: ["key"], certificates: shows === "key" ? [] : [certificate], known };
      const { direct, shim } = await ground.try(server, ["-o", `RevokedHostKeys=${file}`]);
      assert.equal(direct.isIn, outcome === "in", direct.log);
      assert.equal(shim.isIn, outcome === "in", shim.log);
      if (outcome === "in") return;
      assert.equal(shim.status, 4, shim.log);
      assert.match(shim.log, outcome);
    });
  }

  await t.step("one that --fingerprint names", async () => {
    const server = { keys: ["key"], certificates: [], known: [] };
    const shown = await runChecked(["ssh-keygen", "-l", "-f", `${folder}/key.pub`]);
    const { status, log } = await logIn(
      await ground.args(server, [
        ...["--fingerprint", shown.split(" ")[1]!],
        ...["-o", `RevokedHostKeys=${await list(key)}`],
      ]),
      { folder },
    );
    assert.equal(status, 4, log);
    assert.match(log, revoked);
  });
});

Deno.test("a KRL that is not understood to its end says nothing of any key", async () => {
  await using ground = await startProxiedGround();
  await ground.makeKey("key", "-t", "ed25519");
  const key = await readBlob(`${ground.folder}/key.pub`);
  const header = (version: number) =>
    Buffer.concat([Buffer.from("SSHKRL\n\0"), encodeFields(version, ...Array(6).fill(0), "", "")]);
  const section = (type: number, ...fields: Parameters<typeof encodeFields>) =>
    Buffer.concat([Buffer.of(type), encodeFields(encodeFields(...fields))]);
  const extension = (isCritical: boolean) => section(255, "a name", isCritical, "its content");
  const krl = (...sections: Uint8Array[]) => Buffer.concat([header(1), ...sections]);
  const revoking = section(2, key);
  assert(isRevoked(krl(revoking), key));
  assert(isRevoked(krl(extension(false), revoking), key));
  const bad: [what: string, content: Uint8Array][] = [
    ["another format", Buffer.concat([header(2), revoking])],
    ["a critical extension", krl(revoking, extension(true))],
    ["a signature", krl(revoking, section(4, key))],
    ["an unknown section", krl(section(6, ""), revoking)],
    ["a hash that is too short", krl(revoking, section(5, new Uint8Array(31)))],
    [
      "an unknown section about certificates",
      krl(revoking, section(1, "", "", { raw: section(0x24, "") })),
    ],
    ["a serial number that is cut short", krl(section(1, "", "", { raw: section(0x20, 7) }))],
  ];
  for (const [what, content] of bad) {
    assert.throws(() => isRevoked(content, key), MalformedDataError, what);
  }
});
