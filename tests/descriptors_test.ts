/** The file descriptors that a server has for one connection: who may take how many of them. */

import assert from "node:assert/strict";
import { shimTarget } from "./support/behind.ts";
import { startGround, testComparison } from "./support/both.ts";
import { startForwarding } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { RawClient } from "./support/raw_client.ts";
import { text } from "./support/run.ts";
import {
  closeQuietly,
  connect,
  exchangeOver,
  readExactly,
  startEcho,
  tcpAddress,
} from "./support/services.ts";
import { connectBySocks, exchangeBySocks } from "./support/socks.ts";
import { MessageType } from "../lib/wire.ts";

Deno.test("a client that asks for ever more remote forwards leaves the others their commands", async () => {
  await using ground = await startGround({ sshd: { descriptors: 1024 } });
  const target = shimTarget(ground);
  await using greedy = await RawClient.connect(target);
  const { globalRequest, requestSuccess, requestFailure } = MessageType;
  const asked = 600;
  for (let count = 0; count < asked; count++) {
    greedy.send(globalRequest, "tcpip-forward", true, "localhost", 0);
  }
  let granted = 0;
  for (let count = 0; count < asked; count++) {
    const [answer] = await greedy.receive(requestSuccess, requestFailure);
    if (answer === requestSuccess) granted++;
  }
  assert.equal(granted, 360);
  await ground.shim.log.waitFor(/remote forward localhost:0 is refused: channels and forwards/);
  for (const options of [[], ["-tt"], ["-R", "0:127.0.0.1:9", "-o", "ExitOnForwardFailure=yes"]]) {
    const result = await target.ssh("echo here", { options });
    assert.deepEqual([result.code, text(result.stdout).trim()], [0, "here"], text(result.stderr));
  }
});

Deno.test("1,500 connections of one client at once, where the server and --max-channels allow them", async () => {
  await using ground = await startGround({
    sshd: { descriptors: 4096 },
    shim: { arguments: ["--max-channels", "2500"] },
  });
  const target = shimTarget(ground);
  await using echo = startEcho();
  const port = freePort();
  await using _client = await startForwarding(target, ["-L", `${port}:127.0.0.1:${echo.port}`]);
  const connections: (Deno.TcpConn | Deno.UnixConn)[] = [];
  try {
    while (connections.length < 1500) {
      const group = Array.from({ length: 50 }, () => connect(tcpAddress(port)));
      connections.push(...await Promise.all(group));
    }
    const send = async (connection: Deno.Conn, byte: number) => {
      await connection.write(Uint8Array.of(byte));
      return (await readExactly(connection, 1))[0];
    };
    const answers = await Promise.all(connections.map((it, index) => send(it, index % 256)));
    assert.deepEqual(answers, connections.map((_, index) => index % 256));
    assert.equal(echo.connectionCount, 1500);
    assert.equal((await target.ssh("exit 7")).code, 7);
    assert.equal(text(await exchangeOver(connections[0]!, "the first one")), "the first one");
  } finally {
    connections.forEach(closeQuietly);
  }
});

testComparison("-D: addresses that do not answer keep no other out", async (target, echo) => {
  // Nobody accepts, and once the queue is full nobody gets an answer.
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0, tcpBacklog: 1 });
  const port = freePort();
  await using _client = await startForwarding(target, ["-D", `127.0.0.1:${port}`]);
  const proxy = tcpAddress(port);
  const destination = { host: "127.0.0.1", port: silent.addr.port };
  const hanging: Deno.Conn[] = [];
  try {
    for (let count = 0; count < 300; count++) {
      hanging.push(await connectBySocks(proxy, destination));
    }
    const { port } = echo;
    return text(await exchangeBySocks(proxy, { host: "127.0.0.1", port }, "ping"));
  } finally {
    hanging.forEach(closeQuietly);
  }
}, { expect: (answer) => assert.equal(answer, "hello\nping") });
