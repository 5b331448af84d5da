import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createPublicKey, generateKeyPairSync, getCiphers, getCurves, verify } from "node:crypto";
import ssh2 from "ssh2";
import { withCertificate } from "../lib/key_certificate.ts";
import { encodeDer, encodeDerUnsigned, Tag } from "../lib/key_der.ts";
import { AuthenticationError } from "../lib/errors.ts";
import {
  certificateFor,
  readCertificate,
  readKeyFile,
  readPublicKey,
  WrongPassphraseError,
} from "../lib/key_file.ts";
import { verifySignature } from "../lib/key_signature.ts";
import { isSameKey } from "../lib/public_key.ts";
import type { Signer } from "../lib/signer.ts";
import { encodeFields, Reader } from "../lib/ssh_data.ts";
import { run, runChecked } from "./support/run.ts";
import {
  assertOpenSshAccepts,
  certify,
  makeKey,
  openSshKeyText,
  publicText,
  readBlob,
  securityKey,
  withFolder,
} from "./support/signing.ts";

const isUnix = Deno.build.os !== "windows";
/** Older versions of Deno have no P-521. */
const hasP521 = getCurves().includes("secp521r1");

async function refusal(promise: Promise<unknown>, ...patterns: (RegExp | string)[]): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert(error instanceof AuthenticationError, String(error));
    assert(!(error instanceof WrongPassphraseError), String(error));
    for (const pattern of patterns) {
      if (typeof pattern === "string") assert(error.message.includes(pattern), error.message);
      else assert.match(error.message, pattern);
    }
    return true;
  });
}

async function writeKey(file: string, text: string): Promise<void> {
  await Deno.writeTextFile(file, text, { mode: 0o600 });
}

async function unlock(file: string, passphrase?: string): Promise<Signer> {
  const signer = await (await readKeyFile(file)).unlock(passphrase);
  assert.equal(signer.name, file);
  assert.equal(signer.needsTouch, false);
  return signer;
}

/** The types that ssh-keygen makes, as far as this runtime signs with them. */
const types: Record<string, string[]> = {
  ed25519: ["-t", "ed25519"],
  rsa: ["-t", "rsa"],
  p256: ["-t", "ecdsa", "-b", "256"],
  p384: ["-t", "ecdsa", "-b", "384"],
  ...(hasP521 ? { p521: ["-t", "ecdsa", "-b", "521"] } : {}),
};

Deno.test("OpenSSH accepts the signatures of every type and format that it writes", () =>
  withFolder(async (folder) => {
    for (const [name, args] of Object.entries(types)) {
      // OpenSSH writes this type in its own format only.
      const formats = name === "ed25519" ? ["RFC4716"] : ["RFC4716", "PEM", "PKCS8"];
      for (const format of formats) {
        for (const passphrase of ["", "a pass phrase, ünïcode"]) {
          const file = `${folder}/${name}-${format}-${passphrase.length}`;
          const publicKey = await makeKey(
            file,
            ...[...args, "-m", format],
            // The number of rounds has a test of its own.
            ...["-a", "2", "-N", passphrase],
          );
          const keyFile = await readKeyFile(file);
          assert.equal(keyFile.file, file);
          assert.equal(keyFile.encrypted, passphrase !== "");
          assert.deepEqual(keyFile.publicKey, publicKey);
          const signer = await keyFile.unlock(passphrase === "" ? undefined : passphrase);
          assert.deepEqual(signer.publicKey, publicKey);
          const algorithms = signer.algorithms.filter((algorithm) => algorithm !== "ssh-rsa");
          for (const algorithm of algorithms) {
            await assertOpenSshAccepts(folder, signer, { algorithm });
          }
          if (passphrase === "") continue;
          await assert.rejects(keyFile.unlock("another"), WrongPassphraseError);
          await assert.rejects(keyFile.unlock(""), WrongPassphraseError);
          await refusal(keyFile.unlock(), file, /has a passphrase/, /ssh-add/);
        }
      }
    }
  }));

Deno.test("every one of 60 ECDSA keys signs right", () =>
  withFolder(async (folder) => {
    const sizes = hasP521 ? ["256", "384", "521"] : ["256", "384"];
    for (let count = 0; count < 60; count++) {
      const file = `${folder}/${count}`;
      const publicKey = await makeKey(file, "-t", "ecdsa", "-b", sizes[count % sizes.length]!);
      const signer = await unlock(file);
      assert.deepEqual(signer.publicKey, publicKey);
      await assertOpenSshAccepts(folder, signer);
    }
  }));

Deno.test("ECDSA signatures stay right when a number in them is short", () =>
  withFolder(async (folder) => {
    await makeKey(`${folder}/key`, "-t", "ecdsa");
    const signer = await unlock(`${folder}/key`);
    const judge = ssh2.utils.parseKey(publicText(signer.publicKey));
    assert(!(judge instanceof Error));
    const lengths = new Set<number>();
    // A number of 31 bytes comes once in 512 times, one of 33 with its zero every second time.
    for (let count = 0; lengths.size < 3 || count < 500; count++) {
      assert(count < 20_000, [...lengths].join());
      const data = Buffer.from(`${count}`);
      const reader = new Reader(await signer.sign(data, "ecdsa-sha2-nistp256"));
      assert.equal(reader.text(), "ecdsa-sha2-nistp256");
      const pair = reader.bytes();
      reader.end();
      const pairReader = new Reader(pair);
      const numbers = [pairReader.bytes(), pairReader.bytes()];
      pairReader.end();
      for (const number of numbers) {
        assert.deepEqual(encodeDer(Tag.integer, number), encodeDerUnsigned(number));
        lengths.add(number.length);
      }
      assert.equal(judge.verify(data, Buffer.from(toDer(pair))), true);
    }
  }));

/** The numbers of a key on P-256 whose secret is short by a byte at least. */
function shortScalar(): { scalar: Buffer; point: Buffer } {
  for (let count = 0; count < 20_000; count++) {
    const jwk = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey
      .export({ format: "jwk" });
    const [scalar, x, y] = [jwk.d, jwk.x, jwk.y].map((text) => Buffer.from(text!, "base64url"));
    if (scalar![0] !== 0 || scalar![1]! >= 0x80) continue;
    return { scalar: scalar!.subarray(1), point: Buffer.concat([Buffer.of(4), x!, y!]) };
  }
  throw new Error("no key has a short secret");
}

Deno.test("an ECDSA key signs right when its secret number is written without leading zeros", () =>
  withFolder(async (folder) => {
    const { scalar, point } = shortScalar();
    const publicKey = encodeFields("ecdsa-sha2-nistp256", "nistp256", point);
    const text = openSshKeyText(publicKey, encodeFields({ raw: publicKey }, scalar));
    await writeKey(`${folder}/openssh`, text);
    const shown = await runChecked(["ssh-keygen", "-y", "-f", `${folder}/openssh`]);
    assert(shown.startsWith(publicText(publicKey)));
    await assertOpenSshAccepts(folder, await unlock(`${folder}/openssh`));

    const curve = encodeDer(Tag.objectIdentifier, Buffer.from("2a8648ce3d030107", "hex"));
    const version = (number: number) => encodeDerUnsigned(Uint8Array.of(number));
    const secret = encodeDer(Tag.octetString, scalar);
    const bits = encodeDer(Tag.context(1), encodeDer(Tag.bitString, Buffer.of(0), point));
    const sec1 = (...parts: Uint8Array[]) => encodeDer(Tag.sequence, version(1), secret, ...parts);
    const ecPublicKey = encodeDer(Tag.objectIdentifier, Buffer.from("2a8648ce3d0201", "hex"));
    const pkcs8 = (inner: Uint8Array) => {
      const algorithm = encodeDer(Tag.sequence, ecPublicKey, curve);
      return encodeDer(Tag.sequence, version(0), algorithm, encodeDer(Tag.octetString, inner));
    };
    const cases: [label: string, der: Uint8Array][] = [
      ["EC PRIVATE KEY", sec1(encodeDer(Tag.context(0), curve), bits)],
      ["EC PRIVATE KEY", sec1(encodeDer(Tag.context(0), curve))],
      ["PRIVATE KEY", pkcs8(sec1(bits))],
      ["PRIVATE KEY", pkcs8(sec1())],
    ];
    for (const [index, [label, der]] of cases.entries()) {
      const file = `${folder}/${index}`;
      const base64 = Buffer.from(der).toString("base64");
      await writeKey(file, `-----BEGIN ${label}-----\n${base64}\n-----END ${label}-----\n`);
      const signer = await unlock(file);
      assert.deepEqual(signer.publicKey, publicKey);
      await assertOpenSshAccepts(folder, signer);
    }
  }));

Deno.test("keys that ssh-keygen encrypted with any cipher open with their passphrase only", () =>
  withFolder(async (folder) => {
    const ciphers = {
      "aes128-ctr": "aes-128-ctr",
      "aes192-ctr": "aes-192-ctr",
      "aes256-ctr": "aes-256-ctr",
      "aes128-cbc": "aes-128-cbc",
      "aes192-cbc": "aes-192-cbc",
      "aes256-cbc": "aes-256-cbc",
      "aes128-gcm@openssh.com": "aes-128-gcm",
      "aes256-gcm@openssh.com": "aes-256-gcm",
      "chacha20-poly1305@openssh.com": "chacha20",
      "3des-cbc": "des-ede3-cbc",
    };
    for (const [cipher, name] of Object.entries(ciphers)) {
      const file = `${folder}/${cipher}`;
      const args = ["-t", "ed25519", "-Z", cipher, "-a", "2", "-N", "secret"];
      const publicKey = await makeKey(file, ...args);
      await Deno.remove(`${file}.pub`);
      const keyFile = await readKeyFile(file);
      assert.deepEqual(keyFile.publicKey, publicKey);
      if (getCiphers().includes(name)) {
        await assertOpenSshAccepts(folder, await keyFile.unlock("secret"));
        await assert.rejects(keyFile.unlock("Secret"), WrongPassphraseError);
      } else {
        await refusal(keyFile.unlock("secret"), file, cipher, /ssh-keygen -p -Z/);
      }
    }
    for (const rounds of ["1", "16", "33"]) {
      const file = `${folder}/${rounds}`;
      await makeKey(file, "-t", "ed25519", "-a", rounds, "-N", "secret");
      await assertOpenSshAccepts(folder, await unlock(file, "secret"));
    }
  }));

Deno.test("keys that OpenSSL encrypted open with their passphrase only", () =>
  withFolder(async (folder) => {
    const source = `${folder}/source`;
    const publicKey = await makeKey(source, "-t", "rsa", "-m", "PEM");
    const output = (name: string) => ["-in", source, "-out", `${folder}/${name}`];
    const pkcs8 = (
      name: string,
      ...args: string[]
    ) => ["pkcs8", "-topk8", ...output(name), "-passout", "pass:secret", ...args];
    const legacy = (
      name: string,
      cipher: string,
    ) => ["rsa", "-traditional", ...output(name), cipher, "-passout", "pass:secret"];
    const cases: Record<string, [args: string[], cipher: string]> = {
      plain: [["pkcs8", "-topk8", "-nocrypt", ...output("plain")], ""],
      sha256: [pkcs8("sha256", "-v2", "aes-256-cbc"), "aes-256-cbc"],
      sha1: [pkcs8("sha1", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"), "aes-128-cbc"],
      sha512: [pkcs8("sha512", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"), "aes-128-cbc"],
      scrypt: [pkcs8("scrypt", "-scrypt"), "aes-256-cbc"],
      des3: [pkcs8("des3", "-v2", "des3"), "des-ede3-cbc"],
      aes192: [pkcs8("aes192", "-v2", "aes-192-cbc"), "aes-192-cbc"],
      pbes1: [pkcs8("pbes1", "-v1", "PBE-SHA1-3DES"), "1.2.840.113549.1.12.1.3"],
      legacy128: [legacy("legacy128", "-aes128"), "aes-128-cbc"],
      legacy192: [legacy("legacy192", "-aes192"), "aes-192-cbc"],
      legacy256: [legacy("legacy256", "-aes256"), "aes-256-cbc"],
      legacyDes3: [legacy("legacyDes3", "-des3"), "des-ede3-cbc"],
    };
    for (const [name, [args, cipher]] of Object.entries(cases)) {
      await runChecked(["openssl", ...args]);
      const file = `${folder}/${name}`;
      await Deno.chmod(file, 0o600);
      const keyFile = await readKeyFile(file);
      assert.equal(keyFile.encrypted, cipher !== "");
      if (cipher === "") {
        assert.deepEqual((await keyFile.unlock()).publicKey, publicKey);
      } else if (getCiphers().includes(cipher)) {
        assert.equal(keyFile.publicKey, undefined);
        const signer = await keyFile.unlock("secret");
        assert.deepEqual(signer.publicKey, publicKey);
        await assertOpenSshAccepts(folder, signer);
        await assert.rejects(keyFile.unlock("Secret"), WrongPassphraseError);
      } else {
        await refusal(keyFile.unlock("secret"), file, `with ${cipher}`.slice(-9), /ssh-keygen -p/);
      }
    }
    // The format of PKCS#8 is the only one that OpenSSL has for this type.
    const ed25519 = `${folder}/ed25519`;
    const encrypt = ["-aes-256-cbc", "-pass", "pass:secret"];
    await runChecked(["openssl", "genpkey", "-algorithm", "ed25519", "-out", ed25519, ...encrypt]);
    await Deno.chmod(ed25519, 0o600);
    await assertOpenSshAccepts(folder, await unlock(ed25519, "secret"));
  }));

Deno.test("no wrong passphrase is taken for a damaged key", () =>
  withFolder(async (folder) => {
    const file = `${folder}/key`;
    await makeKey(file, "-t", "ecdsa", "-m", "PEM", "-N", "secret");
    const keyFile = await readKeyFile(file);
    // The padding of a block cipher comes out right once in 256 times.
    for (let count = 0; count < 1000; count++) {
      await assert.rejects(keyFile.unlock(`guess ${count}`), WrongPassphraseError);
    }
  }));

Deno.test("an RSA key signs with the hash of the algorithm that was asked for", () =>
  withFolder(async (folder) => {
    await makeKey(`${folder}/key`, "-t", "rsa");
    const signer = await unlock(`${folder}/key`);
    const pem = await runChecked(["ssh-keygen", "-e", "-m", "PKCS8", "-f", `${folder}/key`]);
    const hashes = { "rsa-sha2-512": "sha512", "rsa-sha2-256": "sha256", "ssh-rsa": "sha1" };
    assert.deepEqual(signer.algorithms, Object.keys(hashes));
    for (const [algorithm, hash] of Object.entries(hashes)) {
      const data = Buffer.from("what is signed");
      const reader = new Reader(await signer.sign(data, algorithm));
      assert.equal(reader.text(), algorithm);
      assert(verify(hash, data, createPublicKey(pem), reader.bytes()));
    }
    await assert.rejects(signer.sign(new Uint8Array(), "ssh-ed25519"), TypeError);
  }));

Deno.test("a file that cannot serve is refused with the reason and the way out", () =>
  withFolder(async (folder) => {
    const at = (name: string): string => `${folder}/${name}`;
    const block = (label: string, base64: string) =>
      `-----BEGIN ${label}-----\n${base64}\n-----END ${label}-----\n`;
    // With this comment the private part ends with padding.
    await makeKey(at("ed25519"), "-t", "ed25519", "-C", "");
    await Deno.chmod(at("ed25519.pub"), 0o600);
    await Deno.mkdir(at("folder"));
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 768 });
    await writeKey(at("short"), privateKey.export({ format: "pem", type: "pkcs1" }).toString());
    await writeKey(at("ppk"), "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n");
    await writeKey(at("garbage"), "garbage");
    await writeKey(at("empty"), "");
    await writeKey(at("long"), "-".repeat(2 ** 20 + 1));
    await writeKey(at("damaged-pem"), block("RSA PRIVATE KEY", "AAAA"));
    await writeKey(at("damaged-sec1"), block("EC PRIVATE KEY", "MAA="));
    await writeKey(at("damaged-pkcs8"), block("PRIVATE KEY", "MAMCAQA="));
    await writeKey(at("damaged-openssh"), block("OPENSSH PRIVATE KEY", "AAAA"));
    await writeKey(at("cut"), (await Deno.readTextFile(at("ed25519"))).slice(0, 200));
    const padded = Buffer.from(
      (await Deno.readTextFile(at("ed25519"))).split("\n").slice(1, -2).join(""),
      "base64",
    );
    padded[padded.length - 1]! ^= 1;
    await writeKey(at("padding"), block("OPENSSH PRIVATE KEY", padded.toString("base64")));
    await writeKey(at("dsa"), block("DSA PRIVATE KEY", "AAAA"));
    const dsa = encodeFields("ssh-dss", ...["p", "q", "g", "y"]);
    await writeKey(at("dsa-openssh"), openSshKeyText(dsa, encodeFields({ raw: dsa }, "x")));
    await writeKey(at("security"), securityKey().text);
    for (const curve of ["secp256k1", "ed448"]) {
      const args = curve === "ed448"
        ? ["-algorithm", "ed448"]
        : ["-algorithm", "ec", "-pkeyopt", `ec_paramgen_curve:${curve}`];
      await runChecked(["openssl", "genpkey", ...args, "-out", at(curve)]);
    }
    const cases: [file: string, ...patterns: RegExp[]][] = [
      ["missing", /cannot be read: there is no such file/, /Check the path/],
      ["folder", /it is a folder/, /Check the path/],
      ["long", /too long/],
      ["ed25519.pub", /public key/, /without \.pub/],
      ["short", /has 768 bits/, /Use another key/],
      ["ppk", /PuTTY/, /puttygen/],
      ["garbage", /not a private key/, /Use another key/],
      ["empty", /not a private key/],
      ["damaged-pem", /damaged/],
      ["damaged-sec1", /damaged/],
      ["damaged-pkcs8", /damaged/],
      ["damaged-openssh", /damaged/],
      ["cut", /damaged/],
      ["padding", /damaged/],
      ["dsa", /DSA PRIVATE KEY/, /ssh-keygen -t ed25519/],
      ["dsa-openssh", /ssh-dss/, /ssh-keygen -t ed25519/],
      ["security", /belongs to a security key/, /ssh-add/],
      ["secp256k1", /curve 1\.3\.132\.0\.10, which SSH has no keys for/],
      ["ed448", /ed448|damaged/i],
    ];
    for (const [name, ...patterns] of cases) {
      await refusal(readKeyFile(at(name)), `The key ${at(name)} `, ...patterns);
    }
    if (!hasP521) {
      await makeKey(at("p521"), "-t", "ecdsa", "-b", "521");
      await refusal(readKeyFile(at("p521")), at("p521"), /P-521/, /SSH agent/);
    }
  }));

Deno.test({
  name: "a private key that others can read is refused exactly when ssh refuses it",
  // Windows keeps access in lists that have no mode.
  ignore: !isUnix,
  fn: () =>
    withFolder(async (folder) => {
      const file = `${folder}/key`;
      await makeKey(file, "-t", "ed25519");
      const sshTakes = async () => {
        const result = await run(["ssh-keygen", "-y", "-P", "", "-f", file]);
        return result.code === 0;
      };
      for (const mode of [0o600, 0o400, 0o700, 0o640, 0o604, 0o620, 0o601, 0o644, 0o777]) {
        await Deno.chmod(file, mode);
        const isTaken = (mode & 0o077) === 0;
        assert.equal(await sshTakes(), isTaken, mode.toString(8));
        if (isTaken) await readKeyFile(file);
        else {
          const octal = `permissions 0${mode.toString(8)}`;
          const command = `chmod 600 "${file}"`;
          await refusal(readKeyFile(file), /^UNPROTECTED PRIVATE KEY FILE/, octal, command);
        }
        // The public key is no secret.
        assert.notEqual(await readPublicKey(file), undefined);
      }
      // Root alone can give a file away; anybody else has seen what there is to see.
      if (Deno.uid() !== 0) return;
      await Deno.chown(file, 65534, 65534);
      assert.equal(await sshTakes(), true);
      await readKeyFile(file);
    }),
});

/** Checks a signature by the public key that the signer shows. */
async function assertSignsRight(signer: Signer): Promise<void> {
  const key = ssh2.utils.parseKey(publicText(signer.publicKey));
  assert(!(key instanceof Error));
  const data = Buffer.from("what is signed");
  const reader = new Reader(await signer.sign(data, signer.algorithms[0]!));
  const [algorithm, blob] = [reader.text(), reader.bytes()];
  const isEcdsa = algorithm.startsWith("ecdsa-");
  const signature = Buffer.from(isEcdsa ? toDer(blob) : blob);
  assert.equal(
    key.verify(data, signature, algorithm === "rsa-sha2-512" ? "sha512" : undefined),
    true,
  );
}

/** The pair of numbers of an ECDSA signature as ssh2 and OpenSSL verify it. */
function toDer(pair: Uint8Array): Uint8Array {
  const reader = new Reader(pair);
  const numbers = [reader.bytes(), reader.bytes()];
  reader.end();
  return encodeDer(Tag.sequence, ...numbers.map((number) => encodeDer(Tag.integer, number)));
}

Deno.test("no damage to a key file goes unnoticed where it matters", () =>
  withFolder(async (folder) => {
    const file = `${folder}/damaged`;
    const pem = ["-m", "PEM"];
    const { ed25519, p256, rsa } = types as Record<string, string[]>;
    for (const args of [ed25519!, p256!, rsa!, [...p256!, ...pem], [...rsa!, ...pem]]) {
      const whole = `${folder}/${args.join("")}`;
      const publicKey = await makeKey(whole, ...args, "-C", "");
      const [begin, ...lines] = (await Deno.readTextFile(whole)).trimEnd().split("\n");
      const end = lines.pop();
      const bytes = Buffer.from(lines.join(""), "base64");
      const step = args.includes("rsa") ? 23 : 1;
      for (let offset = 0; offset < bytes.length; offset += step) {
        const changed = Buffer.from(bytes);
        changed[offset]! ^= 1 << (offset % 8);
        for (const copy of [changed, bytes.subarray(0, offset)]) {
          await writeKey(file, `${begin}\n${copy.toString("base64")}\n${end}\n`);
          try {
            const signer = await unlock(file);
            // Damage to what is not used, say.
            assert.deepEqual(signer.publicKey, publicKey, `offset ${offset}`);
            await assertSignsRight(signer);
          } catch (error) {
            assert(error instanceof AuthenticationError, `offset ${offset}: ${error}`);
          }
        }
      }
    }
  }));

Deno.test("line ends of Windows and text around a key do no harm", () =>
  withFolder(async (folder) => {
    const file = `${folder}/file`;
    for (const format of ["RFC4716", "PEM", "PKCS8"]) {
      for (const passphrase of ["", "secret"]) {
        const key = `${folder}/${format}-${passphrase}`;
        const publicKey = await makeKey(key, "-t", "ecdsa", "-m", format, "-N", passphrase);
        const text = (await Deno.readTextFile(key)).replaceAll("\n", "\r\n");
        await writeKey(file, text);
        const signer = await unlock(file, passphrase || undefined);
        assert.deepEqual(signer.publicKey, publicKey);
        if (format === "RFC4716") continue;
        await writeKey(file, `a note\n\n${text}another note\n`);
        assert.deepEqual((await unlock(file, passphrase || undefined)).publicKey, publicKey);
      }
    }
  }));

Deno.test("the public key of an identity is found without its passphrase", () =>
  withFolder(async (folder) => {
    const at = (name: string): string => `${folder}/${name}`;
    // OpenSSH's format shows it, an encrypted PEM does not.
    const openSsh = await makeKey(at("openssh"), "-t", "ed25519", "-N", "secret");
    await Deno.remove(at("openssh.pub"));
    assert.deepEqual(await readPublicKey(at("openssh")), openSsh);
    const pem = await makeKey(at("pem"), "-t", "ecdsa", "-m", "PEM");
    await Deno.remove(at("pem.pub"));
    assert.deepEqual(await readPublicKey(at("pem")), pem);
    const locked = await makeKey(at("locked"), "-t", "ecdsa", "-m", "PEM", "-N", "secret");
    assert.deepEqual(await readPublicKey(at("locked")), locked);
    assert.deepEqual((await readKeyFile(at("locked"))).publicKey, locked);
    await Deno.remove(at("locked.pub"));
    assert.equal(await readPublicKey(at("locked")), undefined);
    assert.equal((await readKeyFile(at("locked"))).publicKey, undefined);
    // The private key may be in an agent alone.
    const absent = await makeKey(at("absent"), "-t", "ed25519");
    await Deno.remove(at("absent"));
    assert.deepEqual(await readPublicKey(at("absent")), absent);
    assert.deepEqual(await readPublicKey(at("absent.pub")), absent);
    const security = securityKey();
    await writeKey(at("security"), security.text);
    assert.deepEqual(await readPublicKey(at("security")), security.publicKey);
    await Deno.writeTextFile(at("commented.pub"), `# a comment\n\n${publicText(absent)}\n`);
    assert.deepEqual(await readPublicKey(at("commented")), absent);
    await Deno.writeTextFile(at("garbage"), "ssh-ed25519 AAAA\nssh-rsa AAAAB3NzaC1kc3M=\n");
    assert.equal(await readPublicKey(at("garbage")), undefined);
    assert.equal(await readPublicKey(at("nowhere")), undefined);
  }));

Deno.test("a public key file of another key is noticed when the private one is opened", () =>
  withFolder(async (folder) => {
    const file = `${folder}/key`;
    await makeKey(file, "-t", "rsa", "-m", "PEM", "-N", "secret");
    await makeKey(`${folder}/other`, "-t", "rsa");
    await Deno.copyFile(`${folder}/other.pub`, `${file}.pub`);
    const keyFile = await readKeyFile(file);
    await refusal(keyFile.unlock("secret"), `not the one in ${file}.pub`, /ssh-keygen -y/);
  }));

Deno.test("OpenSSH accepts signatures under certificates that stand beside the key", () =>
  withFolder(async (folder) => {
    const authority = `${folder}/authority`;
    await makeKey(authority, "-t", "ecdsa");
    for (const [name, args] of Object.entries(types)) {
      const file = `${folder}/${name}`;
      const publicKey = await makeKey(file, ...args);
      assert.equal(await certificateFor(file), undefined);
      await certify(authority, file, "-z", "77", "-V", "20200102030405Z:20990102030405Z");
      const certificate = await certificateFor(file);
      assert.deepEqual(certificate, await readCertificate(`${file}-cert.pub`));
      const { authorityKey, signature, signedPart, ...others } = certificate!;
      assert.deepEqual(authorityKey, await readBlob(`${authority}.pub`));
      assert(verifySignature(authorityKey, signedPart, signature));
      assert.deepEqual(others, {
        name: `${file}-cert.pub`,
        blob: await readBlob(`${file}-cert.pub`),
        type: `${new Reader(publicKey).text()}-cert-v01@openssh.com`,
        subjectKey: publicKey,
        kind: "user",
        serial: 77n,
        keyId: "an id",
        principals: ["me", "myself"],
        validAfter: BigInt(Date.parse("2020-01-02T03:04:05Z") / 1000),
        validBefore: BigInt(Date.parse("2099-01-02T03:04:05Z") / 1000),
        hasCriticalOptions: false,
      });
      const signer = withCertificate(await unlock(file), certificate!);
      assert.equal(signer.name, `${file}-cert.pub`);
      const algorithms = name === "rsa"
        ? ["rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256-cert-v01@openssh.com"]
        : [certificate!.type];
      assert.deepEqual(signer.algorithms.slice(0, 2), algorithms);
      for (const algorithm of algorithms) {
        await assertOpenSshAccepts(folder, signer, { algorithm, authority });
      }
      await assert.rejects(signer.sign(new Uint8Array(1), "ssh-ed25519"), TypeError);
    }
  }));

Deno.test("a certificate shows its limits, and other files are none", () =>
  withFolder(async (folder) => {
    const authority = `${folder}/authority`;
    const file = `${folder}/key`;
    await makeKey(authority, "-t", "ed25519");
    await makeKey(file, "-t", "ed25519");
    await certify(authority, file, "-h", "-I", "Zoë's", "-V", "always:forever");
    const certificate = await readCertificate(`${file}-cert.pub`);
    assert.equal(certificate.kind, "host");
    assert.equal(certificate.keyId, "Zoë's");
    assert.deepEqual([certificate.validAfter, certificate.validBefore], [0n, 2n ** 64n - 1n]);
    const other = await unlock(authority);
    assert.throws(() => withCertificate(other, certificate), TypeError);

    await refusal(readCertificate(`${folder}/missing`), /there is no such file/);
    await refusal(readCertificate(`${file}.pub`), /holds no certificate/, /-cert\.pub/);
    await refusal(readCertificate(file), /holds no certificate/);
    const longer = new Uint8Array([...certificate.blob, 0]);
    for (const blob of [longer, certificate.blob.slice(0, -1)]) {
      await Deno.writeTextFile(`${folder}/damaged`, `${publicText(blob)}\n`);
      await refusal(readCertificate(`${folder}/damaged`), /is damaged/, /new one/);
    }
    await Deno.copyFile(`${folder}/damaged`, `${file}-cert.pub`);
    await refusal(certificateFor(file), /is damaged/);
  }));

Deno.test("the public key of a security key's certificate is the plain one", () =>
  withFolder(async (folder) => {
    await makeKey(`${folder}/authority`, "-t", "ed25519");
    const { publicKey } = securityKey();
    await Deno.writeTextFile(`${folder}/key.pub`, `${publicText(publicKey)}\n`);
    await certify(`${folder}/authority`, `${folder}/key`);
    const certificate = await readCertificate(`${folder}/key-cert.pub`);
    assert.equal(certificate.type, "sk-ssh-ed25519-cert-v01@openssh.com");
    assert(isSameKey(certificate.subjectKey, publicKey));
  }));
