/** Forwards of other kinds than a port to a port: unix sockets, SOCKS servers, jump hosts. */

import assert from "node:assert/strict";
import { shimTarget } from "./support/behind.ts";
import { type Ground, startGround, type Target } from "./support/both.ts";
import { patternBytes, sha256 } from "./support/files.ts";
import { finish, startForwarding } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { waitUntil } from "./support/processes.ts";
import { RawClient } from "./support/raw_client.ts";
import { run, text } from "./support/run.ts";
import {
  type Address,
  echoed,
  exchange,
  type Service,
  startEcho,
  tcpAddress,
} from "./support/services.ts";
import { exchangeBySocks } from "./support/socks.ts";
import { MessageType } from "../lib/wire.ts";

Deno.test("unix sockets, SOCKS and jump hosts work through the shim as they do directly", async (t) => {
  await using ground = await startGround();
  await using echo = startEcho({ greeting: "hello\n" });
  await unixSockets(t, ground);
  await socks(t, ground, echo);
  await jumps(t, ground, echo);
});

const threeMegabytes = patternBytes(3_000_000);

async function unixSockets(t: Deno.TestContext, ground: Ground): Promise<void> {
  for (const option of ["-L", "-R"]) {
    await ground.step(t, `${option} leads from one unix socket to another`, async (target) => {
      const [from, to] = [`${target.folder}/from`, `${target.folder}/to`];
      await using service = startEcho({ greeting: "unix\n", path: to });
      await using client = await startForwarding(target, [option, `${from}:${to}`]);
      const address: Address = { transport: "unix", path: from };
      const small = await exchange(address, "ping");
      const large = await exchange(address, threeMegabytes);
      const { connectionCount } = service;
      return { small, large: sha256(large), connectionCount, ...await finish(client) };
    }, {
      expect: ({ small, large, connectionCount, code, stderr }) => {
        assert.equal(text(small), "unix\nping");
        assert.equal(large, sha256(echoed("unix\n", threeMegabytes)));
        assert.deepEqual({ connectionCount, code, stderr }, {
          connectionCount: 2,
          code: 0,
          stderr: "",
        });
      },
    });
  }

  await ground.step(
    t,
    "unix sockets of two clients do not mix, and each end is closed",
    async (target) => {
      const paths = ["one", "two"].map((name) => `${target.folder}/${name}`);
      await using first = startEcho({ greeting: "first\n" });
      await using second = startEcho({ greeting: "second\n" });
      await using one = await startForwarding(target, [
        "-R",
        `${paths[0]}:127.0.0.1:${first.port}`,
      ]);
      await using two = await startForwarding(target, [
        "-R",
        `${paths[1]}:127.0.0.1:${second.port}`,
      ]);
      const ask = (path: string) =>
        exchange({ transport: "unix", path }, "").then(text, () => "none");
      const both = await Promise.all(paths.map(ask));
      await finish(one);
      await waitUntil("the first is closed", async () => await ask(paths[0]!) === "none");
      const after = await ask(paths[1]!);
      return { both, after, ...await finish(two) };
    },
    {
      expect: (result) =>
        assert.deepEqual(result, {
          both: ["first\n", "second\n"],
          after: "second\n",
          code: 0,
          stderr: "",
        }),
    },
  );
}

Deno.test("a unix socket that the server gives to several clients is the newest one's", async (t) => {
  await using ground = await startGround({ sshd: { config: ["StreamLocalBindUnlink yes"] } });
  const start = (target: Target, path: string, service: Service) =>
    startForwarding(target, [
      ...["-o", "ExitOnForwardFailure=yes", "-R", `${path}:127.0.0.1:${service.port}`],
    ]);
  const ask = (path: string) => exchange({ transport: "unix", path }, "").then(text);
  await using first = startEcho({ greeting: "first\n" });
  await using second = startEcho({ greeting: "second\n" });

  await ground.step(t, "and stays its own when the earlier one leaves", async (target) => {
    const path = `${target.folder}/socket`;
    await using one = await start(target, path, first);
    const alone = await ask(path);
    await using two = await start(target, path, second);
    const both = await ask(path);
    const end = await finish(one);
    return { alone, both, left: await ask(path), ends: [end, await finish(two)] };
  }, {
    expect: ({ alone, both, left, ends }) => {
      assert.deepEqual([alone, both, left], ["first\n", "second\n", "second\n"]);
      assert.deepEqual(ends, [{ code: 0, stderr: "" }, { code: 0, stderr: "" }]);
    },
  });

  await t.step("and the earlier one's again when that one leaves", async () => {
    const target = shimTarget(ground);
    const path = `${target.folder}/socket`;
    await using one = await start(target, path, first);
    await using two = await start(target, path, second);
    await finish(two);
    // They leave their sockets behind, up to a number.
    for (let count = 0; count < 40; count++) {
      await using passer = await RawClient.connect(target);
      passer.send(MessageType.globalRequest, "streamlocal-forward@openssh.com", true, path);
      await passer.receive(MessageType.requestSuccess);
    }
    await waitUntil(
      "the first has it",
      () => ask(path).then((greeting) => greeting === "first\n", () => false),
    );
    await finish(one);
    await waitUntil("nobody has it", () => ask(path).then(() => false, () => true));
    assert.equal((await target.ssh("exit 4")).code, 4);
  });
});

async function socks(t: Deno.TestContext, ground: Ground, echo: Service): Promise<void> {
  for (const option of ["-D", "-R"]) {
    await ground.step(t, `${option} PORT is a SOCKS server on its side`, async (target) => {
      const port = freePort();
      await using client = await startForwarding(target, [option, `127.0.0.1:${port}`]);
      const answers = await Promise.all(
        ["127.0.0.1", "localhost"].flatMap((host) =>
          ["ping", threeMegabytes].map((data) =>
            exchangeBySocks(tcpAddress(port), { host, port: echo.port }, data)
          )
        ),
      );
      return { answers: answers.map(sha256), ...await finish(client) };
    }, {
      expect: ({ answers, code, stderr }) => {
        const [small, large] = ["ping", threeMegabytes].map((data) =>
          sha256(echoed("hello\n", data))
        );
        assert.deepEqual(answers, [small, large, small, large]);
        assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
      },
    });
  }
}

async function jumps(t: Deno.TestContext, ground: Ground, echo: Service): Promise<void> {
  const { sshd } = ground;
  for (const place of ["jump host", "target behind a jump host"] as const) {
    await ground.step(t, `-J works with the ${place} behind the port`, async (target) => {
      // Only a file tells the options to the ssh that -J starts.
      const config = `${target.folder}/config`;
      const knownHostsFile = `${target.folder}/known_hosts`;
      const hosts = [sshd.knownHostsFile, target.knownHostsFile];
      const known = await Promise.all(hosts.map((file) => Deno.readTextFile(file)));
      await Deno.writeTextFile(
        knownHostsFile,
        `${known.join("")}${known.join("").replaceAll("127.0.0.1", "localhost")}`,
      );
      const words = target.clientOptions();
      const lines = words.filter((word) =>
        /^[A-Z]\w+=/.test(word) && !/^(Port|User\w*)=/.test(word)
      );
      await Deno.writeTextFile(
        config,
        [
          ...lines,
          `User=${target.username}`,
          `UserKnownHostsFile=${knownHostsFile}`,
          `IdentityFile=${target.keyFile}`,
          "",
        ].join("\n"),
      );
      const [jump, end] = place === "jump host"
        ? [target.port, sshd.port]
        : [sshd.port, target.port];
      return await run([
        ...["ssh", "-F", config, "-J", `localhost:${jump}`, "-p", String(end)],
        ...["-L", `${freePort()}:127.0.0.1:${echo.port}`, "127.0.0.1", "cat; exit 9"],
      ], { environment: target.environment, stdin: threeMegabytes });
    }, {
      expect: (result) => {
        assert.equal(text(result.stderr), "");
        assert.deepEqual([result.code, sha256(result.stdout)], [9, sha256(threeMegabytes)]);
      },
    });
  }
}
