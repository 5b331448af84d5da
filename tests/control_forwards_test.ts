/** Forwards with the remote host in memory; the sockets on this side are real. */

import assert from "node:assert/strict";
import type { ForwardSpecification } from "../lib/control_forwards.ts";
import type { ForwardEnd } from "../lib/control_messages.ts";
import { MessageType } from "../lib/wire.ts";
import { within } from "./support/deadline.ts";
import { FarHost } from "./support/far_host.ts";
import { freePort } from "./support/ports.ts";
import { waitUntil } from "./support/processes.ts";
import {
  closeQuietly,
  connect,
  exchange,
  isFree,
  readAll,
  readExactly,
  startEcho,
  tcpAddress,
  writeAll,
} from "./support/services.ts";
import { connectBySocks } from "./support/socks.ts";

const { channelOpenFailure, requestFailure } = MessageType;

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const web: ForwardEnd = { host: "web.example", port: 80 };
const socks: ForwardEnd = { host: "socks", port: 0 };

/** As ssh's mux client has it: a host that was not given is empty. */
function at(port: number, host = ""): ForwardEnd {
  return { host, port };
}

function local(listen: ForwardEnd, connect = web): ForwardSpecification {
  return { kind: "local", listen, connect };
}

function dynamic(listen: ForwardEnd): ForwardSpecification {
  return { kind: "dynamic", listen, connect: socks };
}

function remote(listen: ForwardEnd, connect: ForwardEnd): ForwardSpecification {
  return { kind: "remote", listen, connect };
}

/** Opens a local forward at a free port. */
async function openLocal(far: FarHost, connect = web): Promise<{ port: number }> {
  const { port } = await far.forwards.open(local(at(0), connect));
  return { port: port! };
}

async function withFolder(task: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "forwards-" });
  try {
    await task(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function exists(path: string): Promise<boolean> {
  return Deno.lstat(path).then(() => true, () => false);
}

// From this machine

for (const hostname of ["127.0.0.1", "::1"]) {
  Deno.test(`a connection to a local forward at ${hostname} becomes a channel, half-closed in each direction`, async () => {
    await using far = new FarHost();
    const { port } = await openLocal(far);
    using connection = await connect({ transport: "tcp", hostname, port });
    const originator = connection.localAddr as Deno.NetAddr;
    const open = await far.nextOpen("direct-tcpip", "web.example", 80, hostname, originator.port);
    const channel = far.agree(open);
    await writeAll(connection, encode("question"));
    await channel.expect("question");
    await connection.closeWrite();
    await channel.expectEof();
    channel.send("answer");
    channel.sendEof();
    await channel.expectClose();
    channel.close();
    assert.equal(decode(await readAll(connection)), "answer");
  });
}

Deno.test("what the remote host has sent to its end arrives, while this side goes on", async () => {
  await using far = new FarHost();
  const { port } = await openLocal(far);
  using connection = await connect(tcpAddress(port));
  const channel = far.agree(await far.next(MessageType.channelOpen));
  channel.send("all");
  channel.sendEof();
  assert.equal(decode(await readAll(connection)), "all");
  await writeAll(connection, encode("more"));
  await channel.expect("more");
  await connection.closeWrite();
  await channel.expectEof();
  await channel.expectClose();
  channel.close();
});

Deno.test("a local forward without a host listens on loopback alone, with * on every address", async () => {
  const other = Object.values(Deno.networkInterfaces())
    .find(({ family, address }) => family === "IPv4" && !address.startsWith("127."))?.address;
  for (const [host, isOpen] of [["", false], ["localhost", false], ["*", true]] as const) {
    await using far = new FarHost();
    const { port } = await far.forwards.open(local(at(0, host)));
    const addresses = ["127.0.0.1", "::1", ...(other === undefined || !isOpen) ? [] : [other]];
    for (const hostname of addresses) {
      using connection = await connect({ transport: "tcp", hostname, port: port! });
      const { port: from } = connection.localAddr as Deno.NetAddr;
      await far.nextOpen("direct-tcpip", "web.example", 80, hostname, from);
    }
    if (other === undefined || isOpen) continue;
    const reached = connect({ transport: "tcp", hostname: other, port: port! });
    await assert.rejects(reached, Deno.errors.ConnectionRefused);
  }
});

Deno.test("a forward listens at the address that it is given", async () => {
  await using far = new FarHost();
  const { port } = await far.forwards.open(local(at(0, "127.0.0.1")));
  (await connect(tcpAddress(port!))).close();
  await assert.rejects(connect({ transport: "tcp", hostname: "::1", port: port! }));
  const nowhere = local(at(port!, "198.51.100.1"));
  await assert.rejects(
    far.forwards.open(nowhere),
    /Cannot listen at 198\.51\.100\.1:\d+: .*assign/,
  );
});

Deno.test("a unix socket that is forwarded is its owner's alone, and removed at the end", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/socket`;
    const before = Deno.umask();
    await using far = new FarHost();
    await far.forwards.open(local({ path }, { path: "/run/there" }));
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    assert.equal(Deno.umask(), before);
    using connection = await connect({ transport: "unix", path });
    const type = "direct-streamlocal@openssh.com";
    const channel = far.agree(await far.nextOpen(type, "/run/there", "127.0.0.1", 65_535));
    channel.send("hello");
    assert.equal(decode(await readExactly(connection, 5)), "hello");
    await far.forwards.close(local({ path }, { path: "/run/there" }));
    assert.equal(await exists(path), false);
  });
});

Deno.test("what others have put in the place of a forward's socket stays", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/socket`;
    await using far = new FarHost();
    const { close } = await far.forwards.open(local({ path }));
    await Deno.remove(path);
    await Deno.writeTextFile(path, "theirs");
    await assert.rejects(
      far.forwards.open(local({ path }, { host: "other", port: 1 })),
      (error: Error) =>
        error.message.includes(`Cannot listen at "${path}": Address already in use`),
    );
    await close();
    assert.equal(await Deno.readTextFile(path), "theirs");
    assert.deepEqual(Array.from(Deno.readDirSync(folder), ({ name }) => name), ["socket"]);
  });
});

Deno.test("a refused channel ends its connection, and no other", async () => {
  await using far = new FarHost();
  const { port } = await openLocal(far);
  using good = await connect(tcpAddress(port));
  const channel = far.agree(await far.next(MessageType.channelOpen));
  using bad = await connect(tcpAddress(port));
  const { senderChannel } = await far.next(MessageType.channelOpen);
  far.say(channelOpenFailure, senderChannel, 2, "Connection refused", "");
  assert.equal((await readAll(bad)).length, 0);
  channel.send("fine");
  assert.equal(decode(await readExactly(good, 4)), "fine");
  assert.equal(far.forwards.list()[0]!.connections, 1);
});

Deno.test("a connection that is gone ends its channel, and no other", async () => {
  await using far = new FarHost();
  const { port } = await openLocal(far);
  using good = await connect(tcpAddress(port));
  const channel = far.agree(await far.next(MessageType.channelOpen));
  const bad = await connect(tcpAddress(port));
  const lost = far.agree(await far.next(MessageType.channelOpen));
  bad.close();
  await lost.expectEof();
  lost.send("a");
  lost.sendEof();
  await lost.expectClose();
  lost.close();
  channel.send("fine");
  assert.equal(decode(await readExactly(good, 4)), "fine");
});

Deno.test("a port in use is told with its address, and no half of a forward stays", async () => {
  await using far = new FarHost();
  using taken = Deno.listen({ hostname: "::1", port: 0 });
  const { port } = taken.addr;
  await assert.rejects(
    far.forwards.open(local(at(port))),
    new Error(
      `Cannot listen at [::1]:${port}: Address already in use. Choose another, or end whatever ` +
        "listens there.",
    ),
  );
  assert.equal(await isFree(port), true);
  assert.deepEqual(far.forwards.list(), []);
  assert.equal(far.clientCount, 0);
  taken.close();
  await far.forwards.open(local(at(port)));
});

Deno.test("a forward that leads nowhere is refused", async () => {
  await using far = new FarHost();
  for (const nowhere of [{ host: "", port: 80 }, { host: "web", port: 0 }, { path: "" }]) {
    await assert.rejects(far.forwards.open(local(at(0), nowhere)), /leads nowhere/);
  }
});

// SOCKS

Deno.test("a SOCKS client is led where it wants, and what it sent early goes along", async () => {
  await using far = new FarHost();
  const { port } = await far.forwards.open(dynamic(at(0)));
  using connection = await connect(tcpAddress(port!));
  const { port: from } = connection.localAddr as Deno.NetAddr;
  const request = [5, 1, 0, 5, 1, 0, 3, 11, ...encode("web.example"), 0, 80];
  await writeAll(connection, Uint8Array.of(...request, ...encode("early ")));
  const channel = far.agree(
    await far.nextOpen("direct-tcpip", "web.example", 80, "127.0.0.1", from),
  );
  assert.deepEqual([...await readExactly(connection, 12)], [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 80]);
  await writeAll(connection, encode("late"));
  await channel.expect("early late");
  channel.send("answer");
  assert.equal(decode(await readExactly(connection, 6)), "answer");
});

Deno.test("what is no SOCKS is ended, and so is who leaves before the request", async () => {
  await using far = new FarHost();
  const { port } = await far.forwards.open(dynamic(at(0)));
  assert.equal(
    (await exchange(tcpAddress(port!), "GET / HTTP/1.1\r\n\r\n").catch(() => [])).length,
    0,
  );
  assert.equal((await exchange(tcpAddress(port!), Uint8Array.of(5, 1))).length, 0);
  assert.deepEqual([...await exchange(tcpAddress(port!), Uint8Array.of(5, 1, 0, 5))], [5, 0]);
  far.expectNothing();
  using good = await connectBySocks(tcpAddress(port!), { host: "192.0.2.7", port: 22 });
  const { port: from } = good.localAddr as Deno.NetAddr;
  await far.nextOpen("direct-tcpip", "192.0.2.7", 22, "127.0.0.1", from);
});

// From the remote host

for (
  const [given, sent] of [["", "localhost"], ["*", ""], ["192.0.2.7", "192.0.2.7"]] as const
) {
  Deno.test(`a remote forward at "${given}" is asked for at "${sent}", and connects here`, async () => {
    await using echo = startEcho({ greeting: "hello " });
    await using far = new FarHost();
    const forward = remote(at(8080, given), at(echo.port, "127.0.0.1"));
    const opening = far.forwards.open(forward);
    await far.grant("tcpip-forward", [sent, 8080]);
    assert.equal((await opening).port, undefined);
    const channel = await far.open("forwarded-tcpip", sent, 8080, "198.51.100.1", 4711);
    await channel.expect("hello ");
    channel.send("world");
    await channel.expect("world");
    assert.equal(far.forwards.list()[0]!.connections, 1);
    channel.sendEof();
    await channel.expectEof();
    await channel.expectClose();
    channel.close();
    const closing = far.forwards.close(forward);
    await far.grant("cancel-tcpip-forward", [sent, 8080]);
    await closing;
    assert.deepEqual(far.forwards.list(), []);
  });
}

Deno.test("a port that the remote host has chosen is told, and the forward is found by it", async () => {
  await using echo = startEcho();
  await using far = new FarHost();
  const forward = remote(at(0), at(echo.port, "localhost"));
  const opening = far.forwards.open(forward);
  await far.nextRequest("tcpip-forward", "localhost", 0);
  // Whoever connects at once is there before the answer is known here.
  far.say(MessageType.requestSuccess, 40_001);
  const channel = await far.open("forwarded-tcpip", "localhost", 40_001, "127.0.0.1", 4711);
  assert.equal((await opening).port, 40_001);
  assert.equal((await far.forwards.open(forward)).port, 40_001);
  assert.equal(far.forwards.list()[0]!.listen, "localhost:40001");
  const closing = far.forwards.close(remote(at(40_001), at(1, "elsewhere")));
  await far.grant("cancel-tcpip-forward", ["localhost", 40_001]);
  await closing;
  // Its connection goes on.
  channel.send("on");
  await channel.expect("on");
  assert.equal(far.clientCount, 1);
});

Deno.test("forwards at ports that are chosen lead each to its own place", async () => {
  await using one = startEcho({ greeting: "one" });
  await using two = startEcho({ greeting: "two" });
  await using far = new FarHost();
  const opening = [one, two].map(({ port }) =>
    far.forwards.open(remote(at(0), at(port, "127.0.0.1")))
  );
  for (const port of [40_001, 40_002]) await far.grant("tcpip-forward", ["localhost", 0], [port]);
  assert.deepEqual((await Promise.all(opening)).map(({ port }) => port), [40_001, 40_002]);
  const open = (port: number) => far.open("forwarded-tcpip", "localhost", port, "127.0.0.1", 1);
  await (await open(40_002)).expect("two");
  await (await open(40_001)).expect("one");
});

Deno.test("unix sockets are forwarded from the remote host, and to one here", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/echo`;
    await using _echo = startEcho({ greeting: "hello", path });
    await using far = new FarHost();
    const forward = remote({ path: "/run/there" }, { path });
    const opening = far.forwards.open(forward);
    await far.grant("streamlocal-forward@openssh.com", ["/run/there"]);
    await opening;
    await (await far.open("forwarded-streamlocal@openssh.com", "/run/there", "")).expect("hello");
    const closing = far.forwards.close(forward);
    await far.grant("cancel-streamlocal-forward@openssh.com", ["/run/there"]);
    await closing;
  });
});

Deno.test("a remote forward that leads nowhere is led by SOCKS", async () => {
  await using echo = startEcho({ greeting: "hello " });
  await using far = new FarHost();
  const opening = far.forwards.open(remote(at(1080), socks));
  await far.grant("tcpip-forward", ["localhost", 1080]);
  await opening;
  assert.equal(far.forwards.list()[0]!.connect, null);
  const open = () => far.open("forwarded-tcpip", "localhost", 1080, "127.0.0.1", 1);
  const channel = await open();
  channel.sendBytes(5);
  channel.sendBytes(1, 0);
  await channel.expectBytes(5, 0);
  const { port } = echo;
  channel.sendBytes(5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 255, ...encode("wor"));
  await channel.expectBytes(5, 0, 0, 1, 0, 0, 0, 0, port >> 8, port & 255, ...encode("hello wor"));
  channel.send("ld");
  await channel.expect("ld");
  channel.sendEof();
  await channel.expectEof();
  await channel.expectClose();
  channel.close();

  for (const wrong of [encode("GET /"), [5, 1, 0, 5, 1, 0, 2, 0]]) {
    const other = await open();
    other.sendBytes(...wrong);
    await other.expectClose();
    other.close();
  }
  const early = await open();
  early.sendBytes(5, 1);
  early.sendEof();
  await early.expectClose();
  early.close();
  const unanswered = await open();
  const free = freePort();
  unanswered.sendBytes(5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, free >> 8, free & 255);
  await unanswered.expectClose();
  unanswered.close();
});

Deno.test("a remote forward that is refused is told, and another may follow", async () => {
  await using far = new FarHost();
  const forward = remote(at(8080), web);
  const opening = far.forwards.open(forward);
  const again = far.forwards.open(forward);
  await far.nextRequest("tcpip-forward", "localhost", 8080);
  far.say(requestFailure);
  const message = /The remote host does not listen at localhost:8080\. .*PermitListen/;
  await Promise.all([opening, again].map((it) => assert.rejects(it, message)));
  far.expectNothing();
  assert.equal(far.clientCount, 0);
  const third = far.forwards.open(forward);
  await far.grant("tcpip-forward", ["localhost", 8080]);
  await third;
});

Deno.test("where nobody answers here the channel is refused, and so is one that nobody asked for", async () => {
  await using far = new FarHost();
  const port = freePort();
  const opening = far.forwards.open(remote(at(8080), at(port, "127.0.0.1")));
  await far.grant("tcpip-forward", ["localhost", 8080]);
  await opening;
  far.ask("forwarded-tcpip", "localhost", 8080, "127.0.0.1", 1);
  const refused = await far.next(channelOpenFailure);
  assert.equal(refused.reasonCode, 2);
  assert.match(refused.description, /^cannot connect to 127\.0\.0\.1:\d+: Connection refused/);
  far.ask("forwarded-tcpip", "localhost", 8081, "127.0.0.1", 1);
  await far.next(channelOpenFailure);
  far.ask("x11", "127.0.0.1", 1);
  await far.next(channelOpenFailure);
  assert.equal(far.forwards.list()[0]!.connections, 0);
});

Deno.test("remote forwards come back with the connection, with the ports that they had", async () => {
  await using echo = startEcho({ greeting: "hello" });
  await using far = new FarHost();
  const opening = far.forwards.open(remote(at(0), at(echo.port, "127.0.0.1")));
  await far.grant("tcpip-forward", ["localhost", 0], [40_001]);
  await opening;
  far.world.relay.detachUpstream("lost");
  far.world.attach();
  // What is asked for at once is sent before the test listens.
  const [request] = far.world.upstream.take();
  assert.equal(request?.message.type, MessageType.globalRequest);
  far.listen();
  far.say(MessageType.requestSuccess);
  const channel = await far.open("forwarded-tcpip", "localhost", 40_001, "127.0.0.1", 1);
  await channel.expect("hello");
});

// Which there are

Deno.test("the same forward twice is one, and it ends when nobody wants it any more", async () => {
  await using far = new FarHost();
  const forward = local(at(freePort()));
  const one = await far.forwards.open(forward);
  const two = await far.forwards.open(forward);
  assert.equal(far.forwards.list().length, 1);
  await one.close();
  await one.close();
  assert.equal(far.forwards.list().length, 1);
  await two.close();
  assert.deepEqual(far.forwards.list(), []);
  assert.equal(far.clientCount, 0);
  const third = await far.forwards.open(forward);
  assert.equal(far.clientCount, 1);
  await far.forwards.close(forward);
  await far.forwards.open(forward);
  // Those who had an earlier one have no say in the next.
  await third.close();
  assert.equal(far.forwards.list().length, 1);
});

Deno.test("a forward is found by its kind and where it listens, and its connections go on", async () => {
  await using far = new FarHost();
  const port = freePort();
  await far.forwards.open(local(at(port)));
  using connection = await connect(tcpAddress(port));
  const channel = far.agree(await far.next(MessageType.channelOpen));
  for (
    const other of [
      dynamic(at(port)),
      local(at(port, "127.0.0.1")),
      local(at(port + 1)),
      local({ path: "/nowhere" }),
    ]
  ) {
    await assert.rejects(
      far.forwards.close(other),
      /^Error: There is no (local|dynamic) forward from/,
    );
  }
  await far.forwards.close(local(at(port), { host: "another", port: 81 }));
  assert.deepEqual(far.forwards.list(), []);
  assert.equal(await isFree(port), true);
  channel.send("on");
  assert.equal(decode(await readExactly(connection, 2)), "on");
  assert.equal(far.clientCount, 1);
  channel.close();
  await channel.expectClose();
  await readAll(connection);
  assert.equal(far.clientCount, 0);
});

Deno.test("where no more connections are taken, those that are there go on", async () => {
  await using far = new FarHost();
  const port = freePort();
  await far.forwards.open(local(at(port)));
  using connection = await connect(tcpAddress(port));
  const channel = far.agree(await far.next(MessageType.channelOpen));
  far.forwards.stopListening();
  await waitUntil("the port is free", () => isFree(port));
  assert.deepEqual(far.forwards.list(), []);
  channel.send("on");
  assert.equal(decode(await readExactly(connection, 2)), "on");
  channel.close();
  await channel.expectClose();
  await readAll(connection);
});

Deno.test("the list says what is forwarded, where, and how many connections there are", async () => {
  await using far = new FarHost();
  const [one, two] = [freePort(), freePort()];
  await far.forwards.open(local(at(one), { host: "::1", port: 80 }));
  await far.forwards.open(dynamic(at(two, "*")));
  const opening = far.forwards.open(remote(at(8080, "::"), { path: "/run/here" }));
  await far.grant("tcpip-forward", ["::", 8080]);
  await opening;
  using _connection = await connect(tcpAddress(one));
  await far.next(MessageType.channelOpen);
  const list = far.forwards.list();
  for (const { since } of list) assert(Math.abs(Date.parse(since) - Date.now()) < 600_000);
  assert.deepEqual(list.map(({ since: _, ...rest }) => rest), [
    { kind: "local", listen: `localhost:${one}`, connect: "[::1]:80", connections: 1 },
    { kind: "dynamic", listen: `*:${two}`, connect: null, connections: 0 },
    { kind: "remote", listen: "[::]:8080", connect: "/run/here", connections: 0 },
  ]);
  assert.doesNotThrow(() => JSON.stringify(list));
});

Deno.test("a forward that is closed before it is there is no forward, and its listener is cancelled", async () => {
  await using far = new FarHost();
  const forward = remote(at(8080), web);
  // Another one keeps the client there.
  await openLocal(far);
  const opening = assert.rejects(far.forwards.open(forward), /closed meanwhile/);
  await far.nextRequest("tcpip-forward", "localhost", 8080);
  await far.forwards.close(forward);
  far.say(MessageType.requestSuccess);
  await far.grant("cancel-tcpip-forward", ["localhost", 8080]);
  await opening;
  assert.equal(far.forwards.list().length, 1);
});

Deno.test("closing all leaves nothing, whatever is under way", async () => {
  const far = new FarHost();
  await using echo = startEcho();
  const { port } = await openLocal(far);
  using open = await connect(tcpAddress(port));
  far.agree(await far.next(MessageType.channelOpen));
  using waiting = await connect(tcpAddress(port));
  await far.next(MessageType.channelOpen);
  const { port: socksPort } = await far.forwards.open(dynamic(at(0)));
  using silent = await connect(tcpAddress(socksPort!));
  const opening = far.forwards.open(remote(at(8080), at(echo.port, "127.0.0.1")));
  await far.grant("tcpip-forward", ["localhost", 8080]);
  await opening;
  await far.open("forwarded-tcpip", "localhost", 8080, "127.0.0.1", 1);
  const late = assert.rejects(far.forwards.open(remote(at(8081), web)));
  await far.nextRequest("tcpip-forward", "localhost", 8081);
  await far.forwards.closeAll();
  await late;
  for (const connection of [open, waiting, silent]) {
    assert.equal((await readAll(connection).catch(() => [])).length, 0);
  }
  assert.equal(await isFree(port) && await isFree(socksPort!), true);
  await far[Symbol.asyncDispose]();
});

Deno.test("where the relay ends the client, local forwards go on with another, and remote ones end", async () => {
  await using far = new FarHost();
  const { port } = await openLocal(far);
  const opening = far.forwards.open(remote(at(8080), web));
  await far.grant("tcpip-forward", ["localhost", 8080]);
  await opening;
  far.lose();
  assert.deepEqual(far.forwards.list().map(({ kind }) => kind), ["local"]);
  using connection = await connect(tcpAddress(port));
  await far.grant("cancel-tcpip-forward", ["localhost", 8080]);
  const channel = far.agree(await far.next(MessageType.channelOpen));
  channel.send("hello");
  assert.equal(decode(await readExactly(connection, 5)), "hello");
});

Deno.test("there are 256 forwards at the most", async () => {
  await withFolder(async (folder) => {
    await using far = new FarHost();
    for (let count = 0; count < 256; count++) {
      await far.forwards.open(local({ path: `${folder}/${count}` }));
    }
    const another = local({ path: `${folder}/another` });
    await assert.rejects(far.forwards.open(another), /There are 256 forwards/);
    await far.forwards.close(local({ path: `${folder}/7` }));
    await far.forwards.open(another);
  });
});

Deno.test("600 connections may wait at the most; others are turned away until one is there", async () => {
  await using far = new FarHost();
  const { port } = await openLocal(far);
  const waiting: Deno.Conn[] = [];
  try {
    for (let count = 0; count < 600; count++) waiting.push(await connect(tcpAddress(port)));
    const opens = [];
    for (const _ of waiting) opens.push(await far.next(MessageType.channelOpen));
    assert.equal((await exchange(tcpAddress(port), "").catch(() => [])).length, 0);
    far.agree(opens[0]!);
    waiting.push(await connect(tcpAddress(port)));
    await within(far.next(MessageType.channelOpen), "The next connection is not passed on");
  } finally {
    for (const connection of waiting) closeQuietly(connection);
  }
});
