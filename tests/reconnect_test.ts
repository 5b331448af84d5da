/** What clients see when the connection to a real sshd is lost, and when it comes back. */

import assert from "node:assert/strict";
import type { Target } from "./support/both.ts";
import {
  countMessages,
  cutAndReturn,
  messagesOf,
  startFaultyGround,
  startFaultyPath,
  startMany,
  untilLogged,
} from "./support/faulty.ts";
import { lead, startForwarding } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { waitUntil } from "./support/processes.ts";
import { Terminal } from "./support/pty.ts";
import { type CommandResult, type RunningProcess, text } from "./support/run.ts";
import { connect, echoed, exchange, startEcho, tcpAddress, writeAll } from "./support/services.ts";
import { startShimProcess } from "./support/shim_process.ts";
import { upstreamArguments } from "./support/shim.ts";

for (const how of ["rst", "fin"] as const) {
  Deno.test(`a cut by ${how} ends every session with its reason, and no local connection`, async () => {
    await using ground = await startFaultyGround();
    const { target, proxy, shim, sshd } = ground;
    await using resources = new AsyncDisposableStack();
    const lost = new RegExp(`sshshim: connection lost: ${sshd.username}@127.0.0.1:${proxy.port}.+`);

    const master = resources.use(await startMaster(target));
    const idle = await Promise.all(Array.from({ length: 8 }, async () => {
      const client = resources.use(target.startSsh("echo ready; cat"));
      await client.stdout.waitFor(/ready/);
      return client;
    }));
    const shell = resources.use(
      new Terminal(target.sshCommand(undefined, ["-tt"]), { environment: target.environment }),
    );
    await shell.type("echo he''llo\n");
    await shell.screen.waitFor(/^hello/m);
    const echo = resources.use(startEcho());
    const port = freePort();
    const forwarding = resources.use(await startForwarding(target, ["-L", lead(port, echo)]));
    const transfer = await startTransfer(port);
    const uploaded = `${target.folder}/uploaded`;
    const upload = target.ssh(`cat > ${uploaded}`, { stdinFile: "/dev/zero" });
    await waitUntil(
      "the upload flows",
      async () => (await Deno.stat(uploaded).catch(() => ({ size: 0 }))).size > 1_000_000,
    );

    const from = shim.log.text.length;
    proxy.cutAll(how);

    for (const client of idle) {
      assert.equal((await client.drained()).code, 255);
      assert.match(client.stderr.text, lost);
      assert.equal(client.stderr.text.trim().split("\n").length, 1);
    }
    const { code, stderr } = await upload;
    assert.equal(code, 255);
    assert.match(text(stderr), lost);
    assert.equal(await shell.exit, 255);
    assert.match(shell.screen.text, lost);
    await transfer.ended;
    assert.equal((await forwarding.drained()).code, 255);
    assert.match(forwarding.stderr.text, lost);

    await untilLogged(shim.log, /connected to/, { from });
    assertOutput(await target.ssh("echo back"), "back\n");
    assertOutput(await throughMaster(target, "echo again"), "again\n");
    assert.equal(master.stderr.text, "");
  });
}

Deno.test("an exit status that came before the last of the output is no success after a cut", async () => {
  await using ground = await startFaultyGround();
  // The status is told when the shell ends; the output is open for as long as somebody has it.
  await using client = ground.target.startSsh("sleep 60 & echo some", { options: ["-v"] });
  await client.stdout.waitFor(/some/);
  await client.stderr.waitFor(/rtype exit-status/);
  ground.proxy.cutAll("rst");
  assert.equal((await client.drained()).code, 255);
  assert.match(client.stderr.text, /sshshim: connection lost: /);
});

Deno.test("a connection that was cut while nobody used it is there for the next client", async () => {
  await using ground = await startFaultyGround();
  const { target, proxy } = ground;
  assertOutput(await target.ssh("echo 1"), "1\n");
  proxy.cutAll("rst");
  assertOutput(await target.ssh("echo 2"), "2\n");
  proxy.cutAll("fin");
  assertOutput(await target.ssh("echo 3"), "3\n");
});

Deno.test("a forward without a session stays with its client and leads again after the return", async () => {
  await using ground = await startFaultyGround();
  const { target } = ground;
  await using echo = startEcho();
  const port = freePort();
  await using client = target.startSsh(undefined, {
    options: ["-v", "-N", "-L", lead(port, echo)],
  });
  await client.stderr.waitFor(/Entering interactive session/);
  const transfer = await startTransfer(port);
  await cutAndReturn(ground, "rst");
  await transfer.ended;
  assert.deepEqual(await exchange(tcpAddress(port), "again"), echoed("", "again"));
});

Deno.test("clients that open sessions while the link is down go on when it returns", async () => {
  await using ground = await startFaultyGround();
  const { target, proxy, shim } = ground;
  await proxy.refuse();
  proxy.cutAll("rst");
  await untilLogged(shim.log, /trying again/);
  let endedCount = 0;
  const clients = startMany(5, async (index) => {
    const result = await target.ssh(`cat; echo ${index}`, { stdin: "input " });
    endedCount++;
    return result;
  });
  await untilLogged(shim.log, /client \d+ connected from/, { count: 5 });
  assert.equal(endedCount, 0);
  await proxy.restore();
  for (const [index, result] of (await clients()).entries()) {
    assertOutput(result, `input ${index}\n`);
  }
});

Deno.test("clients that wait for longer than --open-timeout are told why", async () => {
  await using ground = await startFaultyGround({ shim: ["--open-timeout", "2"] });
  const { target, proxy, shim } = ground;
  await proxy.refuse();
  proxy.cutAll("rst");
  await untilLogged(shim.log, /trying again/);
  const clients = startMany(5, () => target.ssh("true"));
  for (const { code, stderr } of await clients()) {
    assert.equal(code, 255);
    assert.match(
      text(stderr),
      /open failed: connect failed: waited 2 s: connection lost: \S+@127\.0\.0\.1:\d+: Connection reset/,
    );
  }
  await proxy.restore();
  assertOutput(await target.ssh("echo back"), "back\n");
});

Deno.test("a client that leaves while it waits leaves nothing behind", async () => {
  // A session of its would take the only place.
  await using ground = await startFaultyGround({ sshd: { config: ["MaxSessions 1"] } });
  const { target, proxy, shim } = ground;
  await proxy.refuse();
  proxy.cutAll("rst");
  await untilLogged(shim.log, /trying again/);
  await using gone = target.startSsh("echo gone");
  await untilLogged(shim.log, /client 1 connected from/);
  gone.kill("SIGKILL");
  await untilLogged(shim.log, /client 1 left/);
  await proxy.restore();
  assertOutput(await target.ssh("echo here"), "here\n");
});

Deno.test("a black hole is noticed, and nobody waits beyond the limit", async () => {
  await using ground = await startFaultyGround({
    shim: ["--keepalive-interval", "1", "--keepalive-count", "3", "--open-timeout", "3"],
  });
  const { target, proxy, shim } = ground;
  await using idle = target.startSsh("echo ready; cat");
  await idle.stdout.waitFor(/ready/);
  proxy.blackHole();
  const waiting = startMany(1, () => target.ssh("true"));
  assert.equal((await idle.drained()).code, 255);
  assert.match(idle.stderr.text, /sshshim: connection lost: \S+: no answer for \d+ s/);
  const [asked] = await waiting();
  assert.equal(asked!.code, 255);
  assert.match(text(asked!.stderr), /no answer for/);

  const { code: lateCode, stderr: lateStderr } = await target.ssh("true");
  assert.equal(lateCode, 255);
  assert.match(text(lateStderr), /open failed: connect failed: waited 3 s: .*no answer for/);

  await proxy.restore();
  assertOutput(await target.ssh("echo back"), "back\n");
  assert.equal(countMessages(shim.log, /connected to/), 2);
});

Deno.test("a black hole is noticed after 15 s by default", async () => {
  await using ground = await startFaultyGround();
  const { target, proxy } = ground;
  await using idle = target.startSsh("echo ready; cat");
  await idle.stdout.waitFor(/ready/);
  proxy.blackHole();
  assert.equal((await idle.drained()).code, 255);
  // A busy machine comes to it later.
  assert.match(idle.stderr.text, /: no answer for (1[5-9]|[2-9]\d) s/);
});

Deno.test("a connection that the server ended for want of use comes back with the next client", async () => {
  await using ground = await startFaultyGround({ sshd: { config: ["UnusedConnectionTimeout 3"] } });
  const { target, shim, gate, sshd } = ground;
  await sshd.log.waitFor(/inactive connection/);
  await untilLogged(shim.log, /the next client wakes the connection/);
  assertOutput(await target.ssh("echo awake"), "awake\n");
  assert.equal(gate.acceptedCount, 2);
  const messages = messagesOf(shim.log);
  const woken = messages.findIndex((message) => /client 1 connected/.test(message));
  assert.ok(woken < messages.findLastIndex((message) => /connected to/.test(message)));
});

Deno.test("a connection that carries a remote forward comes back by itself", async () => {
  await using ground = await startFaultyGround();
  const { target, shim } = ground;
  const options = ["-N", "-R", `${freePort()}:127.0.0.1:9`, "-o", "ExitOnForwardFailure=yes", "-v"];
  await using client = target.startSsh(undefined, { options });
  await client.stderr.waitFor(/all expected forwarding replies received/);
  await cutAndReturn(ground, "fin");
  await untilLogged(shim.log, /remote forward .* is back/);
});

Deno.test("25 clients that come at once cause one attempt at a time", async () => {
  await using ground = await startFaultyGround();
  const { target, proxy, gate, shim } = ground;
  proxy.blackHole();
  proxy.cutAll("rst");
  await untilLogged(shim.log, /connection lost/);
  gate.peakCount = 0;
  const acceptedBefore = gate.acceptedCount;
  const clients = startMany(25, () => target.ssh("echo here"));
  await untilLogged(shim.log, /client \d+ connected from/, { count: 25 });
  await proxy.restore();
  for (const result of await clients()) assertOutput(result, "here\n");
  assert.equal(gate.acceptedCount, acceptedBefore + 1);
  assert.equal(gate.peakCount, 1);
});

Deno.test("attempts that fail follow each other, however many clients hurry them", async () => {
  await using ground = await startFaultyGround();
  const { target, proxy, gate, shim } = ground;
  gate.refuses = true;
  proxy.cutAll("rst");
  // Until the waits are long enough to be cut short.
  await untilLogged(shim.log, /trying again in [1-9]\d*\.\d s/);
  gate.peakCount = 0;
  const attempted = gate.acceptedCount;
  const clients = startMany(10, () => target.ssh("echo here"));
  await untilLogged(shim.log, /client \d+ connected from/, { count: 10 });
  await untilLogged(shim.log, /trying again/, { from: shim.log.text.length });
  assert.equal(gate.peakCount, 1);
  assert.ok(gate.acceptedCount > attempted);
  gate.refuses = false;
  // One more cuts the wait short for all of them.
  assertOutput(await target.ssh("echo there"), "there\n");
  for (const result of await clients()) assertOutput(result, "here\n");
});

Deno.test("with --no-reconnect the loss of the connection is the end, with exit status 5", async () => {
  await using path = await startFaultyPath();
  await using shim = await startShimProcess({
    arguments: [...upstreamArguments(path.upstream), "--no-reconnect"],
  });
  path.proxy.cutAll("rst");
  const { code } = await shim.process.drained();
  assert.equal(code, 5);
  assert.match(messagesOf(shim.process.stderr).at(-1)!, /Connection reset/);
});

Deno.test("SIGUSR2 makes the shim try at once", async () => {
  await using ground = await startFaultyGround({ shim: ["--reconnect-max-delay", "60"] });
  const { target, proxy, shim } = ground;
  await proxy.refuse();
  proxy.cutAll("rst");
  // Until the delays are long.
  await untilLogged(shim.log, /trying again in ([3-9]|\d\d)\.\d s/);
  await proxy.restore();
  const from = shim.log.text.length;
  Deno.kill(shim.pid, "SIGUSR2");
  await untilLogged(shim.log, /connected to/, { from });
  // Nothing else has ended the wait.
  assert.equal(countMessages(shim.log, /trying again/, from), 0);
  assertOutput(await target.ssh("echo back"), "back\n");
});

Deno.test("SIGUSR2 gives up an attempt that hangs, and begins another", async () => {
  await using ground = await startFaultyGround();
  const { target, proxy, gate, sshd, shim } = ground;
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  gate.target = silent.addr;
  proxy.cutAll("rst");
  using _hanging = await silent.accept();
  gate.target = { hostname: sshd.host, port: sshd.port };
  const from = shim.log.text.length;
  // An attempt that is younger than a second is left alone.
  await waitUntil("the attempt is given up", () => {
    Deno.kill(shim.pid, "SIGUSR2");
    return Promise.resolve(countMessages(shim.log, /did not answer yet; trying again/, from) > 0);
  });
  await untilLogged(shim.log, /connected to/, { from });
  assertOutput(await target.ssh("echo back"), "back\n");
});

function assertOutput({ code, stdout, stderr }: CommandResult, expected: string): void {
  assert.deepEqual({ code, stdout: text(stdout), stderr: text(stderr) }, {
    code: 0,
    stdout: expected,
    stderr: "",
  });
}

/** An ssh whose connection other ssh commands of the test share; it has no session itself. */
async function startMaster(target: Target): Promise<RunningProcess> {
  const master = target.startSsh(undefined, {
    options: ["-M", "-N", "-o", `ControlPath=${masterPath(target)}`],
  });
  await waitUntil("the master listens", async () => {
    const { code } = await target.ssh("", { options: ["-O", "check", ...useMaster(target)] });
    return code === 0;
  });
  return master;
}

function throughMaster(target: Target, command: string): Promise<CommandResult> {
  return target.ssh(command, { options: ["-o", "ControlMaster=no", ...useMaster(target)] });
}

function useMaster(target: Target): string[] {
  return ["-o", `ControlPath=${masterPath(target)}`];
}

function masterPath({ folder }: Target): string {
  return `${folder}/master`;
}

/**
 * Sends through a forward to an echo and receives, until the connection ends. Resolves when the
 * first bytes have come back.
 */
async function startTransfer(port: number): Promise<{ ended: Promise<void> }> {
  const connection = await connect(tcpAddress(port));
  const flows = Promise.withResolvers<void>();
  const receive = async () => {
    const buffer = new Uint8Array(65_536);
    while (await connection.read(buffer) !== null) flows.resolve();
  };
  const send = async () => {
    for (;;) await writeAll(connection, new Uint8Array(16_384));
  };
  // Either one fails once the other has seen the end.
  const ended = Promise.any([receive(), send()]).catch(() => {}).then(() => connection.close());
  await Promise.race([flows.promise, ended]);
  return { ended };
}
