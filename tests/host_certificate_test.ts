/** Which certificates a host may show, with what ssh makes of the same ones. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { HostKeyError } from "../lib/errors.ts";
import { complaintAbout, readHostCertificate } from "../lib/host_certificate.ts";
import { logIn, startServing } from "./support/login.ts";
import { host, startProxiedGround } from "./support/proxied_host.ts";
import { runChecked } from "./support/run.ts";
import { readBlob } from "./support/signing.ts";

Deno.test("a host certificate is taken where an authority of the host has signed it", async (t) => {
  await using ground = await startProxiedGround();
  const { folder } = ground;
  for (const type of ["ed25519", "ecdsa", "rsa"]) {
    await ground.makeKey(`host_of_${type}`, "-t", type);
  }
  const authorities = {
    ed25519: await ground.makeKey("ca_ed25519", "-t", "ed25519"),
    "ecdsa with 384 bits": await ground.makeKey("ca_ecdsa384", "-t", "ecdsa", "-b", "384"),
    "ecdsa with 521 bits": await ground.makeKey("ca_ecdsa521", "-t", "ecdsa", "-b", "521"),
    rsa: await ground.makeKey("ca_rsa", "-t", "rsa", "-b", "2048"),
  };
  const cases: [what: string, key: string, authority: keyof typeof authorities, file: string][] = [
    ["an Ed25519 key", "host_of_ed25519", "ed25519", "ca_ed25519"],
    ["an ECDSA key", "host_of_ecdsa", "ecdsa with 384 bits", "ca_ecdsa384"],
    ["an RSA key", "host_of_rsa", "rsa", "ca_rsa"],
    ["an RSA key signed by ECDSA", "host_of_rsa", "ecdsa with 521 bits", "ca_ecdsa521"],
  ];
  for (const [what, key, authority, file] of cases) {
    await t.step(what, async () => {
      const certificate = await ground.certify(key, "-s", `${folder}/${file}`, "-h", "-n", host);
      const { direct, shim } = await ground.try({
        keys: [key],
        certificates: [certificate],
        known: [`@cert-authority *.example.com ${authorities[authority]}`],
      });
      assert(direct.isIn, direct.log);
      assert(shim.isIn, shim.log);
      assert.match(shim.log, /host key \S+-cert-v01@openssh\.com/);
    });
  }
});

Deno.test("certificates are judged as ssh judges them", async (t) => {
  await using ground = await startProxiedGround();
  const { folder } = ground;
  const [key, rsaKey] = [
    await ground.makeKey("key", "-t", "ed25519"),
    await ground.makeKey("rsa_key", "-t", "rsa", "-b", "2048"),
  ];
  const ca = await ground.makeKey("ca", "-t", "ed25519");
  const rsaCa = await ground.makeKey("rsa_ca", "-t", "rsa", "-b", "2048");
  const other = await ground.makeKey("other", "-t", "ed25519");
  const byCa = ["-s", `${folder}/ca`];
  const authority = `@cert-authority *.example.com ${ca}`;
  const good = await ground.certify("key", ...byCa, "-h", "-n", `a,${host}`);
  const expired = await ground.certify("key", ...byCa, "-h", "-n", host, "-V", "20200101:20200102");
  const early = await ground.certify("key", ...byCa, "-h", "-n", host, "-V", "20900101:20910101");
  const wrongName = await ground.certify("key", ...byCa, "-h", "-n", "a.example.com,example.com");
  const ofUser = await ground.certify("key", ...byCa, "-n", host);
  const bySha1 = await ground.certify(
    "key",
    "-s",
    `${folder}/rsa_ca`,
    "-t",
    "ssh-rsa",
    "-h",
    "-n",
    host,
  );
  const ofRsa = await ground.certify("rsa_key", ...byCa, "-h", "-n", host);
  const rsaAuthority = `@cert-authority * ${rsaCa}`;
  const sha1Too = ["-o", "CASignatureAlgorithms=+ssh-rsa"];
  const alias = ["-o", "HostKeyAlias=Other.Example.Org"];
  const certificatesAlone = ["-o", "HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com"];

  type Case = [
    what: string,
    certificate: string,
    known: string[],
    outcome: RegExp | "in",
    options?: string[],
  ];
  const cases: Case[] = [
    ["good", good, [authority], "in"],
    [
      "of an authority for the host with its port",
      good,
      [`@cert-authority [${host}]:2222 ${ca}`],
      "in",
    ],
    ["expired", expired, [authority], /is unknown: .*it was valid until 2020-01-02T/],
    ["not yet valid", early, [authority], /is unknown: .*it is not valid before 2090-/],
    ["for others", wrongName, [authority], /it is for a\.example\.com, example\.com/],
    ["of a user", ofUser, [authority], /it is not a host's/],
    ["of another authority", good, [`@cert-authority * ${other}`], /no line has its authority/],
    [
      "of an authority for others",
      good,
      [`@cert-authority *.org ${ca}`],
      /no line has its authority/,
    ],
    ["of a revoked authority", good, [authority, `@revoked * ${ca}`], /is revoked: \S+ line 2/],
    ["for a revoked key", good, [authority, `@revoked * ${key}`], /is revoked: \S+ line 2/],
    [
      "signed with SHA-1",
      bySha1,
      [rsaAuthority],
      /signs with ssh-rsa, which CASignatureAlgorithms/,
    ],
    ["signed with SHA-1 where that is allowed", bySha1, [rsaAuthority], "in", sha1Too],
    [
      "signed with an algorithm that is not allowed",
      good,
      [authority],
      /signs with ssh-ed25519, which CASignatureAlgorithms/,
      ["-o", "CASignatureAlgorithms=-ssh-ed25519"],
    ],
    [
      "for another name than the alias",
      good,
      [`@cert-authority * ${ca}`],
      /it is for a, host/,
      alias,
    ],
    ["expired, with a key that is known", expired, [authority, `[${host}]:2222 ${key}`], "in"],
    ["of another authority, with a key that is known", good, [`${host} ${key}`], "in"],
    ["expired, with another key that is known", expired, [`${host} ${other}`], /is unknown/],
    [
      "expired, with another key that is known at the port",
      expired,
      [authority, `[${host}]:2222 ${other}`],
      /changed: \S+ line 2/,
    ],
    ["good, with another key that is known", good, [`[${host}]:2222 ${other}`, authority], "in"],
    ["good, where certificates alone are taken", good, [authority], "in", certificatesAlone],
    [
      "expired, and new keys are accepted",
      expired,
      [authority],
      "in",
      ["-o", "StrictHostKeyChecking=accept-new"],
    ],
    ["of RSA, in the place of a key that is known", ofRsa, [authority, `${host} ${key}`], "in"],
    ["of RSA, which is known", ofRsa, [`${host} ${rsaKey}`], "in"],
  ];
  for (const [what, certificate, known, outcome, options] of cases) {
    await t.step(what, async () => {
      const server = { keys: ["key", "rsa_key"], certificates: [certificate], known };
      const { direct, shim } = await ground.try(server, options);
      assert.equal(direct.isIn, outcome === "in", direct.log);
      assert.equal(shim.isIn, outcome === "in", shim.log);
      if (outcome === "in") return;
      assert.equal(shim.status, 4, shim.log);
      assert.match(shim.log, outcome);
    });
  }
});

Deno.test("a certificate that its authority has not signed is refused", async () => {
  await using ground = await startProxiedGround();
  const { folder } = ground;
  await ground.makeKey("key", "-t", "ed25519");
  for (const args of [["ed25519"], ["ecdsa", "-b", "521"], ["rsa", "-b", "2048"]]) {
    const ca = `ca_${args[0]}`;
    await ground.makeKey(ca, "-t", ...args);
    const blob = await readBlob(await ground.certify("key", "-s", `${folder}/${ca}`, "-h"));
    const certificate = readHostCertificate(blob, host);
    assert(certificate);
    // A letter of the key's name for the log.
    const at = Buffer.from(blob).indexOf("a host");
    const [forged, unsigned] = [Uint8Array.from(blob), blob.subarray(0, -1)];
    forged[at]! ^= 1;
    for (const bad of [forged, unsigned]) {
      assert.throws(() => readHostCertificate(bad, host), HostKeyError);
    }
  }
});

Deno.test("a certificate may be for a pattern of names, but not for nobody", async () => {
  // Older versions of ssh take none for a pattern, and one for nobody as for everybody.
  await using ground = await startProxiedGround();
  const { folder } = ground;
  await ground.makeKey("key", "-t", "ed25519");
  await ground.makeKey("ca", "-t", "ed25519");
  const complaint = async (...principals: string[]) => {
    const file = await ground.certify("key", "-s", `${folder}/ca`, "-h", ...principals);
    const certificate = readHostCertificate(await readBlob(file), host)!;
    return complaintAbout(certificate, { host, caSignatureAlgorithms: undefined });
  };
  assert.equal(await complaint("-n", "*.example.com"), undefined);
  assert.equal(await complaint("-n", "*.example.org"), "it is for *.example.org");
  assert.equal(await complaint(), "it is for nobody");
});

Deno.test("a certificate with critical options is not good", async () => {
  await using ground = await startProxiedGround();
  const { folder } = ground;
  await ground.makeKey("key", "-t", "ed25519");
  await ground.makeKey("ca", "-t", "ed25519");
  const options = ["-O", "critical:new@example.com=1"];
  const file = await ground.certify("key", "-s", `${folder}/ca`, "-h", "-n", host, ...options);
  const certificate = readHostCertificate(await readBlob(file), host)!;
  assert.match(
    complaintAbout(certificate, { host, caSignatureAlgorithms: undefined })!,
    /critical/,
  );
});

Deno.test("where certificates alone are wanted, no plain key takes the place of a bad one", async () => {
  // ssh does the same since 9.8.
  await using ground = await startProxiedGround();
  const { folder } = ground;
  const key = await ground.makeKey("key", "-t", "ed25519");
  await ground.makeKey("ca", "-t", "ed25519");
  const certificate = await ground.certify("key", "-s", `${folder}/ca`, "-h", "-n", host);
  const server = { keys: ["key"], certificates: [certificate], known: [`${host} ${key}`] };
  const option = ["-o", "HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com"];
  const { status, log } = await logIn(await ground.args(server, option), { folder });
  assert.equal(status, 4, log);
  assert.match(log, /HostKeyAlgorithms wants certificates, and this one is not good: no line has/);
});

Deno.test("another key exchange may show the certificate again", async () => {
  await using ground = await startProxiedGround();
  const { folder } = ground;
  await ground.makeKey("key", "-t", "ed25519");
  const ca = await ground.makeKey("ca", "-t", "ed25519");
  const certificate = await ground.certify("key", "-s", `${folder}/ca`, "-h", "-n", host);
  const server = {
    keys: ["key"],
    certificates: [certificate],
    known: [`@cert-authority ${host} ${ca}`],
    config: ["RekeyLimit 1M"],
  };
  await using shim = await startServing(await ground.args(server), { folder });
  const { stdout } = await shim.target.ssh(
    "head -c 5000000 /dev/zero | wc -c; head -c 5000000 /dev/zero",
  );
  assert.equal(stdout.length, "5000000\n".length + 5_000_000);
});

Deno.test("--fingerprint takes the key in a certificate", async () => {
  await using ground = await startProxiedGround();
  const { folder } = ground;
  await ground.makeKey("key", "-t", "ed25519");
  await ground.makeKey("ca", "-t", "ed25519");
  const certificate = await ground.certify("key", "-s", `${folder}/ca`, "-h", "-n", host);
  const shown = await runChecked(["ssh-keygen", "-l", "-f", `${folder}/key.pub`]);
  const server = { keys: ["key"], certificates: [certificate], known: [] };
  const args = await ground.args(server, ["--fingerprint", shown.split(" ")[1]!]);
  const { isIn, log } = await logIn(args, { folder });
  assert(isIn, log);
});
