/** How the program starts, or does not: its exit status, its words, and what it leaves alone. */

import assert from "node:assert/strict";
import { startPasswordServer } from "./support/password_server.ts";
import { freePort } from "./support/ports.ts";
import {
  assertFailures,
  assertListens,
  escaped,
  type Failure,
  fingerprintOf,
  makeFolder,
  passwordArguments,
  replaced,
  runProgram,
  startAtTerminal,
  startProgram,
} from "./support/program.ts";
import { type CommandResult, run, runChecked, text } from "./support/run.ts";
import { startService } from "./support/services.ts";
import { upstreamArguments } from "./support/shim.ts";
import { makeKey, startSshd } from "./support/sshd.ts";

Deno.test("a command line that cannot be understood ends with exit status 2", async (t) => {
  await using folder = await makeFolder();
  const failures: Failure[] = [
    { what: "no host", arguments: ["--password", "secret"], message: /host is missing/ },
    {
      what: "two credentials",
      arguments: ["127.0.0.1", "--password", "secret", "--rsa-key", "secret.key"],
      message: /Only one of --password, --rsa-key can be given/,
    },
    {
      what: "an unknown option",
      arguments: ["127.0.0.1", "--pasword=secret"],
      message: /no option --pasword\. Did you mean --password\?/,
    },
    {
      what: "a port that is none",
      arguments: ["127.0.0.1", "--password", "secret", "--local-port", "secret"],
      message: /--local-port takes a number/,
    },
    {
      what: "two local host keys",
      arguments: [
        ...["127.0.0.1", "--password", "secret"],
        ...["--local-rsa-key", "a", "--local-ed25519-key", "b"],
      ],
      message: /exclude each other/,
    },
  ].map((it) => ({ ...it, status: 2 }));
  await assertFailures(t, folder.path, failures);
});

Deno.test("a credential that does not open the host ends with exit status 3", async (t) => {
  await using folder = await makeFolder();
  await using sshd = await startSshd();
  await using server = await startPasswordServer("right", { methods: ["password"] });
  const file = (name: string) => `${folder.path}/${name}`;
  await makeKey(file("stranger"), "ed25519");
  await Deno.chmod(file("stranger.pub"), 0o600);
  await Deno.copyFile(sshd.keyFile, file("encrypted"));
  await runChecked(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", file("encrypted")]);
  await Deno.writeTextFile(file("garbage"), "secret\n", { mode: 0o600 });
  const withKey = (option: string, key: string) => [
    ...replaced(upstreamArguments(sshd), "--ed25519-key", [option, key]),
    ...["--local-port", "0"],
  ];
  const failures: Failure[] = [
    {
      what: "a key file that does not exist",
      arguments: withKey("--ed25519-key", file("missing")),
      message: /missing\b.*[Nn]o such file|missing\b.*no such file/,
    },
    {
      what: "an encrypted key, and nobody to ask for its passphrase",
      arguments: withKey("--ed25519-key", file("encrypted")),
      message: /no terminal to ask "Passphrase for the key .*encrypted/,
    },
    {
      what: "a public key",
      arguments: withKey("--ed25519-key", file("stranger.pub")),
      message: /stranger\.pub.*public key/,
    },
    {
      what: "a file that is no key",
      arguments: withKey("--ed25519-key", file("garbage")),
      message: /garbage/,
    },
    {
      what: "an Ed25519 key for an RSA one",
      arguments: withKey("--rsa-key", sshd.keyFile),
      message: /user_ed25519.*ed25519/,
    },
    {
      what: "an RSA key for an Ed25519 one",
      arguments: withKey("--ed25519-key", sshd.rsaKeyFile),
      message: /user_rsa.*rsa/,
    },
    {
      what: "a key that the host does not know",
      arguments: withKey("--ed25519-key", file("stranger")),
      message: /refused authentication\. Tried: .*stranger; the server accepts: publickey\./,
    },
    {
      what: "a password where the host takes only keys",
      arguments: [
        ...replaced(upstreamArguments(sshd), "--ed25519-key", ["--password", "secret"]),
        ...["--local-port", "0"],
      ],
      message: /refused authentication\. .*the server accepts: publickey\./,
    },
    {
      what: "a wrong password",
      arguments: passwordArguments(server, "secret"),
      message: /refused authentication\. Tried: password; the server accepts: password\./,
    },
  ].map((it) => ({ ...it, status: 3 }));
  await assertFailures(t, folder.path, failures);
  assert.deepEqual(server.passwords, ["secret"], "Servers count attempts: one is enough.");
});

Deno.test("a password opens the host by whatever method the host has for it", async (t) => {
  await using folder = await makeFolder();
  for (const method of ["password", "keyboard-interactive"] as const) {
    await t.step(method, async () => {
      await using server = await startPasswordServer("right", { methods: [method] });
      await using shim = startProgram(folder.path, passwordArguments(server, "right"));
      await shim.stdout.waitFor(/Ctrl-C ends it/);
      assert.deepEqual(server.attempts, ["none", method]);
      assert.doesNotMatch(shim.stdout.text + shim.stderr.text, /right/);
      shim.kill("SIGTERM");
      assert.equal((await shim.drained()).code, 0);
    });

    await t.step(`${method}, and a wrong password is sent once`, async () => {
      await using server = await startPasswordServer("right", { methods: [method] });
      const result = await runProgram(folder.path, passwordArguments(server, "secret"));
      assert.equal(result.code, 3);
      assert.deepEqual(server.passwords, ["secret"]);
    });
  }

  await t.step("a host that then wants a second factor is told from a refusal", async () => {
    await using server = await startPasswordServer("right", {
      methods: ["password"],
      thenWants: ["publickey"],
    });
    const result = await runProgram(folder.path, passwordArguments(server, "right"));
    assert.equal(result.code, 3);
    assert.match(
      text(result.stderr),
      /Tried: password; the server accepted that but still wants: publickey\./,
    );
  });
});

Deno.test("a host key that is not trusted ends with exit status 4, and nothing is sent", async (t) => {
  await using folder = await makeFolder();
  await using server = await startPasswordServer("right", { methods: ["password"] });
  const [name, type, key] = (await Deno.readTextFile(server.knownHostsFile)).trim().split(" ");
  const offered = await fingerprintOf(server.knownHostsFile);
  await makeKey(`${folder.path}/other`, "ed25519");
  const otherKey = (await Deno.readTextFile(`${folder.path}/other.pub`)).trim();
  const other = await fingerprintOf(`${folder.path}/other.pub`);
  const knownHosts = async (file: string, content: string) => {
    const path = `${folder.path}/${file}`;
    await Deno.writeTextFile(path, content);
    return replaced(passwordArguments(server, "right"), "--known-hosts", ["--known-hosts", path]);
  };
  const empty = await knownHosts("empty", "");
  const changed = await knownHosts("changed", `# a comment\n${name} ${otherKey}\n`);
  const failures: Failure[] = [
    {
      what: "an unknown key, without a terminal to ask at",
      arguments: empty,
      message: new RegExp(`Host key of "127.0.0.1" is unknown: ssh-ed25519 ${escaped(offered)}`),
    },
    {
      what: "a changed key",
      arguments: changed,
      message: new RegExp(
        `Host key of "127.0.0.1" changed: ${escaped(`${folder.path}/changed`)} line 2 has ` +
          `ssh-ed25519 ${escaped(other)}, the host offers ssh-ed25519 ${escaped(offered)}`,
      ),
    },
    {
      what: "a changed key, also with --accept-new",
      arguments: [...changed, "--accept-new"],
      message: /changed: /,
    },
    {
      what: "a revoked key",
      arguments: await knownHosts("revoked", `@revoked * ${type} ${key}\n${name} ${type} ${key}\n`),
      message: new RegExp(`revoked: ${escaped(`${folder.path}/revoked`)} line 1 has`),
    },
  ].map((it) => ({ ...it, status: 4 }));
  await assertFailures(t, folder.path, failures);
  assert.deepEqual(server.attempts, []);
  assert.equal(await Deno.readTextFile(`${folder.path}/empty`), "");

  await t.step("a person who says no", async () => {
    await using terminal = startAtTerminal(folder.path, empty);
    await terminal.screen.waitFor(new RegExp(escaped(offered)));
    await terminal.type("no\r");
    assert.equal(await terminal.exit, 4);
    assert.deepEqual(server.attempts, []);
  });

  await t.step("--accept-new adds an unknown key, once and for good", async () => {
    await assertListens(folder.path, [...empty, "--accept-new"]);
    const line = `${name} ${type} ${key}\n`;
    assert.equal(await Deno.readTextFile(`${folder.path}/empty`), line);
    await assertListens(folder.path, empty);
    await assertListens(folder.path, [...empty, "--accept-new"]);
    assert.equal(await Deno.readTextFile(`${folder.path}/empty`), line);
  });

  await t.step("a person who says yes adds it, too", async () => {
    await Deno.writeTextFile(`${folder.path}/empty`, "");
    await using terminal = startAtTerminal(folder.path, empty);
    await terminal.screen.waitFor(new RegExp(escaped(offered)));
    await terminal.type("yes\r");
    await terminal.screen.waitFor(/Ctrl-C ends it/);
    await terminal.type("\x03");
    assert.equal(await terminal.exit, 0);
    assert.equal(await Deno.readTextFile(`${folder.path}/empty`), `${name} ${type} ${key}\n`);
  });
});

Deno.test("a host that cannot be reached ends with exit status 5", async (t) => {
  await using folder = await makeFolder();
  await using sshd = await startSshd({ config: ["Ciphers aes128-cbc"] });
  const encoder = new TextEncoder();
  const speaking = (words: string) =>
    startService(async (connection) => {
      await connection.write(encoder.encode(words));
      // Whoever closes first loses what the other has sent: let the program be the first.
      if (words !== "") await connection.read(new Uint8Array(1000));
    });
  await using web = speaking("HTTP/1.1 400 Bad Request\r\n\r\n".repeat(1000));
  await using silent = speaking("");
  await using halfway = speaking("SSH-2.0-halfway\r\n");
  const at = (port: number, host = "127.0.0.1") => [
    ...["--host", host, "--port", String(port), "--username", "somebody", "--password", "secret"],
    ...["--local-port", "0"],
  ];
  const failures: Failure[] = [
    {
      what: "a port where nobody listens",
      arguments: at(freePort()),
      message: /127\.0\.0\.1:\d+: the connection was refused/,
    },
    {
      what: "a name that has no address",
      arguments: at(22, "no-such-host.invalid"),
      message: /address of no-such-host\.invalid/,
    },
    {
      what: "a host that does not speak SSH",
      arguments: at(web.port),
      message: /does not speak SSH\. Check the port/,
    },
    {
      what: "a host that closes at once",
      arguments: at(silent.port),
      message: /\d closed the connection\. It may be busy/,
    },
    {
      what: "a host that closes halfway",
      arguments: at(halfway.port),
      message: /closed the connection during the key exchange\. It may be busy/,
    },
    {
      what: "a host that has no algorithm in common",
      arguments: [...upstreamArguments(sshd), "--local-port", "0"],
      message: /no matching .*cipher/,
    },
  ].map((it) => ({ ...it, status: 5 }));
  await assertFailures(t, folder.path, failures);
});

Deno.test("an endpoint that cannot be served ends with exit status 6, before anything is sent", async (t) => {
  await using folder = await makeFolder();
  await using server = await startPasswordServer("right", { methods: ["password"] });
  await using taken = startService(async () => {});
  const file = (name: string) => `${folder.path}/${name}`;
  await makeKey(file("ed25519"), "ed25519");
  await makeKey(file("rsa"), "rsa");
  await runChecked(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", file("encrypted")]);
  await Deno.copyFile(file("ed25519"), file("readable"));
  await Deno.chmod(file("readable"), 0o644);
  const start = passwordArguments(server, "right");
  const failures: Failure[] = [
    {
      what: "a local port that is taken",
      arguments: replaced(start, "--local-port", ["--local-port", String(taken.port)]),
      message: new RegExp(
        `127\\.0\\.0\\.1:${taken.port}: deno listens there \\(process ${Deno.pid}\\)`,
      ),
    },
    {
      what: "a local host key that does not exist",
      arguments: [...start, "--local-ed25519-key", file("missing")],
      message: /missing": No such file/,
    },
    {
      what: "an encrypted local host key",
      arguments: [...start, "--local-ed25519-key", file("encrypted")],
      message: /encrypted": .*(encrypted|passphrase)/,
    },
    {
      what: "a local host key of the other type",
      arguments: [...start, "--local-ed25519-key", file("rsa")],
      message: /rsa": it is of type rsa\. Pass it with --local-rsa-key/,
    },
    {
      what: "a local host key that others can read",
      arguments: [...start, "--local-ed25519-key", file("readable")],
      message: /readable": others can read or change it\. Run: chmod 600/,
    },
  ].map((it) => ({ ...it, status: 6 }));
  await assertFailures(t, folder.path, failures);

  await t.step("a key in the state folder that others can read", async () => {
    await assertListens(folder.path, start);
    const key = `${folder.path}/state/sshshim/ssh_host_ed25519_key`;
    assert.equal((await Deno.stat(key)).mode! & 0o777, 0o600);
    await Deno.chmod(key, 0o640);
    const result = await runProgram(folder.path, start);
    assert.equal(result.code, 6);
    assert.match(text(result.stderr), /ssh_host_ed25519_key": others can read or change it/);
  });
  assert.deepEqual(server.connectionCount, 1);
});

Deno.test("what is said depends on -v, -q and --log-format", async (t) => {
  await using folder = await makeFolder();
  await using sshd = await startSshd();
  const refused = ["127.0.0.1", "--port", String(freePort()), "--ed25519-key", sshd.keyFile];
  const lines = (result: CommandResult) => text(result.stderr).trimEnd().split("\n");

  await t.step("an error is one line, and with -v it has its stack", async () => {
    const [normal, verbose, quiet] = await Promise.all(
      [[], ["-v"], ["-q"]].map((words) =>
        runProgram(folder.path, [...refused, "--local-port", "0", ...words])
      ),
    ) as [CommandResult, CommandResult, CommandResult];
    assert.equal(lines(normal).length, 1);
    assert.deepEqual(lines(quiet), lines(normal));
    assert.match(text(verbose.stderr), /\n {2,}at /);
  });

  await t.step("an error in JSON is an object, and with -v it has its stack", async () => {
    const json = [...refused, "--local-port", "0", "--log-format", "json"];
    for (const words of [json, [...json, "-v"]]) {
      const result = await runProgram(folder.path, words);
      const records = lines(result).map((line) => JSON.parse(line));
      const { level, message, status, error } = records.at(-1);
      assert.deepEqual([result.code, level, status], [5, "error", 5]);
      assert.match(message, /the connection was refused/);
      assert.equal(error.stack !== undefined, words !== json);
    }
  });

  await t.step("a wrong command line is told in JSON as well", async () => {
    const result = await runProgram(folder.path, ["--bogus", "--log-format", "json"]);
    const [line, ...others] = lines(result);
    const { level, message, status } = JSON.parse(line!);
    assert.deepEqual([result.code, level, status, others], [2, "error", 2, []]);
    assert.match(message, /^There is no option --bogus\.\nTry /);
  });

  for (const format of ["text", "json"]) {
    await t.step(`a whole life, told as ${format}`, async () => {
      await using shim = startProgram(folder.path, [
        ...upstreamArguments(sshd),
        ...["--local-port", "0", "--log-format", format],
      ]);
      const [port] = await shim.stdout.waitFor(
        format === "json" ? /(?<="localPort":)\d+/ : /(?<=ssh -p )\d+/,
      );
      const client = await run([
        ...["ssh", "-F", "/dev/null", "-p", port, "-o", "BatchMode=yes"],
        ...["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"],
        ...["127.0.0.1", "exit 3"],
      ]);
      assert.equal(client.code, 3);
      shim.kill("SIGINT");
      assert.equal((await shim.drained()).code, 0);
      const { stdout, stderr } = shim;
      if (format === "json") {
        for (const line of [...stdout.lines, ...stderr.lines]) {
          assert.equal(typeof JSON.parse(line), "object");
        }
        assert.equal(stdout.lines.length, 1);
      } else {
        assert.match(stdout.text, /SHA256:\S{43}/);
        for (const example of [/ssh -p/, /sftp -P/, /scp -P/, /-L \d/, /-R \d/, /known_hosts/]) {
          assert.match(stdout.text, example);
        }
      }
      for (const event of [/connected to/, /client 1 connected/, /client 1 left/, /SIGINT/]) {
        assert.match(stderr.text, event);
      }
    });
  }

  await t.step("without keepalives, that they are off", async () => {
    await using shim = startProgram(folder.path, [
      ...upstreamArguments(sshd),
      ...["--local-port", "0", "--keepalive-interval", "0"],
    ]);
    await shim.stderr.waitFor(/no keepalives/);
  });

  await t.step("with -q all that is said is the banner", async () => {
    await using shim = startProgram(folder.path, [
      ...upstreamArguments(sshd),
      ...["--local-port", "0", "-q"],
    ]);
    await shim.stdout.waitFor(/Ctrl-C ends it/);
    shim.kill("SIGHUP");
    assert.equal((await shim.drained()).code, 0);
    assert.equal(shim.stderr.text, "");
  });
});
