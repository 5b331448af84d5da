/** The subcommands that see and steer shims that run: real shims, a real server, real clients. */

import assert from "node:assert/strict";
import { makeTarget } from "./support/both.ts";
import { startFaultyPath } from "./support/faulty.ts";
import { sha256 } from "./support/files.ts";
import { faultsOf } from "./support/json_schema.ts";
import { Terminal } from "./support/pty.ts";
import { runChecked, RunningProcess, text } from "./support/run.ts";
import { exchange, isFree, readExactly, startEcho, tcpAddress } from "./support/services.ts";
import { connectBySocks } from "./support/socks.ts";
import { startSteering, type Steering } from "./support/steering.ts";

const schema = JSON.parse(
  await Deno.readTextFile(new URL("../.github/status.schema.json", import.meta.url)),
);

/** What every shim of these tests is called, unless another one has the name. */
const name = "127.0.0.1";

function ofCode(code: number, stdout = ""): { code: number; stdout: string; stderr: string } {
  return { code, stdout, stderr: "" };
}

/** Asserts a failure that says why. */
async function assertFails(
  ground: Steering,
  words: string[],
  { code, says }: { code: number; says: RegExp },
): Promise<void> {
  const result = await ground.run(words);
  assert.deepEqual([result.code, result.stdout], [code, ""], result.stderr);
  assert.match(result.stderr, says);
}

Deno.test("where nobody runs, list says so and all others fail with 5", async () => {
  await using ground = await startSteering();
  assert.deepEqual(await ground.run(["list"]), ofCode(0, "No shim runs.\n"));
  assert.deepEqual(await ground.run(["list", "--json"]), ofCode(0, "[]\n"));
  assert.deepEqual(await ground.run(["stop", "--all"]), ofCode(0, "No shim runs.\n"));
  for (const words of [["status"], ["stop"], ["wait"], ["reconnect"], ["logs"]]) {
    await assertFails(ground, words, { code: 5, says: /^sshshim: No shim runs\.$/m });
  }
  for (const words of [["status", "prod"], ["kill", "prod", "1"], ["connect", "prod.shim"]]) {
    await assertFails(ground, words, {
      code: 5,
      says: /^sshshim: No shim "prod(\.shim)?" runs\. No shim runs at all\.$/m,
    });
  }
  const late = ["wait", "prod", "--timeout", "1"];
  await assertFails(ground, late, { code: 5, says: /No shim "prod" runs/ });
});

Deno.test("what is not understood is said before anybody is asked", async () => {
  await using ground = await startSteering();
  const cases: [words: string[], says: RegExp][] = [
    [["kill"], /number of a client is missing/],
    [["kill", "prod"], /number of a client is missing/],
    [["kill", "prod", "none"], /number of a client is missing/],
    [["connect"], /name of a shim is missing/],
    [["status", "one", "two"], /Unexpected option or argument/],
    [["stop", "--all", "prod"], /--all and a name exclude each other/],
    [["wait", "--timeout", "soon"], /--timeout takes a time/],
    [["forward", "prod"], /Nothing is asked for/],
    [["forward", "prod", "-L", "8080"], /What follows -L is not understood/],
    [["forward", "-D", "8080"], /name of a shim is missing/],
  ];
  for (const [words, says] of cases) await assertFails(ground, words, { code: 2, says });
});

Deno.test("a status is what the schema says and what was done, to the byte", async () => {
  await using ground = await startSteering();
  const shim = await ground.start();
  await using client = ground.target(shim).startSsh("cat; echo done");
  await client.write("twelve bytes");
  await client.stdout.waitFor(/twelve bytes/);

  const status = await ground.status();
  assert.deepEqual(faultsOf(status, schema), []);
  assert.deepEqual([status.process.pid, status.local.port], [shim.pid, shim.port]);
  assert.equal(status.upstream.state, "ready");
  assert(status.upstream.roundTrip!.milliseconds > 0);
  const [one, ...others] = status.clients;
  assert.deepEqual([others.length, one!.program?.pid], [0, client.pid]);
  const [channel] = one!.channels;
  assert.deepEqual(channel!.runs, { kind: "command", text: "cat; echo done" });
  assert.deepEqual([channel!.toHostBytes, channel!.toClientBytes], [12, 12]);

  const shown = await ground.run(["status", name]);
  assert.equal(shown.code, 0);
  assert.match(shown.stdout, /^ +connected for .*, round trip .* ms$/m);
  assert.match(shown.stdout, new RegExp(`^client ${one!.id}, .*pid ${client.pid}`, "m"));
  assert.match(shown.stdout, /^ +0 cat; echo done +12 B +12 B/m);
  await client.closeStdin();
  assert.equal((await client.drained()).code, 0);
});

Deno.test("several shims are listed, told apart by name, and stopped together", async () => {
  await using ground = await startSteering();
  await using echo = await startSteering();
  const [one, two] = [await ground.start(), await ground.start({ upstream: echo.sshd })];
  const { code, stdout } = await ground.run(["list"]);
  assert.equal(code, 0);
  const rows = stdout.trimEnd().split("\n").map((line) => line.split(/ {2,}/));
  assert.deepEqual(rows[0], ["NAME", "HOST", "ADDRESS", "STATE", "CLIENTS", "UP FOR"]);
  assert.deepEqual(
    rows.slice(1).map(([name, host, address, state]) => [name, host, address, state]),
    [
      [`${name}-2`, `root@127.0.0.1:${echo.sshd.port}`, `127.0.0.1:${two.port}`, "connected"],
      [name, `root@127.0.0.1:${ground.sshd.port}`, `127.0.0.1:${one.port}`, "connected"],
    ].map((row) => row.map((cell) => cell.replace(/^root/, ground.sshd.username))),
  );
  const json = JSON.parse((await ground.run(["list", "--json"])).stdout);
  for (const status of json) assert.deepEqual(faultsOf(status, schema), []);

  assert.equal((await ground.status(`${name}-2.shim`)).local.port, two.port);
  assert.equal((await ground.status(name)).local.port, one.port);
  await assertFails(ground, ["status"], {
    code: 2,
    says: /Several shims run: .*-2, .*\. Say which/,
  });
  await assertFails(ground, ["status", "prod"], { code: 5, says: /Those that run: 127\.0\.0\.1/ });

  const completed = await ground.run(["--completion", "bash", "status", "127"]);
  assert.deepEqual(completed.stdout.trim().split(/\n+/), [`${name}-2`, name]);

  // The name of the host finds the one that has it, where nobody is called so.
  await one.stop();
  assert.equal((await ground.status(`${name}.shim`)).local.port, two.port);
  const again = await ground.start();
  const stopped = await ground.run(["stop", "--all"]);
  assert.equal(stopped.code, 0, stopped.stderr);
  assert.match(stopped.stdout, /^127\.0\.0\.1 has ended\.$/m);
  assert.match(stopped.stdout, /^127\.0\.0\.1-2 has ended\.$/m);
  for (const shim of [again, two]) assert.equal((await shim.status).code, 0);
  assert.deepEqual(await ground.run(["list"]), ofCode(0, "No shim runs.\n"));
});

Deno.test("stop ends a shim as a signal does, tells its clients, and returns when it has ended", async () => {
  await using ground = await startSteering();
  const shim = await ground.start();
  await using client = ground.target(shim).startSsh("echo ready; cat");
  await client.stdout.waitFor(/ready/);
  assert.deepEqual(await ground.run(["stop"]), ofCode(0, `${name} has ended.\n`));
  assert(await isFree(shim.port));
  assert.equal((await shim.status).code, 0);
  assert.equal((await client.drained()).code, 255);
  assert.match(client.stderr.text, /sshshim has been stopped|a client's request/);
});

/** A program at a control socket that is no sshshim. */
async function pretend({ runtime }: Steering, says: string): Promise<RunningProcess> {
  const path = `${runtime}/sshshim/${name}.ctl`;
  const script = `
    Deno.mkdirSync("${runtime}/sshshim", { recursive: true, mode: 0o700 });
    const listener = Deno.listen({ transport: "unix", path: "${path}" });
    console.log("ready");
    for await (const connection of listener) connection.write(new TextEncoder().encode("${says}"));
  `;
  const pretender = new RunningProcess([Deno.execPath(), "eval", script]);
  await pretender.stdout.waitFor(/ready/);
  return pretender;
}

Deno.test("a socket that was left over is nobody, and in nobody's way", async () => {
  await using ground = await startSteering();
  await using left = await pretend(ground, "HTTP/1.0 400 Bad Request");
  await assertFails(ground, ["status", name], { code: 5, says: /does not answer|is no sshshim/ });
  const list = await ground.run(["list"]);
  assert.deepEqual([list.code, list.stdout], [0, "No shim runs.\n"]);
  assert.match(list.stderr, /warning: 127\.0\.0\.1 (does not answer|is no sshshim)/);
  left.kill("SIGKILL");
  await left.ended();
  assert(Deno.lstatSync(`${ground.runtime}/sshshim/${name}.ctl`).isSocket);
  assert.deepEqual(await ground.run(["list"]), ofCode(0, "No shim runs.\n"));
  await assertFails(ground, ["status", name], { code: 5, says: /No shim runs at all/ });
  const shim = await ground.start();
  assert.equal((await ground.status(name)).process.pid, shim.pid);
});

Deno.test("whoever says nothing at a socket is waited for, but not for ever", async () => {
  await using ground = await startSteering();
  await using _silent = await pretend(ground, "");
  await assertFails(ground, ["status"], { code: 5, says: /does not answer: it may be stopped/ });
  await assertFails(ground, ["status", name], {
    code: 5,
    says: /does not answer: it may be stopped/,
  });
});

Deno.test("sockets that others could have put there are not used", async () => {
  await using ground = await startSteering();
  await ground.start();
  const folder = `${ground.runtime}/sshshim`;
  await Deno.chmod(folder, 0o777);
  await assertFails(ground, ["status"], {
    code: 5,
    says: /are not used: .* can be written by others/,
  });
  await Deno.chmod(folder, 0o700);
  assert.equal((await ground.run(["status"])).code, 0);
});

Deno.test("kill ends one client with a word, and no other", async () => {
  await using ground = await startSteering();
  const shim = await ground.start();
  const target = ground.target(shim);
  await using one = target.startSsh("echo ready; cat");
  await one.stdout.waitFor(/ready/);
  await using two = target.startSsh("echo ready; cat");
  await two.stdout.waitFor(/ready/);
  const { clients } = await ground.status();
  const ofOne = clients.find(({ program }) => program?.pid === one.pid)!;
  assert.deepEqual(await ground.run(["kill", name, String(ofOne.id)]), ofCode(0));
  assert.equal((await one.drained()).code, 255);
  assert.match(one.stderr.text, /ended by sshshim kill/);
  await assertFails(ground, ["kill", name, String(ofOne.id)], {
    code: 6,
    says: /There is no client/,
  });
  assert.deepEqual((await ground.status()).clients.map(({ program }) => program?.pid), [two.pid]);

  // The same where it comes by the control socket.
  const lane = makeTarget({ ...target, controlPath: shim.banner.controlPath });
  await using three = lane.startSsh("echo ready; cat");
  await three.stdout.waitFor(/ready/);
  const ofThree = (await ground.status()).clients.find(({ carrier }) => carrier === "lane")!;
  assert.equal(ofThree.program?.pid, three.pid);
  assert.deepEqual(await ground.run(["kill", name, String(ofThree.id)]), ofCode(0));
  assert.equal((await three.drained()).code, 255);
  await two.closeStdin();
  assert.equal((await two.drained()).code, 0);
});

Deno.test("reconnect makes a new connection, and wait waits for it", async () => {
  await using ground = await startSteering();
  const shim = await ground.start();
  await using client = ground.target(shim).startSsh("echo ready; cat");
  await client.stdout.waitFor(/ready/);
  assert.deepEqual(await ground.run(["reconnect", name]), ofCode(0));
  assert.equal((await client.drained()).code, 255);
  const { upstream, totals } = await ground.status();
  assert.deepEqual([upstream.state, totals.reconnections], ["ready", 1]);
  const [loss] = upstream.losses;
  assert.deepEqual([loss!.endedBy, loss!.backBy], ["us", "person"]);
  assert.match(loss!.reason, /a new connection is wanted/);
  assert.deepEqual(await ground.run(["wait"]), ofCode(0));
  assert.equal(text((await ground.target(shim).ssh("echo back")).stdout), "back\n");
});

Deno.test("reconnect is refused where it would be the end", async () => {
  await using ground = await startSteering();
  await ground.start({ arguments: ["--no-reconnect"] });
  await assertFails(ground, ["reconnect"], {
    code: 6,
    says: /with --no-reconnect that is the end/,
  });
  assert.equal((await ground.status()).upstream.state, "ready");
});

Deno.test("wait waits for one that starts later, wakes one that sleeps, and says what it waits in vain for", async (t) => {
  await using ground = await startSteering();
  await t.step("one that does not run yet", async () => {
    await using waiting = ground.begin("wait", name, "--timeout", "1m");
    const shim = await ground.start({ arguments: ["--lazy"] });
    assert.equal((await waiting.drained()).code, 0, waiting.stderr.text);
    assert.equal((await ground.status()).upstream.state, "ready");
    await shim.stop();
  });
  await using path = await startFaultyPath();
  const shim = await ground.start({ upstream: path.upstream });
  await t.step("one that cannot come back yet", async () => {
    await path.proxy.refuse();
    path.proxy.cutAll("rst");
    await ground.until("it is lost", ({ upstream }) => upstream.state !== "ready");
    await assertFails(ground, ["wait", "--timeout", "1"], {
      code: 5,
      says: /is not connected yet/,
    });
    await path.proxy.restore();
    assert.deepEqual(await ground.run(["wait"]), ofCode(0));
  });
  await t.step("one that never will", async () => {
    // The host has another key from now on.
    await Deno.writeTextFile(
      path.upstream.knownHostsFile,
      `[${path.upstream.host}]:${path.upstream.port} ${await anotherKey(ground)}\n`,
    );
    await assertFails(ground, ["reconnect"], { code: 5, says: /It is not connected: .*key/i });
    await assertFails(ground, ["wait"], { code: 5, says: /It is not connected: .*key/i });
  });
  await shim.stop();
});

async function anotherKey({ sshd: { folder } }: Steering): Promise<string> {
  await runChecked(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", `${folder}/another`]);
  const [type, key] = (await Deno.readTextFile(`${folder}/another.pub`)).split(" ");
  return `${type} ${key}`;
}

Deno.test("forwards are opened, listed, used and closed, and refusals are told", async () => {
  await using ground = await startSteering();
  await using echo = startEcho({ greeting: "hello " });
  await ground.start();
  const to = `127.0.0.1:${echo.port}`;
  const opened = await ground.run(["forward", name, "-L", `0:${to}`, "-R", `0:${to}`, "-D", "0"]);
  assert.equal(opened.code, 0, opened.stderr);
  const [local, remote, dynamic] = opened.stdout.trim().split("\n").map(Number);
  for (const port of [local!, remote!]) {
    const got = await exchange(tcpAddress(port), "there");
    assert.equal(text(got), "hello there");
  }
  using connection = await connectBySocks(tcpAddress(dynamic!), {
    host: "127.0.0.1",
    port: echo.port,
  });
  await readExactly(connection, 10);
  const listed = await ground.run(["forward", name, "--list"]);
  assert.deepEqual(listed.stdout.trim().split("\n"), [
    `-L localhost:${local} to ${to}, 0 connections`,
    `-R localhost:${remote} to ${to}, 0 connections`,
    `-D localhost:${dynamic} to wherever SOCKS says, 1 connection`,
  ]);
  connection.close();

  const socket = `${ground.runtime}/local.sock`;
  assert.deepEqual(await ground.run(["forward", name, "-L", `${socket}:${to}`]), ofCode(0));
  assert.equal(text(await exchange({ transport: "unix", path: socket }, "too")), "hello too");
  await assertFails(ground, ["forward", name, "-L", `${echo.port}:${to}`], { code: 6, says: /./ });

  const closed = await ground.run([
    ...["forward", "--cancel", "--list", "-L", `${local}:${to}`, "-R", `${remote}:${to}`],
    ...["-D", String(dynamic), "-L", `${socket}:${to}`, name],
  ]);
  assert.deepEqual(closed, ofCode(0, "No forwards.\n"));
  assert(await isFree(local!));
  await assertFails(ground, ["forward", name, "--cancel", "-D", "9"], {
    code: 6,
    says: /There is no/,
  });
});

Deno.test("logs shows what was logged, follows what comes later, and ends with the shim", async () => {
  await using ground = await startSteering();
  const shim = await ground.start();
  const { code, stdout } = await ground.run(["logs"]);
  assert.equal(code, 0);
  assert.match(stdout, /^\d{4}-\S+Z sshshim: upstream: connected to /m);
  assert(!stdout.includes("client"));

  await using following = ground.begin("logs", "-f", name);
  await following.stdout.waitFor(/connected to/);
  assert.equal((await ground.target(shim).ssh("true")).code, 0);
  await following.stdout.waitFor(/client 1 .*left/);
  assert.deepEqual(await ground.run(["stop"]), ofCode(0, `${name} has ended.\n`));
  assert.equal((await following.drained()).code, 0, following.stderr.text);
});

Deno.test("connect is a ProxyCommand for ssh, and passes every byte", async () => {
  await using ground = await startSteering();
  const shim = await ground.start();
  const target = ground.target(shim);
  const words = ground.command("connect", name).join(" ");
  // Of the test's own environment ssh has nothing.
  const settings = ["XDG_RUNTIME_DIR", "HOME", "DENO_DIR"]
    .filter((variable) => ground.environment[variable] !== undefined)
    .map((variable) => `${variable}=${ground.environment[variable]}`).join(" ");
  const proxied = {
    options: ["-o", `ProxyCommand=env ${settings} ${words}`],
  };
  const bytes = crypto.getRandomValues(new Uint8Array(60_000));
  const all = new Uint8Array(bytes.length * 50);
  for (let count = 0; count < 50; count++) all.set(bytes, count * bytes.length);
  const result = await target.ssh("cat; exit 7", { ...proxied, stdin: all });
  assert.equal(result.code, 7, text(result.stderr));
  assert.equal(sha256(result.stdout), sha256(all));
});

Deno.test("status --watch is a line at a time where nobody watches at a terminal", async () => {
  await using ground = await startSteering();
  const shim = await ground.start();
  await using lines = ground.begin("status", "--watch");
  await lines.stdout.waitFor(
    /^\S+Z ready, 0 clients, 0 channels, 0 B\/s to the host, 0 B\/s from it$/m,
  );
  await using client = ground.target(shim).startSsh("echo ready; cat");
  await client.stdout.waitFor(/ready/);
  await lines.stdout.waitFor(/ready, 1 clients, 1 channels/);
  lines.kill("SIGINT");
  assert.equal((await lines.drained()).code, 0);

  await using json = ground.begin("status", "--watch", "--json", name);
  await json.stdout.waitFor(/\n.*\n/);
  for (const line of json.stdout.lines) {
    assert.deepEqual(faultsOf(JSON.parse(line), schema), []);
  }
  await client.closeStdin();
  await client.drained();
  assert.equal((await ground.run(["stop"])).code, 0);
  assert.equal((await json.drained()).code, 5);
  assert.match(json.stderr.text, /127\.0\.0\.1 has ended/);
});

/** Finds what a terminal is told behind ESC [. */
function shownSequence(...patterns: string[]): RegExp {
  return new RegExp(`\x1b\\[(?:${patterns.join("|")})`, "g");
}

for (const columns of [80, 40]) {
  Deno.test(`status --watch fits a terminal of ${columns} columns, and gives it back`, async () => {
    await using ground = await startSteering();
    const shim = await ground.start();
    await using client = ground.target(shim).startSsh("echo ready; cat > /dev/null");
    await client.stdout.waitFor(/ready/);
    await using terminal = new Terminal(ground.command("status", "--watch"), {
      environment: ground.environment,
      dimensions: { rows: 24, columns },
    });
    await terminal.screen.waitFor(shownSequence("\\?1049h"));
    await terminal.screen.waitFor(/cat/);
    // Rates are known from the second time on.
    let isSending = true;
    const sending = (async () => {
      while (isSending) {
        await client.write(new Uint8Array(10_000));
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    await terminal.screen.waitFor(/kB\/s/);
    isSending = false;
    await sending;
    const rows = terminal.screen.text.split(shownSequence("\\d+;1H", "\\?\\d+[hl]"))
      .map((row) => row.replace(shownSequence("[\\d;]*[A-Z]"), ""));
    for (const row of rows) assert(row.length <= columns, row);
    await terminal.resize({ rows: 5, columns });
    await terminal.screen.waitFor(/\.\.\. \d+ more lines/);
    await terminal.type("\x03");
    assert.equal(await terminal.exit, 0);
    assert(terminal.screen.text.endsWith("\x1b[?25h\x1b[?1049l"));
    await client.closeStdin();
    await client.drained();
  });
}

Deno.test("several hosts of one process are several shims, each with its own log and end", async () => {
  await using ground = await startSteering();
  await using other = await startSteering();
  const config = `${ground.runtime}/config`;
  const section = (name: string, { sshd }: Steering) =>
    [
      `Host ${name}`,
      `HostName ${sshd.host}`,
      `Port ${sshd.port}`,
      `User ${sshd.username}`,
      `IdentityFile ${sshd.keyFile}`,
      `UserKnownHostsFile ${sshd.knownHostsFile}`,
      "",
    ].join("\n");
  await Deno.writeTextFile(config, section("one", ground) + section("two", other));
  await using shims = new RunningProcess([
    ...ground.command("-F", config, "--no-ssh-config", "one", "two"),
  ], { environment: { ...ground.environment, XDG_STATE_HOME: `${ground.runtime}/state` } });
  await shims.stdout.waitFor(/two/);
  await shims.stdout.waitFor(/one/);
  const list = await ground.run(["list"]);
  assert.deepEqual(list.stdout.match(/^\w+/gm), ["NAME", "one", "two"]);
  const logs = await ground.run(["logs", "two"]);
  assert.match(logs.stdout, /sshshim: two: upstream: connected/);
  assert(!logs.stdout.includes("one"), logs.stdout);
  assert.deepEqual(await ground.run(["stop", "two"]), ofCode(0, "two has ended.\n"));
  assert.equal((await ground.status()).name, "one");
  assert.deepEqual(await ground.run(["stop", "one"]), ofCode(0, "one has ended.\n"));
  assert.equal((await shims.drained()).code, 0);
});

Deno.test("stop ends a shim that runs for a command by ending the command", async () => {
  await using ground = await startSteering();
  const { host, port, username, keyFile, knownHostsFile } = ground.sshd;
  await using shim = new RunningProcess([
    ...ground.command("--host", host, "--port", String(port), "-l", username),
    ...["--ed25519-key", keyFile, "--known-hosts", knownHostsFile, "--no-ssh-config"],
    ...["--", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"],
  ], { environment: { ...ground.environment, XDG_STATE_HOME: `${ground.runtime}/state` } });
  await shim.stdout.waitFor(/ready/);
  assert.deepEqual(await ground.run(["stop"]), ofCode(0, `${name} has ended.\n`));
  assert.equal((await shim.drained()).code, 9);
});
