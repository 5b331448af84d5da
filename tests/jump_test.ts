/** The way to a host that is not reached directly: jump hosts and ProxyCommand. */

import assert from "node:assert/strict";
import { sha256 } from "./support/files.ts";
import { logIn, type LoginResult, startServing } from "./support/login.ts";
import { atTerminal } from "./support/person.ts";
import { freePort } from "./support/ports.ts";
import { isRunning, killDescendantsOf, waitForFile, waitUntil } from "./support/processes.ts";
import { pythonProgram } from "./support/python.ts";
import { runChecked, text } from "./support/run.ts";
import { startScriptedServer } from "./support/scripted_server.ts";
import { logins, section } from "./support/several.ts";
import { withFolder } from "./support/signing.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";

function assertFailed(result: LoginResult, status: number, message: RegExp): void {
  assert(!result.isIn, result.log);
  assert.equal(result.status, status, result.log);
  assert.match(result.log, message);
}

/** Servers `first`, `second` and `last`, each with keys of its own, and a configuration file. */
interface Chain extends AsyncDisposable {
  readonly first: Sshd;
  readonly second: Sshd;
  readonly last: Sshd;
  readonly folder: string;
  /** Writes the configuration and returns its arguments; further lines are for the server. */
  configure(lines?: { first?: string[]; second?: string[]; last?: string[] }): Promise<string[]>;
}

async function startChain(secondConfig: string[] = []): Promise<Chain> {
  await using resources = new AsyncDisposableStack();
  const first = resources.use(await startSshd());
  const second = resources.use(await startSshd({ config: secondConfig }));
  const last = resources.use(await startSshd());
  const { folder } = last;
  const owned = resources.move();
  return {
    ...{ first, second, last, folder },
    async configure(lines = {}) {
      const file = `${folder}/config`;
      await Deno.writeTextFile(
        file,
        section("first", first, ...lines.first ?? []) +
          section("second", second, ...lines.second ?? []) +
          section("last", last, ...lines.last ?? []),
      );
      return ["-F", file, "last"];
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

Deno.test("a chain of jump hosts leads to the host, each with its own key and host key", async (t) => {
  await using chain = await startChain();
  const { first, second, last, folder } = chain;
  const ways: [what: string, args: string[]][] = [
    ["-J first,second", [...await chain.configure(), "-J", "first,second"]],
    ["-o ProxyJump", [...await chain.configure(), "-o", "ProxyJump=first,second"]],
  ];
  for (const [what, args] of ways) {
    await t.step(what, async () => {
      const before = [first, second, last].map(logins);
      const { isIn, log, ran } = await logIn(args, { folder, command: "echo there" });
      assert(isIn, log);
      assert.equal(text(ran!.stdout), "there\n");
      assert.deepEqual([first, second, last].map(logins), before.map((count) => count + 1));
      assert.match(log, new RegExp(`through .*:${first.port}\\n[^]*through .*:${second.port}\\n`));
    });
  }
  const configured: [what: string, lines: Parameters<Chain["configure"]>[0]][] = [
    ["ProxyJump of the host", { last: ["ProxyJump first,second"] }],
    ["ProxyJump of each on the way", { last: ["ProxyJump second"], second: ["ProxyJump first"] }],
    [
      "a ProxyJump with a user, an address and a port",
      { last: [`ProxyJump first,ssh://${second.username}@second:${second.port}`] },
    ],
  ];
  for (const [what, lines] of configured) {
    await t.step(what, async () => {
      const before = [first, second, last].map(logins);
      const { isIn, log } = await logIn(await chain.configure(lines), { folder });
      assert(isIn, log);
      assert.deepEqual([first, second, last].map(logins), before.map((count) => count + 1));
    });
  }
  await t.step("-J none goes straight", async () => {
    const before = [first, second, last].map(logins);
    const args = await chain.configure({ last: ["ProxyJump first"] });
    assert((await logIn([...args, "-J", "none"], { folder })).isIn);
    assert.deepEqual([first, second, last].map(logins), [before[0], before[1], before[2]! + 1]);
  });
  await t.step("the first jump host's own ProxyCommand is used", async () => {
    const command = `${pythonProgram} ${await relayProgram(folder)} %h %p ${folder}/first-relay`;
    const args = await chain.configure({
      first: [`ProxyCommand ${command}`],
      last: ["ProxyJump first"],
    });
    const { isIn, log } = await logIn(args, { folder });
    assert(isIn, log);
    assert.equal(await waitForFile(`${folder}/first-relay`), `127.0.0.1 ${first.port}`);
  });
});

Deno.test("bulk data crosses the chain whole, and a chain that breaks is built again", async () => {
  await using chain = await startChain();
  const { first, second, last, folder } = chain;
  const args = await chain.configure({ last: ["ProxyJump first,second"] });
  await using shim = await startServing([...args, "--reconnect-max-delay", "1"], { folder });
  const data = new Uint8Array(20_000_000).map((_, index) => index * 7919 >> 8);
  const echo = await shim.target.ssh("cat", { stdin: data, digestStdout: true });
  assert.equal(text(echo.stdout), `${sha256(data)} ${data.length}`);
  for (const [index, hop] of [first, second].entries()) {
    const position = shim.log.text.length;
    await killDescendantsOf(hop.pid);
    await shim.log.waitFor(/connection lost: /, { from: position });
    const result = await shim.target.ssh("echo again");
    assert.equal(text(result.stdout), "again\n", text(result.stderr));
    assert.deepEqual([first, second, last].map(logins), [index + 2, index + 2, index + 2]);
  }
});

Deno.test("each hop's host key is checked before anything is sent there", async (t) => {
  await using chain = await startChain();
  const { first, second, last, folder } = chain;
  const nothing = `UserKnownHostsFile ${folder}/nothing`;
  for (const [what, hop] of [["first", first], ["second", second]] as const) {
    await t.step(`the ${what} one unknown`, async () => {
      const before = [first, second, last].map(logins);
      const position = hop.log.text.length;
      // The first value of a keyword counts, and this one stands before it.
      const args = await chain.configure({ last: ["ProxyJump first,second"] });
      const file = `${folder}/config`;
      const config = await Deno.readTextFile(file);
      await Deno.writeTextFile(file, `Host ${what}\n${nothing}\n\n${config}`);
      const result = await logIn(args, { folder });
      assertFailed(result, 4, /Host key of "127\.0\.0\.1" is unknown.* StrictHostKeyChecking/);
      assert.doesNotMatch(result.log, / --/);
      await hop.log.waitFor(/ port \d+ \[preauth\]/, { from: position });
      assert.doesNotMatch(hop.log.text.slice(position), /authenticating|Accepted|Failed/);
      const after = [first, second, last].map(logins);
      assert.deepEqual(after, [before[0]! + (what === "second" ? 1 : 0), before[1], before[2]]);
    });
  }
  await t.step("the second one changed", async () => {
    const other = first.hostKeys[0];
    await Deno.writeTextFile(`${folder}/changed`, `[127.0.0.1]:${second.port} ${other}\n`);
    const args = await chain.configure({ last: ["ProxyJump first,second"] });
    const file = `${folder}/config`;
    const config = await Deno.readTextFile(file);
    await Deno.writeTextFile(
      file,
      `Host second\nUserKnownHostsFile ${folder}/changed\n\n${config}`,
    );
    assertFailed(await logIn(args, { folder }), 4, /changed: \S+changed line 1 has/);
    assert.equal(logins(second), 0);
  });
});

Deno.test("a jump host asks for its own credentials, and gets nobody else's", async (t) => {
  await using chain = await startChain();
  const { first, folder } = chain;
  await t.step("a passphrase", async () => {
    await runChecked(["ssh-keygen", "-q", "-p", "-f", first.keyFile, "-P", "", "-N", "secret"]);
    const args = await chain.configure({ last: ["ProxyJump first"] });
    const session = await atTerminal(args, {
      folder,
      dialog: [[new RegExp(`Passphrase for the key ${first.keyFile}: `), "secret\r"]],
    });
    assert(session.isIn, session.log);
  });
  await t.step("a password", async () => {
    await using hop = await startScriptedServer({ method: "password", password: "hop's" });
    await Deno.writeTextFile(
      `${folder}/config`,
      `Host 127.0.0.1\nUserKnownHostsFile ${hop.knownHostsFile}\n`,
    );
    const args = ["-F", `${folder}/config`, "last", "-J", `jane@127.0.0.1:${hop.port}`];
    const result = await logIn([...args, "--password-file", "-"], { folder, stdin: "last's\n" });
    assertFailed(result, 3, /no terminal to ask "jane@127\.0\.0\.1's password:"/);
    assert.deepEqual(hop.attempts, ["none"]);
  });
});

Deno.test("advice about a jump host names no option that is for the last host alone", async () => {
  await withFolder(async (folder) => {
    await using hop = await startScriptedServer({ method: "publickey", key: new Uint8Array() });
    const config = `Host 127.0.0.1\nUserKnownHostsFile ${hop.knownHostsFile}\n`;
    await Deno.writeTextFile(`${folder}/config`, config);
    const args = ["-F", `${folder}/config`, "last", "-J", `jane@127.0.0.1:${hop.port}`];
    const result = await logIn(args, { folder });
    assertFailed(result, 3, /refused authentication.* IdentityFile in ssh's configuration/);
    assert.doesNotMatch(result.log, / -i| --/);
  });
});

Deno.test("a hop that leads nowhere is named", async (t) => {
  await t.step("it refuses to forward", async () => {
    await using chain = await startChain(["AllowTcpForwarding no"]);
    const { second, folder } = chain;
    const args = await chain.configure({ last: ["ProxyJump second"] });
    assertFailed(
      await logIn(args, { folder }),
      5,
      new RegExp(
        `The jump host \\S+:${second.port} does not allow a connection to 127\\.0\\.0\\.1:\\d+ ` +
          `\\(.*\\)\\. Its administrator decides about that: AllowTcpForwarding`,
      ),
    );
  });
  await t.step("nobody listens where it leads", async () => {
    await using sshd = await startSshd();
    const { folder } = sshd;
    const port = freePort();
    await Deno.writeTextFile(`${folder}/config`, section("hop", sshd));
    const args = ["-F", `${folder}/config`, `127.0.0.1:${port}`, "-J", "hop"];
    assertFailed(
      await logIn(args, { folder }),
      5,
      new RegExp(
        `jump host \\S+:${sshd.port} cannot connect to 127\\.0\\.0\\.1:${port}: .*refused`,
      ),
    );
  });
  await t.step("it is not there itself", async () => {
    await withFolder(async (folder) => {
      const port = freePort();
      const result = await logIn(["nowhere", "-J", `127.0.0.1:${port}`], { folder });
      assertFailed(result, 5, new RegExp(`Cannot connect to 127\\.0\\.0\\.1:${port}: .*refused`));
    });
  });
  await t.step("the hops go in a circle", async () => {
    await withFolder(async (folder) => {
      await Deno.writeTextFile(
        `${folder}/config`,
        "Host a\nProxyJump b\nHost b\nProxyJump a\n",
      );
      const result = await logIn(["-F", `${folder}/config`, "a"], { folder });
      assertFailed(result, 2, /ProxyJump of \w+ goes in circles/);
    });
  });
});

/** A program that connects its standard input and output to a port, and notes its arguments. */
async function relayProgram(folder: string): Promise<string> {
  const file = `${folder}/relay.py`;
  await Deno.writeTextFile(
    file,
    `
import os, socket, sys, threading
host, port, notes, *rest = sys.argv[1:]
with open(notes, "a") as file:
    file.write(" ".join([host, port, *rest]) + "\\n")
server = socket.create_connection((host, int(port)))
def pour(read, write, end):
    while data := read(65536):
        write(data)
    end()
threading.Thread(target=pour, daemon=True, args=(
    lambda size: os.read(0, size), server.sendall, lambda: server.shutdown(socket.SHUT_WR),
)).start()
pour(server.recv, lambda data: os.write(1, data), lambda: None)
`,
  );
  return file;
}

Deno.test("a ProxyCommand carries the connection, with its tokens expanded", async (t) => {
  await using sshd = await startSshd();
  const { folder, port, username } = sshd;
  const program = `${pythonProgram} ${await relayProgram(folder)}`;
  const notes = `${folder}/notes`;
  await Deno.writeTextFile(
    `${folder}/config`,
    section("last", sshd, `ProxyCommand ${program} %h %p ${notes} user=%r typed=%n percent=%%`),
  );
  const args = ["-F", `${folder}/config`, "last"];
  await t.step("from the configuration", async () => {
    const { isIn, log, ran } = await logIn(args, { folder, command: "echo there" });
    assert(isIn, log);
    assert.equal(text(ran!.stdout), "there\n");
    assert.equal(
      await Deno.readTextFile(notes),
      `127.0.0.1 ${port} user=${username} typed=last percent=%\n`,
    );
  });
  await t.step("by -o, and again after it was lost; it ends with the shim", async () => {
    await Deno.remove(notes);
    const command = `ProxyCommand=${program} %h %p ${notes} pid=$$`;
    let pids: number[];
    {
      await using shim = await startServing(
        [...args, "-o", command, "--reconnect-max-delay", "1"],
        { folder },
      );
      const [, pid] = /pid=(\d+)$/.exec(await waitForFile(notes))!;
      Deno.kill(Number(pid), "SIGKILL");
      await shim.log.waitFor(/connection lost: .*ProxyCommand was ended by SIGKILL/);
      assert.equal(text((await shim.target.ssh("echo again")).stdout), "again\n");
      pids = [...(await Deno.readTextFile(notes)).matchAll(/pid=(\d+)/g)].map(([, it]) =>
        Number(it)
      );
      assert.equal(pids.length, 2);
      assert(await isRunning(pids[1]!));
    }
    await waitUntil("the command has ended", async () => !await isRunning(pids[1]!));
  });
  await t.step("one that fails, with its own words", async () => {
    const command = "ProxyCommand=sh -c 'echo the gate is shut >&2; exit 7'";
    const result = await logIn([...args, "-o", command], { folder });
    assertFailed(
      result,
      5,
      /the gate is shut\n[^]*ProxyCommand has ended with exit status 7\. Run/,
    );
    assert.doesNotMatch(result.log, /busy/);
  });
  await t.step("one that has closed its output before it fails", async () => {
    const command = "ProxyCommand=sh -c 'exec >&- <&-; sleep 0.3; exit 7'";
    const result = await logIn([...args, "-o", command], { folder });
    assertFailed(result, 5, /ProxyCommand has ended with exit status 7\. Run/);
  });
  await t.step("one that ends well, without a word", async () => {
    const result = await logIn([...args, "-o", "ProxyCommand=true"], { folder });
    assertFailed(result, 5, /ProxyCommand has ended with exit status 0\. Run/);
  });
  await t.step("with an empty SHELL, which means the usual one", async () => {
    assert((await logIn(args, { folder, environment: { SHELL: "" } })).isIn);
  });
  await t.step("none, which wins over the configuration's", async () => {
    await Deno.remove(notes);
    assert((await logIn([...args, "-o", "ProxyCommand=none"], { folder })).isIn);
    await assert.rejects(Deno.stat(notes), Deno.errors.NotFound);
  });
});

Deno.test("the password of the environment is in that of no command", async () => {
  await using sshd = await startSshd();
  const { folder } = sshd;
  const program = `${pythonProgram} ${await relayProgram(folder)}`;
  const own = `${folder}/environment`;
  await Deno.writeTextFile(
    `${folder}/config`,
    `Match exec "env >> ${own}"\n` +
      section(
        "last",
        sshd,
        `ProxyCommand sh -c 'env >> ${own}; exec ${program} %h %p ${folder}/notes'`,
      ),
  );
  const environment = { SSHSHIM_PASSWORD: "Zq-password-2", ANOTHER: "is inherited" };
  const { isIn, log } = await logIn(["-F", `${folder}/config`, "last"], { folder, environment });
  assert(isIn, log);
  const seen = await Deno.readTextFile(own);
  assert.equal(seen.match(/ANOTHER=is inherited/g)?.length, 2);
  assert.doesNotMatch(seen, /Zq-password-2/);
});

Deno.test("no host and no user can bring a command of their own", async (t) => {
  await withFolder(async (folder) => {
    const touched = `${folder}/touched`;
    const command = ["-o", `ProxyCommand=touch ${touched}; exit 1; %h %r`];
    const names = ["a;b", "a`b`", "{a,b}"];
    const typed: [what: string, args: string[]][] = [
      ...names.map((name): [string, string[]] => [`host ${name}`, ["--host", name]]),
      ...["$(b)", "a\\b", "a\nb"].map((name): [string, string[]] => [
        `host ${JSON.stringify(name)}`,
        ["--host", name],
      ]),
      ["host -b", ["--host=-b"]],
      ...names.map((name): [string, string[]] => [
        `user ${name}`,
        ["host", "--username", name],
      ]),
      ["user -b", ["host", "--username=-b"]],
      ["user a -b", ["host", "--username", "a -b"]],
    ];
    for (const [what, args] of typed) {
      await t.step(what, async () => {
        const result = await logIn([...args, ...command], { folder });
        assertFailed(result, 2, /characters|user name|neither a name|cannot start/);
        await assert.rejects(Deno.stat(touched), Deno.errors.NotFound);
      });
    }
    const configured: [what: string, lines: string[]][] = [
      ["HostName", ["HostName $(touch)"]],
      ["HostKeyAlias", ["HostKeyAlias a;b", "ProxyCommand touch FILE; %k"]],
      ["a user", ["User a;touch"]],
      ["a user with a token", ["User %n;touch"]],
    ];
    for (const [what, lines] of configured) {
      await t.step(`${what} of the configuration`, async () => {
        await Deno.writeTextFile(`${folder}/config`, `Host prod\n${lines.join("\n")}\n`);
        const args = ["-F", `${folder}/config`, "prod", ...command];
        assertFailed(await logIn(args, { folder }), 2, /characters/);
        await assert.rejects(Deno.stat(touched), Deno.errors.NotFound);
      });
    }
    await t.step("jump hosts", async () => {
      for (const jump of ["a;b", "$(b)", "-oProxyCommand=b", "a b", "us`er`@host"]) {
        const result = await logIn(["prod", "-J", jump], { folder });
        assert(!result.isIn);
        assert.equal(result.status, 2, `${jump}: ${result.log}`);
      }
    });
  });
});
