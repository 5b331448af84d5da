/** Which keys are the user's own, on each system, and which files and sockets are believed. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { UserKeys } from "../lib/admission.ts";
import { findOwnPath, ownPathFault } from "../lib/own_path.ts";
import { keysOfAgent, keysOfFolder } from "../lib/owner_keys.ts";
import { type LocalSystem, thisSystem } from "../lib/state_folder.ts";
import { startAgent } from "./support/agent.ts";
import { runChecked } from "./support/run.ts";
import { startService } from "./support/services.ts";

const isUnix = Deno.build.os !== "windows";
const isRoot = Deno.uid() === 0;

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "owner-keys-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function system(changes: Partial<LocalSystem> & { variables?: Record<string, string> } = {}) {
  const { variables = {}, ...others } = changes;
  return { ...thisSystem(), variable: (name: string) => variables[name], ...others };
}

async function makeKey(file: string, ...args: string[]): Promise<Uint8Array> {
  await runChecked(["ssh-keygen", "-q", "-N", "", "-f", file, ...args]);
  return await readPublic(`${file}.pub`);
}

async function readPublic(file: string): Promise<Uint8Array> {
  return new Uint8Array(Buffer.from((await Deno.readTextFile(file)).split(" ")[1]!, "base64"));
}

function told(): { words: string[]; report: (text: string) => void } {
  const words: string[] = [];
  return { words, report: (text) => void words.push(text) };
}

Deno.test("private keys in the user's folder are the user's, of any type, locked or not", () =>
  withFolder(async (folder) => {
    const { words, report } = told();
    assert.deepEqual(await keysOfFolder(`${folder}/none`, report), []);
    const expected = new Map([
      ["id_ed25519", await makeKey(`${folder}/id_ed25519`, "-t", "ed25519")],
      ["id_ecdsa", await makeKey(`${folder}/id_ecdsa`, "-t", "ecdsa")],
      ["id_locked", await makeKey(`${folder}/id_locked`, "-t", "ed25519", "-N", "secret")],
      ["id_pem", await makeKey(`${folder}/id_pem`, "-t", "rsa", "-m", "PEM", "-N", "secret")],
    ]);
    // Its public half is in the private file.
    await Deno.remove(`${folder}/id_ecdsa.pub`);
    await makeKey(`${folder}/work`, "-t", "ed25519");
    await Deno.writeTextFile(`${folder}/id_notes`, "ssh-ed25519 AAAA", { mode: 0o600 });
    await Deno.mkdir(`${folder}/id_folder`);
    const keys = await keysOfFolder(folder, report);
    assert.deepEqual(
      new Map(keys.map(({ name, publicKey }) => [name.slice(folder.length + 1), publicKey])),
      new Map([...expected].sort(([one], [two]) => one < two ? -1 : 1)),
    );
    assert.match(words.join(), /id_folder cannot be read: it is a folder/);
  }));

Deno.test("a public key without its private one, or beside another one, is nobody's proof", () =>
  withFolder(async (folder) => {
    const [own, foreign] = [
      await makeKey(`${folder}/id_own`, "-t", "ed25519"),
      await makeKey(`${folder}/foreign`, "-t", "ed25519"),
    ];
    await Deno.rename(`${folder}/foreign.pub`, `${folder}/id_foreign.pub`);
    await Deno.copyFile(`${folder}/id_foreign.pub`, `${folder}/id_own.pub`);
    const keys = await keysOfFolder(folder, () => {});
    assert.deepEqual(keys.map(({ publicKey }) => publicKey), [own]);
    assert.notDeepEqual(own, foreign);
  }));

Deno.test({
  name: "a private key that others can read, or that is another user's, is passed over",
  // Windows keeps access in lists that have no mode.
  ignore: !isUnix,
  fn: () =>
    withFolder(async (folder) => {
      const { words, report } = told();
      await makeKey(`${folder}/id_ed25519`, "-t", "ed25519");
      await Deno.chmod(`${folder}/id_ed25519`, 0o640);
      assert.deepEqual(await keysOfFolder(folder, report), []);
      assert.match(words.at(-1)!, /id_ed25519 is not yours alone/);
      await Deno.chmod(`${folder}/id_ed25519`, 0o600);
      assert.equal((await keysOfFolder(folder, report)).length, 1);
      for (const os of ["linux", "darwin"] as const) {
        assert.deepEqual(await keysOfFolder(folder, report, system({ os, uid: 12345 })), []);
      }
      await Deno.chmod(`${folder}/id_ed25519`, 0o644);
      assert.equal((await keysOfFolder(folder, report, system({ os: "windows" }))).length, 1);
    }),
});

Deno.test({
  name: "an agent's keys are the user's where its socket is, and on Windows they are not asked for",
  ignore: !isUnix,
  fn: () =>
    withFolder(async (folder) => {
      await using agent = await startAgent(folder, "own");
      const { words, report } = told();
      const variables = { SSH_AUTH_SOCK: agent.socket };
      const expected = await readPublic(agent.publicKeyFile);
      const own = await keysOfAgent(report, system({ variables }));
      assert.deepEqual(own.map(({ publicKey }) => publicKey), [expected]);
      assert.deepEqual(await keysOfAgent(report, system({ variables, os: "windows" })), []);
      assert.deepEqual(await keysOfAgent(report, system()), []);
      const missing = system({ variables: { SSH_AUTH_SOCK: `${folder}/none` } });
      assert.deepEqual(await keysOfAgent(report, missing), []);
      assert.match(words.at(-1)!, /No such file/);
      if (!isRoot) return;
      await Deno.chown(agent.socket, 12345, 12345);
      assert.deepEqual(await keysOfAgent(report, system({ variables })), []);
      assert.match(words.at(-1)!, /is not asked for keys: .* belongs to another user, uid 12345/);
    }),
});

Deno.test({
  name: "an agent that does not answer keeps nobody waiting for long",
  ignore: !isUnix,
  fn: () =>
    withFolder(async (folder) => {
      const path = `${folder}/silent`;
      const asked = Promise.withResolvers<void>();
      await using _agent = startService(async (connection) => {
        await connection.read(new Uint8Array(16));
        asked.resolve();
        await connection.read(new Uint8Array(16));
      }, { path });
      const { words, report } = told();
      assert.deepEqual(
        await keysOfAgent(report, system({ variables: { SSH_AUTH_SOCK: path } })),
        [],
      );
      await asked.promise;
      assert.match(words.at(-1)!, /does not answer within 3 s/);
    }),
});

Deno.test("what may be written by others is judged on each Unix, and Windows has no such numbers", () => {
  const file = { isDirectory: false, isSocket: false };
  const folder = { isDirectory: true, isSocket: false };
  const socket = { isDirectory: false, isSocket: true };
  for (const os of ["linux", "darwin"] as const) {
    const faultOf = (it: typeof file, uid: number, mode: number) =>
      ownPathFault({ ...it, uid, mode }, { os, uid: 501 });
    assert.equal(faultOf(file, 501, 0o100600), undefined);
    assert.equal(faultOf(file, 501, 0o100644), undefined);
    assert.equal(faultOf(file, 0, 0o100644), undefined);
    assert.match(faultOf(file, 501, 0o100664)!, /written by others/);
    assert.match(faultOf(file, 501, 0o101666)!, /written by others/);
    assert.match(faultOf(file, 502, 0o100600)!, /another user, uid 502/);
    assert.equal(faultOf(folder, 501, 0o40755), undefined);
    assert.match(faultOf(folder, 501, 0o40775)!, /written by others/);
    assert.equal(faultOf(folder, 0, 0o41777), undefined);
    assert.match(faultOf(folder, 502, 0o41777)!, /another user/);
    // Those of macOS.
    assert.equal(faultOf(socket, 501, 0o140666), undefined);
    assert.match(faultOf(socket, 502, 0o140600)!, /another user/);
  }
  assert.equal(
    ownPathFault({ ...file, uid: null, mode: null }, { os: "windows", uid: null }),
    undefined,
  );
});

Deno.test({
  name: "a path is judged with all that is above it, links followed",
  ignore: !isUnix,
  fn: () =>
    withFolder(async (folder) => {
      await Deno.mkdir(`${folder}/open/inner`, { recursive: true });
      const file = `${folder}/open/inner/file`;
      await Deno.writeTextFile(file, "");
      await Deno.symlink(file, `${folder}/link`);
      const real = await Deno.realPath(file);
      assert.deepEqual(await findOwnPath(`${folder}/link`), { path: real });
      await Deno.chmod(`${folder}/open`, 0o777);
      const found = await findOwnPath(`${folder}/link`);
      assert("fault" in found);
      assert.match(found.fault, /open can be written by others/);
      assert.deepEqual(await findOwnPath(file, system({ os: "windows" })), { path: real });
      await assert.rejects(findOwnPath(`${folder}/none`), Deno.errors.NotFound);
    }),
});

Deno.test({
  name: "a file of authorized keys that cannot be used lets nobody in, whoever's keys there are",
  ignore: !isUnix,
  fn: () =>
    withFolder(async (folder) => {
      await Deno.mkdir(`${folder}/.ssh`);
      const own = await makeKey(`${folder}/.ssh/id_ed25519`, "-t", "ed25519");
      const scoped = await makeKey(`${folder}/scoped`, "-t", "ed25519");
      const file = `${folder}/keys`;
      const keys = new UserKeys(file, { system: system({ home: folder }), stateFolder: folder });
      const verdicts = async () => {
        const ring = await keys.gather();
        return [own, scoped].map((key) => ring.judge(key, "127.0.0.1").kind);
      };
      await assert.rejects(keys.check(), /keys cannot be used: No such file.*--authorized-keys/);
      assert.deepEqual(await verdicts(), ["refused", "refused"]);
      await Deno.copyFile(`${folder}/scoped.pub`, file);
      await Deno.chmod(file, 0o600);
      await keys.check();
      assert.deepEqual(await verdicts(), ["accepted", "accepted"]);
      await Deno.chmod(file, 0o620);
      await assert.rejects(keys.check(), /can be written by others/);
      assert.deepEqual(await verdicts(), ["refused", "refused"]);
      await Deno.chmod(file, 0o600);
      // What the file says of a key counts, although it is the user's own.
      const text = await Deno.readTextFile(`${folder}/.ssh/id_ed25519.pub`);
      await Deno.writeTextFile(file, `restrict,unknown ${text}`);
      assert.deepEqual(await verdicts(), ["refused", "unknown"]);
      await Deno.writeTextFile(file, `restrict ${text}`);
      const verdict = (await keys.gather()).judge(own, "127.0.0.1");
      assert(verdict.kind === "accepted");
      assert.equal(verdict.key.permissions?.terminal, false);
      await Deno.remove(file);
      await Deno.mkdir(file);
      await assert.rejects(keys.check(), /not a regular file/);
    }),
});
