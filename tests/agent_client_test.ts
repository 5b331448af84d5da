import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createPublicKey, verify } from "node:crypto";
import { Agent, AgentError, connectAgent } from "../lib/agent.ts";
import type { ByteConnection } from "../lib/byte_connection.ts";
import { withCertificate } from "../lib/key_certificate.ts";
import { AuthenticationError } from "../lib/errors.ts";
import { readCertificate } from "../lib/key_file.ts";
import { isSameKey, keyTypeOf } from "../lib/public_key.ts";
import type { Signer } from "../lib/signer.ts";
import { encodeFields, Reader, utf8String } from "../lib/ssh_data.ts";
import { FakeTime } from "./support/fake_time.ts";
import { settled } from "./support/scripted_connector.ts";
import {
  assertOpenSshAccepts,
  certify,
  makeKey,
  readBlob,
  securityKey,
  startAgent,
  withFolder,
} from "./support/signing.ts";

const isUnix = Deno.build.os !== "windows";

/** A unix socket that answers each request as a test wants. */
class FakeAgent implements AsyncDisposable {
  readonly path: string;
  /** Complete requests, without their lengths. */
  readonly requests: Uint8Array[] = [];
  readonly #listener: Deno.UnixListener;
  readonly #done: Promise<unknown>;
  #connection: Deno.UnixConn | undefined;

  constructor(folder: string, answer: (request: Uint8Array) => Iterable<Uint8Array> | null) {
    this.path = `${folder}/fake-${crypto.randomUUID().slice(0, 8)}.sock`;
    this.#listener = Deno.listen({ transport: "unix", path: this.path });
    this.#done = this.#serve(answer).catch(() => {
      // The client has gone, or the test is over.
    });
  }

  async #serve(answer: (request: Uint8Array) => Iterable<Uint8Array> | null): Promise<void> {
    const connection = this.#connection = await this.#listener.accept();
    let received = Buffer.alloc(0);
    const buffer = new Uint8Array(65536);
    while (true) {
      const length = await connection.read(buffer);
      if (length === null) return;
      received = Buffer.concat([received, buffer.subarray(0, length)]);
      while (received.length >= 4 && received.length >= 4 + received.readUInt32BE(0)) {
        const end = 4 + received.readUInt32BE(0);
        const request = new Uint8Array(received.subarray(4, end));
        received = received.subarray(end);
        this.requests.push(request);
        const pieces = answer(request);
        if (pieces === null) return connection.close();
        for (const piece of pieces) await connection.write(piece);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    try {
      this.#connection?.close();
    } catch {
      // It is closed already.
    }
    await this.#done;
  }
}

function frame(...fields: Parameters<typeof encodeFields>): Uint8Array {
  return encodeFields(encodeFields(...fields));
}

const identitiesAnswer = { raw: Uint8Array.of(12) };
const signResponse = { raw: Uint8Array.of(14) };
const failure = frame({ raw: Uint8Array.of(5) });

async function refusal(promise: Promise<unknown>, ...patterns: RegExp[]): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert(error instanceof AgentError, String(error));
    assert(error instanceof AuthenticationError);
    for (const pattern of patterns) assert.match(error.message, pattern);
    return true;
  });
}

function find(signers: Signer[], publicKey: Uint8Array): Signer {
  const found = signers.filter((signer) => isSameKey(signer.publicKey, publicKey));
  assert.equal(found.length, 1);
  return found[0]!;
}

for (const transport of ["unix", "pipe"] as const) {
  Deno.test({
    name: `OpenSSH accepts what its agent signs with keys and certificates (${transport})`,
    ignore: !isUnix,
    fn: () =>
      withFolder(async (folder) => {
        const authority = `${folder}/authority`;
        await makeKey(authority, "-t", "ed25519");
        await using sshAgent = await startAgent(folder);
        const files = { ed25519: [], rsa: [], ecdsa: [], p521: ["-b", "521"] };
        for (const [name, args] of Object.entries(files)) {
          const type = name === "p521" ? "ecdsa" : name;
          await makeKey(`${folder}/${name}`, "-t", type, "-C", `the ${name} key`, ...args);
          await certify(authority, `${folder}/${name}`);
          await sshAgent.add("-q", `${folder}/${name}`);
        }
        const agent = await connectAgent(sshAgent.path, { transport });
        try {
          const signers = await agent.identities();
          assert.equal(signers.length, 8);
          for (const name of Object.keys(files)) {
            const plain = find(signers, await readBlob(`${folder}/${name}.pub`));
            const certified = find(signers, await readBlob(`${folder}/${name}-cert.pub`));
            assert.equal(plain.name, `the ${name} key`);
            assert.equal(plain.needsTouch, false);
            const rsa = ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"];
            const algorithms = name === "rsa" ? rsa : [keyTypeOf(plain.publicKey)];
            const certificateNames = algorithms.map((name) => `${name}-cert-v01@openssh.com`);
            assert.deepEqual(plain.algorithms, algorithms);
            assert.deepEqual(certified.algorithms, certificateNames);
            // Of SHA-1 ssh-keygen wants to hear nothing.
            for (const algorithm of algorithms.filter((name) => name !== "ssh-rsa")) {
              await assertOpenSshAccepts(folder, plain, { algorithm });
              const certificateAlgorithm = `${algorithm}-cert-v01@openssh.com`;
              const options = { algorithm: certificateAlgorithm, authority };
              await assertOpenSshAccepts(folder, certified, options);
            }
            // A certificate of which the agent has only the plain key.
            const certificate = await readCertificate(`${folder}/${name}-cert.pub`);
            await assertOpenSshAccepts(folder, withCertificate(plain, certificate), { authority });
          }
        } finally {
          agent.close();
        }
      }),
  });
}

Deno.test("an RSA key signs with the hash of the algorithm that was asked for", () =>
  withFolder(async (folder) => {
    await makeKey(`${folder}/rsa`, "-t", "rsa");
    await makeKey(`${folder}/authority`, "-t", "ed25519");
    await certify(`${folder}/authority`, `${folder}/rsa`);
    const publicKey = createPublicKey(
      await new Deno.Command("ssh-keygen", { args: ["-e", "-m", "PKCS8", "-f", `${folder}/rsa`] })
        .output().then(({ stdout }) => new TextDecoder().decode(stdout)),
    );
    await using sshAgent = await startAgent(folder);
    await sshAgent.add("-q", `${folder}/rsa`);
    const agent = await connectAgent(sshAgent.path);
    try {
      const data = Buffer.from("what is signed");
      const hashes = { "rsa-sha2-512": "sha512", "rsa-sha2-256": "sha256", "ssh-rsa": "sha1" };
      for (const signer of await agent.identities()) {
        for (const [index, [name, hash]] of Object.entries(hashes).entries()) {
          const reader = new Reader(await signer.sign(data, signer.algorithms[index]!));
          assert.equal(reader.text(), name);
          assert(verify(hash, data, publicKey, reader.bytes()));
        }
      }
    } finally {
      agent.close();
    }
  }));

Deno.test("requests that are made at the same time are sent one after the other", () =>
  withFolder(async (folder) => {
    await makeKey(`${folder}/ed25519`, "-t", "ed25519");
    await using sshAgent = await startAgent(folder);
    await sshAgent.add("-q", `${folder}/ed25519`);
    const agent = await connectAgent(sshAgent.path);
    try {
      const lists = await Promise.all(Array.from({ length: 20 }, () => agent.identities()));
      const signers = lists.map((list) => list[0]!);
      await Promise.all(signers.map((signer) => assertOpenSshAccepts(folder, signer)));
    } finally {
      agent.close();
    }
  }));

Deno.test("a security key is listed by the real agent, which cannot sign without the device", () =>
  withFolder(async (folder) => {
    const { publicKey, text } = securityKey();
    const file = `${folder}/id_ed25519_sk`;
    await Deno.writeTextFile(file, text, { mode: 0o600 });
    await using sshAgent = await startAgent(folder);
    await sshAgent.add("-q", file);
    const agent = await connectAgent(sshAgent.path);
    try {
      const [signer] = await agent.identities();
      assert.deepEqual(signer!.publicKey, publicKey);
      assert.equal(signer!.needsTouch, true);
      assert.deepEqual(signer!.algorithms, ["sk-ssh-ed25519@openssh.com"]);
      await refusal(
        signer!.sign(new Uint8Array(10), "sk-ssh-ed25519@openssh.com"),
        /refused to sign with the key "a comment"/,
      );
      // A refusal is the end of one request only.
      assert.equal((await agent.identities()).length, 1);
    } finally {
      agent.close();
    }
  }));

Deno.test("keys, data and signatures of any type pass the agent's client unchanged", () =>
  withFolder(async (folder) => {
    const types = {
      "sk-ssh-ed25519@openssh.com": true,
      "sk-ssh-ed25519-cert-v01@openssh.com": true,
      "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com": true,
      "not-yet-invented@example.com": false,
    };
    const keys = Object.keys(types).map((type) => encodeFields(type, "some fields"));
    const plainNames = [
      "sk-ssh-ed25519@openssh.com",
      "sk-ssh-ed25519@openssh.com",
      "sk-ecdsa-sha2-nistp256@openssh.com",
      "not-yet-invented@example.com",
    ];
    // Flags and counter follow the blob of a security key's signature.
    const signatureOf = (index: number) =>
      encodeFields(plainNames[index]!, "blob", { raw: Uint8Array.of(1, 0, 0, 0, 9) });
    await using fake = new FakeAgent(folder, (request) => {
      if (request[0] === 11) {
        const fields = keys.flatMap((key) => [key, utf8String("naïve\x1b[31m")]);
        fields[1] = "";
        return [frame(identitiesAnswer, keys.length, ...fields)];
      }
      const key = new Reader(request, 1).bytes();
      return [frame(signResponse, signatureOf(keys.findIndex((known) => isSameKey(known, key))))];
    });
    const agent = await connectAgent(fake.path);
    try {
      const signers = await agent.identities();
      assert.deepEqual(signers.map((signer) => signer.publicKey), keys);
      assert.deepEqual(signers.map((signer) => signer.needsTouch), Object.values(types));
      assert.deepEqual(
        signers.map((signer) => signer.algorithms),
        Object.keys(types).map((t) => [t]),
      );
      const names = signers.map((signer) => signer.name);
      assert.deepEqual(names.slice(0, 2), ["sk-ssh-ed25519@openssh.com", "naïve?[31m"]);
      const data = Uint8Array.from({ length: 200_000 }, (_, index) => index);
      for (const [index, signer] of signers.entries()) {
        const signature = await signer.sign(data, signer.algorithms[0]!);
        assert.deepEqual(signature, signatureOf(index));
        const expected = encodeFields({ raw: Uint8Array.of(13) }, keys[index]!, data, 0);
        assert.deepEqual(fake.requests.at(-1), expected);
      }
    } finally {
      agent.close();
    }
  }));

Deno.test("an answer that comes byte by byte is read as one", () =>
  withFolder(async (folder) => {
    const key = encodeFields("ssh-ed25519", new Uint8Array(32));
    await using fake = new FakeAgent(
      folder,
      () => Array.from(frame(identitiesAnswer, 1, key, "name"), (byte) => Uint8Array.of(byte)),
    );
    const agent = await connectAgent(fake.path);
    assert.deepEqual((await agent.identities())[0]!.publicKey, key);
    agent.close();
  }));

Deno.test("an agent that does not answer is given up at the deadline, one that waits for a touch is not", async () => {
  const touched = Promise.withResolvers<void>();
  const key = encodeFields("ssh-ed25519", "x");
  const securityKey = encodeFields("sk-ssh-ed25519@openssh.com", "x");
  const signature = encodeFields("sk-ssh-ed25519@openssh.com", "blob");
  const list = frame(identitiesAnswer, 2, key, "plain", securityKey, "touch");
  const connection = new FakeConnection(async (request) => {
    if (request[0] === 11) return list;
    const isSecurityKey = keyTypeOf(new Reader(request, 1).bytes()).startsWith("sk-");
    await (isSecurityKey ? touched.promise : new Promise(() => {}));
    return frame(signResponse, signature);
  });
  using time = new FakeTime();
  const agent = new Agent("FAKE", connection);
  const [plain, touch] = await agent.identities();
  const signing = touch!.sign(new Uint8Array(1), touch!.algorithms[0]!);
  await settled();
  // Three deadlines of the other kind pass before somebody touches the key.
  time.advance(360_000);
  touched.resolve();
  assert.deepEqual(await signing, signature);
  const late = /FAKE does not work: it did not sign with the key "plain" within 120 s/;
  const refused = refusal(plain!.sign(new Uint8Array(1), "ssh-ed25519"), late);
  await settled();
  time.advance(120_000);
  await refused;
  // The answer may still come, so that nothing more can be asked.
  await refusal(agent.identities(), late);
  assert.equal(connection.isClosed, true);
});

/** An agent without a socket, whose answers take as long as a test wants. */
class FakeConnection implements ByteConnection {
  isClosed = false;
  readonly #answer: (request: Uint8Array) => Promise<Uint8Array>;
  #pending: Promise<Uint8Array> | undefined;
  readonly #closed = Promise.withResolvers<null>();

  constructor(answer: (request: Uint8Array) => Promise<Uint8Array>) {
    this.#answer = answer;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    const answer = await Promise.race([this.#pending!, this.#closed.promise]);
    if (answer === null) return null;
    buffer.set(answer);
    return answer.length;
  }

  write(bytes: Uint8Array): Promise<number> {
    this.#pending = this.#answer(bytes.subarray(4));
    return Promise.resolve(bytes.length);
  }

  close(): void {
    this.isClosed = true;
    this.#closed.resolve(null);
  }
}

Deno.test("close ends what is under way and may be called twice", () =>
  withFolder(async (folder) => {
    for (const transport of ["unix", "pipe"] as const) {
      const asked = Promise.withResolvers<void>();
      await using fake = new FakeAgent(folder, () => {
        asked.resolve();
        return [];
      });
      const agent = await connectAgent(fake.path, { transport });
      const requests = [agent.identities(), agent.identities()];
      await asked.promise;
      agent.close();
      agent.close();
      for (const request of requests) await refusal(request, /has closed the connection/);
      await refusal(agent.identities(), /has closed the connection/);
    }
  }));

Deno.test("what no agent would answer ends the connection with an error that says so", () =>
  withFolder(async (folder) => {
    const key = encodeFields("ssh-ed25519", "x");
    const tooLong = new Uint8Array(8);
    new DataView(tooLong.buffer).setUint32(0, 256 * 1024 + 1);
    const good = frame(identitiesAnswer, 0);
    const cases: [name: string, answer: Uint8Array[] | null, pattern: RegExp][] = [
      ["nothing", null, /closed the connection|reset/i],
      ["a message of no bytes", [new Uint8Array(4)], /announces a message of 0 bytes/],
      ["a message that is too long", [tooLong], /announces a message of 262145 bytes/],
      ["two answers", [encodeFields({ raw: good }, { raw: good })], /more than it was asked/],
      ["fewer keys than announced", [frame(identitiesAnswer, 2, key, "name")], /malformed/],
      ["more keys than announced", [frame(identitiesAnswer, 0, key, "name")], /malformed/],
      ["a key that is none", [frame(identitiesAnswer, 1, "x", "name")], /malformed/],
    ];
    for (const transport of ["unix", "pipe"] as const) {
      for (const [name, answer, pattern] of cases) {
        await using fake = new FakeAgent(folder, () => answer);
        const agent = await connectAgent(fake.path, { transport });
        await refusal(agent.identities(), new RegExp(fake.path), pattern, /ssh-add -l/).catch(
          (cause) => {
            throw new Error(name, { cause });
          },
        );
        await refusal(agent.identities(), pattern);
        agent.close();
      }
    }
  }));

Deno.test("an agent that leaves between two requests fails the next one, and nothing else", () =>
  withFolder(async (folder) => {
    for (const transport of ["unix", "pipe"] as const) {
      const path = `${folder}/${transport}`;
      using listener = Deno.listen({ transport: "unix", path });
      const agent = await connectAgent(path, { transport });
      (await listener.accept()).close();
      await refusal(agent.identities(), /does not work: /, /ssh-add -l/);
      agent.close();
    }
  }));

Deno.test("refusals, old agents and oversized data are told apart", () =>
  withFolder(async (folder) => {
    const key = encodeFields("ssh-rsa", "x", "y");
    let answer = failure;
    await using fake = new FakeAgent(
      folder,
      (request) => [request[0] === 11 ? frame(identitiesAnswer, 1, key, "old") : answer],
    );
    const agent = await connectAgent(fake.path);
    try {
      const [signer] = await agent.identities();
      const sign = (algorithm: string) => signer!.sign(new Uint8Array(3), algorithm);
      await refusal(sign("rsa-sha2-512"), /refused to sign with the key "old"/, /locked/);
      answer = frame(signResponse, encodeFields("ssh-rsa", "blob"));
      await refusal(sign("rsa-sha2-256"), /signs with ssh-rsa, not with rsa-sha2-256/, /-i/);
      assert.deepEqual(await sign("ssh-rsa"), encodeFields("ssh-rsa", "blob"));
      await refusal(
        signer!.sign(new Uint8Array(256 * 1024), "ssh-rsa"),
        /too long for it\. Name the key's file/,
      );
      await assert.rejects(sign("ssh-ed25519"), TypeError);
      answer = frame(signResponse, "");
      await refusal(sign("ssh-rsa"), /malformed/);
    } finally {
      agent.close();
    }
    await using locked = new FakeAgent(folder, () => [failure]);
    const other = await connectAgent(locked.path);
    await refusal(other.identities(), /refused to list its keys/);
    other.close();
  }));

Deno.test("a path without an agent is named together with the way out", () =>
  withFolder(async (folder) => {
    for (const transport of ["unix", "pipe"] as const) {
      const path = `${folder}/nobody`;
      const connecting = connectAgent(path, { transport });
      await refusal(connecting, /cannot be reached/, new RegExp(path), /SSH_AUTH_SOCK/);
    }
    await Deno.writeTextFile(`${folder}/file`, "");
    await refusal(connectAgent(`${folder}/file`), /cannot be reached/);
  }));

Deno.test("an agent without keys gives an empty list", () =>
  withFolder(async (folder) => {
    await using sshAgent = await startAgent(folder);
    const agent = await connectAgent(sshAgent.path);
    assert.deepEqual(await agent.identities(), []);
    agent.close();
  }));
