/** What is secret is in nothing that the shim says or keeps, however talkative it is. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { readTree } from "./support/files.ts";
import { logIn, serverArguments } from "./support/login.ts";
import { atTerminal, type Dialog } from "./support/person.ts";
import { type ScriptedServer, startScriptedServer, type Step } from "./support/scripted_server.ts";
import { makeKey, withFolder } from "./support/signing.ts";

/** No word of any message has these in it. */
const secret = {
  passphrase: "Zq-passphrase-1",
  password: "Zq-password-2",
  changed: "Zq-changed-3",
  pin: "Zq-pin-4",
  code: "Zq-code-557799",
  wrong: "Zq-wrong-6",
};

/** What must not be seen: the secrets as they are, and as a dump of bytes would show them. */
const forbidden = Object.values(secret).flatMap((text) => {
  const bytes = Buffer.from(text);
  // Of base64, what does not depend on the neighbours.
  const base64 = [0, 1, 2].map((skipped) =>
    bytes.subarray(skipped).toString("base64").replace(/=+$/, "").slice(0, -2)
  );
  return [text, bytes.toString("hex"), [...bytes].join(","), [...bytes].join(", "), ...base64];
});

function assertNothingSecret(...texts: string[]): void {
  for (const text of texts) {
    for (const word of forbidden) {
      const at = text.indexOf(word);
      assert.equal(at, -1, `${word} is in: …${text.slice(Math.max(0, at - 300), at + 50)}`);
    }
  }
}

/** Asserts that no file of the shim's state has a secret. */
async function assertNothingKept(folder: string): Promise<void> {
  const files = (await readTree(`${folder}/state`)).filter(({ kind }) => kind === "file");
  assert(files.length > 0, "the state folder has the endpoint's key");
  for (const { path } of files) {
    assertNothingSecret(await Deno.readTextFile(`${folder}/state/${path}`));
  }
}

const formats = ["text", "json"];

/** Every kind of secret that a server can ask for, after a key with a passphrase. */
async function everyStep(keyFile: string): Promise<Step[]> {
  return [
    {
      method: "publickey",
      key: await makeKey(keyFile, "-t", "ed25519", "-N", secret.passphrase),
    },
    {
      method: "keyboard-interactive",
      rounds: [{
        prompts: [{ prompt: "PIN: ", echo: false }, { prompt: "Code: ", echo: false }],
        answers: [secret.pin, secret.code],
      }],
    },
    // The last, because ssh2's server takes no answers after a change.
    {
      method: "password",
      password: secret.password,
      change: { prompt: "It has expired.", password: secret.changed },
    },
  ];
}

/** The methods that clients have tried, without what they gave. */
function methodsTried({ attempts }: ScriptedServer): string[] {
  return attempts.map((attempt) => attempt.split(":")[0]!);
}

Deno.test("secrets that are typed are in no output", async (t) => {
  for (const format of formats) {
    const talkative = ["-v", "--log-format", format];
    await t.step(`right ones, ${format}`, async () => {
      await withFolder(async (folder) => {
        const steps = await everyStep(`${folder}/key`);
        await using server = await startScriptedServer(...steps);
        const dialog: Dialog = [
          [/Passphrase/, `${secret.wrong}\r`],
          [/Passphrase/, `${secret.passphrase}\r`],
          [/PIN: /, `${secret.pin}\r`],
          [/Code: /, `${secret.code}\r`],
          [/password: /, `${secret.wrong}\r`],
          [/password: /, `${secret.password}\r`],
          [/New password/, `${secret.changed}\r`],
          [/again/, `${secret.changed}\r`],
        ];
        const args = [...serverArguments(server), "-i", `${folder}/key`, ...talkative];
        const session = await atTerminal(args, { folder, dialog });
        assert(session.isIn, session.log);
        assert.match(session.log, /connecting → ready/, "it has told everything");
        assertNothingSecret(session.screen, session.log);
        await assertNothingKept(folder);
      });
    });
    await t.step(`wrong ones, ${format}`, async () => {
      await withFolder(async (folder) => {
        await using server = await startScriptedServer({
          method: "password",
          password: secret.password,
        });
        const dialog: Dialog = [1, 2, 3].map(() => [/password: /, `${secret.wrong}\r`]);
        const args = [...serverArguments(server), ...talkative];
        const session = await atTerminal(args, { folder, dialog });
        assert.equal(session.status, 3);
        assertNothingSecret(session.screen, session.log);
      });
    });
  }
});

Deno.test("secrets that are given in advance are in no output", async (t) => {
  await withFolder(async (folder) => {
    await makeKey(`${folder}/key`, "-t", "ed25519", "-N", secret.passphrase);
    const askpass = `${folder}/askpass`;
    await Deno.writeTextFile(askpass, `#!/bin/sh\necho ${secret.password}\n`, { mode: 0o700 });
    const ways: [what: string, args: string[], options: Partial<Parameters<typeof logIn>[1]>][] = [
      ["--password", ["--password", secret.password], {}],
      ["--password-file", ["--password-file", "-"], { stdin: `${secret.password}\n` }],
      ["SSHSHIM_PASSWORD", [], { environment: { SSHSHIM_PASSWORD: secret.password } }],
      [
        "SSH_ASKPASS",
        [],
        { environment: { SSH_ASKPASS: askpass, SSH_ASKPASS_REQUIRE: "force" } },
      ],
    ];
    const steps: [what: string, step: Step][] = [
      ["right", { method: "password", password: secret.password }],
      ["wrong", { method: "password", password: "another" }],
      [
        "right, by a question",
        {
          method: "keyboard-interactive",
          rounds: [{
            prompts: [{ prompt: "Password: ", echo: false }],
            answers: [secret.password],
          }],
        },
      ],
    ];
    for (const [index, [what, args, options]] of ways.entries()) {
      // How it was given makes no difference to the answers of servers.
      for (const [verdict, step] of index === 0 ? steps : steps.slice(0, 1)) {
        await t.step(`${what}, ${verdict}`, async () => {
          for (const format of formats) {
            await using server = await startScriptedServer(step);
            const result = await logIn(
              [...serverArguments(server), ...args, "-v", "--log-format", format],
              { folder, ...options },
            );
            assert.equal(result.isIn, verdict !== "wrong", result.log);
            assert(methodsTried(server).some((method) => /password|answers/.test(method)));
            assertNothingSecret(result.stdout, result.log);
          }
          await assertNothingKept(folder);
        });
      }
    }
  });
});

Deno.test("--print-config has no secret, and connects to nobody", async (t) => {
  await withFolder(async (folder) => {
    await using server = await startScriptedServer({
      method: "password",
      password: secret.password,
    });
    const given: [what: string, args: string[], environment: Record<string, string>][] = [
      ["--password", ["--password", secret.password], {}],
      ["SSHSHIM_PASSWORD", [], { SSHSHIM_PASSWORD: secret.password }],
    ];
    for (const [what, args, environment] of given) {
      await t.step(what, async () => {
        const result = await logIn(
          [...serverArguments(server), "--print-config", "-v", ...args],
          { folder, environment },
        );
        assert.equal(result.status, 0, result.log);
        assert.match(result.stdout, /^hostname 127\.0\.0\.1\nport \d+$/m);
        assertNothingSecret(result.stdout, result.log);
      });
    }
    assert.equal(server.connectionCount, 0);
  });
});

Deno.test("a private key that cannot be used is named and not shown", async () => {
  await withFolder(async (folder) => {
    await using server = await startScriptedServer({
      method: "publickey",
      key: await makeKey(`${folder}/key`, "-t", "ed25519"),
    });
    const lines = (await Deno.readTextFile(`${folder}/key`)).trim().split("\n");
    await Deno.writeTextFile(`${folder}/damaged`, lines.toSpliced(2, 1).join("\n"), {
      mode: 0o600,
    });
    for (const format of formats) {
      const args = [...serverArguments(server), "-v", "--log-format", format];
      for (const option of ["-i", "--ed25519-key"]) {
        const { status, log } = await logIn([...args, option, `${folder}/damaged`], { folder });
        assert.equal(status, 3, log);
        assert(log.includes(`${folder}/damaged`), log);
        for (const line of lines.slice(1, -1)) assert(!log.includes(line), log);
      }
      const { isIn, log, stdout } = await logIn([...args, "-i", `${folder}/key`], { folder });
      assert(isIn, log);
      for (const line of lines.slice(2, -1)) assert(!(log + stdout).includes(line), log);
    }
  });
});
