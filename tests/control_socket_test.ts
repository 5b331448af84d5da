/** The control socket itself: where it is, who may come, and what ssh's own requests do. */

import assert from "node:assert/strict";
import { controlMessage, ControlType } from "../lib/control_messages.ts";
import { buildMessage, Reader } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { laneTarget, shimTarget } from "./support/behind.ts";
import { type Ground, startGround, type Target } from "./support/both.ts";
import { isRunning, waitUntil } from "./support/processes.ts";
import { run, runChecked, RunningProcess, text } from "./support/run.ts";
import { fromSource, mainModule, startShim, upstreamArguments } from "./support/shim.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";

/** Runs `ssh -O WORD`. */
function ask(target: Target, word: string, options: string[] = []) {
  return target.ssh("", { options: ["-O", word, ...options] });
}

/** A client of the control socket that says whatever a test wants. */
class RawControl implements AsyncDisposable {
  readonly #connection: Deno.UnixConn;
  #bytes = new Uint8Array();

  private constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
  }

  static async connect(target: Target): Promise<RawControl> {
    const path = target.controlPath!;
    const control = new RawControl(await Deno.connect({ transport: "unix", path }));
    const hello = new Reader((await control.receive())!);
    assert.deepEqual([hello.uint32(), hello.uint32()], [ControlType.hello, 4]);
    return control;
  }

  async send(bytes: Uint8Array): Promise<void> {
    for (let sent = 0; sent < bytes.length;) {
      sent += await this.#connection.write(bytes.subarray(sent));
    }
  }

  /** The next message without its length; `undefined` at the end. */
  async receive(): Promise<Uint8Array | undefined> {
    for (;;) {
      const length = this.#bytes.length < 4 ? Infinity : new DataView(
        this.#bytes.buffer,
        this.#bytes.byteOffset,
      ).getUint32(0);
      if (this.#bytes.length >= 4 + length) {
        const message = this.#bytes.subarray(4, 4 + length);
        this.#bytes = this.#bytes.slice(4 + length);
        return message;
      }
      const more = new Uint8Array(65_536);
      const count = await this.#connection.read(more).catch(() => null);
      if (count === null) return undefined;
      this.#bytes = new Uint8Array([...this.#bytes, ...more.subarray(0, count)]);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#connection.close();
    return Promise.resolve();
  }
}

async function modeOf(path: string): Promise<number> {
  return (await Deno.lstat(path)).mode! & 0o777;
}

Deno.test("the socket and its folder are for their owner alone, and gone at the end", async () => {
  await using ground = await startGround();
  const { controlPath } = laneTarget(ground);
  assert.equal(await modeOf(controlPath!), 0o600);
  assert.equal(await modeOf(controlPath!.replace(/\/[^/]+$/, "")), 0o700);
  await ground.shim.stop();
  await assert.rejects(Deno.lstat(controlPath!), Deno.errors.NotFound);
});

Deno.test("another user is turned away, even where the folder lets him in", async () => {
  await using ground = await startGround();
  const { controlPath } = laneTarget(ground);
  const folder = controlPath!.replace(/\/[^/]+$/, "");
  for (const path of [folder, folder.replace(/\/[^/]+$/, ""), folder.replace(/\/run\/.*$/, "")]) {
    await Deno.chmod(path, 0o755);
  }
  await Deno.chmod(controlPath!, 0o777);
  const result = await run([
    ...["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"],
    ...["ssh", "-F", "/dev/null", "-S", controlPath!, "-O", "check", "x"],
  ], { environment: { PATH: Deno.env.get("PATH")!, HOME: "/nonexistent" } });
  assert.equal(result.code, 255);
  await ground.shim.log.waitFor(/a client of another user, uid 65534 is turned away/);
  assert.equal((await ask(laneTarget(ground), "check")).code, 0);
});

Deno.test("two that want one name at the same time have a socket each", async () => {
  await using sshd = await startSshd();
  const folder = await Deno.makeTempDir({ prefix: "runtime-" });
  const environment = { XDG_RUNTIME_DIR: folder };
  {
    const starts = Array.from({ length: 3 }, () => startShim(sshd, { environment }));
    await using resources = new AsyncDisposableStack();
    const shims = (await Promise.all(starts)).map((shim) => resources.use(shim));
    const names = shims.map(({ banner }) => banner.controlPath!.split("/").at(-1)).sort();
    assert.deepEqual(names, ["127.0.0.1-2.ctl", "127.0.0.1-3.ctl", "127.0.0.1.ctl"]);
    for (const shim of shims) {
      const { stderr } = await ask(laneTarget({ shim, sshd }), "check");
      assert.match(text(stderr), new RegExp(`pid=${shim.pid}\\)`));
    }
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("what a killed one has left is taken, and a folder of others' is not", async (t) => {
  await using sshd = await startSshd();
  const folder = await Deno.makeTempDir({ prefix: "runtime-" });
  const environment = { XDG_RUNTIME_DIR: folder };
  const path = `${folder}/sshshim/127.0.0.1.ctl`;
  await t.step("a socket at which nobody listens", async () => {
    await Deno.mkdir(`${folder}/sshshim`, { mode: 0o700 });
    Deno.listen({ transport: "unix", path }).close();
    if (!await Deno.lstat(path).then(() => true, () => false)) {
      await run(["python3", "-c", `import socket; socket.socket(socket.AF_UNIX).bind("${path}")`]);
    }
    assert.ok((await Deno.lstat(path)).isSocket);
    await using shim = await startShim(sshd, { environment });
    assert.equal(shim.banner.controlPath, path);
    assert.equal((await ask(laneTarget({ shim, sshd }), "check")).code, 0);
  });
  await t.step("a folder in which others can write", async () => {
    await Deno.chmod(`${folder}/sshshim`, 0o777);
    await using shim = await startShim(sshd, { environment });
    assert.equal(shim.banner.controlPath, undefined);
    await shim.log.waitFor(/there is no control socket: Others can write in/);
  });
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a long name gets a short socket", async () => {
  await using sshd = await startSshd();
  const folder = await Deno.makeTempDir({ prefix: "runtime-" });
  {
    await using shim = startNamed(sshd, { folder, name: "n".repeat(120) });
    const [, path] = await shim.stdout.waitFor(/^Host [^]*ControlPath (.*)$/m);
    assert.ok(path!.length <= 100, path);
    const check = await run(["ssh", "-F", "/dev/null", "-S", path!, "-O", "check", "x"]);
    assert.match(text(check.stderr), /Master running/);
    shim.kill("SIGTERM");
    assert.equal((await shim.drained()).code, 0);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("where there is no descriptor left, clients are served once there is one again", async () => {
  await using ground = await startGround();
  const target = laneTarget(ground);
  const limit = (soft: string) =>
    runChecked(["prlimit", "--pid", `${ground.shim.pid}`, `--nofile=${soft}:`]);
  const before = (await Deno.readTextFile(`/proc/${ground.shim.pid}/limits`))
    .match(/^Max open files +(\d+)/m)![1]!;
  await limit("8");
  await using client = target.startSsh("", { options: ["-O", "check"] });
  await ground.shim.log.waitFor(/the control socket takes no clients for now/);
  await limit(before);
  assert.equal((await client.drained()).code, 0);
});

Deno.test("whoever has come to be at the place of the socket stays there", async () => {
  await using ground = await startGround();
  const path = ground.shim.banner.controlPath!;
  await Deno.remove(path);
  const other = Deno.listen({ transport: "unix", path });
  await ground.shim.stop();
  assert((await Deno.lstat(path)).isSocket);
  other.close();
});

/** The shim under a name; it prints its configuration for ssh. */
function startNamed(
  sshd: Sshd,
  { folder, name, permissions = [] }: { folder: string; name: string; permissions?: string[] },
): RunningProcess {
  return new RunningProcess([
    ...fromSource,
    ...permissions,
    mainModule,
    ...["--name", name, "--print-ssh-config", "--local-port", "0", "-v"],
    ...upstreamArguments(sshd),
  ], {
    environment: {
      ...Deno.env.toObject(),
      ...{ XDG_RUNTIME_DIR: folder, XDG_STATE_HOME: `${folder}/state` },
    },
  });
}

Deno.test("ssh's own requests", async (t) => {
  await using ground = await startGround();
  const target = laneTarget(ground);
  await t.step("-O check tells the process", async () => {
    const { code, stderr } = await ask(target, "check");
    assert.deepEqual([code, text(stderr)], [0, `Master running (pid=${ground.shim.pid})\r\n`]);
  });
  await t.step(
    "-O stop takes the socket away; what is there goes on, and so does the port",
    async () => {
      await using session = target.startSsh("cat");
      await session.write("before\n");
      await session.stdout.waitFor(/before/);
      assert.equal((await ask(target, "stop")).code, 0);
      await waitUntil(
        "the socket is gone",
        () => Deno.lstat(target.controlPath!).then(() => false, () => true),
      );
      await session.write("after\n");
      await session.stdout.waitFor(/after/);
      await session.closeStdin();
      assert.equal((await session.drained()).code, 0);
      const result = await target.ssh("echo by the port");
      assert.deepEqual([text(result.stdout), text(result.stderr)], ["by the port\n", ""]);
    },
  );
});

Deno.test("-O exit ends sshshim with status 0", async () => {
  await using ground = await startGround();
  const target = laneTarget(ground);
  const { code, stderr } = await ask(target, "exit");
  assert.deepEqual([code, text(stderr)], [0, "Exit request sent.\r\n"]);
  assert.equal((await ground.shim.status).code, 0);
  await ground.shim.log.waitFor(/ended by a client's request for the end/);
});

Deno.test("without native code ssh is not led to the socket, and requests without streams are served", async () => {
  await using sshd = await startSshd();
  const folder = await Deno.makeTempDir({ prefix: "runtime-" });
  {
    await using shim = startNamed(sshd, { folder, name: "x", permissions: ["--deny-ffi"] });
    const [config] = await shim.stdout.waitFor(/^Host [^]*ControlPath .*$/m);
    assert.match(config, /ControlPath none/);
    const path = `${folder}/sshshim/x.ctl`;
    const words = ["ssh", "-F", "/dev/null", "-S", path];
    const check = await run([...words, "-O", "check", "x"]);
    assert.match(text(check.stderr), /Master running/);
    const session = await run([
      ...[
        ...words,
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=1",
        "127.0.0.1",
        "-p",
        "1",
        "true",
      ],
    ]);
    assert.match(text(session.stderr), /no streams can be passed here/);
    shim.kill("SIGTERM");
    assert.equal((await shim.drained()).code, 0);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("where keys alone decide, the socket is no way around them", async () => {
  await using ground = await startGround({ shim: { demandsKeys: true } });
  assert.equal(ground.shim.banner.controlPath, undefined);
  const folder = `${ground.shim.knownHostsFile.replace(/\/[^/]+$/, "")}/run/sshshim`;
  const target = { ...shimTarget(ground), controlPath: `${folder}/127.0.0.1.ctl` };
  await using control = await RawControl.connect(target);
  await control.send(controlMessage(ControlType.proxy, 1));
  const answer = new Reader((await control.receive())!);
  assert.deepEqual([answer.uint32(), answer.uint32()], [ControlType.failure, 1]);
  assert.match(answer.text(), /keys alone decide/);
});

/** A message of the connection protocol in proxy mode. */
function packet(type: number, ...fields: Parameters<typeof buildMessage>[1][]): Uint8Array {
  const message = buildMessage(type, ...fields);
  const bytes = new Uint8Array(5 + message.length);
  new DataView(bytes.buffer).setUint32(0, message.length + 1);
  bytes.set(message, 5);
  return bytes;
}

Deno.test("in proxy mode a client speaks the connection protocol, without encryption", async () => {
  await using ground = await startGround();
  await using control = await RawControl.connect(laneTarget(ground));
  await control.send(controlMessage(ControlType.proxy, 9));
  const begin = new Reader((await control.receive())!);
  assert.deepEqual([begin.uint32(), begin.uint32()], [ControlType.proxyBegins, 9]);
  const { channelOpen, channelRequest, channelData, channelClose } = MessageType;
  await control.send(packet(channelOpen, "session", 5, 100_000, 32_768));
  const opened = new Reader((await control.receive())!, 2);
  assert.equal(opened.uint32(), 5);
  const channel = opened.uint32();
  await control.send(packet(channelRequest, channel, "exec", true, "echo by proxy"));
  let output = "";
  for (;;) {
    const message = await control.receive();
    const type = message![1];
    if (type === channelData) output += text(new Reader(message!, 6).bytes());
    if (type === channelClose) break;
  }
  assert.equal(output, "by proxy\n");
});

Deno.test("whoever breaks the protocol is ended alone, however he does it", async (t) => {
  await using ground = await startGround();
  const target = laneTarget(ground);
  await using bystander = target.startSsh("cat");
  const random = crypto.getRandomValues(new Uint8Array(4096));
  const wrong: Record<string, Uint8Array> = {
    "a length without end": Uint8Array.of(255, 255, 255, 255, 1, 2, 3),
    "another version": controlMessage(ControlType.hello, 3),
    "a message that is too short": Uint8Array.of(0, 0, 0, 2, 1, 2),
    "a session without streams": controlMessage(
      ...[ControlType.newSession, 1, "", 0, 0, 0, 0, 0xffffffff, "xterm", "true"] as const,
      { raw: new Uint8Array(3) },
    ),
    "a kind of forward that there is not": controlMessage(ControlType.openForward, 1, 7),
    "random bytes": random,
  };
  for (const [what, bytes] of Object.entries(wrong)) {
    await t.step(what, async () => {
      await using control = await RawControl.connect(target);
      await control.send(bytes).catch(() => {/* It has hung up already. */});
      if (what === "random bytes") return;
      for (let message = await control.receive(); message; message = await control.receive()) {
        const type = new Reader(message).uint32();
        if (type === ControlType.failure) break;
      }
    });
  }
  await bystander.write("still there\n");
  await bystander.stdout.waitFor(/still there/);
  await bystander.closeStdin();
  assert.equal((await bystander.drained()).code, 0);
  assert.ok(await isRunning(ground.shim.pid));
});

Deno.test("what waits for a person or is recorded at the port is so at the socket", async () => {
  const folder = await Deno.makeTempDir({ prefix: "audit-" });
  const file = `${folder}/audit`;
  {
    await using ground = await startGround({ shim: { arguments: ["--audit", file] } });
    await laneTarget(ground).ssh("true");
    await ground.shim.log.waitFor(/client 1 left/);
    await ground.shim.stop();
    const events = (await Deno.readTextFile(file)).trim().split("\n").map((it) => JSON.parse(it));
    const opened = events.find(({ event }) => event === "client-open");
    assert.match(opened.program, /ssh$/);
    assert.deepEqual(
      events.map(({ event }) => event).filter((it) => !/request/.test(it)),
      ["start", "client-open", "channel-open", "channel-close", "client-close", "end"],
    );
  }
  {
    // Nobody can be asked.
    await using ground: Ground = await startGround({ shim: { arguments: ["--confirm"] } });
    const { code, stderr } = await laneTarget(ground).ssh("true");
    assert.equal(code, 255);
    assert.match(text(stderr), /not let in: nobody can be asked/);
  }
  await Deno.remove(folder, { recursive: true });
});
