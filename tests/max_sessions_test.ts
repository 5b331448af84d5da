/** Sessions beyond the number that a real sshd allows on one connection. */

import assert from "node:assert/strict";
import { startGround, type Target } from "./support/both.ts";
import { lead } from "./support/forwarding.ts";
import { startMany, targetThrough, untilLogged } from "./support/faulty.ts";
import { freePort } from "./support/ports.ts";
import { waitUntil } from "./support/processes.ts";
import { type CommandResult, type RunningProcess, text } from "./support/run.ts";
import { exchange, tcpAddress } from "./support/services.ts";
import { type Shim, startShim } from "./support/shim.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";

Deno.test("ten sessions at once all succeed where two are allowed, in turns", async () => {
  await using ground = await startCrowd({ maxSessions: 2 });
  const { sshd, target } = ground;
  const results = await Promise.all(Array.from(
    { length: 10 },
    (_, index) => target.ssh(`cat; sleep 0.1; echo ${index}`, { stdin: "input " }),
  ));
  for (const [index, result] of results.entries()) assertOutput(result, `input ${index}\n`);
  await untilClosed(sshd, 10);
  assert.equal(countConnections(sshd), 1);
  assert.equal(peakOf(sshd), 2);
});

for (const known of [[], ["--max-sessions", "2"]]) {
  const how = known.length > 0 ? "known beforehand" : "found out";
  Deno.test(`--overflow 2 takes sessions over up to three connections, the limit ${how}`, async () => {
    await using ground = await startCrowd({
      maxSessions: 2,
      arguments: ["--overflow", "2", ...known],
    });
    const { sshd, target, shim } = ground;
    await using resources = new AsyncDisposableStack();
    // None of them ends before all six run.
    const six = await startHolders(target, resources, 6);
    const more = startMany(4, (index) => target.ssh(`echo ${index}`));
    await untilLogged(shim.log, /client \d+ connected from/, { count: 10 });
    for (const holder of six) await end(holder);
    for (const [index, result] of (await more()).entries()) assertOutput(result, `${index}\n`);
    await untilClosed(sshd, 10);
    assert.equal(countConnections(sshd), 3);
    assert.equal(peakOf(sshd), 6);

    await shim.stop();
    await waitUntil(
      "the three connections have ended",
      () => Promise.resolve((sshd.log.text.match(/^Disconnected from user/gm) ?? []).length === 3),
    );
  });
}

Deno.test("one connection is made and used where the sessions have room on it", async () => {
  await using ground = await startCrowd({ maxSessions: 10, arguments: ["--overflow", "2"] });
  await using resources = new AsyncDisposableStack();
  for (const holder of await startHolders(ground.target, resources, 6)) await end(holder);
  await untilClosed(ground.sshd, 6);
  assert.equal(countConnections(ground.sshd), 1);
});

Deno.test("--max-sessions is kept where the server would allow more", async () => {
  await using ground = await startCrowd({ maxSessions: 10, arguments: ["--max-sessions", "1"] });
  const { sshd, target } = ground;
  const results = await Promise.all(
    Array.from({ length: 4 }, (_, index) => target.ssh(`sleep 0.1; echo ${index}`)),
  );
  for (const [index, result] of results.entries()) assertOutput(result, `${index}\n`);
  await untilClosed(sshd, 4);
  assert.equal(peakOf(sshd), 1);
});

Deno.test("forwards do not wait for a session to end, whether they succeed or are refused", async () => {
  await using ground = await startCrowd({ maxSessions: 1 });
  const { target, shim } = ground;
  await using resources = new AsyncDisposableStack();
  const [holder] = await startHolders(target, resources, 1);
  // It waits, and the number is known from now on.
  const waiting = target.ssh("echo at last");
  await untilLogged(shim.log, /client 2 connected from/);

  const closed = freePort();
  const refused = await target.ssh("", {
    options: ["-W", `127.0.0.1:${closed}`],
  });
  assert.equal(refused.code, 255);
  assert.match(text(refused.stderr), /open failed: connect failed: Connection refused/);

  const port = freePort();
  const service = { port: closed } as Parameters<typeof lead>[1];
  const client = resources.use(
    target.startSsh(undefined, { options: ["-v", "-N", "-L", lead(port, service)] }),
  );
  await client.stderr.waitFor(/Entering interactive session/);
  const answer = exchange(tcpAddress(port), "").catch((error) => error);
  await client.stderr.waitFor(/open failed: connect failed: Connection refused/);
  await answer;

  const reached = await target.ssh("", {
    options: ["-W", `${shim.host}:${ground.sshd.port}`],
    stdin: "garbage\n",
  });
  assert.match(text(reached.stdout), /^SSH-2\.0-OpenSSH/);

  await end(holder!);
  assertOutput(await waiting, "at last\n");
});

Deno.test("a server that allows no session says so at once, through the shim as directly", async () => {
  await using ground = await startGround({ sshd: { config: ["MaxSessions 0"] } });
  const { code, stderr } = await ground.compare(async (target) => {
    const { code, stderr } = await target.ssh("true");
    return { code, stderr: text(stderr) };
  }, { noLane: "ssh goes on to the port, and says both" });
  assert.equal(code, 255);
  assert.match(stderr, /open failed: /);
});

Deno.test("a session that waits for longer than --open-timeout is told the number", async () => {
  await using ground = await startCrowd({ maxSessions: 1, arguments: ["--open-timeout", "1"] });
  const { target } = ground;
  await using resources = new AsyncDisposableStack();
  const [holder] = await startHolders(target, resources, 1);
  const { code, stderr } = await target.ssh("true");
  assert.equal(code, 255);
  assert.match(
    text(stderr),
    /open failed: connect failed: no session became free within 1 s; the remote host allows 1\b/,
  );
  await end(holder!);
  assertOutput(await target.ssh("echo free"), "free\n");
});

Deno.test("a client that leaves while it waits leaves its place to the next one", async () => {
  await using ground = await startCrowd({ maxSessions: 1 });
  const { sshd, target, shim } = ground;
  await using resources = new AsyncDisposableStack();
  const [holder] = await startHolders(target, resources, 1);
  const gone = resources.use(target.startSsh("echo gone"));
  await untilLogged(shim.log, /client 2 connected from/);
  const next = target.ssh("echo next");
  await untilLogged(shim.log, /client 3 connected from/);
  gone.kill("SIGKILL");
  await untilLogged(shim.log, /client 2 left/);
  await end(holder!);
  assertOutput(await next, "next\n");
  await untilClosed(sshd, 2);
  assert.equal((sshd.log.text.match(/^Starting session/gm) ?? []).length, 2);
});

/** A server that allows so many sessions on one connection, and the shim in front of it. */
interface Crowd extends AsyncDisposable {
  sshd: Sshd;
  shim: Shim;
  target: Target;
}

async function startCrowd(
  options: { maxSessions: number; arguments?: string[] },
): Promise<Crowd> {
  await using resources = new AsyncDisposableStack();
  const sshd = resources.use(
    await startSshd({ config: [`MaxSessions ${options.maxSessions}`] }),
  );
  const shim = resources.use(
    await startShim(sshd, { arguments: ["-F", "none", ...options.arguments ?? []] }),
  );
  const owned = resources.move();
  return {
    sshd,
    shim,
    target: targetThrough(shim, { sshd }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Starts sessions that run until their standard input ends; resolves once all of them run. */
async function startHolders(
  target: Target,
  resources: AsyncDisposableStack,
  count: number,
): Promise<RunningProcess[]> {
  const holders = Array.from(
    { length: count },
    () => resources.use(target.startSsh("echo ready; cat")),
  );
  for (const holder of holders) await holder.stdout.waitFor(/ready/);
  return holders;
}

async function end(holder: RunningProcess): Promise<void> {
  await holder.closeStdin();
  assert.equal((await holder.drained()).code, 0);
  assert.equal(holder.stderr.text, "");
}

/**
 * Resolves when the log tells of the end of so many sessions. What it has to say of them may be
 * read later than what their clients wrote.
 */
async function untilClosed({ log }: Sshd, count: number): Promise<void> {
  await log.waitFor(new RegExp(`(^Close session[^]*){${count}}`, "m"));
}

function countConnections({ log }: Sshd): number {
  return (log.text.match(/^Accepted publickey/gm) ?? []).length;
}

/** The most sessions that ran at a time, by the server's log. */
function peakOf({ log }: Sshd): number {
  let count = 0;
  let peak = 0;
  for (const line of log.lines) {
    if (line.startsWith("Starting session")) peak = Math.max(peak, ++count);
    if (line.startsWith("Close session")) count--;
  }
  return peak;
}

function assertOutput({ code, stdout, stderr }: CommandResult, expected: string): void {
  assert.deepEqual({ code, stdout: text(stdout), stderr: text(stderr) }, {
    code: 0,
    stdout: expected,
    stderr: "",
  });
}
