/** Who may use the local port, and what happens to everybody else who connects to it. */

import assert from "node:assert/strict";
import { loadLocalHostKey } from "../lib/local_host_key.ts";
import { Endpoint } from "../lib/server.ts";
import { buildMessage } from "../lib/ssh_data.ts";
import { shimTarget } from "./support/behind.ts";
import { startGround, type Target } from "./support/both.ts";
import { patternBytes } from "./support/files.ts";
import { FakeTime } from "./support/fake_time.ts";
import { World } from "./support/memory.ts";
import { openTooEarly, RawClient, sendBeforeLogin } from "./support/raw_client.ts";
import { pythonProgram } from "./support/python.ts";
import { type CommandResult, run, RunningProcess, text } from "./support/run.ts";
import { settled } from "./support/scripted_connector.ts";
import {
  closeQuietly,
  connect,
  readAll,
  readExactly,
  tcpAddress,
  writeAll,
} from "./support/services.ts";

/** SSH_MSG_USERAUTH_FAILURE, which is a server's. */
const failure = buildMessage(51, "", false);

/** Only root can become somebody else, so that is what these steps need. */
const canSwitchUser = Deno.build.os === "linux" && Deno.uid() === 0;
const nobody = "65534";
const becomeNobody = ["setpriv", "--reuid", nobody, "--regid", nobody, "--clear-groups"];

Deno.test("the endpoint turns away whoever is not its user's SSH client", async (t) => {
  await using ground = await startGround();
  const target = shimTarget(ground);
  const address = tcpAddress(target.port);
  await using bystander = target.startSsh("echo ready; cat");
  await bystander.stdout.waitFor(/ready/);

  await t.step({
    name: "another user of this machine is refused, whatever the client tries",
    ignore: !canSwitchUser,
    async fn() {
      const ssh = await sshAsNobody(target);
      assert.deepEqual([ssh.code, text(ssh.stdout)], [255, ""]);
      assert.match(text(ssh.stderr), /Connection (closed|reset)/);
      await ground.shim.log.waitFor(
        /"level":"warning".*turned away a connection of user nobody/,
      );
    },
  });

  for (
    const [what, words] of [
      ["a request of HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
      ["a greeting of TLS", Uint8Array.of(22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3)],
      ["a megabyte of garbage", patternBytes(1_000_000)],
      ["an empty line", "\r\n"],
      ["the first version of SSH", "SSH-1.5-old\r\n"],
      ["a version without end", `SSH-2.0-${"x".repeat(1000)}`],
      ["a version and then garbage", `SSH-2.0-test\r\n${"garbage ".repeat(1000)}`],
      ["a version and then a packet of 4 GB", `SSH-2.0-test\r\n\xff\xff\xff\xff${"x".repeat(64)}`],
    ] as const
  ) {
    await t.step(`${what} ends the connection`, async () => {
      using connection = await connect(address);
      const bytes = typeof words === "string" ? latin1(words) : words;
      await writeAll(connection, bytes).catch(() => {});
      const answer = await readAll(connection).catch(() => new Uint8Array());
      assert.match(text(answer), /^(SSH-2\.0-OpenSSH|$)/);
      assert.doesNotMatch(text(answer), /HTTP|rror:/);
    });
  }

  await t.step("a version in many pieces is understood", async () => {
    using connection = await connect(address);
    for (const byte of latin1(greeting)) {
      await writeAll(connection, Uint8Array.of(byte));
      await settled();
    }
    const version = latin1("SSH-2.0-OpenSSH_sshshim_0.1\r\n");
    assert.deepEqual(await readExactly(connection, version.length), version);
    // Its key exchange begins: SSH_MSG_KEXINIT follows the lengths of packet and padding.
    assert.equal((await readExactly(connection, 6))[5], 20);
  });

  await t.step("clients that leave in the middle of the handshake are forgotten", async () => {
    for (let count = 0; count < 100; count++) {
      using connection = await connect(address);
      await writeAll(connection, latin1(count % 2 === 0 ? greeting : "SSH-"));
      if (count % 4 === 0) await readExactly(connection, 8);
    }
  });

  await t.step("messages before authentication reach nobody", async () => {
    const before = ground.sshd.log.text.length;
    assert.match(await openTooEarly(target), /before authentication/);
    assert.equal(ground.sshd.log.text.length, before);
  });

  const query = [50, target.username, "ssh-connection", "publickey", false] as const;
  for (
    const [what, ...messages] of [
      ["an answer to one's own request", buildMessage(...query, "ssh-ed25519", "key"), failure],
      ["a request about no key", buildMessage(...query)],
    ] as const
  ) {
    await t.step(`${what} ends the connection`, async () => {
      await sendBeforeLogin(target, ...messages);
    });
  }

  await t.step("all the while the endpoint serves its user", async () => {
    assert.equal((await target.ssh("exit 3")).code, 3);
    await bystander.write("still here\n");
    await bystander.stdout.waitFor(/still here/);
  });

  await bystander.closeStdin();
  assert.equal((await bystander.drained()).code, 0);
});

Deno.test("a stranger is dropped after 20 s, whatever it has said", async () => {
  using time = new FakeTime();
  const stateFolder = await Deno.makeTempDir({ prefix: "endpoint-" });
  await using resources = new AsyncDisposableStack();
  resources.defer(() => Deno.remove(stateFolder, { recursive: true }));
  const endpoint = new Endpoint({
    listener: Deno.listen({ hostname: "127.0.0.1", port: 0 }),
    relay: new World().relay,
    access: { kind: "anybody" },
  });
  endpoint.showHostKeys([await loadLocalHostKey(undefined, { stateFolder })]);
  const serving = endpoint.serve();
  resources.defer(() => endpoint.close("the end").then(() => serving));
  const address = tcpAddress(endpoint.address.port);
  for (const words of ["", greeting]) {
    using stranger = await connect(address);
    await writeAll(stranger, latin1(words));
    // The key exchange has begun where the version was said, and the clock runs in any case.
    await readExactly(stranger, words === "" ? "SSH-2.0-".length : 100);
    let isOpen = true;
    const dropped = readAll(stranger).catch(() => {}).finally(() => isOpen = false);
    time.advance(19_999);
    await settled();
    assert.ok(isOpen);
    time.advance(1);
    await dropped;
  }
});

Deno.test("neither silent connections nor a burst of its own keep a client out", async (t) => {
  await using ground = await startGround();
  const target = shimTarget(ground);
  await using bystander = target.startSsh("echo ready; cat");
  await bystander.stdout.waitFor(/ready/);
  const held: Deno.Conn[] = [];
  const hold = async (words: string) => {
    const stranger = await connect(tcpAddress(target.port));
    held.push(stranger);
    await readExactly(stranger, "SSH-2.0-".length);
    await writeAll(stranger, latin1(words));
    return stranger;
  };

  await t.step("a client gets in beside 40 silent connections", async () => {
    for (let count = 0; count < 40; count++) await hold("");
    assert.equal((await target.ssh("exit 4")).code, 4);
  });

  await t.step("60 clients at once all get in", async () => {
    const clients = await Promise.all(Array.from({ length: 60 }, () => RawClient.connect(target)));
    for (const client of clients) await client[Symbol.asyncDispose]();
  });

  await t.step("a client waits while 32 others log in, and gets the place of one", async () => {
    const others: Deno.Conn[] = [];
    for (let count = 0; count < 32; count++) {
      others.push(await hold(greeting));
      // Its key exchange has begun: it has a place.
      await readExactly(others.at(-1)!, 100);
    }
    await using waiting = target.startSsh("exit 4");
    await bystander.write("still here\n");
    await bystander.stdout.waitFor(/still here/);
    others[0]!.close();
    assert.equal((await waiting.status).code, 4);
  });

  for (const stranger of held) closeQuietly(stranger);
  await bystander.closeStdin();
  assert.equal((await bystander.drained()).code, 0);
});

Deno.test({
  name: "connections of another user cost no place, no word and few lines of the log",
  ignore: !canSwitchUser,
  async fn() {
    await using ground = await startGround();
    const target = shimTarget(ground);
    await using others = connectAsNobody(target.port, 100);
    await others.stdout.waitFor(/connected/);
    assert.equal((await target.ssh("exit 4")).code, 4);
    await others.write("\n");
    await others.stdout.waitFor(/all closed/);
    await ground.shim.stop();
    const lines = ground.shim.log.text.split("\n").filter((line) => line.includes("turned away"));
    const counts = lines.map((line) => JSON.parse(line)).map(({ count = 1 }) => count);
    assert.equal(counts.reduce((sum, count) => sum + count, 0), 100);
    assert.match(lines[0]!, /turned away a connection of user nobody/);
    assert.match(lines.at(-1)!, /turned away \d+ connections of user nobody in 10 s/);
    assert.ok(lines.length <= 10, lines.join("\n"));
  },
});

Deno.test("--local-auth none lets every user in, and says so", async (t) => {
  await using ground = await startGround({ shim: { arguments: ["--local-auth", "none"] } });
  const target = shimTarget(ground);

  await t.step("the banner warns", () => {
    const { warning } = ground.shim.banner as { warning?: string };
    assert.match(warning ?? "", /every user of this machine/);
  });

  await t.step("the user's own client is served", async () => {
    assert.equal((await target.ssh("exit 5")).code, 5);
  });

  await t.step({
    name: "another user's client is served",
    ignore: !canSwitchUser,
    async fn() {
      const { code, stdout } = await sshAsNobody(target, "echo served; exit 6");
      assert.deepEqual([code, text(stdout)], [6, "served\n"]);
    },
  });
});

Deno.test("where the kernel is not asked, 100 silent connections are the most there can be", async () => {
  await using ground = await startGround({ shim: { arguments: ["--local-auth", "none"] } });
  const target = shimTarget(ground);
  const held: Deno.Conn[] = [];
  const tryToHold = async () => {
    const stranger = await connect(tcpAddress(target.port));
    held.push(stranger);
    return await readExactly(stranger, "SSH-2.0-".length).then(() => true, () => false);
  };
  let count = 0;
  for (let attempt = 0; attempt < 300; attempt++) if (await tryToHold()) count++;
  assert.ok(count >= 10 && count <= 100, `${count} are held`);
  await ground.shim.log.waitFor(/turned away a connection \(many others have not logged in\)/);
  for (const stranger of held) closeQuietly(stranger);
});

const greeting = "SSH-2.0-test\r\n";

/** Runs ssh as a user who has no home here, and no key of ours. */
function sshAsNobody(target: Target, command = "true"): Promise<CommandResult> {
  return runAsNobody(target, [
    ...["ssh", "-F", "/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"],
    ...["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"],
    ...["-p", String(target.port), `${target.username}@${target.host}`, command],
  ]);
}

function runAsNobody(target: Target, command: string[]): Promise<CommandResult> {
  return run([...becomeNobody, ...command], {
    environment: { ...target.environment, HOME: "/nonexistent" },
    folder: "/",
  });
}

/** Connects many times as another user; reads what comes when it is told to, by a line. */
function connectAsNobody(port: number, count: number): RunningProcess {
  const script = `
import socket
held = [socket.create_connection(("127.0.0.1", ${port})) for _ in range(${count})]
print("connected", flush=True)
input()
for connection in held:
    try:
        words = connection.recv(1)
    except ConnectionResetError:
        words = b""
    assert words == b"", words
print("all closed", flush=True)
`;
  return new RunningProcess([...becomeNobody, pythonProgram, "-c", script], { folder: "/" });
}

function latin1(words: string): Uint8Array {
  return Uint8Array.from(words, (character) => character.charCodeAt(0));
}
