/** The status of what runs, compared with what was really done; clients and server are real. */

import assert from "node:assert/strict";
import type { ChannelStatus, ShimStatus } from "../lib/status.ts";
import { startFaultyPath } from "./support/faulty.ts";
import { finish, lead, startForwarding } from "./support/forwarding.ts";
import { type InnerShim, startInnerShim } from "./support/inner_shim.ts";
import { faultsOf } from "./support/json_schema.ts";
import { freePort } from "./support/ports.ts";
import { RunningProcess } from "./support/run.ts";
import {
  connect,
  exchange,
  readExactly,
  startEcho,
  tcpAddress,
  writeAll,
} from "./support/services.ts";
import { startSshd } from "./support/sshd.ts";

const schema = JSON.parse(
  await Deno.readTextFile(new URL("../.github/status.schema.json", import.meta.url)),
);

/** A status, as a program that reads its JSON has it; it is what the schema says. */
async function statusOf({ shim }: InnerShim): Promise<ShimStatus> {
  return checked(await shim.status());
}

function checked(status: ShimStatus): ShimStatus {
  const json = JSON.parse(JSON.stringify(status));
  assert.deepEqual(json, status);
  assert.deepEqual(faultsOf(json, schema), []);
  return status;
}

/** The only client's only channel. */
function onlyChannel({ clients }: ShimStatus): ChannelStatus {
  assert.deepEqual(clients.map(({ channels }) => channels.length), [1]);
  return clients[0]!.channels[0]!;
}

Deno.test("a status has the host, the port, who is there and what they run, to the byte", async () => {
  const before = Date.now();
  await using sshd = await startSshd();
  await using inner = await startInnerShim(sshd);
  const { target } = inner;
  await using client = target.startSsh("cat; echo done");
  await client.write("twelve bytes");
  await client.stdout.waitFor(/twelve bytes/);

  const status = await statusOf(inner);
  const { pid, rssBytes } = status.process;
  assert.equal(pid, Deno.pid);
  assert(rssBytes > 10_000_000);
  assert(Date.parse(status.time) >= before);
  assert.equal(status.name, sshd.host);
  assert.deepEqual(status.host, {
    ...{ hostName: sshd.host, port: sshd.port, user: sshd.username, address: "127.0.0.1" },
  });
  assert.deepEqual(status.local, { address: target.host, port: target.port, sshNames: [] });
  const { state, since, sessions, exchange: upstreamExchange } = status.upstream;
  assert.equal(state, "ready");
  assert(Date.parse(since) >= before && Date.parse(since) <= Date.now());
  assert.deepEqual(sessions, { count: 1, limit: null, limitIs: null });
  assert.equal(upstreamExchange?.hostKey, "ssh-ed25519");

  const [one] = status.clients;
  assert.equal(status.clients.length, 1);
  const { id, carrier, user, key, program, exchange } = one!;
  assert.deepEqual([id, carrier, user, key], [1, "port", "anybody", null]);
  assert.deepEqual(program, {
    ...{ uid: Deno.uid(), pid: client.pid, name: await Deno.realPath("/usr/bin/ssh") },
  });
  assert.equal(exchange?.hostKey, "ssh-ed25519");
  const channel = onlyChannel(status);
  assert.deepEqual(channel.runs, { kind: "command", text: "cat; echo done" });
  assert.deepEqual(channel.state, { kind: "live" });
  assert.deepEqual([channel.number, channel.type, channel.openedBy], [0, "session", "client"]);
  assert.deepEqual([channel.toHostBytes, channel.toClientBytes], [12, 12]);
  assert.equal(channel.hasTerminal, false);

  await client.closeStdin();
  assert.equal((await client.drained()).code, 0);
  const after = checked(await inner.until("it has left", ({ clients }) => clients.length === 0));
  assert.deepEqual(after.totals, {
    ...{ toHostBytes: 12, toClientBytes: 12 + "done\n".length },
    channels: [{ type: "session", opened: 1, refused: 0 }],
    clients: { accepted: 1, turnedAway: 0 },
    reconnections: 0,
  });
});

Deno.test("each kind of channel says what it is for, and a remote forward whose it is", async () => {
  await using sshd = await startSshd();
  await using inner = await startInnerShim(sshd);
  const { target } = inner;
  await using echo = startEcho();
  const [localPort, remotePort] = [freePort(), freePort()];
  const socket = `${target.folder}/remote.sock`;
  await using client = await startForwarding(target, [
    ...["-L", lead(localPort, echo), "-R", lead(remotePort, echo)],
    ...["-R", `${socket}:127.0.0.1:${echo.port}`, "-tt"],
  ]);
  using outgoing = await connect(tcpAddress(localPort));
  using incoming = await connect(tcpAddress(remotePort));
  await writeAll(outgoing, new Uint8Array(100_000));
  await readExactly(outgoing, 100_000);
  await writeAll(incoming, new Uint8Array(7));
  await readExactly(incoming, 7);
  await using _sftp = new RunningProcess(
    ["sftp", ...target.clientOptions(), target.host],
    { environment: target.environment },
  );
  await inner.until(
    "sftp runs",
    ({ clients }) => clients[1]?.channels[0]?.runs?.kind === "subsystem",
  );

  const status = await statusOf(inner);
  const [forwarding, second] = status.clients;
  assert.deepEqual(second!.channels.map(({ runs }) => runs), [{ kind: "subsystem", text: "sftp" }]);
  const [session, ...others] = forwarding!.channels;
  assert.deepEqual([session!.hasTerminal, session!.runs?.kind], [true, "command"]);
  assert.deepEqual(
    others.toSorted((one, two) => one.type < two.type ? -1 : 1).map((
      { type, openedBy, target, toHostBytes, toClientBytes },
    ) => [type, openedBy, target, toHostBytes, toClientBytes].join(" ")),
    [
      `direct-tcpip client 127.0.0.1:${echo.port} 100000 100000`,
      `forwarded-tcpip host 127.0.0.1:${remotePort} 7 7`,
    ],
  );
  assert.deepEqual(
    status.forwards.map(({ since: _, ...forward }) => forward),
    [
      { kind: "tcpip", place: `127.0.0.1:${remotePort}`, state: "listening", client: 1 },
      { kind: "streamlocal", place: socket, state: "listening", client: 1 },
    ],
  );

  await client.write("\x04");
  outgoing.close();
  incoming.close();
  await finish(client);
  const after = checked(
    await inner.until(
      "it has left",
      ({ clients, forwards }) => clients.length === 1 && forwards.length === 0,
    ),
  );
  assert.deepEqual(after.totals.channels, [
    { type: "session", opened: 2, refused: 0 },
    { type: "direct-tcpip", opened: 1, refused: 0 },
    { type: "forwarded-tcpip", opened: 1, refused: 0 },
  ]);
});

Deno.test("a host behind this one is a client that comes from no port", async () => {
  await using sshd = await startSshd();
  await using inner = await startInnerShim(sshd);
  await using echo = startEcho();
  const way = await inner.shim.lender.openChannel({ host: "127.0.0.1", port: echo.port });
  await way.whenOpen;
  const status = await statusOf(inner);
  const { carrier, address, program, channels } = status.clients[0]!;
  assert.deepEqual([carrier, address, program], ["host", null, null]);
  assert.equal(channels[0]!.target, `127.0.0.1:${echo.port}`);
  way.close();
  await inner.until("it has left", ({ clients }) => clients.length === 0);
});

Deno.test("a command of any length is cut, and shows no control characters", async () => {
  await using sshd = await startSshd();
  await using inner = await startInnerShim(sshd);
  const command = `cat; : '\x1b[31m\n${"x".repeat(60_000)}'`;
  await using client = inner.target.startSsh(command);
  await client.write("a");
  await client.stdout.waitFor(/a/);
  const { runs } = onlyChannel(await statusOf(inner));
  const shown = `cat; : '\\x1b[31m\\n${"x".repeat(1000)}`.slice(0, 199) + "…";
  assert.deepEqual(runs, { kind: "command", text: shown });
});

Deno.test("a session whose input has ended is half closed, and one of a client that left closes", async () => {
  await using sshd = await startSshd();
  await using inner = await startInnerShim(sshd);
  await using client = inner.target.startSsh("cat; echo over; sleep 60");
  await client.closeStdin();
  await client.stdout.waitFor(/over/);
  assert.deepEqual(onlyChannel(await statusOf(inner)).state, { kind: "half-closed", by: "client" });
  client.kill("SIGKILL");
  await client.ended();
  const left = checked(await inner.until("it has left", ({ clients }) => clients.length === 0));
  assert(left.channelsWithoutClient.every(({ state }) => state.kind === "closing"));
});

Deno.test("a refused channel is counted, and leaves nothing", async () => {
  await using sshd = await startSshd();
  await using inner = await startInnerShim(sshd);
  const [local, closed] = [freePort(), freePort()];
  await using client = await startForwarding(inner.target, [
    ...["-L", `127.0.0.1:${local}:127.0.0.1:${closed}`],
  ]);
  assert.deepEqual(
    await exchange(tcpAddress(local), "x").catch(() => new Uint8Array()),
    new Uint8Array(),
  );
  const status = checked(
    await inner.until("it is counted", ({ totals }) => totals.channels.length === 2),
  );
  assert.deepEqual(status.totals.channels[1], { type: "direct-tcpip", opened: 0, refused: 1 });
  assert.equal(onlyChannel(status).type, "session");
  await finish(client);
});

for (const option of ["--local-auth=publickey", "--confirm"]) {
  Deno.test(`whoever is turned away by ${option} is counted, and shows nowhere`, async () => {
    await using sshd = await startSshd();
    await using inner = await startInnerShim(sshd, [option]);
    assert.equal((await inner.target.ssh("true")).code, 255);
    const status = checked(
      await inner.until("it is counted", ({ totals }) => totals.clients.turnedAway > 0),
    );
    assert.deepEqual(status.totals.clients, { accepted: 0, turnedAway: 1 });
    assert.deepEqual(status.clients, []);
  });
}

Deno.test("a loss is told with its reason, who waits for its end, and what brought it back", async () => {
  await using path = await startFaultyPath();
  await using inner = await startInnerShim(path.upstream, ["--reconnect-max-delay", "60"]);
  const { target, shim } = inner;
  await using session = target.startSsh("echo ready; cat");
  await session.stdout.waitFor(/ready/);
  const { proxy } = path;
  await proxy.refuse();
  proxy.cutAll("rst");
  const away = checked(
    await inner.until("it waits", ({ upstream }) => upstream.state === "waiting"),
  );
  assert.match(away.upstream.reason!, new RegExp(`:${proxy.port}`));
  assert.equal(away.upstream.exchange, null);
  assert(Date.parse(away.upstream.nextAttempt!) >= Date.parse(away.upstream.since));
  const [loss] = away.upstream.losses;
  assert.deepEqual([loss!.endedBy, loss!.backBy], ["network", null]);
  assert.equal(await shim.measureRoundTrip(), undefined);
  assert.equal((await session.drained()).code, 255);

  const waiting = target.ssh("echo back");
  const crowd = await inner.until("one waits", ({ clients }) => clients[0]?.channels.length === 1);
  assert.deepEqual(onlyChannel(checked(crowd)).state, { kind: "waiting", for: "upstream" });
  assert.equal(crowd.waiting.upstream.count, 1);
  assert.deepEqual(crowd.waiting.session, { count: 0, longestMs: 0 });

  await proxy.restore();
  shim.retry();
  assert.equal((await waiting).code, 0);
  const back = await statusOf(inner);
  assert.equal(back.upstream.state, "ready");
  assert.equal(back.totals.reconnections, 1);
  const [past] = back.upstream.losses;
  assert.equal(back.upstream.losses.length, 1);
  assert.deepEqual([past!.since, past!.reason], [loss!.since, loss!.reason]);
  assert(["person", "client", "timer"].includes(past!.backBy!) && past!.attempts >= 1);
  assert(past!.awayMs >= 0);
});

Deno.test("a session beyond the host's limit waits for one, or goes to a further connection", async () => {
  await using sshd = await startSshd({ config: ["MaxSessions 1"] });
  for (const overflow of [0, 1]) {
    await using inner = await startInnerShim(sshd, ["--overflow", String(overflow)]);
    await using first = inner.target.startSsh("echo ready; cat");
    await first.stdout.waitFor(/ready/);
    await using second = inner.target.startSsh("echo ready; cat");
    const isThere = ({ upstream: { sessions } }: ShimStatus) => sessions.limitIs === "learned";
    await inner.until("the limit is learned", isThere);
    if (overflow === 0) {
      const status = await statusOf(inner);
      assert.deepEqual(status.upstream.sessions, { count: 1, limit: 1, limitIs: "learned" });
      const [, waiting] = status.clients;
      assert.deepEqual(waiting!.channels[0]!.state, { kind: "waiting", for: "session" });
      assert.equal(status.waiting.session.count, 1);
      assert.deepEqual(status.overflow, { maximum: 0, connections: [] });
      await first.closeStdin();
      await first.drained();
    }
    await second.stdout.waitFor(/ready/);
    if (overflow === 0) continue;
    const status = await statusOf(inner);
    const { maximum, connections: [further] } = status.overflow;
    assert.deepEqual([maximum, further!.channels], [1, 1]);
    assert.equal(further!.exchange?.hostKey, "ssh-ed25519");
    const [one, two] = status.clients;
    assert.deepEqual(
      [one!.channels[0]!.isOnOverflow, two!.channels[0]!.isOnOverflow],
      [false, true],
    );
  }
});

Deno.test("a round trip is measured when somebody asks, once for all who ask, and shows", async () => {
  await using path = await startFaultyPath();
  await using inner = await startInnerShim(path.upstream);
  assert.equal((await statusOf(inner)).upstream.roundTrip, null);
  const [one, other] = await Promise.all([
    inner.shim.measureRoundTrip(),
    inner.shim.measureRoundTrip(),
  ]);
  assert(one !== undefined && one.milliseconds > 0);
  assert.equal(one, other);
  assert.deepEqual((await statusOf(inner)).upstream.roundTrip, one);
  // It is lost while somebody waits: that one is told at once.
  path.proxy.blackHole();
  const unanswered = inner.shim.measureRoundTrip();
  path.proxy.cutAll("rst");
  assert.equal(await unanswered, undefined);
});

Deno.test("whoever may not be sent keepalives is not sent one for a status", async () => {
  await using sshd = await startSshd();
  await using inner = await startInnerShim(sshd, ["--keepalive-interval", "0"]);
  assert.equal(await inner.shim.measureRoundTrip(), undefined);
});
