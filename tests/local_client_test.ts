/** How long a client of the endpoint may take to log in. */

import assert from "node:assert/strict";
import { LocalClient } from "../lib/local_client.ts";
import { configureLogging } from "../lib/log.ts";
import type { LoginKeys } from "../lib/login_keys.ts";
import { buildMessage, encodeFields } from "../lib/ssh_data.ts";
import type { Ssh2ServerConnection, Ssh2ServerHandlers } from "../lib/ssh2_server.ts";
import { FakeTime } from "./support/fake_time.ts";
import { World } from "./support/memory.ts";

const publicKey = encodeFields("ssh-ed25519", new Uint8Array(32));
const question = buildMessage(
  ...[50, "me", "ssh-connection", "publickey", false, "ssh-ed25519", publicKey] as const,
);

/** A client whose keys count or not, up to its question about one. */
async function ask(
  kind: "accepted" | "unknown",
): Promise<{ isClosed(): boolean; leave(): void; failures: readonly string[] }> {
  const failures: string[] = [];
  const key = { name: "", needsTouch: true, needsVerification: false, permissions: undefined };
  const keys: LoginKeys = { gather: () => Promise.resolve({ judge: () => ({ kind, key }) }) };
  let handlers: Ssh2ServerHandlers | undefined;
  let isClosed = false;
  const connection = {
    start: (given: Ssh2ServerHandlers) => handlers = given,
    destroy() {
      if (!isClosed) handlers!.onClose();
      isClosed = true;
    },
  };
  const client = new LocalClient(connection as unknown as Ssh2ServerConnection, {
    id: 1,
    endpoints: { remoteHost: "127.0.0.1", remotePort: 1, localHost: "127.0.0.1", localPort: 2 },
    relay: new World().relay,
    keys,
    onAuthenticated() {},
    onFailedLogin: (reason) => void failures.push(reason),
    onGone() {},
  });
  client.start();
  handlers!.onEncrypted({
    ...{ keyExchange: "some", isPostQuantum: false, hostKey: "ssh-ed25519" },
    ...{ cipher: "aes128-gcm@openssh.com", mac: null },
  });
  handlers!.onLogin({
    sessionId: new Uint8Array(32),
    hostKey: publicKey,
    transport: { send() {}, pause() {}, resume() {} } as never,
    pass() {},
  });
  handlers!.onLoginMessage(question);
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  return { isClosed: () => isClosed, leave: () => connection.destroy(), failures };
}

Deno.test("whoever has named a key that counts may take two minutes to unlock it, and others 20 s", async () => {
  using time = new FakeTime();
  const [owner, stranger] = [await ask("accepted"), await ask("unknown")];
  time.advance(19_999);
  assert.deepEqual([owner.isClosed(), stranger.isClosed()], [false, false]);
  time.advance(1);
  assert.deepEqual([owner.isClosed(), stranger.isClosed()], [false, true]);
  time.advance(99_999);
  assert.equal(owner.isClosed(), false);
  time.advance(1);
  assert.equal(owner.isClosed(), true);
});

Deno.test("strangers make no log lines of their own: each is counted once among those turned away", async () => {
  using time = new FakeTime();
  const lines: string[] = [];
  configureLogging({ verbosity: "normal", format: "text", write: (line) => lines.push(line) });
  try {
    const [late, left] = [await ask("accepted"), await ask("unknown")];
    left.leave();
    time.advance(120_000);
    assert.deepEqual(late.failures, ["(it did not log in in time)"]);
    assert.deepEqual(left.failures, ["(none of its keys counts)"]);
    assert.deepEqual(lines, []);
  } finally {
    configureLogging({ verbosity: "quiet", format: "text" });
  }
});
