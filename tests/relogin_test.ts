/** A connection comes back only as a login that may be repeated: silently, by a person, or not. */

import assert from "node:assert/strict";
import { clientEnvironment, makeTarget, type Target } from "./support/both.ts";
import { startFaultyGround, startMany, untilLogged } from "./support/faulty.ts";
import { Terminal } from "./support/pty.ts";
import { type QuestionServer, startQuestionServer } from "./support/question_server.ts";
import { type CommandResult, type RunningProcess, text } from "./support/run.ts";
import { type Banner, shimEnvironment, shimProgram } from "./support/shim.ts";
import {
  bannerLine,
  commonArguments,
  type ShimProcess,
  startShimProcess,
} from "./support/shim_process.ts";
import { makeKey } from "./support/sshd.ts";
import type { Transcript } from "./support/transcript.ts";

Deno.test("a host key that changed ends all attempts, and gets nothing of the login", async () => {
  await using ground = await startFaultyGround();
  const { sshd, proxy, gate, shim, target } = ground;
  const keys = ["host_ed25519", "host_rsa"].map((name) => `${sshd.folder}/${name}`);
  for (const key of keys) {
    await Deno.copyFile(key, `${key}.kept`);
    await Deno.remove(key);
    await makeKey(key, key.endsWith("rsa") ? "rsa" : "ed25519");
  }
  await reload(sshd);
  const serverLog = sshd.log.text.length;
  const accepted = gate.acceptedCount;
  proxy.cutAll("rst");
  await untilLogged(shim.log, /Not tried again; send SIGUSR2/);

  const { code, stderr } = await target.ssh("true");
  assert.equal(code, 255);
  assert.match(text(stderr), /open failed: connect failed: .*127\.0\.0\.1.* changed/i);
  assert.match(text(stderr), /known_hosts_of_proxy line 1/);
  assert.equal(gate.acceptedCount, accepted + 1);
  const seen = sshd.log.text.slice(serverLog);
  assert.match(seen, /Connection from/);
  assert.doesNotMatch(seen, /key|publickey|none for|user root|Accepted|Failed|Postponed/);

  Deno.kill(shim.pid, "SIGUSR2");
  await untilLogged(shim.log, /Not tried again; send SIGUSR2/, { count: 2 });
  assert.equal(gate.acceptedCount, accepted + 2);

  for (const key of keys) await Deno.rename(`${key}.kept`, key);
  await reload(sshd);
  Deno.kill(shim.pid, "SIGUSR2");
  await untilLogged(shim.log, /connected to/, { count: 2 });
  assertOutput(await target.ssh("echo back"), "back\n");
});

Deno.test("a server that refuses the key after a cut is asked exactly once", async () => {
  await using ground = await startFaultyGround();
  const { sshd, proxy, gate, shim, target } = ground;
  const authorizedKeys = `${sshd.folder}/authorized_keys`;
  const authorized = await Deno.readTextFile(authorizedKeys);
  await Deno.writeTextFile(authorizedKeys, "");
  const accepted = gate.acceptedCount;
  proxy.cutAll("rst");
  await untilLogged(shim.log, /refused authentication.*Not tried again; send SIGUSR2/);
  for (const result of await startMany(2, () => target.ssh("true"))()) {
    assert.equal(result.code, 255);
    assert.match(text(result.stderr), /open failed: connect failed: .* refused authentication/);
  }
  await using listener = target.startSsh(undefined, {
    options: ["-N", "-R", "0:127.0.0.1:9", "-o", "ExitOnForwardFailure=yes"],
  });
  assert.equal((await listener.drained()).code, 255);
  assert.match(listener.stderr.text, /remote port forwarding failed/);
  assert.equal(gate.acceptedCount, accepted + 1);

  await Deno.writeTextFile(authorizedKeys, authorized);
  Deno.kill(shim.pid, "SIGUSR2");
  await untilLogged(shim.log, /connected to/, { count: 2 });
  assertOutput(await target.ssh("echo back"), "back\n");
});

Deno.test("a password that was given once is enough for every return", async () => {
  await using server = await startQuestionServer({ prompt: "Password: ", answer: "secret" });
  await using shim = await startWithPassword(server, "secret");
  const target = targetOf(shim);
  assertOutput(await target.ssh("true"), "done\n");
  await using waiting = await startWaiting(target);
  server.cutAll();
  assert.equal((await waiting.drained()).code, 255);
  assertOutput(await target.ssh("true"), "done\n");
  assert.deepEqual(server.counts, { connected: 2, asked: 2, admitted: 2 });
});

Deno.test("where nobody can be asked, each client is told, and each may find it otherwise", async () => {
  await using server = await startQuestionServer({ prompt: "Password: ", answer: "secret" });
  await using shim = await startWithPassword(server, "secret");
  const { stderr: log } = shim.process;
  const target = targetOf(shim);
  await using waiting = await startWaiting(target);
  server.question = { prompt: "One-time code: ", answer: "123456" };
  server.cutAll();
  assert.equal((await waiting.drained()).code, 255);
  await untilLogged(log, /needs a person.*the next client wakes the connection/);
  const { connected } = server.counts;

  for (const attempt of [1, 2]) {
    const { code, stderr } = await target.ssh("true");
    assert.equal(code, 255);
    assert.match(text(stderr), /open failed: connect failed: There is no terminal to ask/);
    assert.equal(server.counts.connected, connected + attempt);
  }
  server.question = { prompt: "Password: ", answer: "secret" };
  assertOutput(await target.ssh("true"), "done\n");
});

Deno.test("a person is asked when a client comes, once, and not before", async () => {
  await using server = await startQuestionServer({ prompt: "One-time code: ", answer: "111111" });
  await using shim = await startAtTerminal(server);
  const { screen, target } = shim;
  assert.equal(countPrompts(screen), 1);
  await using waiting = await startWaiting(target);

  server.question.answer = "222222";
  server.cutAll();
  assert.equal((await waiting.drained()).code, 255);
  await untilLogged(screen, /the next client wakes the connection/);
  assert.equal(countPrompts(screen), 1);
  const { connected } = server.counts;

  const clients = startMany(3, () => target.ssh("true"));
  await shim.answer("222222", { prompt: 2 });
  for (const result of await clients()) assertOutput(result, "done\n");
  assert.equal(countPrompts(screen), 2);
  assert.equal(server.counts.connected, connected + 1);
});

Deno.test("a person is asked at the return of a server for which a client waits", async () => {
  await using server = await startQuestionServer({ prompt: "One-time code: ", answer: "111111" });
  await using shim = await startAtTerminal(server);
  const { screen, target } = shim;
  server.question.answer = "222222";
  await using waiting = await startWaiting(target);
  server.isAway = true;
  server.cutAll();
  assert.equal((await waiting.drained()).code, 255);
  await untilLogged(screen, /trying again/);
  const client = startMany(1, () => target.ssh("true"));
  await untilLogged(screen, /client 2 connected/);
  assert.equal(countPrompts(screen), 1);
  server.isAway = false;
  await shim.answer("222222", { prompt: 2 });
  assertOutput((await client())[0]!, "done\n");
  assert.equal(countPrompts(screen), 2);
});

/** Makes sshd read its configuration and its host keys anew. */
async function reload({ pid, log }: { pid: number; log: Transcript }): Promise<void> {
  const from = log.text.length;
  Deno.kill(pid, "SIGHUP");
  await log.waitFor(/^Server listening on /m, { from });
}

function assertOutput({ code, stdout, stderr }: CommandResult, expected: string): void {
  assert.deepEqual({ code, stdout: text(stdout), stderr: text(stderr) }, {
    code: 0,
    stdout: expected,
    stderr: "",
  });
}

function loginArguments({ host, port, knownHostsFile }: QuestionServer): string[] {
  return [...["--host", host, "--port", String(port)], ...["--known-hosts", knownHostsFile]];
}

/** A shim without a terminal that has a password. */
async function startWithPassword(server: QuestionServer, password: string): Promise<ShimProcess> {
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, `${password}\n`);
    return await startShimProcess({
      arguments: [...loginArguments(server), "--password-file", file],
      hasTerminal: false,
    });
  } finally {
    await Deno.remove(file);
  }
}

interface ShimAtTerminal extends AsyncDisposable {
  readonly screen: Transcript;
  readonly target: Target;
  /** Types the answer to the prompt with this number, counted from 1, once it is there. */
  answer(text: string, options: { prompt: number }): Promise<void>;
}

const prompt = /One-time code: /g;

function countPrompts({ text }: Transcript): number {
  return text.match(prompt)?.length ?? 0;
}

/** A shim at a terminal whose first question has been answered. */
async function startAtTerminal(server: QuestionServer): Promise<ShimAtTerminal> {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "shim-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const environment = shimEnvironment(folder);
  const terminal = resources.use(
    new Terminal([...shimProgram, ...commonArguments, ...loginArguments(server)], {
      environment,
    }),
  );
  const { screen } = terminal;
  const answer = async (text: string, { prompt: number }: { prompt: number }) => {
    await screen.waitFor(new RegExp(`(?:${prompt.source}[^]*){${number}}`));
    await terminal.type(`${text}\n`);
  };
  await answer(server.question.answer, { prompt: 1 });
  const banner: Banner = JSON.parse((await screen.waitFor(bannerLine))[0]);
  const knownHostsFile = `${folder}/known_hosts`;
  await Deno.writeTextFile(knownHostsFile, `${banner.knownHostsLine}\n`);
  const { localAddress: host, localPort: port } = banner;
  const owned = resources.move();
  return {
    screen,
    target: targetOf({ host, port, knownHostsFile }),
    answer,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The way through a shim for clients who log in there by nothing but being this user. */
function targetOf(
  { host, port, knownHostsFile }: Pick<ShimProcess, "host" | "port" | "knownHostsFile">,
): Target {
  return makeTarget({
    ...{ mode: "shim", host, port, knownHostsFile, username: "somebody", keyFile: "/dev/null" },
    ...{ folder: "/nowhere", environment: clientEnvironment("/nowhere") },
  });
}

/** A client whose command stays. */
async function startWaiting(target: Target): Promise<RunningProcess> {
  const client = target.startSsh("wait");
  await client.stdout.waitFor(/waiting/);
  return client;
}
