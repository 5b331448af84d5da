/** Keys, certificates, agents, questions and passwords, alone and in chains, as servers want them. */

import assert from "node:assert/strict";
import { fingerprint } from "../lib/public_key.ts";
import { buildMessage } from "../lib/ssh_data.ts";
import { canHaveAccounts, startAccountSshd } from "./support/account_sshd.ts";
import { clientEnvironment } from "./support/both.ts";
import { logIn, loginEnvironment, type LoginOptions, serverArguments } from "./support/login.ts";
import { run, runChecked, RunningProcess, text } from "./support/run.ts";
import { startScriptedServer, type Step } from "./support/scripted_server.ts";
import {
  certify,
  makeKey,
  publicText,
  readBlob,
  securityKey,
  startAgent,
  withFolder,
} from "./support/signing.ts";
import { startSshd } from "./support/sshd.ts";

/** Asserts that the shim logs in with these arguments, and that a command runs through it. */
async function assertIn(args: string[], options: LoginOptions): Promise<string> {
  const { isIn, status, log, ran } = await logIn(args, { ...options, command: "echo through" });
  assert(isIn, `${args.join(" ")}\n${log}`);
  assert.equal(status, 0, log);
  assert.match(text(ran!.stdout), /through/, text(ran!.stderr));
  return log;
}

/** Asserts that the login ends with exit status 3 and these words. */
async function assertRefused(
  args: string[],
  { message, ...options }: LoginOptions & { message: RegExp },
): Promise<string> {
  const { isIn, status, log } = await logIn(args, options);
  assert(!isIn, `${args.join(" ")}: it is in`);
  assert.equal(status, 3, log);
  assert.match(log, message);
  return log;
}

Deno.test("a server that wants two keys gets two, and is told when it gets one", async () => {
  await using sshd = await startSshd({ config: ["AuthenticationMethods publickey,publickey"] });
  const { folder, keyFile, rsaKeyFile } = sshd;
  const server = serverArguments(sshd);
  await assertIn([...server, "-i", keyFile, "-i", rsaKeyFile], { folder });
  await assertRefused([...server, "-i", keyFile], {
    folder,
    message: /Tried: \S+user_ed25519; .* accepted that but still wants: publickey/,
  });
  await assertRefused([...server, "--ed25519-key", keyFile], {
    folder,
    message: /still wants: publickey/,
  });
});

Deno.test("keys and certificates are offered in ssh's order", async (t) => {
  await withFolder(async (folder) => {
    const file = (name: string) => `${folder}/${name}`;
    await makeKey(file("ca"), "-t", "ed25519");
    for (const name of ["a", "b", "c", "d", "gone"]) await makeKey(file(name), "-t", "ed25519");
    for (const name of ["b", "c", "d"]) await certify(file("ca"), file(name));
    await Deno.rename(file("d-cert.pub"), file("other-cert.pub"));
    await using agent = await startAgent(folder);
    for (const name of ["a", "b", "gone"]) await agent.add("-q", file(name));
    await Deno.remove(file("gone"));
    // No key is the right one, so that all of them are offered.
    const key = new Uint8Array([0, 0, 0, 0]);
    const cases = [
      [],
      ["-i", file("b"), "-i", file("c")],
      ["-i", file("c"), "-i", file("b")],
      ["-i", file("c"), "-o", "IdentitiesOnly=yes"],
      ["-i", file("b"), "-o", "IdentitiesOnly=yes"],
      ["-i", file("b.pub"), "-i", file("c"), "-o", "IdentitiesOnly=yes"],
      ["-o", `CertificateFile=${file("b-cert.pub")}`],
      ["-i", file("c"), "-i", file("d"), "-o", `CertificateFile=${file("other-cert.pub")}`],
      ["-i", file("c"), "-o", "IdentityAgent=none"],
      ["-i", file("gone"), "-i", file("c"), "-o", "IdentitiesOnly=yes"],
      ["-o", `IdentityFile=${file("gone")}`, "-i", file("c"), "-o", "IdentitiesOnly=yes"],
    ];
    const names = new Map<string, string>();
    for (const name of ["a", "b", "c", "d", "gone", "b-cert", "c-cert"]) {
      names.set(fingerprint(await readBlob(file(`${name}.pub`))), name);
    }
    names.set(fingerprint(await readBlob(file("other-cert.pub"))), "other-cert");
    for (const args of cases) {
      await t.step(args.join(" ").replaceAll(`${folder}/`, "") || "the agent alone", async () => {
        await using server = await startScriptedServer({ method: "publickey", key });
        const offers = async (attempt: Promise<unknown>) => {
          await attempt;
          return server.attempts.splice(0).filter((it) => it.startsWith("offered:"))
            .map((it) => names.get(it.slice("offered:".length)));
        };
        const environment = { SSH_AUTH_SOCK: agent.path };
        const options = ["BatchMode=yes", `UserKnownHostsFile=${server.knownHostsFile}`];
        const direct = await offers(
          run([
            ...["ssh", "-F", "none", ...options.flatMap((option) => ["-o", option]), ...args],
            ...["-p", String(server.port), "jane@127.0.0.1"],
          ], { environment: { ...clientEnvironment(folder), ...environment } }),
        );
        const through = await offers(
          assertRefused([...serverArguments(server), ...args], {
            folder,
            environment,
            message: /the server accepts: publickey/,
          }),
        );
        assert(direct.length > 0);
        assert.deepEqual(through, direct);
      });
    }
  });
});

Deno.test("certificates of an authority log in, from files and from the agent", async (t) => {
  await withFolder(async (folder) => {
    const file = (name: string) => `${folder}/${name}`;
    await makeKey(file("ca"), "-t", "ed25519");
    await using sshd = await startSshd({
      config: [`TrustedUserCAKeys ${file("ca.pub")}`, "AuthorizedKeysFile none"],
    });
    const server = serverArguments(sshd);
    const principal = ["-n", sshd.username];
    for (const type of ["ed25519", "rsa"]) {
      await makeKey(file(type), "-t", type);
      await certify(file("ca"), file(type), ...principal);
    }
    await t.step("the plain keys do not log in", async () => {
      for (const type of ["ed25519", "rsa"]) {
        await Deno.copyFile(file(type), file(`plain_${type}`));
        await assertRefused([...server, "-i", file(`plain_${type}`)], {
          folder,
          message: /refused authentication.*accepts: publickey/,
        });
      }
    });
    for (const type of ["ed25519", "rsa"]) {
      await t.step(`an ${type} certificate beside its key`, async () => {
        await assertIn([...server, "-i", file(type)], { folder });
        await assertIn([...server, `--${type}-key`, file(type)], { folder });
        assert.match(sshd.log.text, /Accepted certificate ID "an id" .* signed by ED25519 CA/);
      });
      await t.step(`an ${type} certificate by -o CertificateFile`, async () => {
        await Deno.copyFile(file(`${type}-cert.pub`), file("elsewhere.pub"));
        const option = ["-o", `CertificateFile=${file("elsewhere.pub")}`];
        await assertIn([...server, "-i", file(`plain_${type}`), ...option], { folder });
      });
      await t.step(`an ${type} certificate in the agent`, async () => {
        await using agent = await startAgent(folder);
        await agent.add("-q", file(type));
        await assertIn(server, { folder, environment: { SSH_AUTH_SOCK: agent.path } });
        const named = ["-o", `IdentityAgent=${agent.path}`];
        await assertIn([...server, ...named], { folder });
      });
      await t.step(`an ${type} certificate in a file, and its key in the agent`, async () => {
        await using agent = await startAgent(folder);
        await agent.add("-q", file(`plain_${type}`));
        const certificate = ["-o", `CertificateFile=${file(`${type}-cert.pub`)}`];
        await assertIn([...server, ...certificate], {
          folder,
          environment: { SSH_AUTH_SOCK: agent.path },
        });
      });
    }
    await t.step(
      "a certificate that has expired, or is for another account, does not",
      async () => {
        for (
          const [name, ...args] of [
            ["expired", ...principal, "-V", "20200101:20210101"],
            ["other", "-n", "somebody"],
          ]
        ) {
          await Deno.copyFile(file("ed25519"), file(name!));
          await Deno.copyFile(file("ed25519.pub"), file(`${name}.pub`));
          await certify(file("ca"), file(name!), ...args);
          await assertRefused([...server, "-i", file(name!)], {
            folder,
            message: new RegExp(`Tried: \\S+${name}, \\S+${name}-cert\\.pub; the server accepts`),
          });
        }
      },
    );
  });
});

Deno.test("five keys in the agent are too many for MaxAuthTries 2, and the right one is not", async (t) => {
  await using sshd = await startSshd({ config: ["MaxAuthTries 2"] });
  const { folder, keyFile } = sshd;
  const server = serverArguments(sshd);
  await using agent = await startAgent(folder);
  for (let index = 0; index < 5; index++) {
    await makeKey(`${folder}/stranger${index}`, "-t", "ed25519");
    await agent.add("-q", `${folder}/stranger${index}`);
  }
  const environment = { SSH_AUTH_SOCK: agent.path };
  await t.step("all of them", async () => {
    const log = await assertRefused([...server, "-i", keyFile], {
      folder,
      environment,
      message: /ended authentication: .*[Tt]oo many authentication failures.*IdentitiesOnly=yes/,
    });
    assert.equal(log.match(/ended authentication/g)?.length, 1);
  });
  await t.step("IdentitiesOnly and a file", async () => {
    await assertIn([...server, "-i", keyFile, "-o", "IdentitiesOnly=yes"], { folder, environment });
  });
  await t.step("an exclusive flag", async () => {
    await assertIn([...server, "--ed25519-key", keyFile], { folder, environment });
  });
  await t.step("a key of the agent that a file names comes first", async () => {
    await agent.add("-q", keyFile);
    await assertIn([...server, "-i", `${keyFile}.pub`], { folder, environment });
    assert.equal(connectionsWith(sshd.log.text, "Failed publickey"), 1, "the first step alone");
  });
});

Deno.test("a security key's certificate is offered to OpenSSH's server, which takes it", async () => {
  await withFolder(async (folder) => {
    const file = `${folder}/key`;
    await makeKey(`${folder}/ca`, "-t", "ed25519");
    await using sshd = await startSshd({ config: [`TrustedUserCAKeys ${folder}/ca.pub`] });
    await Deno.writeTextFile(`${file}.pub`, `${publicText(securityKey().publicKey)}\n`);
    await certify(`${folder}/ca`, file, "-n", sshd.username);
    const option = ["-o", `CertificateFile=${file}-cert.pub`];
    // Its private key is nowhere, so that it goes no further than the offer.
    await assertRefused([...serverArguments(sshd), ...option], {
      folder,
      message: /private key for the certificate \S+key-cert\.pub is neither in a file nor an agent/,
    });
    assert.match(sshd.log.text, /Accepted certificate ID "an id" .* signed by ED25519 CA/);
  });
});

/** How many connections of sshd's log have a line with this text. */
function connectionsWith(log: string, text: string): number {
  const ports = log.split("\n").filter((line) => line.includes(text))
    .map((line) => /port (\d+)/.exec(line)?.[1]);
  return new Set(ports).size;
}

Deno.test("a real agent's key logs in, and an agent that refuses to sign is told of", async (t) => {
  await using sshd = await startSshd();
  const { folder, keyFile, rsaKeyFile } = sshd;
  const server = serverArguments(sshd);
  await t.step("keys of each type", async () => {
    for (const file of [keyFile, rsaKeyFile]) {
      await using agent = await startAgent(folder);
      await agent.add("-q", file);
      await assertIn(server, { folder, environment: { SSH_AUTH_SOCK: agent.path } });
    }
  });
  await t.step("an agent that is not there", async () => {
    await assertRefused(server, {
      folder,
      environment: { SSH_AUTH_SOCK: `${folder}/nobody` },
      message: /Nothing to try; the server accepts: publickey/,
    });
  });
  await t.step(
    "a key that is to be confirmed, and nobody does: the next key is tried",
    async () => {
      const socket = `${folder}/confirming.agent`;
      await using agent = new RunningProcess(["ssh-agent", "-D", "-a", socket], {
        environment: loginEnvironment(folder, {
          SSH_ASKPASS: "/bin/false",
          SSH_ASKPASS_REQUIRE: "force",
        }),
      });
      await agent.stdout.waitFor(/SSH_AUTH_SOCK=/);
      const environment = loginEnvironment(folder, { SSH_AUTH_SOCK: socket });
      await runChecked(["ssh-add", "-q", "-c", keyFile], { environment });
      const log = await assertIn([...server, "-i", rsaKeyFile], { folder, environment });
      assert.match(log, /agent .*refuse/);
    },
  );
  await t.step("an exclusive flag leaves the agent alone", async () => {
    await makeKey(`${folder}/stranger`, "-t", "rsa");
    await using agent = await startAgent(folder);
    await agent.add("-q", keyFile);
    await assertRefused([...server, "--rsa-key", `${folder}/stranger`], {
      folder,
      environment: { SSH_AUTH_SOCK: agent.path },
      message: /Tried: \S+stranger; the server accepts: publickey/,
    });
  });
});

Deno.test("keys, questions and passwords follow each other as the server wants", async (t) => {
  await withFolder(async (folder) => {
    const keyFile = `${folder}/key`;
    const key: Step = { method: "publickey", key: await makeKey(keyFile, "-t", "ed25519") };
    const password: Step = { method: "password", password: "right" };
    const question: Step = {
      method: "keyboard-interactive",
      rounds: [{ prompts: [{ prompt: "Password: ", echo: false }], answers: ["right"] }],
    };
    await Deno.writeTextFile(`${folder}/password`, "right\n");
    const file = ["--password-file", `${folder}/password`];
    const environment = { SSHSHIM_PASSWORD: "right" };
    const chains: [what: string, steps: Step[], args: string[], attempts: RegExp][] = [
      [
        "publickey,password",
        [key, password],
        ["-i", keyFile, ...file],
        /offered.*signed.*password:right$/,
      ],
      ["publickey,questions", [key, question], ["-i", keyFile, ...file], /signed.*answers:right$/],
      ["password,publickey", [password, key], [...file, "-i", keyFile], /password:right,.*signed/],
      [
        "publickey,password",
        [key, password],
        ["--ed25519-key", keyFile],
        /signed.*password:right$/,
      ],
      ["publickey,questions", [key, question], ["-i", keyFile], /signed.*answers:right$/],
    ];
    for (const [what, steps, args, attempts] of chains) {
      const source = args.includes("--password-file") ? "a file" : "the environment";
      await t.step(`${what}, with the password from ${source} and ${args[0]}`, async () => {
        await using server = await startScriptedServer(...steps);
        await assertIn([...serverArguments(server), ...args], {
          folder,
          environment: source === "a file" ? {} : environment,
        });
        assert.match(server.attempts.join(), attempts);
      });
    }
    await t.step("a key was right, and the password is wrong", async () => {
      await using server = await startScriptedServer(key, password);
      await assertRefused([...serverArguments(server), "-i", keyFile], {
        folder,
        environment: { SSHSHIM_PASSWORD: "wrong" },
        message: /Tried: \S+key, password; the server accepts: password/,
      });
      assert.equal(server.attempts.filter((it) => it.startsWith("password:")).length, 1);
    });
    await t.step("a server that begins with a password, when a key is named alone", async () => {
      await using server = await startScriptedServer(password);
      await assertRefused([...serverArguments(server), "--ed25519-key", keyFile], {
        folder,
        message: /Nothing to try; the server accepts: password/,
      });
      assert.deepEqual(server.attempts, ["none"]);
    });
  });
});

Deno.test("a server that asks nothing and refuses is tried as often as ssh tries it", async (t) => {
  await withFolder(async (folder) => {
    const nothing: Step = {
      method: "keyboard-interactive",
      // Its answers are never right: the client has none to give.
      rounds: [{ instruction: "Look at your telephone.", prompts: [], answers: ["yes"] }],
    };
    for (const args of [[], ["-o", "NumberOfPasswordPrompts=1"]]) {
      await t.step(args.join(" ") || "by default", async () => {
        await using server = await startScriptedServer(nothing);
        const attemptsAfter = async (attempt: Promise<unknown>) => {
          await attempt;
          return server.attempts.splice(0);
        };
        const known = ["-o", `UserKnownHostsFile=${server.knownHostsFile}`];
        const direct = await attemptsAfter(
          run([
            ...["ssh", "-F", "none", ...known, ...args],
            ...["-p", `${server.port}`, `${server.username}@${server.host}`],
          ], { environment: clientEnvironment(folder) }),
        );
        assert.equal(direct.length, args.length === 0 ? 4 : 2, direct.join());
        const through = await attemptsAfter(
          assertRefused([...serverArguments(server), ...args], {
            folder,
            message: /Tried: keyboard-interactive; the server accepts: keyboard-interactive/,
          }),
        );
        assert.deepEqual(through, direct);
      });
    }
  });
});

Deno.test("a server that asks nothing and wants more of the same is tried no longer than by ssh", async () => {
  await withFolder(async (folder) => {
    const nothing: Step = {
      method: "keyboard-interactive",
      rounds: [{ prompts: [], answers: [] }],
    };
    await using server = await startScriptedServer(...Array(10).fill(nothing));
    const known = ["-o", `UserKnownHostsFile=${server.knownHostsFile}`];
    const login = ["-p", `${server.port}`, `${server.username}@${server.host}`];
    await run(["ssh", "-F", "none", ...known, ...login], {
      environment: clientEnvironment(folder),
    });
    const direct = server.attempts.splice(0);
    await assertRefused(serverArguments(server), {
      folder,
      message: /accepted that but still wants: keyboard-interactive/,
    });
    assert.deepEqual(server.attempts, direct);
    assert.equal(direct.length, 4, direct.join());
  });
});

Deno.test("OpenSSH's server gets a key and then the password of an account", async (t) => {
  if (!await canHaveAccounts()) {
    console.warn("Not as root on Linux: only the test's own server has asked for passwords.");
    return;
  }
  for (
    const [what, ...config] of [
      ["password", "UsePAM no", "PasswordAuthentication yes"],
      ["keyboard-interactive", "UsePAM yes", "KbdInteractiveAuthentication yes"],
    ]
  ) {
    await t.step(`publickey,${what}`, async () => {
      await using sshd = await startAccountSshd({
        password: "right",
        config: [`AuthenticationMethods publickey,${what}`, ...config],
      });
      const { folder, keyFile } = sshd;
      const args = [...serverArguments(sshd), "-i", keyFile];
      await assertIn(args, { folder, environment: { SSHSHIM_PASSWORD: "right" } });
      await assertRefused(args, {
        folder,
        environment: { SSHSHIM_PASSWORD: "wrong" },
        message: new RegExp(`Tried: \\S+, ${what}; the server accepts: ${what}`),
      });
      assert.match(sshd.log.text, new RegExp(`Accepted ${what}`));
    });
  }
});

Deno.test("the configuration decides which methods are tried", async (t) => {
  await withFolder(async (folder) => {
    const keyFile = `${folder}/key`;
    await makeKey(keyFile, "-t", "ed25519");
    const everything: Step[] = [
      { method: "publickey", key: new Uint8Array([0, 0, 0, 0]) },
      { method: "password", password: "right" },
      {
        method: "keyboard-interactive",
        rounds: [{ prompts: [{ prompt: "Password: ", echo: false }], answers: ["right"] }],
      },
    ];
    const cases: [options: string[], attempts: string[]][] = [
      [[], ["none", "offered", "answers"]],
      [["PreferredAuthentications=password,publickey"], ["none", "password"]],
      [["PreferredAuthentications=gssapi-with-mic,password"], ["none", "password"]],
      [["PubkeyAuthentication=no"], ["none", "answers"]],
      [["KbdInteractiveAuthentication=no"], ["none", "offered", "password"]],
      [["PubkeyAuthentication=no", "KbdInteractiveAuthentication=no"], ["none", "password"]],
    ];
    for (const [options, attempts] of cases) {
      await t.step(options.join(" ") || "nothing", async () => {
        await using server = await startScriptedServer(everything);
        const args = options.flatMap((option) => ["-o", option]);
        await assertIn([...serverArguments(server), "-i", keyFile, ...args], {
          folder,
          environment: { SSHSHIM_PASSWORD: "right" },
        });
        assert.deepEqual(server.attempts.map((it) => it.split(":")[0]), attempts);
      });
    }
  });
});

Deno.test("an RSA key signs as the configuration allows, or not at all", async (t) => {
  await using sshd = await startSshd({ config: ["PubkeyAcceptedAlgorithms rsa-sha2-256"] });
  const { folder, rsaKeyFile } = sshd;
  const server = serverArguments(sshd);
  await t.step("with the one algorithm that the server takes", async () => {
    const option = ["-o", "PubkeyAcceptedAlgorithms=rsa-sha2-256"];
    await assertIn([...server, "--rsa-key", rsaKeyFile, ...option], { folder });
  });
  await t.step("a configuration that leaves no algorithm for the key", async () => {
    const option = ["-o", "PubkeyAcceptedAlgorithms=-rsa-*"];
    await assertRefused([...server, "-i", rsaKeyFile, ...option], {
      folder,
      message: /user_rsa \(no signature algorithm/,
    });
  });
  await t.step("a configuration that wants longer keys", async () => {
    const option = ["-o", "RequiredRSASize=3072"];
    const known = ["-o", "HostKeyAlgorithms=ssh-ed25519"];
    await assertRefused([...server, "-i", rsaKeyFile, ...option, ...known], {
      folder,
      message: /user_rsa has 2048 bits, and RequiredRSASize is 3072[^]*Nothing to try/,
    });
  });
});

Deno.test("PubkeyAcceptedAlgorithms allows what ssh would sign with, in its order", async (t) => {
  await withFolder(async (folder) => {
    const keyFile = `${folder}/key`;
    await makeKey(keyFile, "-t", "rsa");
    await using sshd = await startSshd({
      config: ["PubkeyAcceptedAlgorithms +ssh-rsa", "LogLevel DEBUG1"],
    });
    const { username, host, port, knownHostsFile, log } = sshd;
    const known = ["-o", `UserKnownHostsFile=${knownHostsFile}`, "-o", "BatchMode=yes"];
    const ssh = ["ssh", "-F", "none", ...known, "-p", `${port}`, `${username}@${host}`];
    const offersOf = async (attempt: Promise<unknown>) => {
      const from = log.text.length;
      await attempt;
      await log.waitFor(/Connection (closed|reset) by .* \[preauth\]/, { from });
      return [...log.text.slice(from).matchAll(/ pkalg (\S+)/g)].map(([, name]) => name);
    };
    const cases: [list: string, offered: string[]][] = [
      ["^ssh-rsa", ["ssh-rsa"]],
      ["^rsa-sha2-256,ssh-rsa", ["rsa-sha2-256"]],
      ["+ssh-rsa", ["rsa-sha2-512"]],
      ["-rsa-sha2-512", ["rsa-sha2-256"]],
      ["ssh-rsa,rsa-*", ["ssh-rsa"]],
      ["ssh-ed25519", []],
    ];
    for (const [list, offered] of cases) {
      await t.step(list, async () => {
        const option = ["-i", keyFile, "-o", `PubkeyAcceptedAlgorithms=${list}`];
        const environment = clientEnvironment(folder);
        assert.deepEqual(await offersOf(run([...ssh, ...option], { environment })), offered);
        const attempt = assertRefused([...serverArguments(sshd), ...option], {
          folder,
          message: /refused authentication/,
        });
        assert.deepEqual(await offersOf(attempt), offered);
      });
    }
  });
});

Deno.test("a server that breaks the protocol during authentication is lost, and not a bug", async (t) => {
  await withFolder(async (folder) => {
    const cases: [what: string, message: Uint8Array][] = [
      ["a refusal that is cut short", Uint8Array.of(51, 0, 0, 0, 9, 112)],
      ["a refusal without its end", buildMessage(51, "password")],
      ["questions that are fewer than their number", buildMessage(60, "", "", "", 0xffff_ffff)],
    ];
    for (const [what, message] of cases) {
      await t.step(what, async () => {
        await using server = await startScriptedServer({ method: "raw", message });
        const { isIn, status, log } = await logIn(serverArguments(server), { folder });
        assert(!isIn);
        assert.equal(status, 5, log);
        assert.match(log, /jane@127\.0\.0\.1:\d+ broke the protocol during authentication: /);
      });
    }
  });
});
