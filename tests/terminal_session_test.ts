/** Sessions under a terminal: what the person types, sees and resizes. */

import assert from "node:assert/strict";
import { type Ground, startComparison, startGround, type Target } from "./support/both.ts";
import { Terminal } from "./support/pty.ts";
import { asyncssh, pythonProgram } from "./support/python.ts";
import { text } from "./support/run.ts";
import { startWitness } from "./support/witness.ts";

Deno.test("a terminal through the shim is the terminal that the server gives", async (t) => {
  await using ground = await startGround({ sshd: { config: ["AcceptEnv LC_* SHIM_*"] } });
  await whatTheCommandFinds(t, ground);
  await whatThePersonDoes(t, ground);
  await requestsOfOtherClients(t, ground);
});

async function whatTheCommandFinds(t: Deno.TestContext, ground: Ground): Promise<void> {
  await ground.step(
    t,
    "dimensions and TERM arrive",
    (target) => show(target, 'stty size; echo "$TERM"', { rows: 37, columns: 101 }),
    { expect: (seen) => assert.deepEqual(seen, { screen: "37 101\r\nxterm\r\n", exit: 0 }) },
  );

  await ground.step(
    t,
    "a terminal without a local one has the dimensions 0",
    (target) => target.ssh("stty size; tty >/dev/null", { options: ["-tt"] }),
    { expect: (result) => assert.equal(text(result.stdout), "0 0\r\n") },
  );

  await ground.step(
    t,
    "the modes of the local terminal arrive",
    (target) => show(target, "stty -a", { local: "stty intr ^X erase ^H -ixon -echoctl" }),
    {
      expect: ({ screen }) => {
        assert.match(screen, /intr = \^X/);
        assert.match(screen, /erase = \^H/);
        assert.match(screen, /\s-ixon\s/);
        assert.match(screen, /\s-echoctl\s/);
      },
    },
  );

  await ground.step(
    t,
    "variables arrive that SendEnv and SetEnv name and the server accepts",
    (target) =>
      target.ssh("env | grep -E '^(SHIM|OTHER)_' | sort", {
        options: [
          ...["-o", "SendEnv=SHIM_SENT OTHER_SENT"],
          ...["-o", "SetEnv=SHIM_SET='two words' OTHER_SET=x"],
        ],
        environment: { ...target.environment, SHIM_SENT: "größer", OTHER_SENT: "x" },
      }),
    {
      expect: (result) => {
        assert.equal(text(result.stdout), "SHIM_SENT=größer\nSHIM_SET=two words\n");
      },
    },
  );

  await ground.step(
    t,
    "the exit status of a command under a terminal arrives",
    (target) => show(target, "exit 7"),
    { expect: (seen) => assert.deepEqual(seen, { screen: "", exit: 7 }) },
  );

  await ground.step(
    t,
    "a command under a terminal that a signal kills makes ssh exit with 255",
    (target) => show(target, "kill -KILL $$"),
    { expect: ({ exit }) => assert.equal(exit, 255) },
  );
}

async function whatThePersonDoes(t: Deno.TestContext, ground: Ground): Promise<void> {
  await ground.step(
    t,
    "a resize reaches the running command, and Ctrl-C ends it",
    async (target) => {
      await using terminal = openTerminal(target, `${pythonProgram} -c '${sizeReporter}'`);
      await terminal.screen.waitFor(/24 80/);
      await terminal.resize({ rows: 50, columns: 132 });
      await terminal.screen.waitFor(/50 132/);
      await terminal.resize({ rows: 5, columns: 7 });
      await terminal.screen.waitFor(/5 7\r/);
      await terminal.type("\x03");
      await terminal.screen.waitFor(/interrupted/);
      return { exit: await terminal.exit, screen: withoutNotice(terminal.screen.text) };
    },
    {
      expect: (result) => {
        const screen = "24 80\r\n50 132\r\n5 7\r\n^Cinterrupted\r\n";
        assert.deepEqual(result, { exit: 5, screen });
      },
    },
  );

  await ground.step(
    t,
    "a shell takes commands and an end of input",
    async (target) => {
      await using terminal = openTerminal(target, "PS1='ready> ' exec sh -i");
      await terminal.screen.waitFor(/ready> $/);
      await terminal.type("expr 6 '*' 7\r");
      await terminal.screen.waitFor(/\n42\r\nready> $/);
      await terminal.type("(exit 9)\r");
      await terminal.screen.waitFor(/9\)\r\nready> $/);
      await terminal.type("\x04");
      return { exit: await terminal.exit };
    },
    { expect: (result) => assert.deepEqual(result, { exit: 9 }) },
  );

  await ground.step(
    t,
    "a break leaves the session alive, and ~. ends it",
    async (target) => {
      await using terminal = openTerminal(target, "stty -echo; echo ready; exec cat");
      await terminal.screen.waitFor(/ready/);
      await terminal.type("\r~B");
      await terminal.type("\ralive\r");
      await terminal.screen.waitFor(/alive/);
      await terminal.type("\r~.");
      return { exit: await terminal.exit, screen: terminal.screen.text };
    },
    {
      expect: ({ exit, screen }) => {
        assert.equal(exit, 255);
        assert.match(screen, /Connection to 127.0.0.1 closed\.\r+\n$/);
      },
    },
  );
}

Deno.test("requests of a session reach the server as the client made them", async (t) => {
  await using witness = await startWitness();
  await using comparison = await startComparison(witness);

  await comparison.step(
    t,
    "signals and breaks keep their names and lengths",
    (target) =>
      asyncssh(
        target,
        `
async with connection.create_process("any", term_type="xterm") as process:
    for name in ["TERM", "INT", "USR2", "made-up@example.com"]:
        process.send_signal(name)
    process.send_break(1234)
    process.change_terminal_size(132, 50, 1320, 500)
    process.stdin.write_eof()
    print(await process.stdout.read())
`,
      ),
    {
      expect: (result) => {
        const lines = text(result.stdout).trim().split("\r\n");
        assert.deepEqual(lines, [
          "started",
          ...["signal TERM", "signal INT", "signal USR2", "signal made-up@example.com"],
          ...["break 1234", "dimensions 132 50 1320 500"],
        ], text(result.stderr));
      },
    },
  );

  await comparison.step(
    t,
    "~B of ssh is a break, and a resize tells the new dimensions",
    async (target) => {
      await using terminal = openTerminal(target, "any");
      await terminal.screen.waitFor(/started/);
      await terminal.type("\r~B");
      const [breakLine] = await terminal.screen.waitFor(/break \d+/);
      await terminal.resize({ rows: 50, columns: 132 });
      const [dimensions] = await terminal.screen.waitFor(/dimensions .*(?=\r)/);
      await terminal.type("\r~.");
      return { breakLine, dimensions, exit: await terminal.exit };
    },
    {
      expect: (seen) => {
        assert.deepEqual(seen, {
          breakLine: "break 1000",
          dimensions: "dimensions 132 50 0 0",
          exit: 255,
        });
      },
    },
  );
});

async function requestsOfOtherClients(t: Deno.TestContext, ground: Ground): Promise<void> {
  await ground.step(
    t,
    "a client that asks for a break gets the server's answer",
    (target) =>
      asyncssh(
        target,
        `
from asyncssh.packet import UInt32
for term in ["xterm", None]:
    async with connection.create_process("echo ready; cat", term_type=term) as process:
        await process.stdout.readline()
        print(term, await process.channel._make_request(b"break", UInt32(500)))
        process.stdin.write_eof()
`,
      ),
    {
      expect: (result) => {
        assert.equal(text(result.stdout), "xterm True\nNone False\n", text(result.stderr));
      },
    },
  );

  await ground.step(
    t,
    "a signal that a client sends has the effect that it has directly",
    (target) =>
      asyncssh(
        target,
        `
async with connection.create_process("trap 'echo got; exit 6' TERM; echo ready; read line") as process:
    await process.stdout.readline()
    process.send_signal("TERM")
    process.stdin.write("line\\n")
    result = await process.wait()
    print(result.exit_status, result.stdout)
`,
      ),
    { expect: (result) => assert.equal(result.code, 0, text(result.stderr)) },
  );
}

/** Tells the dimensions at first and at each SIGWINCH, and ends with 5 at SIGINT. */
const sizeReporter = `
import os, signal, sys
signals = [signal.SIGINT, signal.SIGWINCH]
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
while True:
    size = os.get_terminal_size()
    print(size.lines, size.columns, flush=True)
    if signal.sigwait(signals) == signal.SIGINT:
        print("interrupted")
        sys.exit(5)
`;

/** ssh with a terminal on both sides, after a local command that prepares the local one. */
function openTerminal(
  target: Target,
  command: string,
  options: { local?: string; rows?: number; columns?: number } = {},
): Terminal {
  const { local = ":", rows = 24, columns = 80 } = options;
  const ssh = target.sshCommand(command, ["-tt"]);
  return new Terminal(["/bin/sh", "-c", `${local}; exec "$@"`, "sh", ...ssh], {
    environment: target.environment,
    dimensions: { rows, columns },
  });
}

/** Runs a command under a terminal to its end, and gives all that the person saw. */
async function show(
  target: Target,
  command: string,
  options: { local?: string; rows?: number; columns?: number } = {},
): Promise<{ exit: number; screen: string }> {
  await using terminal = openTerminal(target, command, options);
  const exit = await terminal.exit;
  return { exit, screen: withoutNotice(terminal.screen.text) };
}

/** Takes off ssh's own last line, so that the rest is what the command wrote. */
function withoutNotice(screen: string): string {
  return screen.replace(/Connection to [^ ]+ closed\.\r+\n$/, "");
}
