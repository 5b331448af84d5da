/** The demo, run as its readers run it. */

import assert from "node:assert/strict";
import { hostname } from "node:os";
import { fileURLToPath } from "node:url";
import { freePort, isListening } from "./support/ports.ts";
import { Terminal } from "./support/pty.ts";
import { run, RunningProcess, text } from "./support/run.ts";

const demo = [
  ...[Deno.execPath(), "run", "--no-check", "-A"],
  fileURLToPath(new URL("./demo.ts", import.meta.url)),
  ...["--local-port", "0"],
];

/** This process's environment, with a folder for temporary files that the test can look into. */
function demoEnvironment(folder: string): Record<string, string> {
  const { SSH_AUTH_SOCK: _agent, ...inherited } = Deno.env.toObject();
  return { ...inherited, TMPDIR: folder, NO_COLOR: "1" };
}

/** The port of the shim, as the banner tells it. */
function portIn(output: string): number {
  return Number(/ is at 127\.0\.0\.1:(\d+)$/m.exec(output)?.[1]);
}

/** Accepts one connection, reads a message, and sends it back with a suffix. */
async function echoOnce(listener: Deno.TcpListener): Promise<void> {
  using connection = await listener.accept();
  const buffer = new Uint8Array(100);
  const count = await connection.read(buffer) ?? 0;
  const answer = text(buffer.subarray(0, count)) + " and back";
  await connection.write(new TextEncoder().encode(answer));
}

Deno.test("the demo shows a command that crosses the real shim, and leaves nothing behind", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const result = await run([...demo, "--once"], { environment: demoEnvironment(folder) });
    const output = text(result.stdout);
    assert.equal(result.code, 0, text(result.stderr));
    assert.match(output, /toy SSH server/);
    assert.match(output, /^\$ sshshim /m);
    assert.match(
      output,
      new RegExp(`^Hello from the far end of the shim, on\n${hostname()}$`, "m"),
    );
    assert.match(text(result.stderr), /^sshshim: stopped by SIGTERM$/m);
    assert.deepEqual([...Deno.readDirSync(folder)], []);
    assert.equal(await isListening(portIn(output)), false);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the demo passes on the exit status of a shim that cannot start", async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const folder = await Deno.makeTempDir();
  try {
    const result = await run([...demo, "--local-port", String(taken.addr.port)], {
      environment: demoEnvironment(folder),
    });
    assert.equal(result.code, 6, text(result.stderr));
    assert.match(text(result.stderr), /listens there \(process \d+\)/);
    assert.deepEqual([...Deno.readDirSync(folder)], []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("in a terminal the demo stays up for every kind of client until Ctrl-C", async (t) => {
  const folder = await Deno.makeTempDir();
  try {
    await using terminal = new Terminal(demo, {
      environment: demoEnvironment(folder),
      dimensions: { rows: 24, columns: 400 },
    });
    const [, knownHostsFile] = await terminal.screen.waitFor(
      /give it -o UserKnownHostsFile=(\S+)\s/,
    );
    const port = portIn(terminal.screen.text.replaceAll("\r", ""));
    const options = [
      ...["-F", "/dev/null", "-o", `UserKnownHostsFile=${knownHostsFile}`, "-o", "BatchMode=yes"],
      ...["-o", `Port=${port}`, "-o", "ExitOnForwardFailure=yes"],
    ];
    const ssh = (...rest: string[]) => ["ssh", ...options, ...rest];

    await t.step("a command's streams and exit status arrive", async () => {
      const result = await run(ssh("127.0.0.1", "cat; echo err >&2; exit 37"), { stdin: "in" });
      assert.deepEqual([result.code, text(result.stdout), text(result.stderr)], [
        37,
        "in",
        "err\n",
      ]);
    });

    await t.step("a shell has a terminal", async () => {
      await using shell = new Terminal(ssh("127.0.0.1"), {
        environment: demoEnvironment(folder),
        dimensions: { rows: 33, columns: 99 },
      });
      await shell.type("stty size; exit 3\n");
      await shell.screen.waitFor(/^33 99\r?$/m);
      assert.equal(await shell.exit, 3);
    });

    await t.step("connections can be forwarded both ways", async () => {
      using destination = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const forwarded = freePort();
      await using listening = new RunningProcess(
        ssh("-v", "-N", "-R", `${forwarded}:127.0.0.1:${destination.addr.port}`, "127.0.0.1"),
      );
      await listening.stderr.waitFor(/remote forward success/);
      // Through the shim to the toy's end of the forward, and back through the shim to us.
      await using through = new RunningProcess(ssh("-W", `127.0.0.1:${forwarded}`, "127.0.0.1"));
      await through.write("to there");
      await echoOnce(destination);
      await through.stdout.waitFor(/^to there and back$/);
    });

    await t.step("files can be copied", async () => {
      await Deno.writeTextFile(`${folder}/from`, "content");
      const result = await run(["scp", ...options, `${folder}/from`, `127.0.0.1:${folder}/to`]);
      assert.equal(result.code, 0, text(result.stderr));
      assert.equal(await Deno.readTextFile(`${folder}/to`), "content");
      await Promise.all(["from", "to"].map((name) => Deno.remove(`${folder}/${name}`)));
    });

    await terminal.type("\x03");
    assert.equal(await terminal.exit, 0);
    assert.match(terminal.screen.text, /sshshim: stopped by SIGINT\r\n/);
    assert.deepEqual([...Deno.readDirSync(folder)], []);
    assert.equal(await isListening(port), false);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
