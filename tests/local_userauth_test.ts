/** The server's side of a login, message by message: who gets in, and by what. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash, generateKeyPairSync, sign as cryptoSign } from "node:crypto";
import { signWith } from "../lib/key_object.ts";
import { parseStoredKey } from "../lib/key_text.ts";
import { generateKey, generateKeyOf } from "../lib/local_host_key.ts";
import { LocalUserAuth, type Login } from "../lib/local_userauth.ts";
import type { KeyRing, KeyVerdict } from "../lib/login_keys.ts";
import { isSameKey } from "../lib/public_key.ts";
import { buildMessage, encodeFields, type Field, Reader } from "../lib/ssh_data.ts";
import type { LoginSession } from "../lib/ssh2_server.ts";

const [serviceRequest, serviceAccept, request, failure, success, pkOk] = [5, 6, 50, 51, 52, 60];
const channelOpen = buildMessage(90, "session", 0, 1, 1);
const hostKey = new Uint8Array(generateKey().publicKey);
const sessionId = Uint8Array.from({ length: 32 }, (_, index) => index);

/** A key that can sign. */
interface Key {
  publicKey: Uint8Array;
  sign(data: Uint8Array, algorithm: string): Uint8Array;
}

function keyOf(text: string): Key {
  const stored = parseStoredKey(text, { file: "" });
  assert(!stored.isEncrypted);
  const { key, publicKey } = stored;
  return { publicKey, sign: (data, algorithm) => signWith(key, data, algorithm) };
}

const key = keyOf(generateKey().privateKey);
const stranger = keyOf(generateKey().privateKey);

interface Demands {
  needsTouch?: boolean;
  needsVerification?: boolean;
}

/** A client's login, and what came of it. */
class Scene {
  readonly sent: Uint8Array[] = [];
  readonly passed: Uint8Array[] = [];
  readonly logins: Login[] = [];
  ended: [reason: number, description: string] | undefined;
  unimplemented = 0;
  named = 0;
  readonly auth: LocalUserAuth;

  /** @param known the keys that count; without it the client is known anyway. */
  constructor(known?: readonly Uint8Array[], demands: Demands = {}) {
    const transport = {
      send: (payload: Uint8Array) => void this.sent.push(payload.slice()),
      sendUnimplemented: () => void this.unimplemented++,
      disconnect: (...why: [number, string]) => this.ended ??= why,
      pause() {},
      resume() {},
    };
    const ring: KeyRing = {
      judge: (publicKey): KeyVerdict =>
        known!.some((it) => isSameKey(it, publicKey))
          ? {
            kind: "accepted",
            key: {
              ...{ name: "a key", needsTouch: true, needsVerification: false, ...demands },
              permissions: undefined,
            },
          }
          : { kind: "unknown" },
    };
    this.auth = new LocalUserAuth({
      session: {
        ...{ sessionId, hostKey, transport },
        pass: (payload: Uint8Array) => void this.passed.push(payload),
      } as unknown as LoginSession,
      keys: known && { gather: () => Promise.resolve(ring) },
      address: "127.0.0.1",
      onLogin: (login) => void this.logins.push(login),
      onKeyNamed: () => void this.named++,
      report() {},
    });
  }

  /** Takes messages, and resolves with the numbers of all answers so far. */
  async take(...messages: Uint8Array[]): Promise<number[]> {
    for (const message of messages) this.auth.receive(message);
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    return this.sent.map(([type]) => type!);
  }
}

const named = (method: string, ...fields: Field[]) =>
  buildMessage(request, "anybody", "ssh-connection", method, ...fields);

const question = ({ publicKey }: Key, algorithm = "ssh-ed25519") =>
  named("publickey", false, algorithm, publicKey);

/** A request that is signed; what is told otherwise is not what is right. */
function proof(
  signer: Key,
  options: {
    algorithm?: string;
    signedBy?: string;
    publicKey?: Uint8Array;
    session?: Uint8Array;
    username?: string;
    boundTo?: Uint8Array;
  } = {},
): Uint8Array {
  const { algorithm = "ssh-ed25519", publicKey = signer.publicKey, boundTo } = options;
  const method = boundTo ? "publickey-hostbound-v00@openssh.com" : "publickey";
  const fields = [method, true, algorithm, publicKey, ...(boundTo ? [boundTo] : [])];
  const signed = buildMessage(request, options.username ?? "anybody", "ssh-connection", ...fields);
  const data = encodeFields(options.session ?? sessionId, { raw: signed });
  const signature = signer.sign(data, options.signedBy ?? algorithm);
  return buildMessage(request, "anybody", "ssh-connection", ...fields, signature);
}

Deno.test("a key that counts logs in, with a question before it or without", async () => {
  const scene = new Scene([key.publicKey]);
  assert.deepEqual(await scene.take(buildMessage(serviceRequest, "ssh-userauth")), [serviceAccept]);
  assert.deepEqual(await scene.take(named("none")), [serviceAccept, failure]);
  const refusal = new Reader(scene.sent[1]!, 1);
  assert.deepEqual([refusal.text(), refusal.boolean()], ["publickey", false]);
  await scene.take(question(key));
  assert.equal(scene.named, 1);
  assert.deepEqual(scene.sent[2], buildMessage(pkOk, "ssh-ed25519", key.publicKey));
  assert.deepEqual(await scene.take(proof(key)), [serviceAccept, failure, pkOk, success]);
  assert.equal(scene.logins[0]!.username, "anybody");
  assert.match(scene.logins[0]!.key!, /^the key SHA256:\S{43} \(a key\)$/);
  assert.deepEqual(await new Scene([key.publicKey]).take(proof(key)), [success]);
  assert.ok(!scene.auth.hasFailed);
});

Deno.test("RSA and ECDSA keys log in by the algorithms of our time", async () => {
  const [rsa, ecdsa] = await Promise.all(
    (["rsa", "ecdsa"] as const).map(async (type) => keyOf((await generateKeyOf(type)).privateKey)),
  );
  for (
    const [signer, algorithm] of [
      [rsa!, "rsa-sha2-256"],
      [rsa!, "rsa-sha2-512"],
      [ecdsa!, "ecdsa-sha2-nistp256"],
    ] as const
  ) {
    const scene = new Scene([signer.publicKey]);
    assert.deepEqual(await scene.take(question(signer, algorithm)), [pkOk]);
    assert.deepEqual(await scene.take(proof(signer, { algorithm })), [pkOk, success], algorithm);
  }
  for (
    const wrong of [
      { algorithm: "ssh-rsa" },
      { algorithm: "rsa-sha2-512", signedBy: "rsa-sha2-256" },
      { algorithm: "rsa-sha2-512", signedBy: "ssh-rsa" },
      { algorithm: "ssh-ed25519", signedBy: "rsa-sha2-512" },
    ]
  ) {
    assert.deepEqual(await new Scene([rsa!.publicKey]).take(proof(rsa!, wrong)), [failure]);
  }
});

Deno.test("whatever is not a signature for this very login lets nobody in", async () => {
  const other = sessionId.toReversed();
  for (
    const message of [
      proof(stranger),
      proof(stranger, { publicKey: key.publicKey }),
      proof(key, { session: other }),
      proof(key, { username: "somebody" }),
      proof(key, { algorithm: "ecdsa-sha2-nistp256", signedBy: "ssh-ed25519" }),
      proof(key, { algorithm: "ssh-ed25519-cert-v01@openssh.com", signedBy: "ssh-ed25519" }),
      named("publickey", true, "ssh-ed25519", key.publicKey, ""),
      named("publickey", true, "ssh-ed25519", key.publicKey, encodeFields("ssh-ed25519", "")),
      named("publickey", true, "ssh-ed25519", "", encodeFields("ssh-ed25519", "")),
      question(stranger),
      named("password", false, "secret"),
      named("keyboard-interactive", "", ""),
      named("hostbased", "ssh-ed25519", hostKey, "host", "user", "signature"),
    ]
  ) {
    const scene = new Scene([key.publicKey]);
    assert.deepEqual(await scene.take(message), [failure]);
    assert.deepEqual(scene.logins, []);
    assert.ok(scene.auth.hasFailed);
  }
});

Deno.test("a signature for the host that was shown counts, and for another host it does not", async () => {
  const scene = new Scene([key.publicKey]);
  assert.deepEqual(await scene.take(proof(key, { boundTo: hostKey })), [success]);
  const deceived = new Scene([key.publicKey]);
  await deceived.take(proof(key, { boundTo: stranger.publicKey }));
  assert.deepEqual(deceived.logins, []);
  assert.match(deceived.ended![1], /another host key than ours/);
});

Deno.test("after six failures the login ends; to ask with none, or about a key that counts, is none", async () => {
  const scene = new Scene([key.publicKey]);
  await scene.take(named("none"));
  for (let count = 0; count < 10; count++) await scene.take(question(key));
  for (let count = 0; count < 5; count++) await scene.take(named("password", false, "x"));
  assert.equal(scene.ended, undefined);
  await scene.take(question(stranger));
  assert.deepEqual(scene.ended, [2, "Too many authentication failures"]);
  const before = scene.sent.length;
  await scene.take(proof(key));
  assert.equal(scene.sent.length, before);
  assert.deepEqual(scene.logins, []);
});

Deno.test("some clients ask for the service before each attempt", async () => {
  const scene = new Scene([key.publicKey]);
  const service = buildMessage(serviceRequest, "ssh-userauth");
  const answers = await scene.take(
    service,
    named("none"),
    service,
    question(key),
    service,
    proof(key),
  );
  assert.deepEqual(answers, [
    ...[serviceAccept, failure, serviceAccept, pkOk, serviceAccept, success],
  ]);
  for (const name of ["ssh-connection", "", "x"]) {
    const other = new Scene([key.publicKey]);
    await other.take(buildMessage(serviceRequest, name));
    assert.equal(other.ended![0], 7);
  }
  const strange = new Scene([]);
  await strange.take(buildMessage(request, "me", "ssh-userauth", "none"));
  assert.equal(strange.ended![0], 7);
});

Deno.test("what comes behind a request waits for its answer, in its order", async () => {
  const scene = new Scene([key.publicKey]);
  const answers = await scene.take(
    question(key),
    proof(key),
    named("none"),
    channelOpen,
    proof(key),
  );
  assert.deepEqual(answers, [pkOk, success]);
  assert.equal(scene.logins.length, 1);
  assert.deepEqual(scene.passed, [channelOpen]);

  const refused = new Scene([key.publicKey]);
  await refused.take(proof(stranger), channelOpen);
  assert.deepEqual(refused.passed, []);
  assert.match(refused.ended![1], /CHANNEL_OPEN before authentication/);

  const flood = new Scene([key.publicKey]);
  await flood.take(...Array.from({ length: 100 }, () => question(key)));
  assert.match(flood.ended![1], /more requests than can wait/);
});

Deno.test("what makes no sense in a login ends it, and what nobody knows is answered so", async () => {
  for (
    const message of [
      channelOpen,
      buildMessage(request),
      buildMessage(request, "me", "ssh-connection", "publickey"),
      named("publickey", true, "ssh-ed25519", key.publicKey),
      Buffer.concat([question(key), Buffer.of(0)]),
      buildMessage(serviceAccept, "ssh-userauth"),
      buildMessage(failure, "", false),
      buildMessage(success),
    ]
  ) {
    for (const known of [[key.publicKey], undefined]) {
      const scene = new Scene(known);
      await scene.take(message);
      assert.ok(scene.ended, Buffer.from(message).toString("latin1"));
      assert.deepEqual(scene.logins, []);
    }
  }
  const scene = new Scene([key.publicKey]);
  await scene.take(buildMessage(61, 0), buildMessage(66), buildMessage(7, 0));
  assert.equal(scene.unimplemented, 2);
  assert.equal(scene.ended, undefined);
});

Deno.test("whoever is known is let in by whatever comes first, and told that a key will do", async () => {
  for (
    const message of [
      named("none"),
      named("password", false, "secret"),
      named("keyboard-interactive", "", ""),
      named("gssapi-with-mic", 0),
      proof(stranger),
    ]
  ) {
    const scene = new Scene();
    assert.deepEqual(await scene.take(message, channelOpen), [success]);
    assert.equal(scene.logins[0]!.key, undefined);
  }
  const scene = new Scene();
  assert.deepEqual(await scene.take(question(stranger)), [pkOk]);
  assert.deepEqual(await scene.take(proof(stranger)), [pkOk, success]);
});

Deno.test("a security key has to be touched, unless its options say otherwise", async () => {
  const pair = generateKeyPairSync("ed25519");
  const point = Buffer.from(pair.publicKey.export({ format: "jwk" }).x!, "base64url");
  const type = "sk-ssh-ed25519@openssh.com";
  const publicKey = encodeFields(type, point, "ssh:");
  const hash = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest();
  const securityKey = (flags: number): Key => ({
    publicKey,
    sign(data) {
      const tail = Buffer.of(flags, 0, 0, 0, 1);
      const signed = Buffer.concat([hash("ssh:"), tail, hash(data)]);
      return encodeFields(type, cryptoSign(null, signed, pair.privateKey), { raw: tail });
    },
  });
  const cases: [flags: number, demands: Demands, answer: number][] = [
    [1, {}, success],
    [5, {}, success],
    [0, {}, failure],
    [4, {}, failure],
    [0, { needsTouch: false }, success],
    [1, { needsVerification: true }, failure],
    [5, { needsVerification: true }, success],
  ];
  for (const [flags, demands, answer] of cases) {
    const scene = new Scene([publicKey], demands);
    const message = proof(securityKey(flags), { algorithm: type });
    assert.deepEqual(await scene.take(message), [answer], JSON.stringify([flags, demands]));
  }
});
