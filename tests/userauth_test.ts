/** The client's side of authentication, message by message. */

import assert from "node:assert/strict";
import { AuthenticationError } from "../lib/errors.ts";
import { buildMessage, encodeFields, Reader } from "../lib/ssh_data.ts";
import { algorithmsFor } from "../lib/public_key.ts";
import type { CredentialSource, KeyCandidate } from "../lib/credential_source.ts";
import { UserAuth } from "../lib/userauth.ts";

/** What a key exchange has come to. */
const session = () => ({
  hostKey: new Uint8Array(),
  sessionId: new Uint8Array(32),
  signature: new Uint8Array(),
});

const userauthRequest = 50;
const userauthFailure = 51;
const userauthInfoRequest = 60;
const extInfo = 7;

/** A source with these keys, and nobody to ask. */
function sourceOf(keys: Partial<KeyCandidate>[]): CredentialSource {
  const nothing = () => Promise.resolve(undefined);
  return {
    bindsToHost: true,
    async *keys() {
      for (const key of keys) {
        yield { name: "a key", publicKey: undefined, algorithms: [], unlock: nothing, ...key };
      }
    },
    numberOfPasswordPrompts: 3,
    password: nothing,
    answer: nothing,
    newPassword: nothing,
  };
}

/** The algorithms that a server is offered that sends this EXT_INFO and takes no key. */
async function offersAfter(
  extensions: Uint8Array,
  keys: Partial<KeyCandidate>[],
): Promise<string[]> {
  const offers: string[] = [];
  const methods = ["publickey"] as const;
  const userAuth = new UserAuth({
    name: "jane@host",
    isJump: false,
    username: "jane",
    methods: { first: methods, afterwards: methods },
    source: sourceOf(keys),
    send(payload) {
      const reader = new Reader(payload, 1);
      const [, , method] = [reader.text(), reader.text(), reader.text()];
      assert.equal(payload[0], userauthRequest);
      if (method === "publickey") {
        assert.equal(reader.boolean(), false);
        offers.push(reader.text());
      }
      queueMicrotask(() => userAuth.receive(buildMessage(userauthFailure, "publickey", false)));
    },
    session,
    known: () => undefined,
    onPresumed: () => {},
    serverVersion: () => "OpenSSH_9.2",
    notify: () => {},
    onWait: () => {},
  });
  userAuth.receiveExtensions(extensions);
  await assert.rejects(userAuth.run(), AuthenticationError);
  return offers;
}

Deno.test("what EXT_INFO says of compression, in bytes that are no text, is passed over", async () => {
  // RFC 8308, section 3.2: the value is two name-lists, whose lengths begin with NULs.
  const compression = encodeFields("none,zlib@openssh.com", "none");
  const algorithms = ["rsa-sha2-512", "rsa-sha2-256"];
  const pairs = [["delay-compression", compression], ["server-sig-algs", "rsa-sha2-256"]] as const;
  for (const [first, second] of [pairs, pairs.toReversed()]) {
    const extensions = buildMessage(extInfo, 2, ...first!, ...second!);
    const publicKey = encodeFields("ssh-rsa");
    const offers = await offersAfter(extensions, [{ publicKey, algorithms }]);
    assert.deepEqual(offers, ["rsa-sha2-256"]);
  }
});

Deno.test("of keys that sign in several ways, what the server lists decides", async () => {
  const listed = "rsa-sha2-256";
  const extensions = buildMessage(extInfo, 1, "server-sig-algs", listed);
  const names = [
    "ssh-ed25519-cert-v01@openssh.com",
    "sk-ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256",
  ];
  const keys = names.map((name) => ({ publicKey: encodeFields(name), algorithms: [name] }));
  const rsa = ["ssh-rsa", "ssh-rsa-cert-v01@openssh.com"].map((type) => ({
    publicKey: encodeFields(type),
    algorithms: algorithmsFor(type),
  }));
  const offers = await offersAfter(extensions, [...keys, ...rsa]);
  assert.deepEqual(offers, [...names, "rsa-sha2-256", "rsa-sha2-256-cert-v01@openssh.com"]);
});

/** What one is told by a server that asks these questions round after round, up to an end. */
async function toldOf(
  round: (index: number) => { instruction: string; prompts: string[] },
): Promise<string[]> {
  const told: string[] = [];
  const methods = ["keyboard-interactive"] as const;
  let rounds = 0;
  const userAuth = new UserAuth({
    name: "jane@host",
    isJump: false,
    username: "jane",
    known: () => undefined,
    onPresumed: () => {},
    serverVersion: () => "OpenSSH_9.2",
    methods: { first: methods, afterwards: methods },
    source: {
      ...sourceOf([]),
      answer: ({ prompts }) => Promise.resolve(prompts.map(() => "an answer")),
    },
    send(payload) {
      const { instruction, prompts } = round(rounds);
      const fields = prompts.flatMap((text) => [text, false]);
      const isFirst = payload[0] === userauthRequest && rounds === 0 &&
        !new TextDecoder().decode(payload).includes("keyboard-interactive");
      const answer = isFirst || rounds++ > 1000
        ? buildMessage(userauthFailure, "keyboard-interactive", false)
        : buildMessage(userauthInfoRequest, "", instruction, "", prompts.length, ...fields);
      queueMicrotask(() => userAuth.receive(answer));
    },
    session,
    notify: (text) => told.push(text),
    onWait: () => {},
  });
  await assert.rejects(userAuth.run(), (error) => {
    assert(error instanceof AuthenticationError);
    assert.match(error.message, /^jane@host asks on and on: more than 100 questions/);
    return true;
  });
  return told;
}

Deno.test("a server that asks on and on is given up, and its words do not fill the log", async () => {
  const prompts = (count: number) => Array.from({ length: count }, () => "Code: ");
  const same = await toldOf(() => ({ instruction: "Look at your phone.", prompts: [] }));
  assert.deepEqual(same, ["jane@host says: Look at your phone."]);
  const others = await toldOf((index) => ({ instruction: `${index}`, prompts: [] }));
  assert(others.length <= 100, `${others.length}`);
  assert.deepEqual(await toldOf(() => ({ instruction: "", prompts: prompts(1) })), []);
  assert.deepEqual(await toldOf(() => ({ instruction: "", prompts: prompts(200) })), []);
});
