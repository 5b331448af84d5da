/** `ssh -O forward` and its like: by a master of ssh's own, and by the shim's control socket. */

import assert from "node:assert/strict";
import { laneTarget, shimTarget } from "./support/behind.ts";
import { startGround, type Target, testComparison } from "./support/both.ts";
import { finish, lead, startForwarding, withoutPorts } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { waitUntil } from "./support/processes.ts";
import { run, text } from "./support/run.ts";
import {
  type Address,
  connect,
  exchange,
  exchangeOver,
  isFree,
  readAll,
  readExactly,
  startEcho,
  startService,
  tcpAddress,
  writeAll,
} from "./support/services.ts";
import { connectBySocks } from "./support/socks.ts";

/** Somebody who can be asked for forwards. */
interface Master extends AsyncDisposable {
  order(order: string, ...forward: string[]): Promise<{ code: number; stdout: string }>;
  /** What a client is told that asks for what cannot be. */
  refusal(...forward: string[]): Promise<string>;
}

/** The shim's control socket, or a master of ssh's own. */
async function startMaster(target: Target): Promise<Master> {
  const options = target.controlPath ? [] : ["-o", `ControlPath=${target.folder}/control`];
  const master = target.controlPath ? undefined : await startForwarding(target, ["-M", ...options]);
  const ask = async (order: string, forward: string[]) => {
    const command = target.sshCommand(undefined, [...options, "-O", order, ...forward]);
    const { code, stdout, stderr } = await run(command, { environment: target.environment });
    return { code, stdout: text(stdout).trim(), stderr: text(stderr) };
  };
  return {
    async order(order, ...forward) {
      const { code, stdout, stderr } = await ask(order, forward);
      assert.equal(stderr, "");
      return { code, stdout };
    },
    async refusal(...forward) {
      const { code, stderr } = await ask("forward", forward);
      assert.equal(code, 255);
      return stderr;
    },
    async [Symbol.asyncDispose]() {
      if (master === undefined) return;
      await finish(master);
      await master[Symbol.asyncDispose]();
    },
  };
}

const done = { code: 0, stdout: "" };

testComparison(
  "ssh -O forward -L and -O cancel: connections outlive the forward",
  async (target, echo) => {
    await using master = await startMaster(target);
    const port = freePort();
    const forward = ["-L", lead(port, echo)];
    const orders = [await master.order("forward", ...forward)];
    using connection = await connect(tcpAddress(port));
    await readExactly(connection, 6);
    // The same once more is granted, and changes nothing.
    orders.push(await master.order("forward", ...forward));
    orders.push(await master.order("cancel", ...forward));
    await waitUntil("the port is closed", () => isFree(port));
    const answer = text(await exchangeOver(connection, "still here"));
    return { orders, answer };
  },
  {
    expect: (result) => {
      assert.deepEqual(result, { orders: [done, done, done], answer: "still here" });
    },
  },
);

testComparison("ssh -O forward listens on loopback without a host", async (target, echo) => {
  await using master = await startMaster(target);
  const port = freePort();
  const order = await master.order("forward", "-L", `${port}:127.0.0.1:${echo.port}`);
  const answers = await Promise.all(["127.0.0.1", "::1"].map(async (hostname) => {
    return text(await exchange({ transport: "tcp", hostname, port }, hostname));
  }));
  const cancelled = await master.order("cancel", "-L", `${port}:127.0.0.1:${echo.port}`);
  return { order, answers, cancelled };
}, {
  expect: (result) => {
    const answers = ["hello\n127.0.0.1", "hello\n::1"];
    assert.deepEqual(result, { order: done, answers, cancelled: done });
  },
});

testComparison(
  "ssh -O forward -R: the host listens, and does not once it is cancelled",
  async (target, echo) => {
    await using master = await startMaster(target);
    const port = freePort();
    const orders = [await master.order("forward", "-R", lead(port, echo))];
    using connection = await connect(tcpAddress(port));
    await readExactly(connection, 6);
    orders.push(await master.order("cancel", "-R", lead(port, echo)));
    await waitUntil("the port is closed", () => isFree(port));
    return { orders, answer: text(await exchangeOver(connection, "still here")) };
  },
  {
    expect: (result) => assert.deepEqual(result, { orders: [done, done], answer: "still here" }),
  },
);

testComparison(
  "ssh -O forward -R 0: the port is told, the same one again",
  async (target, echo) => {
    await using master = await startMaster(target);
    const forward = ["-R", `0:127.0.0.1:${echo.port}`];
    const { code, stdout } = await master.order("forward", ...forward);
    const again = await master.order("forward", ...forward);
    const port = Number(stdout);
    const answer = text(await exchange(tcpAddress(port), "ping"));
    const cancelled = await master.order("cancel", ...forward);
    await waitUntil("the port is closed", () => isFree(port));
    return { code, isSame: again.stdout === stdout, answer, cancelled };
  },
  {
    expect: (result) => {
      const answer = "hello\nping";
      assert.deepEqual(result, { code: 0, isSame: true, answer, cancelled: done });
    },
  },
);

for (const option of ["-L", "-R"]) {
  testComparison(`ssh -O forward ${option} between unix sockets`, async (target) => {
    await using master = await startMaster(target);
    const [from, to] = [`${target.folder}/from`, `${target.folder}/to`];
    await using _service = startEcho({ greeting: "unix\n", path: to });
    const opened = await master.order("forward", option, `${from}:${to}`);
    const address: Address = { transport: "unix", path: from };
    const answer = text(await exchange(address, "ping"));
    const mode = (await Deno.stat(from)).mode! & 0o777;
    const cancelled = await master.order("cancel", option, `${from}:${to}`);
    const left = await exchange(address, "ping").then(() => "somebody", () => "nobody");
    return { opened, answer, mode, cancelled, left };
  }, {
    expect: (result) => {
      const expected = { opened: done, answer: "unix\nping", mode: 0o600, cancelled: done };
      assert.deepEqual(result, { ...expected, left: "nobody" });
    },
  });
}

for (const option of ["-D", "-R"]) {
  testComparison(
    `ssh -O forward ${option} PORT: curl by every version of SOCKS`,
    async (target) => {
      await using web = startService(async (connection) => {
        let head = "";
        const buffer = new Uint8Array(4096);
        while (!head.includes("\r\n\r\n")) {
          const count = await connection.read(buffer);
          if (count === null) return;
          head += new TextDecoder().decode(buffer.subarray(0, count));
        }
        const [line] = head.split(" HTTP");
        const answer = `HTTP/1.0 200 OK\r\nContent-Length: ${line!.length}\r\n\r\n${line}`;
        await writeAll(connection, new TextEncoder().encode(answer));
      });
      await using master = await startMaster(target);
      const port = freePort();
      const orders = [await master.order("forward", option, `${port}`)];
      const answers: Record<string, string> = {};
      for (const scheme of ["socks4", "socks4a", "socks5", "socks5h"]) {
        const url = `http://localhost:${web.port}/${scheme}`;
        const command = [
          "curl",
          "-sS4",
          "--noproxy",
          "",
          "-x",
          `${scheme}://127.0.0.1:${port}`,
          url,
        ];
        const { stdout, stderr } = await run(command);
        answers[scheme] = text(stdout) + text(stderr);
      }
      orders.push(await master.order("cancel", option, `${port}`));
      await waitUntil("the port is closed", () => isFree(port));
      return { orders, answers };
    },
    {
      expect: ({ orders, answers }) => {
        assert.deepEqual(orders, [done, done]);
        assert.deepEqual(answers, {
          ...{ socks4: "GET /socks4", socks4a: "GET /socks4a" },
          ...{ socks5: "GET /socks5", socks5h: "GET /socks5h" },
        });
      },
    },
  );
}

testComparison(
  "a SOCKS client whose host does not answer is not answered either",
  async (target) => {
    await using master = await startMaster(target);
    const [port, closed] = [freePort(), freePort()];
    await master.order("forward", "-D", `${port}`);
    const destination = { host: "127.0.0.1", port: closed };
    using connection = await connectBySocks(tcpAddress(port), destination);
    const received = await readAll(connection);
    await master.order("cancel", "-D", `${port}`);
    return received;
  },
  { expect: (received) => assert.equal(received.length, 0) },
);

testComparison("a port that is taken is told", async (target, echo) => {
  await using master = await startMaster(target);
  const refusals = [];
  for (const option of ["-L", "-R"]) {
    const refusal = await master.refusal(option, `127.0.0.1:${echo.port}:127.0.0.1:9`);
    if (target.mode === "lane") {
      assert.match(
        refusal,
        option === "-L"
          ? /: Cannot listen at 127\.0\.0\.1:\d+: Address already in use\. Choose another/
          : /: The remote host does not listen at 127\.0\.0\.1:\d+\. It may be in use/,
      );
    }
    refusals.push(
      withoutPorts(refusal).match(/^mux_client_forward: forwarding request failed/)?.[0],
    );
  }
  return refusals;
}, {
  expect: (refusals) => {
    const failed = "mux_client_forward: forwarding request failed";
    assert.deepEqual(refusals, [failed, failed]);
  },
});

testComparison("what is not forwarded cannot be cancelled", async (target) => {
  await using master = await startMaster(target);
  const command = ["-L", `${freePort()}:127.0.0.1:9`];
  const cancelled = await master.order("cancel", ...command).then(
    () => "cancelled",
    () => "refused",
  );
  return cancelled;
}, { expect: (result) => assert.equal(result, "refused") });

Deno.test("a shim that is stopped takes its forwards and their connections along", async () => {
  await using ground = await startGround();
  await using echo = startEcho({ greeting: "hello\n" });
  const path = `${ground.sshd.folder}/socket`;
  const { environment } = shimTarget(ground);
  const command = [
    ...["ssh", "-F", "none", "-S", ground.shim.banner.controlPath!, "-O", "forward"],
    ...["-L", `${path}:127.0.0.1:${echo.port}`, "host"],
  ];
  assert.equal((await run(command, { environment })).code, 0);
  using connection = await connect({ transport: "unix", path });
  await readExactly(connection, 6);
  await ground.shim.stop();
  assert.equal((await readAll(connection)).length, 0);
  await assert.rejects(Deno.lstat(path), Deno.errors.NotFound);
});

Deno.test("ssh that is refused one of its forwards has the others at the port", async () => {
  await using ground = await startGround();
  await using echo = startEcho({ greeting: "hello\n" });
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const target = laneTarget(ground);
  const ports = [freePort(), (taken.addr as Deno.NetAddr).port, freePort()];
  const forwards = ports.flatMap((port) => ["-L", `${port}:127.0.0.1:${echo.port}`]);
  await using client = target.startSsh("echo ready; cat", { options: forwards });
  await client.stdout.waitFor(/ready/);
  await client.stderr.waitFor(/another forward of this client was refused/);
  assert.match(client.stderr.text, /bind \[127\.0\.0\.1\]:\d+: Address already in use/);
  assert.match(ground.shim.log.text, /connected from port/);
  for (const port of [ports[0]!, ports[2]!]) {
    assert.match(text(await exchange(tcpAddress(port), "there")), /^hello\nthere/);
  }
  await client.closeStdin();
  assert.equal((await client.drained()).code, 0);

  const ask = target.sshCommand(undefined, ["-O", "forward", ...forwards.slice(0, 4)]);
  const { stderr } = await run(ask, { environment: target.environment });
  assert.match(text(stderr), /forwarding request failed/);
  assert.match(text(await exchange(tcpAddress(ports[0]!), "there")), /^hello\nthere/);
});
