import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { clientKeyFile, loadClientKey } from "../lib/client_key.ts";
import { EndpointError } from "../lib/errors.ts";
import { defaultStateFolder, folderFault, type LocalSystem } from "../lib/state_folder.ts";

const isUnix = Deno.build.os !== "windows";

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "sshshim-client-key-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function system(os: LocalSystem["os"], home: string, variables: Record<string, string> = {}) {
  return {
    os,
    uid: os === "windows" ? null : 1000,
    home,
    variable: (name: string) => variables[name],
  };
}

async function fingerprintOf(file: string): Promise<string> {
  const { code, stdout } = await new Deno.Command("ssh-keygen", { args: ["-l", "-f", file] })
    .output();
  assert.equal(code, 0);
  return new TextDecoder().decode(stdout);
}

Deno.test("the first use makes a client key that OpenSSH takes, later ones find it", () =>
  withFolder(async (folder) => {
    const stateFolder = `${folder}/state/sshshim`;
    const first = await loadClientKey({ stateFolder });
    assert.equal(first.privateFile, `${stateFolder}/client_key`);
    if (isUnix) {
      assert.equal((await Deno.stat(first.privateFile)).mode! & 0o777, 0o600);
      assert.equal((await Deno.stat(stateFolder)).mode! & 0o777, 0o700);
    }
    const text = await Deno.readTextFile(`${first.privateFile}.pub`);
    assert.equal(text, `ssh-ed25519 ${Buffer.from(first.publicKey).toString("base64")} sshshim\n`);
    assert.equal(
      await fingerprintOf(first.privateFile),
      await fingerprintOf(`${first.privateFile}.pub`),
    );
    assert.deepEqual(await loadClientKey({ stateFolder }), first);
    const names = Array.from(Deno.readDirSync(stateFolder), ({ name }) => name).sort();
    assert.deepEqual(names, ["client_key", "client_key.pub"]);
  }));

Deno.test("instances that start together end up with one client key", () =>
  withFolder(async (folder) => {
    const keys = await Promise.all(
      Array.from({ length: 8 }, () => loadClientKey({ stateFolder: folder })),
    );
    assert.equal(
      new Set(keys.map(({ publicKey }) => Buffer.from(publicKey).toString("hex"))).size,
      1,
    );
  }));

Deno.test("a client key whose public file is gone gets it back, and keeps its private one", () =>
  withFolder(async (folder) => {
    const first = await loadClientKey({ stateFolder: folder });
    const text = await Deno.readTextFile(first.privateFile);
    await Deno.remove(`${first.privateFile}.pub`);
    assert.deepEqual(await loadClientKey({ stateFolder: folder }), first);
    assert.equal(await Deno.readTextFile(first.privateFile), text);
    await Deno.stat(`${first.privateFile}.pub`);
  }));

Deno.test("a client key that is damaged, or whose halves differ, is refused and stays", () =>
  withFolder(async (folder) => {
    const load = () => loadClientKey({ stateFolder: folder });
    const { privateFile } = await load();
    const publicFile = `${privateFile}.pub`;
    await Deno.writeTextFile(publicFile, "ssh-ed25519 AAAA somebody\n");
    const isOf = (file: string) => (error: unknown) =>
      error instanceof EndpointError && error.message.includes(`client key "${file}"`);
    await assert.rejects(load(), isOf(publicFile));
    assert.equal(await Deno.readTextFile(publicFile), "ssh-ed25519 AAAA somebody\n");
    await Deno.writeTextFile(privateFile, "no key");
    await assert.rejects(load(), isOf(privateFile));
    assert.equal(await Deno.readTextFile(privateFile), "no key");
  }));

Deno.test({
  name: "a client key that others can reach is refused",
  // Windows keeps access in lists that have no mode.
  ignore: !isUnix,
  fn: () =>
    withFolder(async (folder) => {
      const stateFolder = `${folder}/state`;
      const load = () => loadClientKey({ stateFolder });
      const { privateFile } = await load();
      await Deno.chmod(privateFile, 0o640);
      await assert.rejects(load(), /others can read or change it/);
      await Deno.chmod(privateFile, 0o600);
      await Deno.chmod(stateFolder, 0o770);
      await assert.rejects(load(), /others can write in its folder/);
    }),
});

Deno.test("a folder that cannot hold the client key is told", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/blocked`, "");
    await assert.rejects(
      loadClientKey({ stateFolder: `${folder}/blocked/sshshim` }),
      (error) =>
        error instanceof EndpointError && /cannot hold it: Not a directory/.test(error.message),
    );
  }));

Deno.test("each system has its own folder for keys", () => {
  const cases: [LocalSystem, string][] = [
    [system("linux", "/home/me"), "/home/me/.local/state/sshshim"],
    [system("linux", "/home/me", { XDG_STATE_HOME: "/some/where" }), "/some/where/sshshim"],
    [system("linux", "/home/me", { XDG_STATE_HOME: "relative" }), "/home/me/.local/state/sshshim"],
    [system("darwin", "/Users/me"), "/Users/me/Library/Application Support/sshshim"],
    [
      system("darwin", "/Users/me", { XDG_STATE_HOME: "/x" }),
      "/Users/me/Library/Application Support/sshshim",
    ],
    [system("windows", "C:\\Users\\me"), "C:\\Users\\me\\AppData\\Local\\sshshim"],
    [system("windows", "C:\\Users\\me", { LOCALAPPDATA: "D:\\data" }), "D:\\data\\sshshim"],
  ];
  for (const [it, folder] of cases) {
    assert.equal(defaultStateFolder(it), folder);
    const separator = it.os === "windows" ? "\\" : "/";
    assert.equal(clientKeyFile(undefined, it), `${folder}${separator}client_key`);
  }
});

Deno.test("who may write in the folder for keys is judged where the system tells it", () => {
  const [linux, macos] = [system("linux", "/home/me"), system("darwin", "/Users/me")];
  const windows = system("windows", "C:\\Users\\me");
  for (const unix of [linux, macos]) {
    assert.equal(folderFault({ uid: 1000, mode: 0o40700 }, "f", unix), undefined);
    assert.equal(folderFault({ uid: 0, mode: 0o40755 }, "f", unix), undefined);
    assert.match(folderFault({ uid: 1000, mode: 0o40770 }, "f", unix)!.reason, /others can write/);
    assert.match(folderFault({ uid: 1000, mode: 0o40702 }, "f", unix)!.reason, /others can write/);
    assert.match(
      folderFault({ uid: 1001, mode: 0o40700 }, "f", unix)!.reason,
      /another user, uid 1001/,
    );
  }
  assert.equal(folderFault({ uid: null, mode: null }, "f", windows), undefined);
});
