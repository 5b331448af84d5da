/** UpdateHostKeys, with what ssh makes of the same files. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { generateKeyPairSync, sign } from "node:crypto";
import { addKnownHost } from "../lib/known_hosts.ts";
import { hashedHost } from "../lib/known_hosts_file.ts";
import { encodeFields } from "../lib/ssh_data.ts";
import { updateHostKeys } from "../lib/update_host_keys.ts";
import { clientEnvironment } from "./support/both.ts";
import { startServing } from "./support/login.ts";
import { killDescendantsOf } from "./support/processes.ts";
import { run, runChecked, text } from "./support/run.ts";
import { withFolder } from "./support/signing.ts";
import { makeKey, type Sshd, startSshd } from "./support/sshd.ts";

/** The content of the files, by their names; undefined where there is none. */
type Files = Record<string, string | undefined>;

const ended = /learned a host key|removed a host key|stay as they are|has the host keys that/;

/** Both read their configuration from the command line. */
function settings(folder: string, files: Files, more: string[]): string[] {
  const paths = Object.keys(files).filter((name) => !name.endsWith(".old"))
    .map((name) => `${folder}/${name}`);
  const options = [`UserKnownHostsFile=${paths.join(" ")}`, "UpdateHostKeys=yes"];
  return [...more, ...options].flatMap((option) => ["-o", option]);
}

async function writeFiles(folder: string, files: Files): Promise<void> {
  await Deno.mkdir(folder);
  for (const [name, text] of Object.entries(files)) {
    if (text !== undefined) await Deno.writeTextFile(`${folder}/${name}`, text, { mode: 0o600 });
  }
}

/** All that is in a folder. */
async function readFiles(folder: string): Promise<Files> {
  const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
  const entries = names.map(async (name) => [name, await Deno.readTextFile(`${folder}/${name}`)]);
  return Object.fromEntries(await Promise.all(entries));
}

/** What ssh makes of the files. */
async function direct(sshd: Sshd, folder: string, files: Files, more: string[]): Promise<Files> {
  await writeFiles(folder, files);
  const { code, stderr } = await run([
    ...["ssh", "-F", "none", "-i", sshd.keyFile, "-p", `${sshd.port}`],
    ...settings(folder, files, [...more, "GlobalKnownHostsFile=none", "BatchMode=yes"]),
    ...[`${sshd.username}@${sshd.host}`, "true"],
  ], { environment: clientEnvironment(sshd.folder) });
  assert.equal(code, 0, text(stderr));
  return await readFiles(folder);
}

/** What the shim makes of them. */
async function throughShim(
  sshd: Sshd,
  folder: string,
  files: Files,
  more: string[],
): Promise<{ after: Files; log: string }> {
  await writeFiles(folder, files);
  await using shim = await startServing([
    ...[`${sshd.username}@${sshd.host}:${sshd.port}`, "--ed25519-key", sshd.keyFile, "-v"],
    ...settings(folder, files, more),
  ], { folder: sshd.folder });
  await shim.log.waitFor(ended);
  return { after: await readFiles(folder), log: shim.log.text };
}

Deno.test("known_hosts files become what ssh makes of them", async (t) => {
  await using sshd = await startSshd();
  const { folder } = sshd;
  await makeKey(`${folder}/other`, "ed25519");
  const other = (await Deno.readTextFile(`${folder}/other.pub`)).trim();
  const [ed25519 = "", rsa = ""] = sshd.hostKeys;
  const name = `[${sshd.host}]:${sshd.port}`;
  const known = `${name} ${ed25519}`;
  const type = "HostKeyAlgorithms=ssh-ed25519";
  const cases: [what: string, files: Files, options?: string[]][] = [
    ["a key that is new", { a: `# mine\n\n${known}\n` }],
    ["no line feed at the end", { a: `nonsense\n${known} a comment` }],
    ["a carriage return", { a: `${known}\r\n` }],
    ["a key that is gone", { a: `${name} ${other}\n${known}\n${name} ${rsa}\n` }],
    ["a key that is gone and one that is new", { a: `${name} ${other}\n${known}\n` }],
    ["nothing that is new", { a: `${known}\n${name} ${rsa}\n` }],
    ["the new key under another name", { a: `${known}\nelsewhere ${rsa}\n` }],
    ["the old key under another name", { a: `${known}\n${name} ${other}\nelsewhere ${other}\n` }],
    ["the old key under a hashed name", {
      a: `${known}\n${name} ${other}\n${hashedHost("elsewhere")} ${other}\n`,
    }],
    ["a pattern", { a: `[127.0.0.*]:${sshd.port} ${ed25519}\n` }],
    ["two names", { a: `${name},elsewhere ${ed25519}\n${name} ${other}\n` }],
    ["three names", { a: `${name},elsewhere,another ${ed25519}\n` }],
    ["a revoked key", { a: `${known}\n@revoked ${name} ${other}\n` }],
    ["an authority", { a: `${known}\n@cert-authority ${name} ${other}\n` }],
    ["a line of a type that nobody knows", { a: `${known}\n${name} ssh-new AAAAB3NzaA==\n` }],
    ["a file before it", { a: "", b: `${known}\n${name} ${other}\n` }],
    ["a file behind it", { a: `${known}\n`, b: `${name} ${other}\n${name} ${rsa}\n# b\n` }],
    ["a file that is missing", { a: `${known}\n`, b: undefined }],
    ["an old file", { a: `${known}\n`, "a.old": "from before\n" }],
    ["a type that is not allowed", { a: `${known}\n` }, [type]],
    ["a type that is allowed no more", { a: `${known}\n${name} ${rsa}\n` }, [type]],
  ];
  for (const [index, [what, files, options = []]] of cases.entries()) {
    await t.step(what, async () => {
      const expected = await direct(sshd, `${folder}/direct${index}`, files, options);
      const { after, log } = await throughShim(sshd, `${folder}/shim${index}`, files, options);
      assert.deepEqual(after, expected, log);
    });
  }

  await t.step("hashed names", async () => {
    const files = { a: `${hashedHost(name)} ${ed25519}\n${name} ${other}\n` };
    const hashed = ["HashKnownHosts=yes"];
    const folders = [`${folder}/direct_hashed`, `${folder}/shim_hashed`] as const;
    await direct(sshd, folders[0], files, hashed);
    await throughShim(sshd, folders[1], files, hashed);
    for (const it of folders) {
      const hashed = await Deno.readTextFile(`${it}/a`);
      assert.doesNotMatch(hashed, /127/);
      const found = await runChecked(["ssh-keygen", "-F", name, "-f", `${it}/a`]);
      const keys = found.split("\n").filter((line) => /^\|1\|/.test(line));
      assert.deepEqual(keys.map((line) => line.split(" ").slice(1).join(" ")), [ed25519, rsa]);
    }
  });

  await t.step("a link stays one, and so does the mode of the file that it names", async () => {
    const place = `${folder}/linked`;
    await writeFiles(place, { real: `${known}\n` });
    await Deno.chmod(`${place}/real`, 0o640);
    await Deno.symlink("real", `${place}/link`);
    await using shim = await startServing([
      ...[`${sshd.username}@${sshd.host}:${sshd.port}`, "--ed25519-key", sshd.keyFile],
      ...["--known-hosts", `${place}/link`, "-o", "UpdateHostKeys=yes"],
    ], { folder });
    await shim.log.waitFor(/learned a host key/);
    assert.equal(await Deno.readLink(`${place}/link`), "real");
    const after = `${known}\n${name} ${rsa}\n`;
    const old = `${known}\n`;
    assert.deepEqual(await readFiles(place), { link: after, real: after, "real.old": old });
    assert.equal((await Deno.stat(`${place}/real`)).mode! & 0o777, 0o640);
  });

  await t.step("a file that cannot be replaced costs a warning, and nothing else", async () => {
    const place = `${folder}/stuck`;
    await writeFiles(place, { a: `${known}\n` });
    await Deno.mkdir(`${place}/a.old/full`, { recursive: true });
    await using shim = await startServing([
      ...[`${sshd.username}@${sshd.host}:${sshd.port}`, "--ed25519-key", sshd.keyFile],
      ...["--known-hosts", `${place}/a`, "-o", "UpdateHostKeys=yes"],
    ], { folder });
    await shim.log.waitFor(/stay as they are: "\S+\/a" cannot be replaced: /);
    assert.equal((await shim.target.ssh("true")).code, 0);
    assert.equal(await Deno.readTextFile(`${place}/a`), `${known}\n`);
    const names = await Array.fromAsync(Deno.readDir(place), (entry) => entry.name);
    assert.deepEqual(names.sort(), ["a", "a.old"]);
  });

  await t.step("by default not a file that was named", async () => {
    const place = `${folder}/named`;
    await writeFiles(place, { a: `${known}\n` });
    await using shim = await startServing([
      ...[`${sshd.username}@${sshd.host}:${sshd.port}`, "--ed25519-key", sshd.keyFile],
      ...["--known-hosts", `${place}/a`],
    ], { folder });
    // sshd has sent its keys long before.
    assert.equal((await shim.target.ssh("true")).code, 0);
    assert.deepEqual(await readFiles(place), { a: `${known}\n` });
  });

  await t.step("not by a key that the system's file has, or one for any port", async () => {
    const place = `${folder}/system`;
    await writeFiles(place, { user: "", system: `${known}\n`, bare: `${sshd.host} ${ed25519}\n` });
    for (const [user, system] of [["user", "system"], ["bare", "user"]]) {
      await using shim = await startServing([
        ...[`${sshd.username}@${sshd.host}:${sshd.port}`, "--ed25519-key", sshd.keyFile],
        ...["-o", `UserKnownHostsFile=${place}/${user}`, "-o", "UpdateHostKeys=yes"],
        ...["-o", `GlobalKnownHostsFile=${place}/${system}`],
      ], { folder });
      assert.equal((await shim.target.ssh("true")).code, 0);
    }
    const after = await readFiles(place);
    assert.deepEqual(Object.keys(after), ["bare", "system", "user"]);
    assert.equal(after.user, "");
  });
});

Deno.test("the files follow at each return, and those of jump hosts as well", async () => {
  await using sshd = await startSshd();
  await using hop = await startSshd();
  const { folder } = sshd;
  const section = (alias: string, { host, port, username, keyFile }: Sshd, more = "") =>
    `Host ${alias}\nHostName ${host}\nPort ${port}\nUser ${username}\nIdentityFile ${keyFile}\n` +
    `UserKnownHostsFile ${folder}/known_${alias}\nUpdateHostKeys yes\n${more}\n`;
  const text = section("last", sshd, "ProxyJump hop") + section("hop", hop);
  await Deno.writeTextFile(`${folder}/config`, text);
  const servers = { last: sshd, hop };
  const lines = ({ host, port, hostKeys }: Sshd) =>
    hostKeys.map((key) => `[${host}]:${port} ${key}\n`);
  const forget = async () => {
    for (const [alias, server] of Object.entries(servers)) {
      await Deno.writeTextFile(`${folder}/known_${alias}`, lines(server)[0]!);
    }
  };
  await forget();
  await using shim = await startServing(["-F", `${folder}/config`, "last"], { folder });
  let from = 0;
  for (const isBack of [false, true]) {
    if (isBack) {
      await forget();
      from = shim.log.text.length;
      await killDescendantsOf(sshd.pid);
      await shim.log.waitFor(/the next client wakes the connection/, { from });
      Deno.kill(shim.pid, "SIGUSR2");
    }
    await shim.log.waitFor(/learned a host key[^]*learned a host key/, { from });
    for (const [alias, server] of Object.entries(servers)) {
      const known = await Deno.readTextFile(`${folder}/known_${alias}`);
      assert.equal(known, lines(server).join(""));
    }
  }
});

/** A server's key that a test signs with. */
function hostKey() {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const { x } = publicKey.export({ format: "jwk" });
  const blob = encodeFields("ssh-ed25519", Buffer.from(x!, "base64url"));
  return {
    blob,
    text: `ssh-ed25519 ${Buffer.from(blob).toString("base64")}`,
    prove: (session: Uint8Array, proven = blob) =>
      encodeFields(
        "ssh-ed25519",
        sign(null, encodeFields("hostkeys-prove-00@openssh.com", session, proven), privateKey),
      ),
  };
}

type HostKey = ReturnType<typeof hostKey>;

Deno.test("nothing is learned from a server that does not prove its keys", async (t) => {
  await withFolder(async (folder) => {
    const [first, second, third] = [hostKey(), hostKey(), hostKey()];
    const file = `${folder}/known_hosts`;
    const before = `box ${first.text}\n`;
    const sessionId = new Uint8Array(32).fill(7);

    async function learn(
      { announced = encodeFields(first.blob, second.blob), reply, mode = "yes", ...more }: {
        announced?: Uint8Array;
        reply?: Uint8Array;
        mode?: "yes" | "ask";
        answers?: (string | undefined)[];
        files?: string[];
        whileAsked?(): Promise<void>;
      },
    ): Promise<{ text: string; asked: number }> {
      const { answers = [], files = [file], whileAsked } = more;
      await Deno.writeTextFile(file, before);
      let asked = 0;
      await updateHostKeys(announced, {
        sessionId,
        signal: new AbortController().signal,
        prove: async () => {
          await whileAsked?.();
          return reply;
        },
      }, {
        names: { host: "box" },
        config: {
          updateHostKeys: mode,
          userKnownHostsFiles: files,
          hashKnownHosts: false,
          requiredRsaSize: 1024,
        },
        ask: () => Promise.resolve(answers[asked++]),
      });
      return { text: await Deno.readTextFile(file), asked };
    }

    const good = encodeFields(second.prove(sessionId));
    const many: HostKey[] = [];
    for (let count = 0; count < 33; count++) many.push(hostKey());
    const refused: [what: string, options: Parameters<typeof learn>[0]][] = [
      ["no proof", {}],
      ["an empty proof", { reply: new Uint8Array() }],
      ["a proof by another key", { reply: encodeFields(first.prove(sessionId, second.blob)) }],
      ["a proof for another session", { reply: encodeFields(second.prove(new Uint8Array(32))) }],
      ["a proof for another key", { reply: encodeFields(second.prove(sessionId, first.blob)) }],
      ["more than a proof", { reply: encodeFields({ raw: good }, good) }],
      ["one proof of two", {
        announced: encodeFields(first.blob, second.blob, third.blob),
        reply: encodeFields(second.prove(sessionId), second.prove(sessionId)),
      }],
      ["a key that is there twice", {
        announced: encodeFields(first.blob, second.blob, second.blob),
        reply: good,
      }],
      ["too many keys", {
        announced: encodeFields(first.blob, ...many.map(({ blob }) => blob)),
        reply: encodeFields(...many.map((key) => key.prove(sessionId))),
      }],
      ["keys that are cut short", { announced: encodeFields(first.blob, 9), reply: good }],
      ["no keys", { announced: new Uint8Array() }],
      ["a person's no", { reply: good, mode: "ask", answers: ["maybe", "no"] }],
      ["a person who cannot decide", { reply: good, mode: "ask", answers: ["1", "2", "3", "yes"] }],
      ["nobody's answer", { reply: good, mode: "ask", answers: [undefined] }],
    ];
    for (const [what, options] of refused) {
      await t.step(what, async () => assert.equal((await learn(options)).text, before));
    }
    const after = `${before}box ${second.text}\n`;
    assert.deepEqual(await learn({ reply: good }), { text: after, asked: 0 });
    const asked = await learn({ reply: good, mode: "ask", answers: ["perhaps", " YES "] });
    assert.deepEqual(asked, { text: after, asked: 2 });

    await t.step("a file that changes meanwhile is left as it is", async () => {
      const changed = `${before}there ${third.text}\n`;
      const whileAsked = () => Deno.writeTextFile(file, changed);
      assert.equal((await learn({ reply: good, whileAsked })).text, changed);
    });

    await t.step("no key is lost where the first file is missing", async () => {
      const missing = `${folder}/missing`;
      assert.equal((await learn({ reply: good, files: [missing, file] })).text, "");
      assert.equal(await Deno.readTextFile(missing), after);
      assert.equal((await Deno.stat(missing)).mode! & 0o777, 0o600);
    });

    await t.step("nor one that is added while the file is replaced", async () => {
      await Deno.writeTextFile(file, before);
      using handle = await Deno.open(file, { read: true });
      await handle.lock(true);
      const added = addKnownHost(file, { host: "there", port: 22, publicKey: third.blob });
      await Deno.writeTextFile(`${file}.new`, after);
      await Deno.rename(`${file}.new`, file);
      await handle.unlock();
      await added;
      assert.equal(await Deno.readTextFile(file), `${after}there ${third.text}\n`);
    });
  });
});
