/** `--resume` with a real sshd: what runs goes on over every loss of the network. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  countMessages,
  type FaultyGround,
  startFaultyGround,
  startFaultyPath,
  targetThrough,
  untilLogged,
} from "./support/faulty.ts";
import { startInnerShim } from "./support/inner_shim.ts";
import { forceCommand } from "./support/force_command.ts";
import { startAgent } from "./support/agent.ts";
import { section } from "./support/several.ts";
import { startSshd } from "./support/sshd.ts";
import { startShim } from "./support/shim.ts";
import { lead, startForwarding } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { isRunning, waitUntil } from "./support/processes.ts";
import { keepersOf } from "./support/resume_keepers.ts";
import { Terminal } from "./support/pty.ts";
import { run, text } from "./support/run.ts";
import { connect, readExactly, startEcho, tcpAddress, writeAll } from "./support/services.ts";

/** A ground whose shim keeps what runs; silence is noticed after 3 s. */
function startGround(options: Parameters<typeof startFaultyGround>[0] = {}): Promise<FaultyGround> {
  const keepalive = ["--keepalive-interval", "1", "--keepalive-count", "3"];
  return startFaultyGround({
    ...options,
    shim: ["--resume", ...keepalive, "--reconnect-max-delay", "1", ...options.shim ?? []],
  });
}

const away = /the connection is away/;
const back = /the connection is back/;

/** Cuts the network, and resolves when it is back. */
async function cut({ proxy, shim }: FaultyGround, how: "rst" | "fin" | "hole"): Promise<void> {
  const from = shim.log.text.length;
  if (how === "hole") proxy.blackHole();
  else proxy.cutAll(how);
  await untilLogged(shim.log, away, { from });
  if (how === "hole") {
    proxy.cutAll("rst");
    await proxy.restore();
  }
  await untilLogged(shim.log, back, { from });
}

for (const how of ["rst", "fin", "hole"] as const) {
  Deno.test(`what runs goes on over a cut by ${how}`, async () => {
    await using ground = await startGround();
    const { target, shim } = ground;
    await using resources = new AsyncDisposableStack();
    const cat = resources.use(target.startSsh("echo ready; read line; echo got $line; exit 7"));
    await cat.stdout.waitFor(/ready/);
    const shell = resources.use(
      new Terminal(target.sshCommand(undefined, ["-tt"]), { environment: target.environment }),
    );
    await shell.type("value=kept; echo he''llo\n");
    await shell.screen.waitFor(/^hello/m);
    const echo = resources.use(startEcho());
    const [localPort, remotePort] = [freePort(), freePort()];
    resources.use(await startForwarding(target, ["-L", lead(localPort, echo)]));
    resources.use(await startForwarding(target, ["-R", lead(remotePort, echo)]));
    using local = await connect(tcpAddress(localPort));
    using remote = await connect(tcpAddress(remotePort));
    const hasEchoed = async (connection: Deno.Conn, words: string) => {
      await writeAll(connection, new TextEncoder().encode(words));
      assert.equal(text(await readExactly(connection, words.length)), words);
    };
    await hasEchoed(local, "before");
    await hasEchoed(remote, "before");

    await cut(ground, how);
    await cut(ground, how === "hole" ? "rst" : how);

    await hasEchoed(local, "after");
    await hasEchoed(remote, "after");
    await shell.type("echo st''ill $value\n");
    await shell.screen.waitFor(/^still kept/m);
    await shell.type("exit 3\n");
    assert.equal(await shell.exit, 3);
    await cat.write("words\n");
    assert.equal((await cat.drained()).code, 7);
    assert.match(cat.stdout.text, /got words/);
    assert.equal(cat.stderr.text, "");
    assert.doesNotMatch(shim.log.text, /connection lost/);
    assert.equal(text((await target.ssh("echo new")).stdout), "new\n");
  });
}

Deno.test("transfers by scp and sftp are exact over many cuts", async () => {
  await using ground = await startGround();
  const { target, proxy, shim } = ground;
  const size = 12_000_000;
  const file = `${target.folder}/file`;
  const bytes = Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 8) * 7) & 255);
  await Deno.writeFile(file, bytes);
  const hash = createHash("sha256").update(bytes).digest("hex");
  // All are on their way from the start: the transfers pass more than that in each direction.
  const cuts = [5_000_000, 8_000_001, 12_345_678].flatMap((size, index) =>
    (["toTarget", "toClient"] as const).map((direction) =>
      proxy.cutAfterBytes(size, direction, index === 1 ? "fin" : "rst")
    )
  );
  const host = `anybody@${target.host}`;
  const scp = (from: string, to: string, flags: string[]) =>
    run(["scp", "-q", ...flags, ...target.clientOptions(), "-P", String(target.port), from, to], {
      environment: target.environment,
    });
  const results = await Promise.all([
    scp(file, `${host}:${file}.up`, []),
    scp(`${host}:${file}`, `${file}.down`, []),
    scp(file, `${host}:${file}.old`, ["-O"]),
    target.ssh(`cat ${file} | tee ${file}.tee`),
    target.ssh(`cat > ${file}.in; exit 5`, { stdinFile: file }),
  ]);
  assert.deepEqual(results.map(({ code }) => code), [0, 0, 0, 0, 5]);
  assert.equal(createHash("sha256").update(results[3].stdout).digest("hex"), hash);
  for (const end of ["up", "down", "old", "tee", "in"]) {
    const copy = await Deno.readFile(`${file}.${end}`);
    assert.equal(createHash("sha256").update(copy).digest("hex"), hash, end);
  }
  await Promise.all(cuts);
  assert.ok(countMessages(shim.log, back) >= 4);
  assert.doesNotMatch(shim.log.text, /connection lost/);
});

Deno.test("a host with python alone keeps what runs as well", async () => {
  await using path = await startFaultyPath();
  const { sshd, upstream, proxy } = path;
  const only = `${sshd.folder}/only`;
  await Deno.mkdir(only);
  await Deno.symlink("/bin/sh", `${only}/sh`);
  await Deno.symlink("/usr/bin/python3", `${only}/python3`);
  await forceCommand(
    sshd,
    `case "$SSH_ORIGINAL_COMMAND" in "sh -c"*) PATH=${only};; esac; sh -c "$SSH_ORIGINAL_COMMAND"`,
  );
  await using shim = await startShim(upstream, { arguments: ["-F", "none", "--resume"] });
  const ground = { ...path, shim, target: targetThrough(shim, path) };
  const size = 8_000_000;
  const from = shim.log.text.length;
  void proxy.cutAfterBytes(3_000_000, "toClient", "rst");
  const { stdout, code } = await ground.target.ssh(`head -c ${size} /dev/zero; exit 6`);
  assert.equal(code, 6);
  assert.equal(stdout.length, size);
  await untilLogged(shim.log, back, { from });
  await cut(ground, "fin");
  assert.equal(text((await ground.target.ssh("echo after")).stdout), "after\n");
  assert.doesNotMatch(shim.log.text, /connection lost|cannot keep/);
});

Deno.test("through a jump host it goes on as well", async () => {
  await using path = await startFaultyPath();
  await using last = await startSshd();
  const file = `${last.folder}/config`;
  await Deno.writeTextFile(file, section("jump", { ...path.sshd, ...path.upstream }));
  await using shim = await startShim(last, { arguments: ["-F", file, "-J", "jump", "--resume"] });
  const target = targetThrough(shim, { sshd: last });
  await using client = target.startSsh("echo ready; read line; echo got $line; exit 8");
  await client.stdout.waitFor(/ready/);
  await cut({ ...path, shim, target }, "rst");
  await client.write("words\n");
  assert.equal((await client.drained()).code, 8);
  assert.match(client.stdout.text, /got words/);
  assert.doesNotMatch(shim.log.text, /connection lost|cannot keep/);
});

Deno.test("its end is the end of all that runs there, and leaves nothing", async () => {
  await using ground = await startGround();
  const { target, shim, sshd } = ground;
  const [keeper, ...others] = await keepersOf(sshd.port);
  assert.deepEqual(others, []);
  await using sleeper = target.startSsh("echo ready; cat; sleep 1000");
  await sleeper.stdout.waitFor(/ready/);
  await cut(ground, "rst");
  await shim.stop();
  await waitUntil("no keeper", async () => !await isRunning(keeper!));
  const folder = `${sshd.folder}/home/.cache/sshshim-resume`;
  await assert.rejects(Deno.lstat(folder), Deno.errors.NotFound);
});

Deno.test("a keeper that is gone ends what ran with a reason, and a new connection is made", async () => {
  await using ground = await startGround();
  const { target, shim, sshd } = ground;
  await using client = target.startSsh("echo ready; cat");
  await client.stdout.waitFor(/ready/);
  const [keeper] = await keepersOf(sshd.port);
  Deno.kill(keeper!, "SIGKILL");
  await untilLogged(shim.log, /connection lost: .* cannot be resumed: the host does not keep it/);
  assert.equal((await client.drained()).code, 255);
  assert.match(client.stderr.text, /cannot be resumed: the host does not keep it any more/);
  assert.equal(text((await target.ssh("echo new")).stdout), "new\n");
});

Deno.test("another host by the same name, which keeps nothing, is not the end of what another keeps", async () => {
  await using ground = await startGround();
  const { target, shim, sshd, gate, proxy, upstream } = ground;
  await using other = await startSshd();
  await Deno.copyFile(`${sshd.folder}/authorized_keys`, `${other.folder}/authorized_keys`);
  await forceCommand(other, "echo sshshim-resume 1 perl; read line; echo no gone");
  const lines = other.hostKeys.map((key) => `[${upstream.host}]:${upstream.port} ${key}\n`);
  await Deno.writeTextFile(upstream.knownHostsFile, lines.join(""), { append: true });
  await using client = target.startSsh("echo ready; read line; echo got $line; exit 7");
  await client.stdout.waitFor(/ready/);
  const from = shim.log.text.length;
  gate.target = { hostname: other.host, port: other.port };
  proxy.cutAll("rst");
  await untilLogged(shim.log, /is away since .*another host answers/, { from });
  gate.target = { hostname: sshd.host, port: sshd.port };
  await untilLogged(shim.log, back, { from });
  await client.write("words\n");
  assert.equal((await client.drained()).code, 7);
  assert.match(client.stdout.text, /got words/);
});

Deno.test("what the host ends is ended as without", async () => {
  await using ground = await startGround();
  const { target, shim } = ground;
  const result = await target.ssh("kill -9 $PPID");
  assert.equal(result.code, 255);
  await untilLogged(shim.log, /connection lost/);
  assert.equal(text((await target.ssh("echo new")).stdout), "new\n");
});

Deno.test("the status tells since when the network is away", async () => {
  await using ground = await startFaultyPath();
  const { proxy, upstream } = ground;
  await using inner = await startInnerShim(upstream, ["--resume", "--resume-for", "1h"]);
  await inner.until("it is there", ({ upstream }) => upstream.away === null);
  await proxy.refuse();
  proxy.cutAll("rst");
  const { upstream: status } = await inner.until(
    "it is away",
    ({ upstream }) => upstream.away !== null,
  );
  assert.equal(status.state, "ready");
  assert.match(status.away!.reason, /reset/);
  await proxy.restore();
  await inner.until("it is back", ({ upstream }) => upstream.away === null);
});

Deno.test("after --resume-for without network what ran has ended, and a new connection is made", async () => {
  await using ground = await startGround({ shim: ["--resume-for", "2"] });
  const { target, proxy, shim } = ground;
  await using client = target.startSsh("echo ready; cat");
  await client.stdout.waitFor(/ready/);
  await proxy.refuse();
  proxy.cutAll("rst");
  assert.equal((await client.drained()).code, 255);
  assert.match(client.stderr.text, /it was away for longer than --resume-for/);
  await proxy.restore();
  assert.equal(text((await target.ssh("echo new")).stdout), "new\n");
  assert.match(shim.log.text, /connection lost/);
});

Deno.test("a host that reaches another server at its address is no host to keep a connection", async () => {
  await using other = await startSshd();
  await using path = await startFaultyPath();
  await forceCommand(
    path.sshd,
    `SSH_CONNECTION="127.0.0.1 1 127.0.0.1 ${other.port}" sh -c "$SSH_ORIGINAL_COMMAND"`,
  );
  await using shim = await startShim(path.upstream, { arguments: ["-F", "none", "--resume"] });
  await untilLogged(
    shim.log,
    /it does not let in whoever comes from its own address: Host key of \S+ is another one/,
  );
  await untilLogged(shim.log, /connected to/);
});

Deno.test("a person's word brings the network back at once, and an agent goes on", async () => {
  await using ground = await startFaultyGround({ shim: ["--resume"] });
  const { target, proxy, shim, sshd } = ground;
  await using agent = await startAgent(sshd.folder, "agent");
  await using client = target.startSsh("ssh-add -l; read line; ssh-add -l; exit 4", {
    options: ["-A", "-o", `IdentityAgent=${agent.socket}`],
  });
  await client.stdout.waitFor(/ED25519/);
  const from = shim.log.text.length;
  await proxy.refuse();
  proxy.cutAll("rst");
  await untilLogged(shim.log, /is away since .* refused/, { from });
  await proxy.restore();
  Deno.kill(shim.pid, "SIGUSR2");
  await untilLogged(shim.log, back, { from });
  await client.write("go on\n");
  assert.equal((await client.drained()).code, 4);
  assert.match(client.stdout.text, /ED25519[^]*ED25519/);
});

/** Where it cannot be: what the forced command of the key does, or a line for sshd_config. */
const obstacles: [what: string, reason: RegExp, obstacle: { command?: string; config?: string }][] =
  [
    [
      "a host without perl and python",
      /it has neither perl 5.14 nor python 3.5/,
      { command: 'ln -sf /bin/sh .; PATH=$PWD sh -c "$SSH_ORIGINAL_COMMAND"' },
    ],
    [
      "a forced command",
      /another program runs there instead of ours and says: Welcome/,
      { command: "echo Welcome" },
    ],
    [
      "a forced command that takes what it is given",
      /another program runs there instead of ours/,
      { command: "echo no shell for you >&2; exit 1" },
    ],
    ["a host without sessions", /it runs no commands on this connection/, {
      config: "MaxSessions 0",
    }],
    [
      "a host that cannot reach its own sshd",
      /sshd cannot be reached from the host itself: 127.0.0.1 1 .*refused/,
      { command: 'SSH_CONNECTION="127.0.0.1 1 127.0.0.1 1" sh -c "$SSH_ORIGINAL_COMMAND"' },
    ],
  ];

for (const [what, reason, { command, config }] of obstacles) {
  Deno.test(`${what}: it is said once, and the connection is one without`, async () => {
    await using path = await startFaultyPath({ config: config === undefined ? [] : [config] });
    const { sshd, upstream } = path;
    if (command !== undefined) await forceCommand(sshd, command);
    await using shim = await startShim(upstream, { arguments: ["-F", "none", "--resume"] });
    await untilLogged(shim.log, reason);
    await untilLogged(shim.log, /connected to/);
    path.proxy.cutAll("rst");
    await untilLogged(shim.log, /connected to/, { count: 2 });
    assert.equal(countMessages(shim.log, /cannot keep a connection/), 1);
  });
}

Deno.test("a reason that may pass is tried again with the next connection", async () => {
  await using path = await startFaultyPath();
  const { sshd, upstream, proxy } = path;
  const full = `${sshd.folder}/full`;
  await Deno.writeTextFile(full, "");
  const answer = "echo sshshim-resume 1 perl; read line; echo no socket No space left on device";
  await forceCommand(
    sshd,
    `case "$SSH_ORIGINAL_COMMAND" in "sh -c"*) test ! -e ${full} || { ${answer}; exit; };; esac; ` +
      `sh -c "$SSH_ORIGINAL_COMMAND"`,
  );
  await using shim = await startShim(upstream, { arguments: ["-F", "none", "--resume"] });
  const ground = { ...path, shim, target: targetThrough(shim, path) };
  await untilLogged(shim.log, /socket: No space left on device; the next one is tried with it/);
  await untilLogged(shim.log, /connected to/);
  // The same reason once more is not told again.
  proxy.cutAll("rst");
  await untilLogged(shim.log, /connected to/, { count: 2 });
  assert.equal(countMessages(shim.log, /cannot keep a connection/), 1);
  await Deno.remove(full);
  proxy.cutAll("rst");
  await untilLogged(shim.log, /connected to/, { count: 3 });
  await cut(ground, "rst");
  assert.equal(text((await ground.target.ssh("echo kept")).stdout), "kept\n");
});

Deno.test("a program that ends too soon is no reason to give the host up", async () => {
  await using path = await startFaultyPath();
  await forceCommand(
    path.sshd,
    `case "$SSH_ORIGINAL_COMMAND" in "sh -c"*) echo sshshim-resume 1 perl; exit;; esac`,
  );
  await using shim = await startShim(path.upstream, { arguments: ["-F", "none", "--resume"] });
  await untilLogged(shim.log, /cannot keep a connection.*has ended too soon/);
  await untilLogged(shim.log, /connected to/);
});

Deno.test("sshshim that ends while the network is away says what stays on the host", async () => {
  await using ground = await startGround({ shim: ["--resume-for", "5"] });
  const { target, proxy, shim, sshd } = ground;
  const [keeper] = await keepersOf(sshd.port);
  await using client = target.startSsh("echo ready; cat");
  await client.stdout.waitFor(/ready/);
  await proxy.refuse();
  proxy.cutAll("rst");
  await untilLogged(shim.log, away);
  await shim.stop();
  assert.match(shim.log.text, /could not be told of the end: it is kept for its time/);
  assert.equal(await isRunning(keeper!), true);
  await waitUntil("its time is over", async () => !await isRunning(keeper!));
});
