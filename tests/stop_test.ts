/** How the program ends: by a signal, or because the remote host is gone. */

import assert from "node:assert/strict";
import { clientEnvironment, makeTarget, type Target } from "./support/both.ts";
import { freePort } from "./support/ports.ts";
import {
  descendantsOf,
  isRunning,
  killDescendantsOf,
  waitForFile,
  waitUntil,
} from "./support/processes.ts";
import { makeFolder } from "./support/program.ts";
import { type Cut, startProxy } from "./support/proxy.ts";
import { RawClient } from "./support/raw_client.ts";
import { RunningProcess } from "./support/run.ts";
import { connect, readAll, readExactly, startEcho, tcpAddress } from "./support/services.ts";
import { shimEnvironment, shimProgram, type Upstream, upstreamArguments } from "./support/shim.ts";
import { startSshd } from "./support/sshd.ts";

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.test(`${signal} ends every session with a word, and then the program with 0`, async () => {
    await using sshd = await startSshd();
    await using shim = await startProgram(sshd);
    await using clients = await startClients(shim.target);
    shim.process.kill(signal);
    assert.equal((await shim.process.drained()).code, 0);
    await assertEnded(clients, /^\r?\nsshshim: sshshim has been stopped\r?\n/);
    assert.match(shim.process.stderr.text, new RegExp(`stopped by ${signal}\n$`));
    await waitUntil(
      "the remote host has lost the connection",
      async () => (await descendantsOf(sshd.pid)).length === 0,
    );
  });
}

Deno.test("the program ends although a client does not take its leave", async () => {
  await using sshd = await startSshd();
  await using shim = await startProgram(sshd);
  await using client = await RawClient.connect(shim.target);
  const { channel } = await client.openSession({ initialWindowSize: 2 ** 32 - 1 });
  client.stall();
  client.request(channel, "exec", "exec cat /dev/zero");
  // While this passes, the other one's turns fill its connection to the last byte.
  await shim.target.ssh("head -c 20000000 /dev/zero", { digestStdout: true });
  shim.process.kill("SIGTERM");
  assert.equal((await shim.process.drained()).code, 0);
});

Deno.test("a second signal ends the program at once", async () => {
  await using sshd = await startSshd();
  await using shim = await startProgram(sshd);
  await using _client = await startStalledClient(shim.target);
  shim.process.kill("SIGINT");
  // It takes no more clients: the first signal has been seen.
  await waitUntil("the port is closed", async () => {
    return await connect(tcpAddress(shim.target.port)).then((it) => it.close(), () => "refused") ===
      "refused";
  });
  shim.process.kill("SIGINT");
  assert.equal((await shim.process.drained()).code, 0);
  // Where nothing cuts the leave-taking short, this is the last word.
  assert.doesNotMatch(shim.process.stderr.text, /stopped by/);
});

Deno.test("a signal before the remote host has answered ends the program", async () => {
  await using folder = await makeFolder();
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using process = new RunningProcess([
    ...shimProgram,
    ...["-F", "none", "127.0.0.1", "--port", String(silent.addr.port), "--local-port", "0"],
  ], { environment: shimEnvironment(folder.path) });
  using _connection = await silent.accept();
  process.kill("SIGTERM");
  assert.equal((await process.drained()).code, 0);
});

Deno.test("when the server is killed, every session ends with a word, and the program with 5", async () => {
  await using sshd = await startSshd();
  await using shim = await startProgram(sshd, "--no-reconnect");
  await using clients = await startClients(shim.target);
  await killDescendantsOf(sshd.pid);
  await assertLost(shim, clients, sshd);
});

for (const how of ["fin", "rst"] as const satisfies readonly Cut[]) {
  Deno.test(`when the connection to the server ends by ${how}, every session is told, and the program ends with 5`, async () => {
    await using sshd = await startSshd();
    await using proxy = await startProxy({ target: { hostname: sshd.host, port: sshd.port } });
    const knownHostsFile = `${sshd.folder}/known_hosts_of_proxy`;
    await Deno.writeTextFile(
      knownHostsFile,
      sshd.hostKeys.map((key) => `[${proxy.hostname}]:${proxy.port} ${key}\n`).join(""),
    );
    const upstream = { ...sshd, host: proxy.hostname, port: proxy.port, knownHostsFile };
    await using shim = await startProgram(upstream, "--no-reconnect");
    await using clients = await startClients(shim.target);
    proxy.cutAll(how);
    await assertLost(shim, clients, upstream);
  });
}

async function assertLost(
  { process }: Program,
  clients: Clients,
  { username, host, port }: Upstream,
): Promise<void> {
  assert.equal((await process.drained()).code, 5);
  const name = `${username}@${host}:${port}`.replaceAll(".", "\\.");
  await assertEnded(clients, new RegExp(`^\r?\nsshshim: connection lost: ${name}.+\r?\n`));
  const lines = process.stderr.text.trimEnd().split("\n");
  assert.match(lines.at(-1)!, new RegExp(`^sshshim: error: .*${name}`));
}

/** The program as its users run it, and the way through it. */
interface Program extends AsyncDisposable {
  process: RunningProcess;
  target: Target;
}

async function startProgram(upstream: Upstream, ...words: string[]): Promise<Program> {
  await using resources = new AsyncDisposableStack();
  const { path } = resources.use(await makeFolder());
  const port = freePort();
  const process = resources.use(
    new RunningProcess([
      ...shimProgram,
      ...upstreamArguments(upstream),
      ...["-F", "none", "--local-port", String(port), ...words],
    ], { environment: shimEnvironment(path) }),
  );
  const [hostKey] = await process.stdout.waitFor(/(?<=echo ')[^']+/);
  const knownHostsFile = `${path}/known_hosts`;
  await Deno.writeTextFile(knownHostsFile, `${hostKey}\n`);
  const owned = resources.move();
  return {
    process,
    target: makeTarget({
      ...{ mode: "shim", host: "127.0.0.1", port, knownHostsFile, folder: path },
      username: upstream.username,
      keyFile: upstream.keyFile,
      environment: clientEnvironment(path),
    }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Clients of several kinds, each in the middle of something. */
interface Clients extends AsyncDisposable {
  sessions: RunningProcess[];
  /** The remote processes of the sessions. */
  pids: number[];
  /** A connection through a local forward. */
  forwarded: Deno.Conn;
}

async function startClients(target: Target): Promise<Clients> {
  await using resources = new AsyncDisposableStack();
  const echo = resources.use(startEcho({ greeting: "hello" }));
  const [local, remote] = [freePort(), freePort()];
  const forwards = [
    ...["-L", `127.0.0.1:${local}:127.0.0.1:${echo.port}`],
    ...["-R", `127.0.0.1:${remote}:127.0.0.1:${echo.port}`],
  ];
  const sessions = [
    target.startSsh(`echo $$ >${target.folder}/pid0; exec cat`, { options: forwards }),
    target.startSsh(`echo $$ >${target.folder}/pid1; exec cat`, { options: ["-tt"] }),
    target.startSsh(`echo $$ >${target.folder}/pid2; exec cat /dev/zero`, { discardStdout: true }),
  ].map((it) => resources.use(it));
  const pids = await Promise.all(
    sessions.map((_, index) => waitForFile(`${target.folder}/pid${index}`).then(Number)),
  );
  const forwarded = resources.adopt(
    await connect(tcpAddress(local)),
    (connection) => connection.close(),
  );
  await readExactly(forwarded, "hello".length);
  const owned = resources.move();
  return { sessions, pids, forwarded, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Asserts that each client has been told, and that nothing of it is left on the remote host. */
async function assertEnded({ sessions, pids, forwarded }: Clients, notice: RegExp): Promise<void> {
  assert.equal((await readAll(forwarded)).length, 0);
  for (const session of sessions) {
    assert.equal((await session.drained()).code, 255);
    // A word needs room in the client's window, which a download may have filled.
    const isDownload = session === sessions.at(-1);
    if (!isDownload || session.stderr.text !== "") assert.match(session.stderr.text, notice);
  }
  for (const pid of pids) {
    await waitUntil(`the remote process ${pid} has ended`, async () => !await isRunning(pid));
  }
}

/** A client that is stopped while it downloads, and takes nothing any more. */
async function startStalledClient(target: Target): Promise<AsyncDisposable> {
  const client = target.startSsh("echo ready >&2; exec cat /dev/zero", { discardStdout: true });
  await client.stderr.waitFor(/ready/);
  client.kill("SIGSTOP");
  return {
    async [Symbol.asyncDispose]() {
      client.kill("SIGKILL");
      await client[Symbol.asyncDispose]();
    },
  };
}
