import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import ssh2 from "ssh2";
import { EndpointError } from "../lib/errors.ts";
import { type KeyType, loadLocalHostKey } from "../lib/local_host_key.ts";

const isUnix = Deno.build.os !== "windows";
const keyName = "ssh_host_ed25519_key";

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "sshshim-host-key-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function keygen(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command("ssh-keygen", { args, stdin: "null" })
    .output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** Makes a key file with ssh-keygen and returns its public key. */
async function makeKey(file: string, ...args: string[]): Promise<Buffer> {
  // Any length above the minimum will do, and long RSA keys take long to make.
  if (args.includes("rsa")) args.push("-b", "2048");
  await keygen("-q", "-f", file, ...(args.includes("-N") ? [] : ["-N", ""]), ...args);
  return Buffer.from((await Deno.readTextFile(`${file}.pub`)).split(" ")[1]!, "base64");
}

async function writeKey(file: string, text: string): Promise<void> {
  await Deno.writeTextFile(file, text, { mode: 0o600 });
}

/** Checks that ssh2 takes a private key, has the same public key, and signs with it. */
function assertSsh2Takes(privateKey: string, publicKey: Uint8Array): void {
  const key = ssh2.utils.parseKey(privateKey);
  assert(!(key instanceof Error), String(key));
  assert.equal(key.isPrivateKey(), true);
  assert.deepEqual(Buffer.from(key.getPublicSSH()), Buffer.from(publicKey));
  const type = key.type === "ssh-rsa" ? "sha256" : undefined;
  const data = Buffer.from("what is signed");
  const signature = key.sign(data, type);
  assert(!((signature as unknown) instanceof Error), String(signature));
  assert.equal(key.verify(data, signature, type), true);
}

async function refusal(promise: Promise<unknown>, ...patterns: (RegExp | string)[]) {
  await assert.rejects(promise, (error) => {
    assert(error instanceof EndpointError, String(error));
    for (const pattern of patterns) {
      if (typeof pattern === "string") assert(error.message.includes(pattern), error.message);
      else assert.match(error.message, pattern);
    }
    return true;
  });
}

Deno.test("the first use makes a private key that OpenSSH and ssh2 take, later ones reuse it", () =>
  withFolder(async (folder) => {
    const stateFolder = join(folder, "state", "sshshim");
    const file = join(stateFolder, keyName);
    const first = await loadLocalHostKey(undefined, { stateFolder });
    assert.equal(first.origin, "state");
    assert.equal(first.file, file);
    assert.equal(first.note, undefined);
    if (isUnix) {
      assert.equal((await Deno.stat(file)).mode! & 0o777, 0o600);
      assert.equal((await Deno.stat(stateFolder)).mode! & 0o777, 0o700);
    }
    const publicText = `ssh-ed25519 ${Buffer.from(first.publicKey).toString("base64")}`;
    assert((await keygen("-y", "-f", file)).startsWith(publicText));
    assert.match(await keygen("-l", "-f", file), /^256 SHA256:\S+ sshshim \(ED25519\)$/m);
    assertSsh2Takes(first.privateKey, first.publicKey);
    // A key that is there is only read: the folder may by now be read-only.
    await Deno.utime(stateFolder, 1000, 1000);
    assert.deepEqual(await loadLocalHostKey(undefined, { stateFolder }), first);
    assert.equal((await Deno.stat(stateFolder)).mtime?.getTime(), 1000_000);
    const names = Array.from(Deno.readDirSync(stateFolder), ({ name }) => name);
    assert.deepEqual(names, [keyName]);
  }));

Deno.test("instances that start together end up with one key", () =>
  withFolder(async (folder) => {
    for (let round = 0; round < 10; round++) {
      const stateFolder = join(folder, String(round));
      const keys = await Promise.all(
        Array.from({ length: 8 }, () => loadLocalHostKey(undefined, { stateFolder })),
      );
      assert.deepEqual([...new Set(keys.map((key) => key.origin))], ["state"]);
      assert.equal(new Set(keys.map((key) => key.privateKey)).size, 1);
      const names = Array.from(Deno.readDirSync(stateFolder), ({ name }) => name);
      assert.deepEqual(names, [keyName]);
    }
  }));

Deno.test("a damaged key in the state folder is refused and stays", () =>
  withFolder(async (folder) => {
    const file = join(folder, keyName);
    for (const text of ["", "not a key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END"]) {
      await writeKey(file, text);
      await refusal(loadLocalHostKey(undefined, { stateFolder: folder }), file, /Remove it/);
      assert.equal(await Deno.readTextFile(file), text);
    }
  }));

Deno.test("a key of another type in the state folder is refused", () =>
  withFolder(async (folder) => {
    await makeKey(join(folder, keyName), "-t", "rsa");
    await refusal(
      loadLocalHostKey(undefined, { stateFolder: folder }),
      /of type ssh-rsa, not ed25519/,
    );
  }));

Deno.test({
  name: "a key in the state folder that others can reach is refused",
  // Windows keeps access in lists that have no mode.
  ignore: !isUnix,
  fn: () =>
    withFolder(async (folder) => {
      const stateFolder = join(folder, "state");
      const file = join(stateFolder, keyName);
      const load = () => loadLocalHostKey(undefined, { stateFolder });
      await load();
      for (const mode of [0o640, 0o604, 0o620, 0o610]) {
        await Deno.chmod(file, mode);
        await refusal(load(), /others can read or change it/, `chmod 600 "${file}"`);
      }
      await Deno.chmod(file, 0o400);
      await load();
      for (const mode of [0o770, 0o702]) {
        await Deno.chmod(stateFolder, mode);
        await refusal(load(), /others can write/, `chmod 700 "${stateFolder}"`);
      }
      await Deno.chmod(stateFolder, 0o755);
      await load();
      // Only root can give the folder away.
      if (Deno.uid() === 0) {
        await Deno.chown(stateFolder, 65534, 65534);
        await refusal(load(), /its folder belongs to another user, uid 65534/);
        await Deno.remove(file);
        await refusal(load(), /its folder belongs to another user, uid 65534/);
        await assert.rejects(Deno.stat(file), Deno.errors.NotFound);
        await Deno.chown(stateFolder, 0, 0);
        await load();
      }
      // Root gives the key away; anybody else meets a file of root's.
      if (Deno.uid() === 0) await Deno.chown(file, 65534, 65534);
      else {
        await Deno.remove(file);
        await Deno.symlink("/etc/passwd", file);
      }
      await refusal(load(), /belongs to another user/);
    }),
});

Deno.test("without a state folder the user's own key serves, and else one for this run", () =>
  withFolder(async (folder) => {
    const blocked = join(folder, "a file");
    await Deno.writeTextFile(blocked, "");
    const sshFolder = join(folder, "ssh");
    await Deno.mkdir(sshFolder);
    const options = { stateFolder: join(blocked, "sshshim"), sshFolder };

    const first = await loadLocalHostKey(undefined, options);
    const second = await loadLocalHostKey(undefined, options);
    assert.equal(first.origin, "temporary");
    assert.equal(first.file, undefined);
    assert.match(first.note!, /a file.* cannot hold the local host key: Not a directory$/);
    assertSsh2Takes(first.privateKey, first.publicKey);
    assert.notDeepEqual(first.publicKey, second.publicKey);

    const ed25519File = join(sshFolder, "id_ed25519");
    const rsaFile = join(sshFolder, "id_rsa");
    const rsa = await makeKey(rsaFile, "-t", "rsa");
    await makeKey(ed25519File, "-t", "ed25519", "-N", "passphrase");
    const third = await loadLocalHostKey(undefined, options);
    assert.deepEqual([third.origin, third.file], ["identity", rsaFile]);
    assert.deepEqual(Buffer.from(third.publicKey), rsa);
    assert.equal(third.note, first.note);

    await Deno.remove(ed25519File);
    const ed25519 = await makeKey(ed25519File, "-t", "ed25519");
    const fourth = await loadLocalHostKey(undefined, options);
    assert.deepEqual([fourth.origin, fourth.file], ["identity", ed25519File]);
    assert.deepEqual(Buffer.from(fourth.publicKey), ed25519);
    assertSsh2Takes(fourth.privateKey, fourth.publicKey);
  }));

Deno.test("a flag's key is taken in each format, and ssh2 takes it from there", () =>
  withFolder(async (folder) => {
    const stateFolder = join(folder, "state");
    async function assertLoads(file: string, type: KeyType, publicKey: Buffer) {
      const key = await loadLocalHostKey({ type, file }, { stateFolder });
      assert.deepEqual([key.origin, key.file], ["flag", file]);
      assert.deepEqual(Buffer.from(key.publicKey), publicKey);
      assertSsh2Takes(key.privateKey, key.publicKey);
    }
    const ed25519 = join(folder, "ed25519");
    await assertLoads(ed25519, "ed25519", await makeKey(ed25519, "-t", "ed25519"));
    for (const format of ["RFC4716", "PEM", "PKCS8"]) {
      const rsa = join(folder, format);
      await assertLoads(rsa, "rsa", await makeKey(rsa, "-t", "rsa", "-m", format));
    }

    const crlf = join(folder, "crlf");
    await writeKey(crlf, (await Deno.readTextFile(ed25519)).replaceAll("\n", "\r\n"));
    const publicText = (await Deno.readTextFile(`${ed25519}.pub`)).split(" ")[1]!;
    await assertLoads(crlf, "ed25519", Buffer.from(publicText, "base64"));

    const pkcs8 = join(folder, "pkcs8");
    const pair = generateKeyPairSync("ed25519");
    await writeKey(pkcs8, pair.privateKey.export({ format: "pem", type: "pkcs8" }).toString());
    const point = pair.publicKey.export({ format: "der", type: "spki" }).subarray(-32);
    const prefix = Buffer.from("\0\0\0\x0bssh-ed25519\0\0\0\x20", "latin1");
    await assertLoads(pkcs8, "ed25519", Buffer.concat([prefix, point]));
    // A flag leaves the state folder alone.
    await assert.rejects(Deno.stat(stateFolder), Deno.errors.NotFound);
  }));

Deno.test("a flag's file that cannot serve is refused with the reason and the way out", () =>
  withFolder(async (folder) => {
    const at = (name: string): string => join(folder, name);
    await makeKey(at("ed25519"), "-t", "ed25519");
    await makeKey(at("rsa"), "-t", "rsa");
    await makeKey(at("locked"), "-t", "ed25519", "-N", "passphrase");
    await makeKey(at("locked-pem"), "-t", "rsa", "-m", "PEM", "-N", "passphrase");
    await makeKey(at("locked-pkcs8"), "-t", "rsa", "-m", "PKCS8", "-N", "passphrase");
    await makeKey(at("ecdsa"), "-t", "ecdsa");
    await makeKey(at("ecdsa-pem"), "-t", "ecdsa", "-m", "PEM");
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 768 });
    await writeKey(at("short"), privateKey.export({ format: "pem", type: "pkcs1" }).toString());
    await writeKey(at("ppk"), "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n");
    await writeKey(at("long"), "-".repeat(100_000));
    await writeKey(at("garbage"), "garbage");
    const pem = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    await writeKey(at("damaged-pem"), pem);

    const cases: [file: string, type: KeyType, ...patterns: RegExp[]][] = [
      ["missing", "ed25519", /No such file|cannot find/, /Choose another/],
      [".", "ed25519", /not a regular file/, /Choose another/],
      ["ed25519", "rsa", /of type ed25519/, /--local-ed25519-key/],
      ["rsa", "ed25519", /of type rsa/, /--local-rsa-key/],
      ["ed25519.pub", "ed25519", /public key/, /without \.pub/],
      ["locked", "ed25519", /has a passphrase/, /ssh-keygen -p/],
      ["locked-pem", "rsa", /has a passphrase/, /ssh-keygen -p/],
      ["locked-pkcs8", "rsa", /has a passphrase/, /ssh-keygen -p/],
      ["ecdsa", "ed25519", /of type ecdsa-sha2-nistp256, not rsa or ed25519/, /Choose another/],
      ["ecdsa-pem", "ed25519", /of type ecdsa-sha2-nistp256, not rsa or ed25519/, /Choose another/],
      ["short", "rsa", /has 768 bits/, /Choose another/],
      ["ppk", "ed25519", /PuTTY/, /puttygen/],
      ["long", "ed25519", /too long/, /Choose another/],
      ["garbage", "ed25519", /not a private key/, /Choose another/],
      ["damaged-pem", "rsa", /damaged/, /Choose another/],
    ];
    for (const [name, type, ...patterns] of cases) {
      const file = at(name);
      if (isUnix && name.endsWith(".pub")) await Deno.chmod(file, 0o600);
      await refusal(loadLocalHostKey({ type, file }), file, ...patterns);
    }
    if (isUnix) {
      await Deno.chmod(at("ed25519"), 0o644);
      const load = loadLocalHostKey({ type: "ed25519", file: at("ed25519") });
      await refusal(load, /others can read or change it/, /chmod 600/);
    }
  }));

Deno.test("no damage to a key file goes unnoticed where it matters", () =>
  withFolder(async (folder) => {
    const file = join(folder, "damaged");
    for (const type of ["ed25519", "rsa"] as const) {
      const whole = join(folder, type);
      const publicKey = await makeKey(whole, "-t", type, "-C", "");
      const [begin, ...lines] = (await Deno.readTextFile(whole)).trimEnd().split("\n");
      const end = lines.pop();
      const bytes = Buffer.from(lines.join(""), "base64");
      // Every byte of the short file, every eleventh of the long one; then every length.
      const step = type === "rsa" ? 11 : 1;
      const damaged: Buffer[] = [];
      for (let offset = 0; offset < bytes.length; offset += step) {
        const copy = Buffer.from(bytes);
        copy[offset]! ^= 1 << (offset % 8);
        damaged.push(copy, bytes.subarray(0, offset));
      }
      for (const [index, copy] of damaged.entries()) {
        await writeKey(file, `${begin}\n${copy.toString("base64")}\n${end}\n`);
        try {
          const key = await loadLocalHostKey({ type, file });
          // Damage to the padding, say.
          assert.deepEqual(Buffer.from(key.publicKey), publicKey, `case ${index}`);
          assertSsh2Takes(key.privateKey, key.publicKey);
        } catch (error) {
          assert(error instanceof EndpointError, `case ${index}: ${error}`);
        }
      }
    }
  }));

Deno.test("what is written as OpenSSH's format is the same key", () =>
  withFolder(async (folder) => {
    const file = join(folder, "key");
    const { privateKey } = generateKeyPairSync("ed25519");
    await writeKey(file, privateKey.export({ format: "pem", type: "pkcs8" }).toString());
    const key = await loadLocalHostKey({ type: "ed25519", file });
    await writeKey(file, key.privateKey);
    const exported = ssh2.utils.parseKey(key.privateKey);
    assert(!(exported instanceof Error));
    const jwk = createPrivateKey(exported.getPrivatePEM()).export({ format: "jwk" });
    assert.deepEqual({ ...jwk }, { ...privateKey.export({ format: "jwk" }) });
    const again = await loadLocalHostKey({ type: "ed25519", file });
    assert.deepEqual(again, key);
  }));

Deno.test("a folder that the system refuses for whatever reason is no obstacle", () =>
  withFolder(async (folder) => {
    // Deno has no class of its own for this error, nor for a full or read-only file system.
    const stateFolder = join(folder, "x".repeat(300), "sshshim");
    const key = await loadLocalHostKey(undefined, { stateFolder, sshFolder: folder });
    assert.equal(key.origin, "temporary");
    assert.match(key.note!, /cannot hold the local host key: /);
  }));
