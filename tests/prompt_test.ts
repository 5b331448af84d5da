/** Questions to a person: at the terminal, by SSH_ASKPASS, or not at all. */

import assert from "node:assert/strict";
import { canHaveAccounts, startAccountSshd } from "./support/account_sshd.ts";
import { clientEnvironment } from "./support/both.ts";
import { logIn, serverArguments, startServing } from "./support/login.ts";
import { atTerminal, type Dialog, key, type Session } from "./support/person.ts";
import { type CommandResult, run, runChecked, text } from "./support/run.ts";
import { startScriptedServer, type Step } from "./support/scripted_server.ts";
import { makeKey, withFolder } from "./support/signing.ts";
import { startSshd } from "./support/sshd.ts";

const password: Step = { method: "password", password: "right" };

/** Asserts that the shim was in, and that nothing is left behind at the terminal. */
function assertIn(session: Session): void {
  assert(session.isIn, session.screen + session.log);
  assert.equal(session.status, 0, session.log);
  assert(session.isRestored, session.screen);
}

/** Asserts that the login ended with exit status 3 and these words. */
function assertRefused(session: Session, message: RegExp): void {
  assert(!session.isIn, session.screen);
  assert.equal(session.status, 3, session.log);
  assert.match(session.log, message);
  assert(session.isRestored, session.screen);
}

Deno.test("the passphrase of a key is typed at the terminal, unseen", async (t) => {
  await using sshd = await startSshd();
  const { folder, keyFile } = sshd;
  await runChecked(["ssh-keygen", "-q", "-p", "-f", keyFile, "-P", "", "-N", "open sesame"]);
  const args = [...serverArguments(sshd), "-i", keyFile];
  const prompt = /Passphrase for the key \S+user_ed25519: /;
  await t.step("a wrong one, and then the right one", async () => {
    const dialog: Dialog = [[prompt, "wrong one\r"], [prompt, "open sesame\r"]];
    const session = await atTerminal(args, { folder, dialog });
    assertIn(session);
    assert.match(session.log, /passphrase for the key \S+user_ed25519 is wrong/);
    assert.doesNotMatch(session.screen + session.log, /open sesame|wrong one/);
  });
  await t.step("three wrong ones are the end of it", async () => {
    const dialog: Dialog = [[prompt, "1\r"], [prompt, "2\r"], [prompt, "3\r"]];
    assertRefused(
      await atTerminal(args, { folder, dialog }),
      /Tried: \S+user_ed25519; the server accepts: publickey/,
    );
  });
  await t.step("an empty one leaves the key aside, and the next one is tried", async () => {
    const dialog: Dialog = [[prompt, "\r"]];
    assertIn(await atTerminal([...args, "-i", sshd.rsaKeyFile], { folder, dialog }));
  });
  await t.step("what is erased is not part of it", async () => {
    const typed = `no${key.kill}open sesamö${key.erase}e\r`;
    assertIn(await atTerminal(args, { folder, dialog: [[prompt, typed]] }));
  });
  await t.step("nothing is asked for a key that the server does not want", async () => {
    const stranger = `${folder}/stranger`;
    await makeKey(stranger, "-t", "ed25519", "-N", "secret");
    const session = await atTerminal([...serverArguments(sshd), "-i", stranger], {
      folder,
      dialog: [],
    });
    assertRefused(session, /Tried: \S+stranger; /);
    assert.equal(session.screen, "");
  });
});

Deno.test("each password that is typed is one attempt, and the third wrong one the last", async (t) => {
  await withFolder(async (folder) => {
    const prompt = /jane@127\.0\.0\.1's password: /;
    await t.step("wrong, then right", async () => {
      await using server = await startScriptedServer(password);
      const dialog: Dialog = [[prompt, "wrong\r"], [prompt, "right\r"]];
      const session = await atTerminal(serverArguments(server), { folder, dialog });
      assertIn(session);
      assert.deepEqual(server.attempts, ["none", "password:wrong", "password:right"]);
      assert.doesNotMatch(session.screen + session.log, /wrong|right/);
    });
    await t.step("three wrong ones", async () => {
      await using server = await startScriptedServer(password);
      const dialog: Dialog = [[prompt, "1\r"], [prompt, "2\r"], [prompt, "3\r"]];
      assertRefused(
        await atTerminal(serverArguments(server), { folder, dialog }),
        /jane@127\.0\.0\.1:\d+ refused authentication\. Tried: password; the server accepts: password\./,
      );
      assert.deepEqual(server.attempts, ["none", "password:1", "password:2", "password:3"]);
      assert.equal(server.connectionCount, 1);
    });
    await t.step("NumberOfPasswordPrompts", async () => {
      await using server = await startScriptedServer(password);
      const args = [...serverArguments(server), "-o", "NumberOfPasswordPrompts=1"];
      const session = await atTerminal(args, { folder, dialog: [[prompt, "1\r"]] });
      assertRefused(session, /Tried: password; the server accepts: password/);
      assert.deepEqual(server.attempts, ["none", "password:1"]);
    });
    await t.step("a password beyond ASCII", async () => {
      await using server = await startScriptedServer({
        method: "password",
        password: "pässwörd €",
      });
      const dialog: Dialog = [[prompt, "pässwörd €\r"]];
      assertIn(await atTerminal(serverArguments(server), { folder, dialog }));
    });
    await t.step("Ctrl-D means that there is none", async () => {
      await using server = await startScriptedServer(password);
      const session = await atTerminal(serverArguments(server), {
        folder,
        dialog: [[prompt, key.end]],
      });
      assertRefused(session, /Nothing to try; the server accepts: password/);
      assert.deepEqual(server.attempts, ["none"]);
    });
  });
});

Deno.test("questions come in rounds, with what the server says about them", async (t) => {
  await withFolder(async (folder) => {
    const questions: Step = {
      method: "keyboard-interactive",
      rounds: [
        {
          name: "Two factors",
          instruction: "Answer both.",
          prompts: [{ prompt: "Token ID: ", echo: true }, { prompt: "PIN: ", echo: false }],
          answers: ["token 7", "1234"],
        },
        { instruction: "A push was sent.", prompts: [], answers: [] },
        { prompts: [{ prompt: "Code: ", echo: false }], answers: ["987 654"] },
      ],
    };
    await t.step("with several prompts, none, and one", async () => {
      await using server = await startScriptedServer(questions, password);
      const dialog: Dialog = [
        [
          /\(jane@127\.0\.0\.1\) Two factors\r?\n\(jane@127\.0\.0\.1\) Answer both\.\r?\n\(jane@127\.0\.0\.1\) Token ID: /,
          "token 7\r",
        ],
        [/\(jane@127\.0\.0\.1\) PIN: /, "1234\r"],
        [/\(jane@127\.0\.0\.1\) Code: /, "987 654\r"],
        [/jane@127\.0\.0\.1's password: /, "right\r"],
      ];
      const session = await atTerminal(serverArguments(server), { folder, dialog });
      assertIn(session);
      assert.deepEqual(server.attempts.slice(1), [
        ...["answers:token 7,1234", "answers:", "answers:987 654", "password:right"],
      ]);
      assert.match(session.screen, /token 7/, "what may be seen is echoed");
      assert.match(session.screen + session.log, /A push was sent\./);
      assert.doesNotMatch(session.screen + session.log, /1234|987 654|right/);
    });
    await t.step("and all of them again after a wrong answer", async () => {
      await using server = await startScriptedServer(questions);
      const dialog: Dialog = [
        ...[[/Token ID: /, "token 7\r"], [/PIN: /, "1234\r"], [/Code: /, "0\r"]] as Dialog,
        ...[[/Token ID: /, "token 7\r"], [/PIN: /, "1234\r"], [/Code: /, "987 654\r"]] as Dialog,
      ];
      assertIn(await atTerminal(serverArguments(server), { folder, dialog }));
    });
    await t.step("but a question cannot drive the terminal", async () => {
      await using server = await startScriptedServer({
        method: "keyboard-interactive",
        rounds: [{
          name: "\x1b[2J",
          instruction: "a\x9b1mb\r\x07",
          prompts: [{ prompt: "\x1b]0;title\x07Code: ", echo: false }],
          answers: ["1"],
        }],
      });
      const session = await atTerminal(serverArguments(server), {
        folder,
        dialog: [[/Code: /, "1\r"]],
      });
      assertIn(session);
      // deno-lint-ignore no-control-regex
      assert.doesNotMatch(session.screen, /[\x07\x1b\x9b]/);
      assert.match(session.screen, /\\x1b\[2J/);
    });
  });
});

Deno.test("no line of a server's question can pass for a question of sshshim", async () => {
  await withFolder(async (folder) => {
    const ours = "Passphrase for the key /home/jane/.ssh/id_ed25519: ";
    const columns = 80;
    await using server = await startScriptedServer({
      method: "keyboard-interactive",
      rounds: [
        {
          name: `Welcome\n${ours}`,
          instruction: `Enter it.\r${ours}`,
          prompts: [{ prompt: `\n\n${ours}`, echo: false }],
          answers: ["1"],
        },
        {
          // The terminal would wrap them.
          name: `Welcome${" ".repeat(columns)}${ours}`,
          instruction: `${"\u3000".repeat(columns)} ${ours}`,
          prompts: [{ prompt: `Password:${".".repeat(columns)}${ours}`, echo: false }],
          answers: ["2"],
        },
      ],
    });
    const dialog: Dialog = [[/(id_ed25519:[^]*){3}/, "1\r"], [/(id_ed25519:[^]*){3}/, "2\r"]];
    const session = await atTerminal(serverArguments(server), { folder, dialog });
    assertIn(session);
    const questions = session.screen.slice(0, session.screen.search(/^sshshim/m));
    const lines = questions.split(/[\r\n]+/).filter((line) => line !== "");
    assert.equal(lines.filter((line) => line.includes("id_ed25519")).length, 6);
    for (const line of lines) {
      assert.match(line, /^\(jane@127\.0\.0\.1\) /);
      const width = Array.from(line.trimEnd(), (it) => it === "\u3000" ? 2 : 1)
        .reduce((sum, own) => sum + own, 0);
      assert(width <= columns, line);
    }
  });
});

Deno.test("a password that has to be changed is changed", async (t) => {
  await withFolder(async (folder) => {
    const change = { prompt: "Your password has expired.", password: "new" };
    const step: Step = { method: "password", password: "old", change };
    await t.step("after the new one was typed twice alike", async () => {
      await using server = await startScriptedServer(step);
      const dialog: Dialog = [
        [/jane@127\.0\.0\.1's password: /, "old\r"],
        [/Your password has expired\.\s+New password for jane@127\.0\.0\.1: /, "new\r"],
        [/again: /, "mew\r"],
        [/New password for /, "new\r"],
        [/again: /, "new\r"],
      ];
      const session = await atTerminal(serverArguments(server), { folder, dialog });
      assertIn(session);
      assert.deepEqual(server.attempts, ["none", "password:old", "change:new"]);
      assert.doesNotMatch(session.screen + session.log, /old|mew|\bnew\b/);
    });
    await t.step("but not by a person who declines", async () => {
      await using server = await startScriptedServer(step);
      const dialog: Dialog = [[/password: /, "old\r"], [/New password/, key.end]];
      const session = await atTerminal(serverArguments(server), { folder, dialog });
      assertRefused(session, /Tried: password; /);
      assert.deepEqual(server.attempts, ["none", "password:old"]);
    });
  });
});

Deno.test("an account's own password and its change are asked for by OpenSSH's server", async () => {
  if (!await canHaveAccounts()) {
    console.warn("Not as root on Linux: only the test's own server has asked.");
    return;
  }
  await using sshd = await startAccountSshd({
    password: "old-Secret-7",
    isExpired: true,
    config: [
      "UsePAM yes",
      "KbdInteractiveAuthentication yes",
      "AuthenticationMethods keyboard-interactive",
    ],
  });
  const { folder, username } = sshd;
  const session = await atTerminal(serverArguments(sshd), {
    folder,
    dialog: [
      [new RegExp(`\\(${username}@127\\.0\\.0\\.1\\) Password: `), "old-Secret-7\r"],
      [/[Cc]urrent password: /, "old-Secret-7\r"],
      [/[Nn]ew password: /, "Quite-another-8\r"],
      [/[Rr]etype new password: /, "Quite-another-8\r"],
    ],
  });
  assertIn(session);
  assert.doesNotMatch(session.screen + session.log, /old-Secret-7|Quite-another-8/);
  await using _shim = await startServing(serverArguments(sshd), {
    folder,
    environment: { SSHSHIM_PASSWORD: "Quite-another-8" },
  });
});

Deno.test("Ctrl-C at a question ends the shim, and the terminal is as it was", async (t) => {
  await using sshd = await startSshd();
  const { folder, keyFile } = sshd;
  await runChecked(["ssh-keygen", "-q", "-p", "-f", keyFile, "-P", "", "-N", "secret"]);
  await using server = await startScriptedServer(password);
  await using asking = await startScriptedServer({
    method: "keyboard-interactive",
    rounds: [{ prompts: [{ prompt: "Code: ", echo: false }], answers: ["1"] }],
  });
  const unknown = ["--known-hosts", `${folder}/nothing`];
  const questions: [what: string, args: string[], shown: RegExp][] = [
    ["a passphrase", [...serverArguments(sshd), "-i", keyFile], /Passphrase/],
    ["a password", serverArguments(server), /password: /],
    ["a code", serverArguments(asking), /Code: /],
    ["a host key", [`jane@127.0.0.1:${server.port}`, ...unknown], /yes, no/],
  ];
  for (const [what, args, shown] of questions) {
    await t.step(what, async () => {
      const session = await atTerminal(args, { folder, dialog: [[shown, `abc${key.interrupt}`]] });
      assert(!session.isIn);
      assert.equal(session.status, 0, session.log);
      assert.match(session.log, /stopped by SIGINT/);
      assert(session.isRestored, session.screen);
    });
  }
  assert.deepEqual(server.attempts, ["none"], "the host key's question came before");
});

Deno.test("a server that leaves while a person is asked takes the question along", async (t) => {
  await withFolder(async (folder) => {
    await using server = await startScriptedServer(password);
    const leave = () => Promise.resolve(server.dropConnections());
    const unknown = [`jane@127.0.0.1:${server.port}`, "--known-hosts", `${folder}/nothing`];
    const questions: [what: string, args: string[], shown: RegExp][] = [
      ["for a password", serverArguments(server), /password: /],
      ["about its host key", unknown, /yes, no.*: /],
    ];
    for (const [what, args, shown] of questions) {
      await t.step(what, async () => {
        const session = await atTerminal(args, { folder, dialog: [[shown, leave]] });
        assert.equal(session.status, 5, session.log);
        assert.match(session.log, /127\.0\.0\.1:\d+ closed the connection/);
        assert(session.isRestored, session.screen);
      });
    }
  });
});

Deno.test("when a connection is lost, a client has the person asked again, once at a time", async () => {
  await withFolder(async (folder) => {
    await using server = await startScriptedServer({
      method: "keyboard-interactive",
      rounds: [{ prompts: [{ prompt: "Code: ", echo: false }], answers: ["123456"] }],
    });
    let client: Promise<CommandResult> | undefined;
    const session = await atTerminal(serverArguments(server), {
      folder,
      dialog: [
        [/Code: /, "123456\r"],
        [/Ctrl-C ends it/, (screen) => {
          server.dropConnections();
          const [, port] = / is at 127\.0\.0\.1:(\d+)/.exec(screen)!;
          const options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
            .flatMap((option) => ["-o", option]);
          const words = ["-F", "none", ...options, "-p", port!, "127.0.0.1", "a word"];
          client = run(["ssh", ...words], { environment: clientEnvironment(folder) });
          return Promise.resolve();
        }],
        // The attempt that asks is lost, too, while half of the code is typed.
        [/Code: /, "123"],
        [/^/, () => Promise.resolve(server.dropConnections())],
        // What was typed already, and may be for this question now, is erased.
        [/Code: /, `${key.kill}123456\r`],
        [/\n/, async () => void await client],
      ],
    });
    assert(session.isIn, session.log);
    const { stdout, stderr } = await client!;
    assert.equal(text(stdout), "a word", text(stderr) + session.log);
    const answers = server.attempts.filter((it) => it.startsWith("answers:"));
    assert.deepEqual(answers, ["answers:123456", "answers:123456"]);
    assert(session.isRestored, session.screen);
  });
});

Deno.test("SSH_ASKPASS is used where ssh would use it", async (t) => {
  await using sshd = await startSshd();
  const { folder, keyFile } = sshd;
  await runChecked(["ssh-keygen", "-q", "-p", "-f", keyFile, "-P", "", "-N", "secret"]);
  const program = `${folder}/askpass`;
  await Deno.writeTextFile(
    program,
    `#!/bin/sh\necho "$1" >> ${folder}/asked\necho secret\necho more\n`,
    { mode: 0o700 },
  );
  const declining = "#!/bin/sh\necho secret\nexit 1\n";
  await Deno.writeTextFile(`${folder}/declines`, declining, { mode: 0o700 });
  const asked = async () => {
    const text = await Deno.readTextFile(`${folder}/asked`).catch(() => "");
    await Deno.writeTextFile(`${folder}/asked`, "");
    return text;
  };
  const args = [...serverArguments(sshd), "-i", keyFile];
  const SSH_ASKPASS = program;
  const question = `Passphrase for the key ${keyFile}: \n`;
  await t.step("by force, at a terminal", async () => {
    const environment = { SSH_ASKPASS, SSH_ASKPASS_REQUIRE: "force" };
    const session = await atTerminal(args, { folder, environment, dialog: [] });
    assertIn(session);
    assert.doesNotMatch(session.screen, /Passphrase/);
    assert.equal(await asked(), question);
  });
  await t.step("without a terminal, where there is a display", async () => {
    const environment = { SSH_ASKPASS, DISPLAY: ":7" };
    assert((await logIn(args, { folder, environment })).isIn);
    assert.equal(await asked(), question);
  });
  await t.step("but with a terminal only if it is preferred", async () => {
    const environment = { SSH_ASKPASS, DISPLAY: ":7" };
    const dialog: Dialog = [[/Passphrase for the key/, "secret\r"]];
    assertIn(await atTerminal(args, { folder, environment, dialog }));
    assert.equal(await asked(), "");
    const preferring = { ...environment, SSH_ASKPASS_REQUIRE: "prefer" };
    assertIn(await atTerminal(args, { folder, environment: preferring, dialog: [] }));
    assert.equal(await asked(), question);
  });
  const refusals: [what: string, environment: Record<string, string>, message: RegExp][] = [
    ["never", { SSH_ASKPASS, DISPLAY: ":7", SSH_ASKPASS_REQUIRE: "never" }, /no terminal to ask/],
    ["no display", { SSH_ASKPASS }, /no terminal to ask/],
    [
      "a program that is not there",
      { SSH_ASKPASS: `${folder}/nothing`, SSH_ASKPASS_REQUIRE: "force" },
      /SSH_ASKPASS cannot be run: \S+nothing: .*Check the path/,
    ],
    [
      "a program that declines",
      { SSH_ASKPASS: `${folder}/declines`, SSH_ASKPASS_REQUIRE: "force" },
      /Tried: \S+user_ed25519; the server accepts: publickey/,
    ],
  ];
  for (const [what, environment, message] of refusals) {
    await t.step(what, async () => {
      const { isIn, status, log } = await logIn(args, { folder, environment });
      assert(!isIn);
      assert.equal(status, 3, log);
      assert.match(log, message);
      assert.equal(await asked(), "");
    });
  }
});

Deno.test("with nobody to ask, the error names the ways out", async (t) => {
  await using sshd = await startSshd();
  const { folder, keyFile, rsaKeyFile } = sshd;
  await runChecked(["ssh-keygen", "-q", "-p", "-f", keyFile, "-P", "", "-N", "secret"]);
  await using server = await startScriptedServer(password);
  const cases: [what: string, args: string[], question: RegExp][] = [
    ["a passphrase", [...serverArguments(sshd), "-i", keyFile], /"Passphrase for the key \S+"/],
    ["a password", serverArguments(server), /"jane@127\.0\.0\.1's password:"/],
  ];
  for (const [what, args, question] of cases) {
    await t.step(what, async () => {
      const { isIn, status, log } = await logIn(args, { folder });
      assert(!isIn);
      assert.equal(status, 3, log);
      assert.match(log, question);
      for (const way of ["without a passphrase", "agent", "SSH_ASKPASS", "--password-file"]) {
        assert(log.includes(way), log);
      }
    });
  }
  await t.step("but what needs nobody is tried all the same", async () => {
    const args = [...serverArguments(sshd), "-i", keyFile, "-i", rsaKeyFile];
    const { isIn, log } = await logIn(args, { folder });
    assert(isIn, log);
  });
  await t.step("and with BatchMode nobody is asked at a terminal either", async () => {
    const args = [...serverArguments(server), "-o", "BatchMode=yes"];
    const session = await atTerminal(args, { folder, dialog: [] });
    assertRefused(session, /jane@127\.0\.0\.1/);
    assert.equal(session.screen, "");
  });
});

Deno.test("a password can be given in advance", async (t) => {
  await withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/file`, "right\r\nsecond line\n");
    await Deno.writeTextFile(`${folder}/bare`, "right");
    const ways: [what: string, args: string[], options: { stdin?: string; password?: string }][] = [
      ["--password-file FILE", ["--password-file", `${folder}/file`], {}],
      ["a file without a line end", ["--password-file", `${folder}/bare`], {}],
      ["--password-file -", ["--password-file", "-"], { stdin: "right\n" }],
      ["SSHSHIM_PASSWORD", [], { password: "right" }],
      ["--password", ["--password", "right"], {}],
    ];
    for (const [what, args, { stdin, password: fromEnvironment }] of ways) {
      await t.step(what, async () => {
        await using server = await startScriptedServer(password);
        const { isIn, log } = await logIn([...serverArguments(server), ...args], {
          folder,
          stdin,
          environment: fromEnvironment === undefined ? {} : { SSHSHIM_PASSWORD: fromEnvironment },
        });
        assert(isIn, log);
        assert.deepEqual(server.attempts, ["none", "password:right"]);
        assert.equal(/process list/.test(log), what === "--password", log);
      });
    }
    await t.step("and a wrong one is sent once", async () => {
      const methods = [password, {
        method: "keyboard-interactive",
        rounds: [{ prompts: [{ prompt: "Password: ", echo: false }], answers: ["right"] }],
      }] satisfies Step[];
      await using server = await startScriptedServer(methods);
      const args = [...serverArguments(server), "--password-file", "-"];
      const { status, log } = await logIn(args, { folder, stdin: "wrong\n" });
      assert.equal(status, 3, log);
      assert.match(
        log,
        /refused authentication\. Tried: password; .*accepts: password, keyboard-interactive/,
      );
      assert.deepEqual(server.attempts.filter((it) => it.endsWith("wrong")), ["password:wrong"]);
    });
    await t.step("and it is no answer to a question for a code", async () => {
      await using server = await startScriptedServer({
        method: "keyboard-interactive",
        rounds: [{
          prompts: [{ prompt: "One-time password (OATH) for `jane': ", echo: false }],
          answers: ["123456"],
        }],
      });
      const { status, log } = await logIn(serverArguments(server), {
        folder,
        environment: { SSHSHIM_PASSWORD: "right" },
      });
      assert.equal(status, 3, log);
      assert.match(log, /no terminal to ask "\(jane@127\.0\.0\.1\) One-time password/);
      assert(!server.attempts.includes("answers:right"));
    });
    await t.step("and an empty one is an error", async () => {
      await using server = await startScriptedServer(password);
      const args = [...serverArguments(server), "--password-file", "-"];
      const { status, log } = await logIn(args, { folder, stdin: "\nright\n" });
      assert.equal(status, 3, log);
      assert.match(log, /password file - has no password in its first line/);
      assert.equal(server.connectionCount, 0);
    });
    await t.step("and a file that cannot be read is named", async () => {
      await using server = await startScriptedServer(password);
      const args = [...serverArguments(server), "--password-file", `${folder}/missing`];
      const { status, log } = await logIn(args, { folder });
      assert.equal(status, 3);
      assert.match(log, /password file \S+\/missing cannot be read: .*Check the path/);
      assert.equal(server.connectionCount, 0);
    });
  });
});
