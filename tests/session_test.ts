/** Commands without a terminal: their streams, their ends, and many of them at once. */

import assert from "node:assert/strict";
import { shimTarget } from "./support/behind.ts";
import { startGround, type Target, testComparison } from "./support/both.ts";
import { patternBytes, sha256 } from "./support/files.ts";
import { lead } from "./support/forwarding.ts";
import { freePort, isListening } from "./support/ports.ts";
import { isRunning, waitForFile, waitUntil } from "./support/processes.ts";
import { asyncssh, pythonProgram } from "./support/python.ts";
import { type CommandResult, run, type RunningProcess, text } from "./support/run.ts";

testComparison(
  "exit statuses arrive, and nothing beside them",
  (target) => Promise.all([0, 1, 37, 255].map((code) => target.ssh(`exit ${code}`))),
  {
    expect: (results) => {
      for (const [index, code] of [0, 1, 37, 255].entries()) {
        assertResult(results[index]!, { code });
      }
    },
  },
);

testComparison(
  "a command that a signal kills makes ssh exit with 255",
  (target) => target.ssh("echo before; kill -TERM $$; echo after"),
  { expect: (result) => assertResult(result, { code: 255, stdout: "before\n" }) },
);

testComparison("the name of the signal that killed a command arrives", (target) =>
  asyncssh(
    target,
    `
for name in ["HUP", "INT", "KILL", "TERM", "PIPE", "ALRM", "USR1"]:
    result = await connection.run("kill -" + name + " $$")
    print(name, result.exit_status, result.exit_signal, result.returncode)
`,
  ), {
  expect: (result) => {
    assert.equal(result.code, 0, text(result.stderr));
    assert.match(text(result.stdout), /^TERM -1 \('TERM', False, .* -15$/m);
    assert.match(text(result.stdout), /^USR1 -1 \('USR1', False, .* -10$/m);
  },
});

testComparison(
  "a command that does not exist is reported by the remote shell",
  (target) => target.ssh("no-such-command-anywhere"),
  {
    expect: (result) => {
      assert.equal(result.code, 127);
      assert.match(text(result.stderr), /not found/);
    },
  },
);

testComparison(
  "a subsystem that does not exist is refused",
  (target) => target.ssh("nonexistent", { options: ["-s"] }),
  {
    expect: (result) =>
      assertResult(result, {
        code: 255,
        stderr: "subsystem request failed on channel 0\r\n",
      }),
  },
);

testComparison(
  "command lines of 30 and 100 KB arrive whole",
  (target) =>
    Promise.all(
      [30, 100].map((kilobytes) =>
        target.ssh(`words='${"0123456789abcdef".repeat(kilobytes * 64)}'; echo \${#words}`)
      ),
    ),
  {
    expect: ([small, large]) => {
      assertResult(small!, { code: 0, stdout: `${30 * 1024}\n` });
      assertResult(large!, { code: 0, stdout: `${100 * 1024}\n` });
    },
  },
);

const threeMegabytes = patternBytes(3_000_000);

testComparison(
  "a command whose input is at its end at once runs",
  (target) => target.ssh("wc -c; echo done; exit 3"),
  { expect: (result) => assertResult(result, { code: 3, stdout: "0\ndone\n" }) },
);

const readers = [
  ["cat >/dev/null; echo done; exit 5", "done\n"],
  ["wc -c; exit 5", "3000000\n"],
  ["sha256sum; exit 5", `${sha256(threeMegabytes)}  -\n`],
] as const;

testComparison(
  "commands answer after the end of 3 MB of input",
  (target) =>
    Promise.all(readers.map(([command]) => target.ssh(command, { stdin: threeMegabytes }))),
  {
    expect: (results) => {
      for (const [index, [, stdout]] of readers.entries()) {
        assertResult(results[index]!, { code: 5, stdout });
      }
    },
  },
);

testComparison(
  "3 MB that the command sends back come back whole",
  (target) => target.ssh("cat", { stdin: threeMegabytes }),
  { expect: (result) => assert.equal(sha256(result.stdout), sha256(threeMegabytes)) },
);

testComparison(
  "2 MB on each of stdout and stderr, interleaved, keep their order",
  (target) => target.ssh(`${pythonProgram} -c '${interleavingWriter}'`),
  {
    expect: (result) => {
      assert.equal(result.code, 0);
      assert.equal(sha256(result.stdout), sha256(interleaved("out")));
      assert.equal(sha256(result.stderr), sha256(interleaved("err")));
    },
  },
);

const allBytes = new Uint8Array(1024).map((_, index) => index);

testComparison(
  "all byte values pass through stdin, stdout and stderr",
  (target) => Promise.all(["cat", "cat >&2"].map((cat) => target.ssh(cat, { stdin: allBytes }))),
  {
    expect: ([output, error]) => {
      assert.deepEqual(output!.stdout, allBytes);
      assert.deepEqual(error!.stderr, allBytes);
    },
  },
);

testComparison("a remote pipe whose reader leaves ends", (target) => target.ssh("yes | head -1"), {
  expect: (result) => assertResult(result, { code: 0, stdout: "y\n" }),
});

testComparison(
  "a remote command ends when the local reader of its output leaves",
  (target) =>
    localShell(
      target,
      // The remote shell tells how its command ended after nobody reads its output any more.
      `"$@" 'yes; echo "yes: $?" >${target.folder}/end' | head -1`,
    ).then(async (result) => ({ ...result, end: await waitForFile(`${target.folder}/end`) })),
  {
    expect: (result) => {
      assertResult(result, { code: 0, stdout: "y\n", stderr: text(result.stderr) });
      assert.match(result.end, /^yes: [1-9]/);
    },
  },
);

testComparison(
  "a session lasts as long as a background process holds its output",
  (target) => target.ssh("(sleep 1; echo later) & echo started"),
  { expect: (result) => assertResult(result, { code: 0, stdout: "started\nlater\n" }) },
);

testComparison(
  "a background process that holds no stream does not keep the session",
  async (target) => {
    const result = await target.ssh("sleep 300 </dev/null >/dev/null 2>&1 & echo $!");
    const pid = Number(text(result.stdout));
    assert.ok(await isRunning(pid));
    Deno.kill(pid, "SIGTERM");
    return result.code;
  },
  { expect: (code) => assert.equal(code, 0) },
);

testComparison("a client that wants an answer every second gets it", async (target) => {
  await using client = target.startSsh("cat", {
    options: ["-vvv", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=100"],
  });
  await client.stderr.waitFor(/(receive packet: type 8[12]\b[^]*){3}/);
  await client.closeStdin();
  return (await client.drained()).code;
}, {
  noLane: "there is no connection whose life could be in doubt",
  expect: (code) => assert.equal(code, 0),
});

Deno.test("60 sessions at once all work", async () => {
  await using ground = await startGround({ sshd: { config: ["MaxSessions 100"] } });
  const echoes = await sixtySessions(shimTarget(ground));
  assert.equal(echoes.length, 60);
  assert.deepEqual(echoes, echoes.map((_, index) => `ready\nline ${index}\n0`));
});

testComparison(
  "a client that wants no more sessions does not stop another client's",
  async (target) => {
    // ssh itself sends no-more-sessions@openssh.com once its session is open.
    await using first = target.startSsh("echo ready; cat");
    await first.stdout.waitFor(/ready/);
    const others = await Promise.all([target.ssh("exit 4"), target.ssh("exit 5")]);
    await first.write("still here\n");
    await first.stdout.waitFor(/still here/);
    await first.closeStdin();
    return { codes: others.map((result) => result.code), first: (await first.drained()).code };
  },
  { expect: (result) => assert.deepEqual(result, { codes: [4, 5], first: 0 }) },
);

testComparison("a control master of ssh works inside", controlMaster, {
  expect: (result) => {
    assert.deepEqual(result.codes, [3, 0, 1, 2, 3]);
    assert.match(result.check, /^Master running/);
    assert.match(result.exit, /^Exit request sent/);
  },
});

testComparison(
  "ssh -N leaves no listener behind when it is told to end",
  async (target, echo) => {
    const port = freePort();
    await using client = target.startSsh(undefined, {
      options: [
        ...["-N", "-R", lead(port, echo)],
        ...["-o", "ExitOnForwardFailure=yes"],
        ...["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo connected"],
      ],
    });
    await client.stdout.waitFor(/connected/);
    await waitUntil("the forward listens", () => isListening(port));
    // The greeting comes through only once ssh is in its main loop.
    const through = await Deno.connect({ hostname: "127.0.0.1", port });
    try {
      assert.equal(await through.read(new Uint8Array(4)), 4);
      client.kill("SIGTERM");
    } finally {
      // OpenSSH 9.2 notices a signal that comes just before it waits for its sockets only when
      // one of them wakes it: this does.
      through.close();
    }
    const { code } = await client.drained();
    await waitUntil("the forward is closed", async () => !await isListening(port));
    return { code, stderr: client.stderr.text };
  }, // Versions of ssh differ in the exit status, so that only the comparison speaks of it.
  {
    noLane: "ssh runs no LocalCommand there",
    expect: ({ stderr }) => assert.equal(stderr, ""),
  },
);

for (
  const [what, command] of [
    ["download", "exec cat /dev/zero"],
    ["upload", "exec cat >/dev/null"],
  ] as const
) {
  testComparison(
    `the remote process ends when its client is killed in the middle of the ${what}`,
    async (target) => {
      const pidFile = `${target.folder}/pid`;
      await using client = target.startSsh(`echo $$ >${pidFile}; ${command}`, {
        discardStdout: true,
      });
      const pid = Number(await waitForFile(pidFile));
      if (what === "upload") await client.write(patternBytes(200_000));
      assert.ok(await isRunning(pid));
      client.kill("SIGKILL");
      await waitUntil("the remote process has ended", async () => !await isRunning(pid));
      return await target.ssh("echo the next one works");
    },
    { expect: (result) => assert.equal(result.code, 0) },
  );
}

/** Asserts on everything that a command did; what is not named has to be empty. */
function assertResult(
  result: CommandResult,
  expected: { code: number; stdout?: string; stderr?: string },
): void {
  assert.deepEqual(
    { code: result.code, stdout: text(result.stdout), stderr: text(result.stderr) },
    { stdout: "", stderr: "", ...expected },
  );
}

/** Writes 64 blocks of 32 KiB to each of stdout and stderr, in turn. */
const interleavingWriter = `
import sys
for number in range(1, 65):
    for name in ["out", "err"]:
        line = name + str(number) + "\\n"
        stream = getattr(sys, "std" + name)
        stream.write((line * 32768)[:32768])
        stream.flush()
`;

/** What the interleaving writer writes to the stream of this name. */
function interleaved(name: string): Uint8Array {
  const parts = Array.from({ length: 64 }, (_, index) => {
    return `${name}${index + 1}\n`.repeat(32_768).slice(0, 32_768);
  });
  return new TextEncoder().encode(parts.join(""));
}

/** Runs a local script in which `"$@"` is an ssh command up to and including the host. */
function localShell(target: Target, script: string): Promise<CommandResult> {
  return run(["/bin/sh", "-c", script, "sh", ...target.sshCommand()], {
    environment: target.environment,
  });
}

/** Opens sessions until 60 are open together, then uses and ends each of them. */
async function sixtySessions(target: Target): Promise<string[]> {
  await using stack = new AsyncDisposableStack();
  const clients: RunningProcess[] = [];
  // A few at a time: servers limit how many may be authenticating.
  while (clients.length < 60) {
    const group = Array.from({ length: 15 }, () => {
      const client = stack.use(target.startSsh("echo ready; cat"));
      clients.push(client);
      return client;
    });
    await Promise.all(group.map((client) => client.stdout.waitFor(/ready/)));
  }
  return await Promise.all(clients.map(async (client, index) => {
    await client.write(`line ${index}\n`);
    await client.stdout.waitFor(/line/);
    await client.closeStdin();
    const { code } = await client.drained();
    return client.stdout.text + code;
  }));
}

async function controlMaster(
  target: Target,
): Promise<{ codes: number[]; check: string; exit: string }> {
  const path = `${target.folder}/control`;
  const options = ["-o", `ControlPath=${path}`];
  const control = async (order: string) => {
    const result = await run([...target.sshCommand(undefined, [...options, "-O", order])], {
      environment: target.environment,
    });
    return text(result.stderr).replace(/pid=\d+/, "pid=…");
  };
  const first = await target.ssh("exit 3", {
    options: [...options, "-o", "ControlMaster=auto", "-o", "ControlPersist=60"],
  });
  const check = await control("check");
  const others = await Promise.all(
    [0, 1, 2, 3].map((code) => target.ssh(`cat; exit ${code}`, { options, stdin: "x" })),
  );
  const exit = await control("exit");
  await waitUntil("the master has removed its socket", async () => {
    return await Deno.lstat(path).then(() => false, () => true);
  });
  return { codes: [first, ...others].map((result) => result.code), check, exit };
}
