/** Sessions by the control socket: what is different where the streams themselves are passed. */

import assert from "node:assert/strict";
import { type Ground, startGround, type Target } from "./support/both.ts";
import { laneTarget, shimTarget } from "./support/behind.ts";
import { waitForFile, waitUntil } from "./support/processes.ts";
import { Terminal } from "./support/pty.ts";
import { run, RunningProcess, text } from "./support/run.ts";
import { startAgent } from "./support/agent.ts";
import { freePort, isListening } from "./support/ports.ts";
import { startEcho } from "./support/services.ts";
import { RelayClient } from "../lib/relay_client.ts";
import { wantNoSession } from "../lib/ssh_arguments.ts";
import { MessageType } from "../lib/wire.ts";
import { World } from "./support/memory.ts";

/** How many descriptors the shim has open. */
async function descriptorCount({ shim }: Ground): Promise<number> {
  let count = 0;
  for await (const _ of Deno.readDir(`/proc/${shim.pid}/fd`)) count++;
  return count;
}

/** A shell's word for an ssh command. */
function shellCommand(target: Target, command: string, options: string[] = []): string {
  return target.sshCommand(command, options)
    .map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
}

function runShell(target: Target, script: string) {
  return run(["bash", "-c", script], { environment: target.environment, folder: target.folder });
}

Deno.test("clients come by the control socket, and none of them by the port", async () => {
  await using ground = await startGround();
  const target = laneTarget(ground);
  const result = await target.ssh("echo out; echo err >&2; exit 7");
  assert.deepEqual([result.code, text(result.stdout), text(result.stderr)], [7, "out\n", "err\n"]);
  await ground.shim.log.waitFor(/client 1 left/);
  assert.match(ground.shim.log.text, /client 1 connected to the control socket/);
  assert.doesNotMatch(ground.shim.log.text, /connected from port/);
});

Deno.test("200 sessions one after the other leave no descriptor behind", async () => {
  await using ground = await startGround();
  const target = laneTarget(ground);
  await target.ssh("true");
  const before = await descriptorCount(ground);
  const command = shellCommand(target, "true");
  const { code, stderr } = await runShell(
    target,
    `for n in $(seq 200); do ${command} || exit 1; done`,
  );
  assert.deepEqual([code, text(stderr)], [0, ""]);
  await waitUntil("all are closed", async () => await descriptorCount(ground) <= before);
});

Deno.test("a session takes of its input what ssh takes, and leaves its streams as they were", async (t) => {
  await using ground = await startGround();

  await ground.step(
    t,
    "a loop over lines ends after the first, whose session has eaten the others",
    async (target) => {
      const cat = shellCommand(target, "cat");
      const script = `printf 'a\\nb\\nc\\n' | while read line; do echo "$line"; ${cat}; done`;
      return text((await runShell(target, script)).stdout);
    },
    { expect: (stdout) => assert.equal(stdout, "a\nb\nc\n") },
  );

  await ground.step(
    t,
    "with -n it eats nothing",
    async (target) => {
      const command = shellCommand(target, "echo there", ["-n"]);
      const script = `printf 'a\\nb\\n' | while read line; do echo "$line"; ${command}; done`;
      return text((await runShell(target, script)).stdout);
    },
    { expect: (stdout) => assert.equal(stdout, "a\nthere\nb\nthere\n") },
  );

  await ground.step(
    t,
    "none of them is non-blocking afterwards",
    async (target) => {
      const flags = `python3 -c 'import fcntl; print(fcntl.fcntl(0, 3) & 2048)'`;
      const script = `(${shellCommand(target, "true")}; ${flags}) < /dev/zero`;
      return text((await runShell(target, script)).stdout);
    },
    { expect: (stdout) => assert.equal(stdout, "0\n") },
  );

  await ground.step(
    t,
    "outputs that are one file are both whole there",
    async (target) => {
      const command = shellCommand(target, "for n in $(seq 500); do echo out; echo err >&2; done");
      await runShell(target, `${command} > both 2>&1`);
      const lines = (await Deno.readTextFile(`${target.folder}/both`)).trim().split("\n");
      return lines.toSorted().join();
    },
    {
      expect: (lines) =>
        assert.equal(lines, [...Array(500).fill("err"), ...Array(500).fill("out")].join()),
    },
  );

  await ground.step(
    t,
    "whoever writes is told when nobody reads any more",
    async (target) => {
      const { stdout } = await runShell(target, `${shellCommand(target, "yes")} | head -1`);
      return text(stdout);
    },
    { expect: (stdout) => assert.equal(stdout, "y\n") },
  );
});

Deno.test("a client that is killed in the middle of a transfer ends its session, and no other", async () => {
  await using ground = await startGround();
  const target = laneTarget(ground);
  const before = await descriptorCount(ground);
  await using other = target.startSsh("cat");
  await other.write("before\n");
  await other.stdout.waitFor(/before/);
  const withOther = await descriptorCount(ground);
  for (const command of ["cat /dev/zero", "cat > /dev/null", "sleep 1000"]) {
    const pidFile = `${target.folder}/pid-${command.replace(/\W/g, "")}`;
    const words = target.sshCommand(`echo $$ > ${pidFile}; exec ${command}`);
    const client = new RunningProcess(
      command === "cat > /dev/null" ? ["sh", "-c", 'exec "$@" < /dev/zero', "sh", ...words] : words,
      { environment: target.environment, discardStdout: true },
    );
    await using _ = client;
    const pid = await waitForFile(pidFile);
    client.kill("SIGKILL");
    // A session without a terminal and without output is not told by sshd that it is over.
    if (command !== "sleep 1000") {
      await waitUntil(
        `${command} has ended`,
        () => Deno.stat(`/proc/${pid}`).then(() => false, () => true),
      );
    }
    await waitUntil(
      "its descriptors are closed",
      async () => await descriptorCount(ground) <= withOther,
    );
    if (command === "sleep 1000") await run(["kill", pid]);
  }
  await other.write("after\n");
  await other.stdout.waitFor(/after/);
  await other.closeStdin();
  assert.equal((await other.drained()).code, 0);
  await waitUntil("all are closed", async () => await descriptorCount(ground) <= before);
});

Deno.test("readers that stall hold up nobody else, and the memory does not grow", async () => {
  await using ground = await startGround({ sshd: { config: ["MaxSessions 100"] } });
  const target = laneTarget(ground);
  await using resources = new AsyncDisposableStack();
  const stalled = Array.from({ length: 20 }, () =>
    resources.use(
      new RunningProcess(
        ["bash", "-c", `${shellCommand(target, "cat /dev/zero")} | (read; sleep 1000)`],
        { environment: target.environment },
      ),
    ));
  await waitUntil(
    "all of them have begun",
    () =>
      Promise.resolve(
        (ground.shim.log.text.match(/connected to the control/g) ?? []).length === 20,
      ),
  );
  const result = await target.ssh("head -c 20000000 /dev/zero", { digestStdout: true });
  assert.match(text(result.stdout), / 20000000\b/);
  const status = await Deno.readTextFile(`/proc/${ground.shim.pid}/status`);
  const kilobytes = Number(/VmRSS:\s+(\d+)/.exec(status)![1]);
  assert.ok(kilobytes < 350_000, `${kilobytes} KB`);
  for (const process of stalled) process.kill("SIGKILL");
});

Deno.test("a session that ends before its command is answered is over, and not refused", async () => {
  const world = new World();
  const told: string[] = [];
  const about = { id: 1, carrier: "lane", since: "", address: null, user: null } as const;
  const client = new RelayClient(world.relay, {
    about: { ...about, key: null, exchange: null },
    onEnd() {},
  });
  client.openChannel("session", { body: new Uint8Array() }, (channel) => ({
    onOpen: () => channel.request("exec", ["true"], (isGranted) => told.push(`${isGranted}`)),
    onClose: () => told.push("closed"),
    onData() {},
    onRoom() {},
    onEof() {},
  }));
  const passed = () => new Promise((resolve) => setTimeout(resolve, 0));
  await passed();
  const { senderChannel } = world.upstream.expect(MessageType.channelOpen);
  world.upstream.say(MessageType.channelOpenConfirmation, senderChannel, 1, 1000, 1000);
  await passed();
  world.upstream.expect(MessageType.channelRequest);
  world.upstream.say(MessageType.channelClose, senderChannel);
  await passed();
  assert.deepEqual(told, ["closed", "false"]);
  client.leave();
});

Deno.test("a client that is stopped by Ctrl-Z leaves what is typed to the shell", async () => {
  await using ground = await startGround();
  const target = laneTarget(ground);
  await using terminal = new Terminal(["bash", "--norc", "-i"], {
    environment: { ...target.environment, PS1: "READY$ " },
  });
  const { screen } = terminal;
  await screen.waitFor(/READY\$ /);
  await terminal.type(`${shellCommand(target, "echo $((41 + 1)); exec cat")}\r`);
  await screen.waitFor(/42\r\n/);
  await terminal.type("first\r");
  await screen.waitFor(/first\r\nfirst/);
  await terminal.type("\x1a");
  await screen.waitFor(/Stopped/);
  for (let count = 1; count <= 5; count++) {
    await terminal.type(`echo local $((${count} + 100))\r`);
    await screen.waitFor(new RegExp(`local ${count + 100}\r`));
  }
  await terminal.type("fg\r");
  // The shell says what it takes up again; what is typed before that is typed to the shell.
  await screen.waitFor(/fg\r\n[^]*exec cat'\r\n/);
  await terminal.type("second\r");
  await screen.waitFor(/second\r\nsecond/);
  await terminal.type("\x04");
  await terminal.type("exit\r");
  assert.equal(await terminal.exit, 0);
});

Deno.test("who types the escape character is answered here", async () => {
  await using ground = await startGround();
  const target = laneTarget(ground);
  await using terminal = new Terminal(
    target.sshCommand("stty -echo; echo ready; exec cat", ["-t"]),
    {
      environment: target.environment,
    },
  );
  await terminal.screen.waitFor(/ready/);
  await terminal.type("\r~?");
  await terminal.screen.waitFor(/Supported escape sequences/);
  await terminal.type("\r~#");
  await terminal.screen.waitFor(/client 1/);
  await terminal.type("\r~C");
  await terminal.screen.waitFor(/~C is not to be had here/);
  await terminal.type("\r~~one\r");
  await terminal.screen.waitFor(/~one/);
  await terminal.type("\r~.");
  assert.equal(await terminal.exit, 255);
  assert.doesNotMatch(terminal.screen.text, /~~one/);
});

Deno.test("a session gets the agent of sshshim, and where there is none ssh goes to the port", async () => {
  const folder = await Deno.makeTempDir({ prefix: "agent-" });
  try {
    await using agent = await startAgent(folder, "own");
    const environment = { SSH_AUTH_SOCK: agent.socket };
    await using ground = await startGround({ shim: { environment } });
    const target = laneTarget(ground);
    const result = await target.ssh(`ssh-add -l && ssh-add -T ${agent.publicKeyFile}`, {
      options: ["-A"],
    });
    assert.deepEqual([result.code, text(result.stderr)], [0, ""]);
    assert.equal(text(result.stdout).trim(), agent.listing);
    assert.doesNotMatch(ground.shim.log.text, /connected from port/);

    await using without = await startGround();
    const other = await laneTarget(without).ssh("ssh-add -l", {
      options: ["-A", "-o", "IdentityAgent=SSH_AUTH_SOCK"],
      environment: { ...target.environment, ...environment },
    });
    assert.deepEqual([other.code, text(other.stdout).trim()], [0, agent.listing]);
    assert.match(text(other.stderr), /there is no agent to lend/);
    assert.match(without.shim.log.text, /connected from port/);

    // Who has neither an agent nor a display is not told that there is none.
    const { code, stderr } = await laneTarget(without).ssh("true", { options: ["-A", "-X"] });
    assert.deepEqual([code, text(stderr)], [0, ""]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("beyond 128 sessions ssh goes to the port without a word, and comes back afterwards", async () => {
  await using ground = await startGround({ sshd: { config: ["MaxSessions 200"] } });
  const target = laneTarget(ground);
  const path = target.controlPath!;
  const isThere = () => Deno.lstat(path).then(() => true, () => false);
  await using resources = new AsyncDisposableStack();
  const holders = Array.from({ length: 128 }, () => resources.use(target.startSsh("cat")));
  await waitUntil("the socket is hidden", async () => !await isThere());
  const result = await target.ssh("echo by the port");
  assert.deepEqual(
    [result.code, text(result.stdout), text(result.stderr)],
    [0, "by the port\n", ""],
  );
  assert.match(ground.shim.log.text, /connected from port/);
  const last = holders.pop()!;
  await last.closeStdin();
  await last.drained();
  await waitUntil("the socket is there again", isThere);
  const inReserve = await target.ssh("echo by the socket");
  assert.equal(text(inReserve.stdout), "by the socket\n");
  for (const holder of holders) await holder.closeStdin();
  await Promise.all(holders.map((holder) => holder.drained()));
});

Deno.test("ssh -W by the control socket joins the client's streams to a connection", async (t) => {
  await using ground = await startGround();
  await using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const served = (async () => {
    for await (const connection of listener) {
      void connection.readable.pipeTo(connection.writable).catch(() => {});
    }
  })();
  const { port } = listener.addr as Deno.NetAddr;
  await t.step("bytes go both ways, and its end is ssh's", async () => {
    for (const target of [shimTarget(ground), laneTarget(ground)]) {
      const words = target.sshCommand(undefined, ["-W", `127.0.0.1:${port}`]);
      const stdin = "x".repeat(300_000);
      const result = await run(words, { environment: target.environment, stdin });
      assert.deepEqual([result.code, text(result.stdout) === stdin], [0, true], target.mode);
    }
  });
  await t.step("a place where nobody listens is refused", async () => {
    const target = laneTarget(ground);
    const words = target.sshCommand(undefined, ["-W", "127.0.0.1:1"]);
    const result = await run(words, { environment: target.environment });
    assert.equal(result.code, 255);
    assert.match(text(result.stderr), /Connection refused/);
  });
  listener.close();
  await served.catch(() => {});
});

Deno.test("ssh -N runs nothing, and its forward is there as long as it is", async () => {
  await using ground = await startGround();
  await using echo = startEcho({ greeting: "hello\n" });
  const target = laneTarget(ground);
  const port = freePort();
  await using client = new RunningProcess(
    [
      "sh",
      "-c",
      'exec "$@" < /dev/null',
      "sh",
      ...target.sshCommand(undefined, [
        ...["-N", "-L", `${port}:127.0.0.1:${echo.port}`],
      ]),
    ],
    { environment: target.environment },
  );
  await waitUntil("the forward listens", () => isListening(port));
  const result = await target.ssh("echo 'a session of its own'");
  assert.equal(text(result.stdout), "a session of its own\n");
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const greeting = new Uint8Array(6);
  await connection.read(greeting);
  assert.equal(text(greeting), "hello\n");
  connection.close();
  client.kill("SIGTERM");
  await client.drained();
  await waitUntil("the forward is closed", async () => !await isListening(port));
  const script = await run(target.sshCommand(), {
    environment: target.environment,
    stdin: "echo a shell without a terminal\n",
  });
  assert.match(text(script.stdout), /a shell without a terminal/);
});

Deno.test("ssh's arguments tell whether it is to run nothing", () => {
  const cases: [words: string, wantsNone: boolean][] = [
    ["ssh -N host", true],
    ["ssh -fNL 1:h:2 host", true],
    ["ssh host -N", true],
    ["ssh -o SessionType=none host", true],
    ["ssh -osessiontype none host", true],
    ["ssh -o SessionType=default -oSessionType=none host", false],
    ["ssh host", false],
    ["ssh -L N:1 host", false],
    ["ssh -i -N host", false],
    ["ssh -pN host", false],
    ["ssh host cmd -N", false],
    ["ssh -- host -N", false],
  ];
  for (const [words, wantsNone] of cases) {
    const list = words === "ssh -osessiontype none host"
      ? ["ssh", "-osessiontype none", "host"]
      : words.split(" ");
    assert.equal(wantNoSession(list), wantsNone, words);
  }
});
