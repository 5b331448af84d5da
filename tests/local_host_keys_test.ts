/** The endpoint's host keys of several types, for clients that do not know the first one's. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import ssh2 from "ssh2";
import { EndpointError } from "../lib/errors.ts";
import { loadStateKey, prepareStateKey } from "../lib/local_host_key.ts";
import { loadLocalHostKeys } from "../lib/local_host_keys.ts";
import { keyTypeOf } from "../lib/public_key.ts";
import { clientEnvironment, makeTarget } from "./support/both.ts";
import { runChecked, text } from "./support/run.ts";
import { startShim } from "./support/shim.ts";
import { makeKey, withFolder } from "./support/signing.ts";
import { startSshd } from "./support/sshd.ts";

const types = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"];
const files = ["ssh_host_ecdsa_key", "ssh_host_ed25519_key", "ssh_host_rsa_key"];

function namesIn(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
}

Deno.test("the first start makes a key of each type, and later ones show the same", () =>
  withFolder(async (folder) => {
    const stateFolder = join(folder, "state");
    const first = await (await loadLocalHostKeys(undefined, { stateFolder })).all;
    assert.deepEqual(first.map(({ publicKey }) => keyTypeOf(publicKey)), types);
    assert.deepEqual(namesIn(stateFolder), files);
    for (const { file, publicKey, origin } of first) {
      assert.equal(origin, "state");
      const shown = await runChecked(["ssh-keygen", "-y", "-f", file!]);
      assert.equal(shown.split(" ")[1]!.trim(), Buffer.from(publicKey).toString("base64"));
      if (Deno.build.os === "windows") continue;
      assert.equal((await Deno.stat(file!)).mode! & 0o777, 0o600, file);
    }
    const again = await (await loadLocalHostKeys(undefined, { stateFolder })).all;
    assert.deepEqual(again, first);
  }));

Deno.test("instances that start together end up with the same keys", () =>
  withFolder(async (folder) => {
    const sets = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const { all } = await loadLocalHostKeys(undefined, { stateFolder: folder });
        return (await all).map(({ privateKey }) => privateKey).join();
      }),
    );
    assert.equal(new Set(sets).size, 1);
    assert.deepEqual(namesIn(folder), files);
  }));

Deno.test("a key of each type is made for this run where none can be kept", () =>
  withFolder(async (folder) => {
    const file = join(folder, "a file");
    await Deno.writeTextFile(file, "");
    const options = { stateFolder: join(file, "state"), sshFolder: folder };
    const { first, all } = await loadLocalHostKeys(undefined, options);
    assert.match(first.note!, /cannot hold/);
    assert.deepEqual((await all).map(({ publicKey }) => keyTypeOf(publicKey)), types);
    assert((await all).every((key) => key.origin === "temporary" && key.file === undefined));

    await makeKey(join(folder, "id_ed25519"), "-t", "ed25519");
    const identity = await loadLocalHostKeys(undefined, options);
    assert.deepEqual(await identity.all, [identity.first]);
    assert.equal(identity.first.origin, "identity");
  }));

Deno.test("a key that a flag names is the only one", () =>
  withFolder(async (folder) => {
    const file = join(folder, "key");
    await makeKey(file, "-t", "rsa");
    const stateFolder = join(folder, "state");
    const { first, all } = await loadLocalHostKeys({ type: "rsa", file }, { stateFolder });
    assert.deepEqual(await all, [first]);
    assert.deepEqual(namesIn(folder), ["key", "key.pub"]);
  }));

Deno.test("a further key that is damaged or of another type is refused at once, and stays", () =>
  withFolder(async (folder) => {
    await (await loadLocalHostKeys(undefined, { stateFolder: folder })).all;
    const at = (name: string) => join(folder, name);
    const whole = await Promise.all(files.map((name) => Deno.readTextFile(at(name))));
    const [ecdsa, ed25519, rsa] = whole as [string, string, string];
    const cases: [name: string, text: string][] = [
      ["ssh_host_rsa_key", ""],
      ["ssh_host_rsa_key", rsa.slice(0, 500)],
      ["ssh_host_rsa_key", ed25519],
      ["ssh_host_ecdsa_key", ecdsa.replaceAll("A", "B")],
      ["ssh_host_ecdsa_key", rsa],
      ["ssh_host_ecdsa_key", ed25519],
    ];
    for (const [name, text] of cases) {
      await Deno.writeTextFile(at(name), text);
      await assert.rejects(
        loadLocalHostKeys(undefined, { stateFolder: folder }),
        (error) => error instanceof EndpointError && error.message.includes(at(name)),
      );
      assert.equal(await Deno.readTextFile(at(name)), text);
      await Deno.writeTextFile(at(name), name.includes("rsa") ? rsa : ecdsa);
    }
  }));

Deno.test("each of 60 ECDSA keys signs, and is read again as it was", () =>
  withFolder(async (folder) => {
    const data = Buffer.from("what is signed");
    for (let round = 0; round < 60; round++) {
      const stateFolder = join(folder, `${round}`);
      assert.equal(await prepareStateKey(stateFolder, "ecdsa"), undefined);
      const read = await loadStateKey(stateFolder, "ecdsa");
      assert.equal(read.privateKey, await Deno.readTextFile(read.file!));
      const key = ssh2.utils.parseKey(read.privateKey);
      assert(!(key instanceof Error), String(key));
      assert.deepEqual(Buffer.from(key.getPublicSSH()), Buffer.from(read.publicKey));
      const signature = key.sign(data);
      assert(!((signature as unknown) instanceof Error), String(signature));
      assert.equal(key.verify(data, signature), true);
    }
  }));

Deno.test("clients that know one type of host key alone connect, also by rekeys", async (t) => {
  await using sshd = await startSshd();
  await using shim = await startShim(sshd);
  await withFolder(async (folder) => {
    const { hostKeys } = shim.banner;
    assert.deepEqual(hostKeys.map((key) => key.knownHostsLine.split(" ")[1]), types);
    const target = makeTarget({
      ...{ mode: "shim", host: shim.host, port: shim.port, username: "anybody" },
      ...{ keyFile: "/dev/null", knownHostsFile: `${folder}/known_hosts`, folder },
      environment: clientEnvironment(folder),
    });
    await Deno.writeTextFile(
      target.knownHostsFile,
      hostKeys.map(({ knownHostsLine }) => `${knownHostsLine}\n`).join(""),
    );
    const algorithms = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"];
    // The last one, SHA-1, is for clients that have nothing else.
    for (const algorithm of [...algorithms, "ssh-rsa"]) {
      await t.step(algorithm, async () => {
        const only = ["-v", "-o", `HostKeyAlgorithms=${algorithm}`, "-o", "RekeyLimit=256K"];
        // Who sends begins the rekeys, and sends no more until they are over.
        const stdin = new Uint8Array(1_000_000);
        const { stdout, stderr } = await target.ssh("wc -c", { options: only, stdin });
        assert.equal(text(stdout), "1000000\n", text(stderr));
        const exchanges = text(stderr).match(/SSH2_MSG_NEWKEYS received/g)!.length;
        assert(exchanges > 1, `${exchanges} key exchanges`);
        assert.match(text(stderr), new RegExp(`host key algorithm: ${algorithm}\r?$`, "m"));
      });
    }
  });
});
