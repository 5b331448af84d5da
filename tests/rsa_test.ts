/** RSA keys of more than 4,096 bits, which the runtime does not verify with: of hosts and of users. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createPrivateKey, sign } from "node:crypto";
import { fileURLToPath } from "node:url";
import { RsaPublicKey } from "../lib/rsa_signature.ts";
import { encodeFields, Reader } from "../lib/ssh_data.ts";
import { logIn, serverArguments } from "./support/login.ts";
import { runChecked } from "./support/run.ts";
import { startSecondSshd } from "./support/second_sshd.ts";
import { publicText, readBlob, withFolder } from "./support/signing.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";

/** Made by ssh-keygen, for which the longer one takes minutes. */
const longKeys = [8192, 16_384];

/** A copy of a key that nobody else can read: a checkout does not keep that. */
async function lendKey(bits: number, folder: string): Promise<string> {
  const file = `${folder}/rsa_${bits}`;
  const source = fileURLToPath(new URL(`support/keys/rsa_${bits}`, import.meta.url));
  await Deno.writeTextFile(file, await Deno.readTextFile(source), { mode: 0o600 });
  await Deno.writeTextFile(`${file}.pub`, await runChecked(["ssh-keygen", "-y", "-f", file]));
  return file;
}

/** The numbers of an RSA key as SSH has them: mpint e, mpint n. */
function numbers(e: bigint, n: bigint): Uint8Array {
  const mpint = (value: bigint) => {
    const hex = value.toString(16);
    const bytes = Buffer.from(hex.padStart(hex.length + hex.length % 2, "0"), "hex");
    return bytes[0]! & 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes;
  };
  return encodeFields(mpint(e), mpint(n));
}

function integerOf(bytes: Uint8Array): bigint {
  return BigInt(`0x0${Buffer.from(bytes).toString("hex")}`);
}

/** A server whose only RSA host key is this one, and which known_hosts knows by it alone. */
async function startWithHostKey(sshd: Sshd, file: string): Promise<Sshd> {
  const server = await startSecondSshd(sshd, {
    command: ["/usr/sbin/sshd"],
    config: [`HostKey ${file}`],
  });
  const publicKey = publicText(await readBlob(`${file}.pub`));
  await Deno.writeTextFile(server.knownHostsFile, `[${server.host}]:${server.port} ${publicKey}\n`);
  return server;
}

Deno.test("signatures of long keys are verified, and nothing but them", () =>
  withFolder(async (folder) => {
    for (const bits of longKeys) {
      const file = await lendKey(bits, folder);
      const reader = new Reader(await readBlob(`${file}.pub`));
      reader.text();
      const key = new RsaPublicKey(reader.rest());
      await runChecked(["ssh-keygen", "-q", "-p", "-N", "", "-m", "PEM", "-f", file]);
      const privateKey = createPrivateKey(await Deno.readTextFile(file));
      const data = Buffer.from("what is signed");
      for (const hash of ["sha1", "sha256", "sha512"]) {
        const signature = sign(hash, data, privateKey);
        assert.equal(key.verifies(signature, data, hash), true, `${bits} ${hash}`);
        assert.equal(key.verifies(signature, Buffer.from("anything"), hash), false);
        for (const other of ["sha1", "sha256", "sha512"].filter((it) => it !== hash)) {
          assert.equal(key.verifies(signature, data, other), false, `${hash} as ${other}`);
        }
        for (const at of [0, 1, bits / 16, bits / 8 - 1]) {
          const changed = Buffer.from(signature);
          changed[at]! ^= 1;
          assert.equal(key.verifies(changed, data, hash), false, `byte ${at}`);
        }
        const longer = Buffer.concat([Buffer.of(0), signature]);
        assert.equal(key.verifies(longer, data, hash), false, "a byte too many");
        assert.equal(key.verifies(signature.subarray(1), data, hash), false, "a byte too few");
      }
    }
  }));

Deno.test("an encoding that RFC 8017 does not make is no signature", async () => {
  await withFolder(async (folder) => {
    const file = `${folder}/key`;
    await runChecked([
      "ssh-keygen",
      "-q",
      "-t",
      "rsa",
      "-b",
      "2048",
      "-m",
      "PEM",
      "-N",
      "",
      "-f",
      file,
    ]);
    const privateKey = createPrivateKey(await Deno.readTextFile(file));
    const parts = privateKey.export({ format: "jwk" });
    const [modulus, exponent, secret] = ([parts.n, parts.e, parts.d] as const).map((part) =>
      integerOf(Buffer.from(part!, "base64url"))
    ) as [bigint, bigint, bigint];
    const key = new RsaPublicKey(numbers(exponent, modulus));
    const data = Buffer.from("what is signed");
    const good = sign("sha256", data, privateKey);
    const encoded = raise(integerOf(good), exponent, modulus);
    /** The signature that raises to these bytes. */
    const forge = (bytes: Uint8Array) => raise(integerOf(bytes), secret, modulus);
    assert.deepEqual(forge(encoded), good);
    const info = encoded.subarray(-51);
    const padded = (...parts: (Uint8Array | number[])[]) => {
      const all = Buffer.concat(parts.map((it) => Buffer.from(it)));
      return Buffer.concat([all, Buffer.alloc(Math.max(0, 256 - all.length))]).subarray(0, 256);
    };
    const ones = (count: number) => Buffer.alloc(count, 0xff);
    const wrong: Record<string, Buffer> = {
      "block type 2": padded([0, 2], ones(202), [0], info),
      "short padding, the rest behind": padded([0, 1], ones(8), [0], info),
      "no padding": padded([0, 1], [0], info),
      "padding that is not all ones": padded([0, 1], ones(100), [0xfe], ones(101), [0], info),
      "no zero before the digest": padded([0, 1], ones(203), info),
      "a digest without its NULL": padded(
        [0, 1],
        ones(204),
        [0],
        Buffer.from("302f300b0609608648016503040201", "hex"),
        info.subarray(17),
      ),
      "a digest alone": padded([0, 1], ones(221), [0], info.subarray(19)),
      "another digest": padded([0, 1], ones(202), [0], info.subarray(0, 19), Buffer.alloc(32)),
      "a byte before all": padded([1, 1], ones(202), [0], info),
    };
    for (const [name, bytes] of Object.entries(wrong)) {
      assert.equal(key.verifies(forge(bytes), data, "sha256"), false, name);
    }
    const beyond = (integerOf(good) + modulus).toString(16).padStart(512, "0");
    assert.equal(key.verifies(Buffer.from(beyond, "hex"), data, "sha256"), false, "n added");
    assert.equal(key.verifies(good, data, "sha256"), true);
  });
});

function raise(value: bigint, exponent: bigint, modulus: bigint): Buffer {
  let result = 1n;
  for (let left = exponent; left > 0n; left >>= 1n) {
    if (left & 1n) result = result * value % modulus;
    value = value * value % modulus;
  }
  return Buffer.from(result.toString(16).padStart(512, "0"), "hex");
}

Deno.test("numbers that make no key are refused", () => {
  const n = (1n << 8191n) + 1n;
  const bad: Record<string, Uint8Array> = {
    "too long": numbers(65537n, (1n << 16384n) + 1n),
    "a huge mpint": numbers(65537n, (1n << 400_000n) + 1n),
    "an even modulus": numbers(65537n, n + 1n),
    "the exponent 1": numbers(1n, n),
    "an even exponent": numbers(65536n, n),
    "a long exponent": numbers((1n << 64n) + 1n, n),
    "an exponent beyond the modulus": numbers(7n, 5n),
    "a negative modulus": encodeFields(Uint8Array.of(3), new Uint8Array(1024).fill(0xff)),
    "no modulus": encodeFields(Uint8Array.of(3)),
    "bytes behind": encodeFields({ raw: numbers(3n, n) }, Uint8Array.of(1)),
  };
  for (const [name, bytes] of Object.entries(bad)) {
    assert.throws(() => new RsaPublicKey(bytes), name);
  }
  new RsaPublicKey(numbers(65537n, n));
});

for (const bits of longKeys) {
  Deno.test(`a server whose RSA host key has ${bits} bits is connected to, also by rekeys`, () =>
    withFolder(async (folder) => {
      await using sshd = await startSshd({ config: ["RekeyLimit 256K"] });
      await using server = await startWithHostKey(sshd, await lendKey(bits, folder));
      // Its server needs seconds to sign with the longer one.
      const algorithms = bits > 8192 ? ["rsa-sha2-512"] : ["rsa-sha2-512", "rsa-sha2-256"];
      for (const algorithm of algorithms) {
        const { isIn, log, ran } = await logIn([
          ...[...serverArguments(server), "-i", sshd.keyFile, "-v"],
          ...["-o", `HostKeyAlgorithms=${algorithm}`, "-o", `RequiredRSASize=${bits}`],
        ], { folder, command: "head -c 600000 /dev/zero" });
        assert(isIn, log);
        assert(log.includes(`host key ${algorithm},`), log);
        assert.equal(ran!.stdout.length, 600_000);
      }
    }));
}

Deno.test("RequiredRSASize counts for long host keys too", () =>
  withFolder(async (folder) => {
    await using sshd = await startSshd();
    await using server = await startWithHostKey(sshd, await lendKey(8192, folder));
    const { isIn, status, log } = await logIn([
      ...[...serverArguments(server), "-i", sshd.keyFile],
      ...["-o", "RequiredRSASize=8193"],
    ], { folder });
    assert(!isIn);
    assert.equal(status, 4, log);
    assert.match(log, /has 8192 bits, and RequiredRSASize is 8193/);
  }));

Deno.test("a user's key of 8192 bits logs in, from its file alone", () =>
  withFolder(async (folder) => {
    await using sshd = await startSshd();
    const file = await lendKey(8192, folder);
    await Deno.copyFile(`${file}.pub`, `${sshd.folder}/authorized_keys`);
    for (const algorithms of ["rsa-sha2-512", "rsa-sha2-256"]) {
      const { isIn, log } = await logIn([
        ...[...serverArguments(sshd), "-i", file],
        ...["-o", `PubkeyAcceptedAlgorithms=${algorithms}`],
      ], { folder });
      assert(isIn, log);
    }
  }));
