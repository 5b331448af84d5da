import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHmac, randomBytes } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { HostKeyError } from "../lib/errors.ts";
import { addKnownHost, type HostAddress, hostKeyType, KnownHosts } from "../lib/known_hosts.ts";
import { KnownHostsFile, readKnownHostsFile } from "../lib/known_hosts_file.ts";
import { fingerprint } from "../lib/public_key.ts";

const isUnix = Deno.build.os !== "windows";

function encodeStrings(...parts: (string | Uint8Array)[]): Buffer {
  return Buffer.concat(parts.flatMap((part) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(Buffer.from(part).length);
    return [length, Buffer.from(part)];
  }));
}

const ed25519Key = (): Buffer => encodeStrings("ssh-ed25519", randomBytes(32));
const rsaKey = (): Buffer =>
  encodeStrings("ssh-rsa", Buffer.from([1, 0, 1]), Buffer.concat([Buffer.of(0), randomBytes(256)]));

/** A key as a known_hosts line has it after the host names. */
const keyText = (key: Buffer): string => `${hostKeyType(key)} ${key.toString("base64")}`;

function hashedHost(name: string, salt = randomBytes(20)): string {
  const hash = createHmac("sha1", salt).update(name).digest("base64");
  return `|1|${salt.toString("base64")}|${hash}`;
}

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "sshshim-known-hosts-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Loads known_hosts files with the given contents; they are called 0, 1, … in `folder`. */
async function load(folder: string, ...contents: string[]): Promise<KnownHosts> {
  const files = contents.map((_, index) => join(folder, String(index)));
  for (const [index, content] of contents.entries()) {
    await Deno.writeTextFile(join(folder, String(index)), content);
  }
  return await KnownHosts.load(files);
}

Deno.test("a verdict names the file and the line that decided it", () =>
  withFolder(async (folder) => {
    const key = ed25519Key();
    const other = ed25519Key();
    const revoked = ed25519Key();
    const knownHosts = await load(
      folder,
      `# comment\n\nelsewhere ${keyText(other)}\n`,
      `host ${keyText(rsaKey())}\nhost ${keyText(key)} a comment\n@revoked * ${keyText(revoked)}`,
    );
    const host = { host: "host", port: 22 };
    const file = join(folder, "1");
    assert.deepEqual(knownHosts.check(host, key), { kind: "known", file, line: 2 });
    assert.deepEqual(knownHosts.check(host, revoked), { kind: "revoked", file, line: 3 });
    assert.deepEqual(knownHosts.check(host, other), {
      kind: "changed",
      file,
      line: 2,
      knownType: "ssh-ed25519",
      knownFingerprint: fingerprint(key),
    });
    assert.deepEqual(knownHosts.check({ host: "third", port: 22 }, key), { kind: "unknown" });
  }));

Deno.test("a key of a type that a known host does not have counts as changed", () =>
  withFolder(async (folder) => {
    const rsa = rsaKey();
    const knownHosts = await load(folder, `host ${keyText(rsa)}\n`);
    assert.deepEqual(knownHosts.check({ host: "host", port: 22 }, ed25519Key()), {
      kind: "changed",
      file: join(folder, "0"),
      line: 1,
      knownType: "ssh-rsa",
      knownFingerprint: fingerprint(rsa),
    });
  }));

Deno.test("key types are those of keys and their certificates, without revoked keys", () =>
  withFolder(async (folder) => {
    const revoked = encodeStrings("ecdsa-sha2-nistp256", "nistp256", randomBytes(65));
    const knownHosts = await load(
      folder,
      [
        `host ${keyText(revoked)}`,
        `@revoked host ${keyText(revoked)}`,
        `host ${keyText(rsaKey())}`,
        `${hashedHost("host")} ${keyText(rsaKey())}`,
      ].join("\n"),
      `host ${keyText(ed25519Key())}\n[other]:2222 ${keyText(ed25519Key())}\n`,
    );
    const types = (host: string, port: number) => knownHosts.keyTypes({ host, port });
    const withCertificate = (type: string) => [type, `${type}-cert-v01@openssh.com`];
    const both = ["ssh-rsa", "ssh-ed25519"].flatMap(withCertificate);
    assert.deepEqual(types("HOST", 22), both);
    assert.deepEqual(types("host", 2222), both);
    assert.deepEqual(types("other", 2222), withCertificate("ssh-ed25519"));
    assert.deepEqual(types("other", 22), []);
  }));

Deno.test("an authority of a host stands for certificates of all types", () =>
  withFolder(async (folder) => {
    const revoked = ed25519Key();
    const knownHosts = await load(
      folder,
      [
        `@cert-authority *.example.com ${keyText(ed25519Key())}`,
        `@cert-authority *.example.org ${keyText(revoked)}`,
        `@revoked * ${keyText(revoked)}`,
      ].join("\n"),
    );
    for (const port of [22, 2222]) {
      const types = knownHosts.keyTypes({ host: "a.example.com", port });
      assert(types.includes("ssh-ed25519-cert-v01@openssh.com"), `${port}`);
      assert(types.includes("ssh-rsa-cert-v01@openssh.com"));
      assert(!types.includes("ssh-ed25519"));
      assert.deepEqual(knownHosts.keyTypes({ host: "a.example.org", port }), []);
    }
  }));

Deno.test("a pattern full of stars is decided at once", () =>
  withFolder(async (folder) => {
    const knownHosts = await load(folder, `${"*a".repeat(400)}b ${keyText(ed25519Key())}\n`);
    const verdict = knownHosts.check({ host: "a".repeat(1000), port: 22 }, ed25519Key());
    assert.deepEqual(verdict, { kind: "unknown" });
  }));

Deno.test("broken lines are listed with their reason and make nothing known", () => {
  const key = ed25519Key();
  const text = keyText(key);
  const ecdsa = encodeStrings("ecdsa-sha2-nistp256", "nistp256", randomBytes(65));
  const lines: [line: string, reason: string][] = [
    ["host", "too few fields"],
    ["host ssh-ed25519", "too few fields"],
    ["@trusted host " + text, "unknown marker @trusted"],
    ["@revoked @cert-authority host " + text, "more than one marker"],
    ["|1|salt|hash " + text, "broken hashed host name"],
    [`|2|${hashedHost("host").slice(3)} ${text}`, "broken hashed host name"],
    [`host ssh-ed25519 ${key.toString("base64").slice(0, -1)}!`, "the key is not base64"],
    [`host ssh-rsa ${ecdsa.toString("base64")}`, "not a key of type ssh-rsa"],
    [
      `host ssh-rsa ${encodeStrings("ssh-rsa", Buffer.of(3)).toString("base64")}`,
      "not a key of type ssh-rsa",
    ],
    [
      `host ssh-ed25519 ${key.subarray(0, -1).toString("base64")}`,
      "not a key of type ssh-ed25519",
    ],
    [
      `host ssh-ed25519 ${encodeStrings("ssh-ed25519").toString("base64")}`,
      "not a key of type ssh-ed25519",
    ],
    [
      `host ssh-ed25519 ${encodeStrings("ssh-ed25519", randomBytes(31)).toString("base64")}`,
      "not a key of type ssh-ed25519",
    ],
  ];
  const file = new KnownHostsFile("a file", lines.map(([line]) => line).join("\n"));
  assert.deepEqual(file.about("host"), {
    lines: [],
    ignored: lines.map(([, reason], index) => ({ file: "a file", line: index + 1, reason })),
  });
  // As with ssh, of a line about another host nothing is looked at.
  const reasons = file.about("another").ignored.map(({ reason }) => reason);
  assert.deepEqual(reasons, [
    "unknown marker @trusted",
    "more than one marker",
    "broken hashed host name",
    "broken hashed host name",
  ]);
});

Deno.test("files that cannot be read count as empty, and the others count", () =>
  withFolder(async (folder) => {
    const key = ed25519Key();
    const file = join(folder, "known_hosts");
    await Deno.writeTextFile(file, `host ${keyText(key)}\n`);
    const unreadable = [join(folder, "missing"), folder, join(file, "in a file")];
    const host = { host: "host", port: 22 };
    assert.deepEqual((await KnownHosts.load(unreadable)).check(host, key), { kind: "unknown" });
    const knownHosts = await KnownHosts.load([...unreadable, file]);
    assert.deepEqual(knownHosts.check(host, key), { kind: "known", file, line: 1 });
  }));

Deno.test("a file that changes is read again, and one that does not is kept", () =>
  withFolder(async (folder) => {
    const file = join(folder, "known_hosts");
    const past = new Date("2020-01-01T00:00:00Z");
    const [key, other] = [ed25519Key(), ed25519Key()];
    const host = { host: "host", port: 22 };
    const verdict = async () => (await KnownHosts.load([file])).check(host, key).kind;
    await Deno.writeTextFile(file, `host ${keyText(key)}\n`);
    assert.equal(await verdict(), "known");
    // A new file may change without a sign of it.
    await Deno.writeTextFile(file, `host ${keyText(other)}\n`);
    assert.equal(await verdict(), "changed");
    await Deno.writeTextFile(file, `@revoked host ${keyText(key)}\n`);
    await Deno.utime(file, past, past);
    assert.equal(await verdict(), "revoked");
    await Deno.remove(file);
    assert.equal(await verdict(), "unknown");
    const old = fileURLToPath(new URL("../LICENSE", import.meta.url));
    assert.equal(await readKnownHostsFile(old), await readKnownHostsFile(old));
  }));

Deno.test("an added host is known afterwards, at its port alone", () =>
  withFolder(async (folder) => {
    const file = join(folder, "new", "known_hosts");
    const key = ed25519Key();
    const otherKey = rsaKey();
    await addKnownHost(file, { host: "Prod.Example.com", port: 22, publicKey: key });
    await addKnownHost(file, { host: "fe80::1%eth0", port: 2222, publicKey: otherKey });
    assert.equal(
      await Deno.readTextFile(file),
      `prod.example.com ${keyText(key)}\n[fe80::1%eth0]:2222 ${keyText(otherKey)}\n`,
    );
    const knownHosts = await KnownHosts.load([file]);
    const kind = (host: string, port: number, publicKey: Buffer) =>
      knownHosts.check({ host, port }, publicKey).kind;
    assert.equal(kind("prod.example.com", 22, key), "known");
    assert.equal(kind("fe80::1%eth0", 2222, otherKey), "known");
    assert.equal(kind("fe80::1%eth0", 22, otherKey), "unknown");
    if (isUnix) {
      assert.equal((await Deno.stat(file)).mode! & 0o777, 0o600);
      assert.equal((await Deno.stat(join(folder, "new"))).mode! & 0o777, 0o700);
    }
  }));

Deno.test("a host is added on a line of its own, and the lines before it stay", () =>
  withFolder(async (folder) => {
    const file = join(folder, "known_hosts");
    const key = ed25519Key();
    await Deno.writeTextFile(file, "# no line feed at the end");
    await addKnownHost(file, { host: "host", port: 22, publicKey: key });
    assert.equal(
      await Deno.readTextFile(file),
      `# no line feed at the end\nhost ${keyText(key)}\n`,
    );
  }));

Deno.test("hosts added at the same time all arrive whole", () =>
  withFolder(async (folder) => {
    const file = join(folder, "known_hosts");
    const keys = Array.from({ length: 20 }, ed25519Key);
    await Promise.all(
      keys.map((publicKey, port) => addKnownHost(file, { host: "host", port, publicKey })),
    );
    const knownHosts = await KnownHosts.load([file]);
    for (const [port, key] of keys.entries()) {
      assert.equal(knownHosts.check({ host: "host", port }, key).kind, "known");
    }
  }));

Deno.test("a host name that means something else in a known_hosts file is not added", () =>
  withFolder(async (folder) => {
    const file = join(folder, "known_hosts");
    for (const host of ["", "*", "a,b", "!a", "a b", "a\nb", "|1|a|b", "@revoked", "#a", "[a]"]) {
      await assert.rejects(
        addKnownHost(file, { host, port: 22, publicKey: ed25519Key() }),
        HostKeyError,
        host,
      );
    }
    await assert.rejects(Deno.stat(file), Deno.errors.NotFound);
  }));

Deno.test("a file that cannot be written is an error that names it", () =>
  withFolder(async (folder) => {
    const publicKey = ed25519Key();
    await assert.rejects(addKnownHost(folder, { host: "host", port: 22, publicKey }), (error) => {
      assert(error instanceof HostKeyError);
      assert(error.message.includes(folder), error.message);
      return true;
    });
  }));

Deno.test("a key that does not begin with its type is refused", () => {
  for (const bytes of ["", "\0", "\0\0\0\x05abcd", "\0\0\0\0", "\0\0\0\x02a "]) {
    assert.throws(() => hostKeyType(Buffer.from(bytes, "latin1")), HostKeyError);
  }
});

/** What ssh(1) says about a host key; found in what it prints with strict checking. */
const sshVerdicts: [kind: string, pattern: RegExp][] = [
  ["revoked", /REVOKED HOST KEY DETECTED/],
  ["changed", /REMOTE HOST IDENTIFICATION HAS CHANGED/],
  ["unknown", /No \S+ host key is known for/],
  // It went on to authentication, with nothing to offer.
  ["known", /Permission denied/],
];

async function run(command: string, args: string[]): Promise<{ output: string; code: number }> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, stdin: "null" })
    .output();
  const decoder = new TextDecoder();
  return { output: decoder.decode(stdout) + decoder.decode(stderr), code };
}

async function generateKey(file: string, type: string): Promise<Buffer> {
  const { code, output } = await run("ssh-keygen", ["-q", "-t", type, "-N", "", "-f", file]);
  assert.equal(code, 0, output);
  return Buffer.from((await Deno.readTextFile(`${file}.pub`)).split(" ")[1]!, "base64");
}

/**
 * Asks ssh about each case, with sshd as its proxy command: host name and port are then free to
 * choose, and no listener is needed.
 */
Deno.test({
  name: "ssh reaches the same verdict with the same files",
  // Windows has no sshd at a known path that runs as a proxy command.
  ignore: !isUnix,
  fn: () =>
    withFolder(async (folder) => {
      if (Deno.build.os === "linux" && Deno.uid() === 0) {
        // The empty folder into which sshd's unprivileged part locks itself.
        await Deno.mkdir("/run/sshd", { recursive: true, mode: 0o755 });
      }
      const hostKeyFile = join(folder, "host_key");
      const key = await generateKey(hostKeyFile, "ed25519");
      const rsa = await generateKey(join(folder, "rsa"), "rsa");
      const ecdsa = await generateKey(join(folder, "ecdsa"), "ecdsa");
      const config = join(folder, "sshd_config");
      await Deno.writeTextFile(config, `HostKey "${hostKeyFile}"\nUsePAM no\nPidFile none\n`);
      const mine = keyText(key);
      const other = keyText(ed25519Key());

      async function askSsh({ host, port }: HostAddress, files: string[]): Promise<string> {
        const options = [
          "BatchMode=yes",
          "StrictHostKeyChecking=yes",
          "HostKeyAlgorithms=ssh-ed25519",
          "KexAlgorithms=curve25519-sha256",
          `UserKnownHostsFile=${files.join(" ")}`,
          "GlobalKnownHostsFile=/dev/null",
          "IdentityFile=none",
          "IdentityAgent=none",
          "ControlPath=none",
          `ProxyCommand=/usr/sbin/sshd -i -f "${config}" -E "${join(folder, "sshd.log")}"`,
        ];
        const args = ["-F", "/dev/null", ...options.flatMap((option) => ["-o", option])];
        const { output } = await run("ssh", [...args, "-p", String(port), host, "true"]);
        const found = sshVerdicts.find(([, pattern]) => pattern.test(output));
        return found?.[0] ?? output;
      }

      const hashed = hashedHost("host", Buffer.from(`+/${"A".repeat(24)}g=`, "base64"));
      const cases: [host: string, port: number, kind: string, ...files: string[]][] = [
        // Nothing, and plain names.
        ["host", 22, "unknown", ""],
        ["host", 22, "known", `host ${mine}\n`],
        ["host", 22, "known", `host ${mine}`],
        ["host", 22, "changed", `host ${other}\n`],
        ["host", 22, "known", `host ${other}\nhost ${mine}\n`],
        ["host", 22, "known", `host ${other}\n`, `host ${mine}\n`],
        ["host", 22, "changed", "", `host ${other}\n`],
        ["host", 22, "unknown", `hos ${mine}\nhosts ${mine}\n`],
        // Other types only.
        ["host", 22, "changed", `host ${keyText(rsa)}\n`],
        ["host", 22, "changed", `host ${keyText(ecdsa)}\n`],
        ["host", 22, "known", `host ${keyText(rsa)}\nhost ${keyText(ecdsa)}\nhost ${mine}\n`],
        // Ports.
        ["host", 2222, "known", `[host]:2222 ${mine}\n`],
        ["host", 2222, "unknown", `[host]:2223 ${mine}\n`],
        ["host", 2222, "changed", `[host]:2222 ${other}\n`],
        ["host", 2222, "known", `host ${mine}\n`],
        ["host", 2222, "unknown", `host ${other}\n`],
        ["host", 2222, "changed", `[host]:2222 ${other}\nhost ${mine}\n`],
        ["host", 22, "unknown", `[host]:2222 ${mine}\n`],
        ["host", 22, "unknown", `[host]:22 ${mine}\n`],
        ["::1", 22, "known", `::1 ${mine}\n`],
        ["::1", 2222, "known", `[::1]:2222 ${mine}\n`],
        // Lists, wildcards, negation, case.
        ["host", 22, "known", `a,host,b ${mine}\n`],
        ["HOST", 22, "known", `host ${mine}\n`],
        ["host", 22, "known", `HoSt ${mine}\n`],
        ["HOST", 22, "known", `${hashedHost("host")} ${mine}\n`],
        ["web1.example.com", 22, "known", `*.example.com ${mine}\n`],
        ["web1.example.com", 22, "known", `web?.example.com ${mine}\n`],
        ["web12.example.com", 22, "unknown", `web?.example.com ${mine}\n`],
        ["web1.example.com", 22, "unknown", `*.example.com,!web1.* ${mine}\n`],
        ["web1.example.com", 22, "unknown", `!web1.*,*.example.com ${mine}\n`],
        ["web2.example.com", 22, "known", `*.example.com,!web1.* ${mine}\n`],
        ["web1.example.com", 22, "unknown", `!web2.* ${mine}\n`],
        ["host", 22, "known", `* ${mine}\n`],
        ["host", 2222, "known", `* ${mine}\n`],
        ["host", 2222, "changed", `* ${other}\nhost ${mine}\n`],
        ["host", 2222, "known", `[*]:2222 ${mine}\n`],
        ["host", 2222, "known", `host*,*:2222 ${mine}\n`],
        ["host", 22, "known", `h*o*t ${mine}\n`],
        ["host", 22, "known", `**ho**st** ${mine}\n`],
        ["host", 22, "unknown", `h*x*t ${mine}\n`],
        ["host", 22, "unknown", `,, ${mine}\n`],
        // Hashed names.
        ["host", 22, "known", `${hashedHost("host")} ${mine}\n`],
        ["host", 22, "changed", `${hashedHost("host")} ${other}\n`],
        ["host", 22, "unknown", `${hashedHost("other")} ${mine}\n`],
        ["host", 2222, "known", `${hashedHost("[host]:2222")} ${mine}\n`],
        ["host", 2222, "known", `${hashedHost("host")} ${mine}\n`],
        ["host", 22, "unknown", `${hashedHost("host")},host ${mine}\n`],
        ["host", 22, "known", `host,${hashedHost("other")} ${mine}\n`],
        // In base64 all bits count, even those behind the end, and + and / have no other forms.
        ["host", 22, "known", `${hashed} ${mine}\n`],
        ["host", 22, "unknown", `${hashed.slice(0, -1)} ${mine}\n`],
        ["host", 22, "unknown", `${hashed.replace("g=|", "h=|")} ${mine}\n`],
        ["host", 22, "unknown", `${hashed.replace("|+/", "|-_")} ${mine}\n`],
        ["host", 22, "unknown", `${hashed.replace("g=|", "g|")}= ${mine}\n`],
        // Markers.
        ["host", 22, "revoked", `@revoked host ${mine}\n`],
        ["host", 22, "revoked", `@revoked * ${mine}\n`],
        ["host", 22, "revoked", `host ${mine}\n@revoked host ${mine}\n`],
        ["host", 22, "revoked", `@revoked ${hashedHost("host")} ${mine}\n`],
        ["host", 2222, "revoked", `[host]:2222 ${mine}\n@revoked * ${mine}\n`],
        // Here ssh warns of the revoked key as well, but would then go on as with an unknown one.
        ["host", 2222, "revoked", `@revoked host ${mine}\n`],
        ["host", 22, "known", `host ${mine}\n@revoked elsewhere ${mine}\n`],
        ["host", 22, "known", `host ${mine}\n@revoked host ${other}\n`],
        ["host", 22, "unknown", `@revoked host ${other}\n`],
        ["host", 22, "unknown", `@cert-authority host ${mine}\n`],
        ["host", 22, "known", `@cert-authority * ${other}\nhost ${mine}\n`],
        // Layout: blanks, comments, CRLF, broken lines in between.
        ["host", 22, "known", `  \thost \t ${mine}  a comment\n`],
        ["host", 22, "known", `# ${mine}\n\n \t\nhost ${mine}\n`],
        ["host", 22, "unknown", `#host ${mine}\n`],
        ["host", 22, "unknown", ` # host ${mine}\n`],
        ["host", 22, "known", `other ${other}\r\nhost ${mine}\r\n`],
        ["host", 22, "known", `host ${mine} a comment\r\n`],
        ["host", 22, "changed", `host ${other}\r\n\r\n`],
        ["host", 22, "known", `host\nhost ssh-ed25519\n@what host ${mine}\nhost ${mine}\n`],
        ["host", 22, "unknown", `host ${mine.slice(0, -8)}\n`],
        ["host", 22, "unknown", `host ssh-rsa ${key.toString("base64")}\n`],
        ["host", 22, "unknown", `host ${key.toString("base64")}\n`],
        ["host", 22, "unknown", `@revoked @cert-authority host ${mine}\n`],
      ];
      for (const [host, port, kind, ...contents] of cases) {
        const knownHosts = await load(folder, ...contents);
        const about = JSON.stringify([host, port, contents]);
        assert.equal(knownHosts.check({ host, port }, key).kind, kind, about);
        const files = contents.map((_, index) => join(folder, String(index)));
        assert.equal(await askSsh({ host, port }, files), kind, `ssh about ${about}`);
      }

      // What is added here is known to ssh, and the fingerprint is the one that it prints.
      const added = join(folder, "added");
      await addKnownHost(added, { host: "Host", port: 2222, publicKey: key });
      assert.equal(await askSsh({ host: "host", port: 2222 }, [added]), "known");
      const { output } = await run("ssh-keygen", ["-l", "-f", hostKeyFile]);
      assert.equal(output.split(" ")[1], fingerprint(key));
    }),
});
