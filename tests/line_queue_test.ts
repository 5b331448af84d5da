/** Nobody has to read what sshshim says: lines wait, are dropped and counted, and hold nothing up. */

import assert from "node:assert/strict";
import { LineQueue } from "../lib/line_queue.ts";
import { serverArguments, startServing } from "./support/login.ts";
import { text } from "./support/run.ts";
import { settled } from "./support/scripted_connector.ts";
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
