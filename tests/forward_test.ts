/** Forwards of TCP ports, for one client and for several at once. */

import assert from "node:assert/strict";
import { testComparison } from "./support/both.ts";
import { patternBytes, sha256 } from "./support/files.ts";
import { finish, lead, startForwarding, withoutPorts } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { waitUntil } from "./support/processes.ts";
import { Terminal } from "./support/pty.ts";
import { asyncssh } from "./support/python.ts";
import { run, text } from "./support/run.ts";
import { echoed, exchange, isFree, startEcho, tcpAddress } from "./support/services.ts";

const threeMegabytes = patternBytes(3_000_000);

for (const option of ["-L", "-R"]) {
  testComparison(
    `${option} carries bytes both ways and the end of each direction`,
    async (target, echo) => {
      const port = freePort();
      await using client = await startForwarding(target, [option, lead(port, echo)]);
      const small = await exchange(tcpAddress(port), "ping");
      const large = await Promise.all(
        [1, 2, 3].map(() => exchange(tcpAddress(port), threeMegabytes)),
      );
      return { small, large: large.map(sha256), ...await finish(client) };
    },
    {
      expect: ({ small, large, code, stderr }) => {
        assert.equal(text(small), "hello\nping");
        const expected = sha256(echoed("hello\n", threeMegabytes));
        assert.deepEqual(large, [expected, expected, expected]);
        assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
      },
    },
  );
}

testComparison("-L to a port where nobody listens closes its connections", async (target) => {
  const [port, closed] = [freePort(), freePort()];
  await using client = await startForwarding(target, ["-L", `${port}:127.0.0.1:${closed}`]);
  const received = await exchange(tcpAddress(port), "").catch(() => new Uint8Array());
  return { received, ...await finish(client) };
}, {
  noLane: "ssh is not told why a connection is closed",
  expect: ({ received, code, stderr }) => {
    assert.deepEqual({ received: received.length, code }, { received: 0, code: 0 });
    assert.equal(stderr, "channel 3: open failed: connect failed: Connection refused\r\n");
  },
});

testComparison("-W connects standard input and output to a port", (target, echo) =>
  target.ssh("", {
    options: ["-W", `127.0.0.1:${echo.port}`],
    stdin: threeMegabytes,
  }), {
  expect: (result) => {
    assert.equal(sha256(result.stdout), sha256(echoed("hello\n", threeMegabytes)));
    assert.deepEqual([result.code, text(result.stderr)], [0, ""]);
  },
});

testComparison("-R at port 0 tells the port that it got, and works there", async (target, echo) => {
  await using client = await startForwarding(target, [
    ...["-R", `0:127.0.0.1:${echo.port}`],
    ...["-R", `127.0.0.1:0:127.0.0.1:${echo.port}`],
  ]);
  const ports = [...client.stderr.text.matchAll(/^Allocated port (\d+) /gm)].map(([, port]) =>
    Number(port)
  );
  const answers = await Promise.all(ports.map((port) => exchange(tcpAddress(port), "ping")));
  const { code, stderr } = await finish(client);
  await waitUntil(
    "both are closed",
    async () => !(await Promise.all(ports.map(isFree))).includes(false),
  );
  return {
    answers: answers.map(text),
    code,
    stderr: withoutPorts(stderr),
  };
}, {
  noLane: "ssh tells the port with -v alone",
  expect: ({ answers, code, stderr }) => {
    assert.deepEqual({ answers, code }, { answers: ["hello\nping", "hello\nping"], code: 0 });
    assert.equal(stderr.match(/^Allocated port N for remote forward to /gm)?.length, 2);
  },
});

for (const fatal of [false, true]) {
  const sentence = fatal
    ? "-R at a taken port ends ssh if ExitOnForwardFailure is set"
    : "-R at a taken port is refused, and the session goes on";
  testComparison(sentence, (target, echo) =>
    target.ssh("echo session", {
      options: [
        // The echo service has this port.
        ...["-R", `127.0.0.1:${echo.port}:127.0.0.1:9`],
        ...["-o", `ExitOnForwardFailure=${fatal ? "yes" : "no"}`],
      ],
    }), {
    noLane: "ssh has more to say about it",
    expect: (result) => {
      assert.equal(result.code, fatal ? 255 : 0);
      assert.match(
        text(result.stderr),
        fatal
          ? /^Error: remote port forwarding failed /
          : /^Warning: remote port forwarding failed /,
      );
      assert.equal(text(result.stdout), fatal ? "" : "session\n");
    },
  });
}

testComparison("-R of two clients at once do not mix", async (target) => {
  await using first = startEcho({ greeting: "first\n" });
  await using second = startEcho({ greeting: "second\n" });
  const ports = [freePort(), freePort()] as const;
  await using one = await startForwarding(target, ["-R", lead(ports[0], first)]);
  await using two = await startForwarding(target, ["-R", lead(ports[1], second)]);
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) => exchange(tcpAddress(ports[index % 2]!), `${index}`)),
  );
  const ends = [await finish(one), await finish(two)];
  return { answers: answers.map(text), ends };
}, {
  expect: ({ answers, ends }) => {
    assert.deepEqual(
      answers,
      answers.map((_, index) => `${index % 2 === 0 ? "first" : "second"}\n${index}`),
    );
    assert.deepEqual(ends, [{ code: 0, stderr: "" }, { code: 0, stderr: "" }]);
  },
});

testComparison(
  "-R at the port of another client is refused, and is free when that one has left",
  async (target, echo) => {
    const port = freePort();
    const options = ["-R", lead(port, echo), "-o", "ExitOnForwardFailure=yes"];
    await using owner = await startForwarding(target, options);
    const refused = await target.ssh("echo session", { options });
    const answer = await exchange(tcpAddress(port), "still the first one's");
    const end = await finish(owner);
    await waitUntil("the port is closed", () => isFree(port));
    await using next = await startForwarding(target, options);
    const again = await exchange(tcpAddress(port), "the next one's");
    return {
      refused: { ...refused, stderr: withoutPorts(text(refused.stderr)) },
      answer,
      end,
      again,
      next: await finish(next),
    };
  },
  {
    noLane: "the same forward of two clients is one",
    expect: ({ refused, answer, end, again, next }) => {
      assert.equal(refused.code, 255);
      assert.match(refused.stderr, /^Error: remote port forwarding failed for listen port/);
      assert.equal(text(answer), "hello\nstill the first one's");
      assert.equal(text(again), "hello\nthe next one's");
      assert.deepEqual([end, next], [{ code: 0, stderr: "" }, { code: 0, stderr: "" }]);
    },
  },
);

testComparison("-R at ::1 stands beside another client's at 127.0.0.1", async (target) => {
  await using first = startEcho({ greeting: "first\n" });
  await using second = startEcho({ greeting: "second\n" });
  const port = freePort();
  const options = ["-o", "ExitOnForwardFailure=yes", "-R"];
  await using one = await startForwarding(target, [...options, lead(port, first)]);
  await using two = await startForwarding(target, [
    ...options,
    `[::1]:${port}:127.0.0.1:${second.port}`,
  ]);
  const [four, six] = [tcpAddress(port), { ...tcpAddress(port), hostname: "::1" }];
  const both = [text(await exchange(four, "a")), text(await exchange(six, "b"))];
  const ends = [await finish(one)];
  await waitUntil("the first is closed", () => isFree(port));
  const left = text(await exchange(six, "c"));
  ends.push(await finish(two));
  return { both, left, ends };
}, {
  expect: ({ both, left, ends }) => {
    assert.deepEqual({ both, left }, { both: ["first\na", "second\nb"], left: "second\nc" });
    assert.deepEqual(ends, [{ code: 0, stderr: "" }, { code: 0, stderr: "" }]);
  },
});

testComparison("-R of a client that is killed is closed at once", async (target, echo) => {
  const port = freePort();
  await using client = await startForwarding(target, ["-R", lead(port, echo)]);
  assert.equal(text(await exchange(tcpAddress(port), "x")), "hello\nx");
  client.kill("SIGKILL");
  await waitUntil("the port is closed", () => isFree(port));
  return await target.ssh("echo the next one works");
}, { expect: (result) => assert.equal(text(result.stdout), "the next one works\n") });

testComparison("forwards come and go through a control master", async (target, echo) => {
  const options = ["-o", `ControlPath=${target.folder}/control`];
  await using master = await startForwarding(target, ["-M", ...options]);
  const control = async (order: string, forward: string[]) => {
    const command = target.sshCommand(undefined, [...options, "-O", order, ...forward]);
    const { code, stdout, stderr } = await run(command, { environment: target.environment });
    return { code, stdout: text(stdout).trim(), stderr: text(stderr) };
  };
  const [remote, local] = [freePort(), freePort()];
  const steps: unknown[] = [];
  for (const [option, port] of [["-R", remote], ["-L", local]] as const) {
    const forward = [option, lead(port, echo)];
    steps.push(await control("forward", forward), text(await exchange(tcpAddress(port), option)));
    steps.push(await control("cancel", forward));
    await waitUntil("the port is closed", () => isFree(port));
  }
  const dynamic = ["-R", `0:127.0.0.1:${echo.port}`];
  const { stdout: port } = await control("forward", dynamic);
  steps.push(text(await exchange(tcpAddress(Number(port)), "port 0")));
  steps.push(await control("cancel", dynamic));
  await waitUntil("the port is closed", () => isFree(Number(port)));
  steps.push(await finish(master));
  return steps;
}, {
  expect: (steps) => {
    const done = { code: 0, stdout: "", stderr: "" };
    assert.deepEqual(steps, [
      ...[done, "hello\n-R", done],
      ...[done, "hello\n-L", done],
      ...["hello\nport 0", done, { code: 0, stderr: "" }],
    ]);
  },
});

testComparison("~C adds and cancels a forward in the middle of a session", async (target, echo) => {
  const port = freePort();
  await using terminal = new Terminal(
    target.sshCommand("echo ready; cat", [
      "-tt",
      // Releases before 9.2 do not know the option, for they always have the command line.
      ...["-o", "IgnoreUnknown=EnableEscapeCommandline", "-o", "EnableEscapeCommandline=yes"],
    ]),
    { environment: target.environment },
  );
  const { screen } = terminal;
  await screen.waitFor(/ready\r\n/);
  const order = async (words: string, answer: RegExp) => {
    const from = screen.text.length;
    await terminal.type("\r~C");
    await screen.waitFor(/ssh> /, { from });
    await terminal.type(`${words}\r`);
    await screen.waitFor(answer, { from });
  };
  await order(`-R ${lead(port, echo)}`, /Forwarding port\./);
  await waitUntil("the port listens", async () => !await isFree(port));
  const answer = text(await exchange(tcpAddress(port), "~C"));
  await order(`-KR 127.0.0.1:${port}`, /Canceled forwarding\./);
  await waitUntil("the port is closed", () => isFree(port));
  await terminal.type("\r\x04");
  return { answer, exit: await terminal.exit };
}, {
  noLane: "ssh has no ~C there",
  expect: (result) => assert.deepEqual(result, { answer: "hello\n~C", exit: 0 }),
});

testComparison("1,000 refused connections do not hurt another session", async (target) => {
  await using bystander = target.startSsh("echo ready; cat");
  await bystander.stdout.waitFor(/ready/);
  const refused = await asyncssh(
    target,
    `
from collections import Counter
async def attempt():
    try:
        await connection.open_connection("127.0.0.1", ${freePort()})
        return "opened"
    except asyncssh.ChannelOpenError as error:
        return f"{error.code} {error.reason}"
outcomes = Counter()
for _ in range(10):
    outcomes.update(await asyncio.gather(*[attempt() for _ in range(100)]))
print(dict(outcomes))
print((await connection.run("echo the same client goes on")).stdout, end="")
`,
  );
  await bystander.write("still here\n");
  await bystander.stdout.waitFor(/still here/);
  return { refused, bystander: await finish(bystander) };
}, {
  expect: ({ refused, bystander }) => {
    assert.deepEqual(
      { code: refused.code, stdout: text(refused.stdout), stderr: text(refused.stderr) },
      {
        code: 0,
        stdout: "{'2 Connection refused': 1000}\nthe same client goes on\n",
        stderr: "",
      },
    );
    assert.deepEqual(bystander, { code: 0, stderr: "" });
  },
});
