/** Nobody has to read what sshshim says: lines wait, are dropped and counted, and hold nothing up. */

import assert from "node:assert/strict";
import { LineQueue } from "../lib/line_queue.ts";
import { loginEnvironment, serverArguments, shimCommand, startServing } from "./support/login.ts";
import { waitForFile, waitUntil } from "./support/processes.ts";
import { Terminal } from "./support/pty.ts";
import { startQuestionServer } from "./support/question_server.ts";
import { within } from "./support/deadline.ts";
import { text } from "./support/run.ts";
import { settled } from "./support/scripted_connector.ts";
import { withFolder } from "./support/signing.ts";
import { startSshd } from "./support/sshd.ts";

/** A target that takes what a test lets it take. */
class SlowTarget {
  readonly lines: string[] = [];
  #takes: (() => void)[] = [];
  #error: Error | undefined;

  async write(bytes: Uint8Array): Promise<number> {
    if (this.#error) throw this.#error;
    await new Promise<void>((resolve) => this.#takes.push(resolve));
    this.lines.push(new TextDecoder().decode(bytes));
    return bytes.length;
  }

  async take(count = Infinity): Promise<void> {
    for (; count > 0 && this.#takes.length > 0; count--) {
      this.#takes.shift()!();
      await settled();
    }
  }

  break(): void {
    this.#error = new Error("broken pipe");
  }
}

Deno.test("lines wait for a target that is slow, and leave in their order", async () => {
  const target = new SlowTarget();
  const queue = new LineQueue(target);
  for (const line of ["one\n", "two\n", "three\n"]) queue.write(line);
  await target.take(1);
  assert.deepEqual(target.lines, ["one\n"]);
  const flushed = queue.flushed();
  await target.take();
  await flushed;
  assert.deepEqual(target.lines, ["one\n", "two\n", "three\n"]);
});

Deno.test("lines beyond the limit are dropped, and their number is told when there is room", async () => {
  const target = new SlowTarget();
  const queue = new LineQueue(target, {
    limitBytes: 20,
    onDropped: (count) => queue.write(`dropped ${count}\n`),
  });
  for (let index = 0; index < 10; index++) queue.write(`line ${index}\n`);
  await target.take();
  assert.deepEqual(target.lines, ["line 0\n", "line 1\n", "dropped 8\n"]);
  queue.write("later\n");
  await target.take();
  assert.deepEqual(target.lines.slice(3), ["later\n"]);
  await queue.flushed();
});

Deno.test("a target that breaks loses its lines and nothing else", async () => {
  const target = new SlowTarget();
  const queue = new LineQueue(target);
  queue.write("one\n");
  queue.write("two\n");
  target.break();
  await target.take();
  await queue.flushed();
  queue.write("three\n");
  await queue.flushed();
  assert.deepEqual(target.lines, ["one\n"]);
});

/** Standard error becomes a pipe that is full, and that nobody reads. */
const fullStderr = `
import fcntl, os, sys
reading, writing = os.pipe()
fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
try:
    while True: os.write(writing, b"x" * 4096)
except BlockingIOError: pass
fcntl.fcntl(writing, fcntl.F_SETFL, 0)
os.set_inheritable(reading, True)
os.dup2(writing, 2)
os.execvp(sys.argv[1], sys.argv[1:])
`;

Deno.test("with a standard error that nobody reads, sessions run and SIGTERM ends everything", async () => {
  await using sshd = await startSshd();
  const { folder, keyFile } = sshd;
  const args = [...serverArguments(sshd), "--ed25519-key", keyFile, "-v"];
  // Its end asserts that SIGTERM was enough.
  await using shim = await startServing(args, { folder, launcher: fullStderr });
  for (let session = 0; session < 3; session++) {
    assert.equal(text((await shim.target.ssh("echo through")).stdout), "through\n");
  }
});

Deno.test("at a terminal that is stopped by Ctrl-S, a question holds nobody up, nor does it hold up SIGTERM", async () => {
  await withFolder(async (folder) => {
    await using server = await startQuestionServer({ prompt: "Code: ", answer: "1" });
    const command = shimCommand([...serverArguments({ ...server, username: "jane" }), "-v"]);
    await using terminal = new Terminal(
      ["sh", "-c", 'echo $$ > "$0/pid"; exec "$@"', folder, ...command],
      { environment: loginEnvironment(folder) },
    );
    await terminal.screen.waitFor(/Code: /);
    await terminal.type("1\r");
    const [, port] = await terminal.screen.waitFor(/ is at 127\.0\.0\.1:(\d+)/);
    await terminal.screen.waitFor(/Ctrl-C ends it/);
    const pid = Number(await waitForFile(`${folder}/pid`));

    await terminal.type("\x13");
    server.cutAll();
    // It is asked in silence first, and then, as SIGUSR2 wants it, for a person.
    await waitUntil("a person is asked", () => {
      if (server.counts.asked >= 2) Deno.kill(pid, "SIGUSR2");
      return Promise.resolve(server.counts.asked >= 3);
    });
    using client = await Deno.connect({ hostname: "127.0.0.1", port: Number(port) });
    await client.write(new TextEncoder().encode("SSH-2.0-OpenSSH_test\r\n"));
    const buffer = new Uint8Array(8);
    assert.equal(await within(client.read(buffer), "no identification line"), 8);
    assert.equal(new TextDecoder().decode(buffer), "SSH-2.0-");
    Deno.kill(pid, "SIGTERM");
    assert.equal(await terminal.exit, 0);
  });
});
