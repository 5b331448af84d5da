/**
 * What a real ssh can do with a key that is for some things only, and what it cannot: on sshd and
 * on the endpoint alike, as far as sshd has a word for it.
 */

import assert from "node:assert/strict";
import { startAgent } from "./support/agent.ts";
import type { Target } from "./support/both.ts";
import { shimTarget } from "./support/behind.ts";
import { finish, startForwarding } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { run, runChecked, text } from "./support/run.ts";
import { type ScopedGround, startScopedGround } from "./support/scoped.ts";
import { connect, readExactly, type Service, startEcho, tcpAddress } from "./support/services.ts";

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs ssh with the scoped key. */
async function ssh(target: Target, command?: string, options: string[] = []): Promise<Outcome> {
  const { code, stdout, stderr } = await run(target.sshCommand(command, options), {
    environment: target.environment,
  });
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/** What both sides came to with a key of these options. */
async function outcomeOf<T>(
  ground: ScopedGround,
  options: string,
  scenario: (target: Target) => Promise<T>,
): Promise<T> {
  await ground.allow(options);
  return await ground.compare((target) => scenario(ground.scoped(target)));
}

/** What ssh says where a channel is refused, without the server's own words. */
function withoutWords({ code, stdout, stderr }: Outcome): Outcome {
  return { code, stdout, stderr: stderr.replace(/(?<=prohibited): [^\r\n]*/g, "") };
}

function connectTo(target: Target, host: string, { port }: Service): Promise<Outcome> {
  return ssh(target, undefined, ["-W", `${host}:${port}`]).then(withoutWords);
}

/** Whether a remote forward is granted. */
async function listens(target: Target, forward: string): Promise<boolean> {
  const outcome = await ssh(target, "true", ["-R", forward, "-o", "ExitOnForwardFailure=yes"]);
  assert.ok(outcome.code === 0 || /forwarding failed/.test(outcome.stderr), outcome.stderr);
  return outcome.code === 0;
}

Deno.test("a scoped key does what its options say, and nothing else", async (t) => {
  await using ground = await startScopedGround();
  await using echo = startEcho({ greeting: "hello\n" });
  await using other = startEcho({ greeting: "hello\n" });
  const check = <T>(
    sentence: string,
    options: string,
    scenario: (target: Target) => Promise<T>,
    expected: T | ((result: T) => void),
  ) =>
    t.step(`${sentence} (${options.replace(/\d{4,}/g, "N") || "no options"})`, async () => {
      const result = await outcomeOf(ground, options, scenario);
      if (typeof expected === "function") (expected as (result: T) => void)(result);
      else assert.deepEqual(result, expected);
    });
  const runs = { code: 0, stdout: "ran\n", stderr: "" };
  const refused = ({ code, stderr }: Outcome) => {
    assert.equal(code, 255);
    assert.match(stderr, /Permission denied \(publickey\)/);
  };

  await check(
    "a key without options does everything",
    "",
    (target) => ssh(target, "echo ran"),
    runs,
  );

  const forced = 'command="echo forced; echo \\"<$SSH_ORIGINAL_COMMAND>\\""';
  await check("a command is replaced", forced, (target) => ssh(target, "ls -l /"), {
    ...{ code: 0, stdout: "forced\n<ls -l />\n", stderr: "" },
  });
  await check("a shell is replaced, and there is no original command", forced, (target) => {
    return ssh(target, undefined, ["-T"]);
  }, { code: 0, stdout: "forced\n<>\n", stderr: "" });
  await check("the exit status of the forced command is told", 'command="exit 7"', (target) => {
    return ssh(target, "exit 1").then(({ code }) => code);
  }, 7);
  await check(
    "a forced command has the client's input and terminal",
    'command="tty; cat"',
    (target) => {
      return run(target.sshCommand("x", ["-tt"]), {
        environment: target.environment,
        stdin: "typed\n\x04",
      }).then(({ code, stdout }) => ({ code, isTerminal: /\/dev\/pts/.test(text(stdout)) }));
    },
    { code: 0, isTerminal: true },
  );
  await check("a forced command leaves forwards alone, as with sshd", forced, (target) => {
    return connectTo(target, "127.0.0.1", echo);
  }, { code: 0, stdout: "hello\n", stderr: "" });

  for (
    const words of [
      `a'b"c`,
      "$(echo pwned) `echo pwned` ${HOME} $HOME",
      "ends with a backslash \\",
      "\\",
      "'; echo pwned; '",
      "'\\''; echo pwned #",
      '"; echo pwned; "',
      "two\nlines; echo pwned\n#",
      "100% %s %d \\045 \\0101 \\c \\n",
      "!! !$ ^a^b ~ * ? [a] {a,b} <x >y | & ; ( )",
      "\u00fc\u20ac \u{1f600}",
      "\ttab\rreturn\x01\x7f\x1b[31m",
      "x".repeat(4000),
    ]
  ) {
    await check(
      `what was asked for is never run: ${JSON.stringify(words.slice(0, 40))}`,
      'command="printf %s \\"$SSH_ORIGINAL_COMMAND\\" | od -An -c -v"',
      (target) => ssh(target, words),
      ({ code, stderr }) => assert.deepEqual([code, stderr], [0, ""]),
    );
  }

  const terminal = (target: Target) =>
    ssh(target, "tty", ["-tt"]).then(({ stdout, stderr }) => ({
      isTerminal: /\/dev\/pts/.test(stdout),
      stderr: stderr.replace(/^Connection to .*$/m, "").trim(),
    }));
  const noTerminal = { isTerminal: false, stderr: "PTY allocation request failed on channel 0" };
  await check("there is a terminal without the option", "", terminal, {
    isTerminal: true,
    stderr: "",
  });
  await check("there is no terminal", "no-pty", terminal, noTerminal);
  await check("there is no terminal", "restrict", terminal, noTerminal);
  await check("a terminal is allowed again", "restrict,pty", terminal, {
    ...{ isTerminal: true, stderr: "" },
  });
  await check("names of options are read in any case", "Restrict,PTY", terminal, {
    ...{ isTerminal: true, stderr: "" },
  });

  const prohibited = {
    ...{ code: 255, stdout: "" },
    stderr: "channel 0: open failed: administratively prohibited\r\nstdio forwarding failed\r\n",
  };
  const open = { code: 0, stdout: "hello\n", stderr: "" };
  const only = `permitopen="127.0.0.1:${echo.port}"`;
  await check("the permitted place is reached", only, (target) => {
    return connectTo(target, "127.0.0.1", echo);
  }, open);
  await check("another port is not", only, (target) => {
    return connectTo(target, "127.0.0.1", other);
  }, prohibited);
  await check("another spelling of the host is not", only, (target) => {
    return connectTo(target, "localhost", echo);
  }, prohibited);
  await check("any port of a host", 'permitopen="127.0.0.1:*"', async (target) => [
    await connectTo(target, "127.0.0.1", other),
    await connectTo(target, "localhost", other),
  ], [open, prohibited]);
  await check("any host at a port", `permitopen="*:${echo.port}"`, async (target) => [
    await connectTo(target, "localhost", echo),
    await connectTo(target, "127.0.0.1", other),
  ], [open, prohibited]);
  await check("several places", `permitopen="h:1",${only}`, (target) => {
    return connectTo(target, "127.0.0.1", echo);
  }, open);
  await check("no forward leads anywhere", "no-port-forwarding", (target) => {
    return connectTo(target, "127.0.0.1", echo);
  }, prohibited);
  await check("no forward leads anywhere", `restrict,${only}`, (target) => {
    return connectTo(target, "127.0.0.1", echo);
  }, prohibited);
  await check("forwards are allowed again", `restrict,port-forwarding,${only}`, async (target) => [
    await connectTo(target, "127.0.0.1", echo),
    await connectTo(target, "127.0.0.1", other),
  ], [open, prohibited]);

  const [port, next] = [freePort(), freePort()];
  const at = (host: string, number: number) => `${host}:${number}:127.0.0.1:${echo.port}`;
  const places = [at("localhost", port), at("127.0.0.1", port), at("localhost", next)];
  const granted = (forwards: string[]) => async (target: Target) => {
    const answers: boolean[] = [];
    for (const forward of forwards) answers.push(await listens(target, forward));
    return answers;
  };
  const inTurn = async (options: string, expected: boolean[]) => {
    await t.step(`remote forwards: ${options.replace(/\d{4,}/g, "N")}`, async () => {
      await ground.allow(options);
      const answers = await ground.compare((target) => granted(places)(ground.scoped(target)), {
        inTurn: true,
      });
      assert.deepEqual(answers, expected);
    });
  };
  await inTurn("", [true, true, true]);
  await inTurn(`permitlisten="localhost:${port}"`, [true, false, false]);
  await inTurn(`permitlisten="${port}"`, [true, true, false]);
  await inTurn(`permitlisten="*:${port}"`, [true, true, false]);
  await inTurn(`permitlisten="local*:*"`, [true, false, true]);
  await inTurn("no-port-forwarding", [false, false, false]);
  await inTurn("restrict", [false, false, false]);
  await inTurn(`permitopen="x:1"`, [true, true, true]);

  const variable = (target: Target) => ssh(target, "echo $SCOPE-$OTHER");
  await check("variables are set", 'environment="SCOPE=a b",environment="OTHER=c=\\"d"', variable, {
    ...{ code: 0, stdout: 'a b-c="d\n', stderr: "" },
  });
  await check(
    "the first of two is the one",
    'environment="SCOPE=1",environment="SCOPE=2"',
    variable,
    {
      ...{ code: 0, stdout: "1-\n", stderr: "" },
    },
  );
  await check(
    "variables are set for the forced command",
    'environment="SCOPE=1",command="echo $SCOPE"',
    variable,
    { code: 0, stdout: "1\n", stderr: "" },
  );

  const echoRan = (target: Target) => ssh(target, "echo ran");
  for (const from of ["127.0.0.1", "127.0.0.0/8", "127.*", "10.0.0.0/8,127.0.0.?", "!10.*,*"]) {
    await check("the key counts from here", `from="${from}"`, echoRan, runs);
  }
  for (
    const from of [
      "10.0.0.0/8",
      "localhost",
      "*,!127.0.0.1",
      "!127.0.0.1",
      "::1",
      "127.0.0.1/8",
      "",
    ]
  ) {
    await check("the key does not count from here", `from="${from}"`, echoRan, refused);
  }
  for (const time of ["20991231", "209912312359", "20991231235959Z"]) {
    await check("the key has not expired", `expiry-time="${time}"`, echoRan, runs);
  }
  for (const time of ["20200101", "202001010000", "20200101000000Z", "2020", "20201301", "x"]) {
    await check(
      "the key has expired, or nobody knows when",
      `expiry-time="${time}"`,
      echoRan,
      refused,
    );
  }
  await check(
    "the first expiry counts",
    'expiry-time="20991231",expiry-time="20200101"',
    echoRan,
    refused,
  );

  for (
    const options of [
      "unknown",
      "no-everything",
      "restrict,unknown",
      "restrict, pty",
      'command="a',
      'command="a",command="b"',
      "command=a",
      "command",
      'restrict="yes"',
      'permitopen="127.0.0.1"',
      'permitopen="127.0.0.1:0"',
      'permitopen="127.0.0.1:99999"',
      'permitlisten="a:b:c"',
      'environment="no value"',
      'environment="a-b=c"',
      "cert-authority",
    ]
  ) {
    await check("an option that is not understood refuses the key", options, echoRan, refused);
  }

  await t.step("the endpoint alone: a line that says too much refuses the key", async () => {
    const target = ground.scoped(shimTarget(ground));
    const [type, base64] = ground.publicKey.split(" ");
    for (
      const line of [
        `principals="me" ${ground.publicKey}`,
        `tunnel="1" ${ground.publicKey}`,
        `no-user-rc ${ground.publicKey}`,
        `user-rc ${ground.publicKey}`,
        `command="internal-sftp -R" ${ground.publicKey}`,
        `pty, ${ground.publicKey}`,
        // The same key again does not help.
        `unknown ${ground.publicKey}\n${ground.publicKey}`,
        `command="a ${ground.publicKey}\n${ground.publicKey}`,
        `${type}x ${base64}\n${ground.publicKey}`,
      ]
    ) {
      await ground.write(`${line}\n`);
      refused(await ssh(target, "true"));
    }
    await ground.write(`# a comment\n\n \t${ground.publicKey} a comment\r\n`);
    assert.equal((await ssh(target, "exit 3")).code, 3);
    await ground.write("");
    refused(await ssh(target, "true"));
  });
});

Deno.test("a scoped key lends no agent, no display and no other kind of channel", async (t) => {
  await using ground = await startScopedGround();
  await using agent = await startAgent(ground.sshd.folder, "agent");
  const lend = async (target: Target) => {
    const { stdout, stderr } = await run(
      target.sshCommand('test -S "$SSH_AUTH_SOCK" && echo lent; echo done', [
        ...["-A", "-o", `IdentityAgent=${agent.socket}`],
      ]),
      { environment: { ...target.environment, SSH_AUTH_SOCK: agent.socket } },
    );
    return text(stdout) + text(stderr);
  };
  for (
    const [options, expected] of [
      // sshd shows later sessions of a connection the socket of an earlier one.
      ["no-agent-forwarding", "done\n"],
      ["restrict", "done\n"],
      ["restrict,agent-forwarding", "lent\ndone\n"],
      ["", "lent\ndone\n"],
    ] as const
  ) {
    await t.step(`agent: ${options || "no options"}`, async () => {
      assert.equal(await outcomeOf(ground, options, lend), expected);
    });
  }

  const xauth = (await runChecked(["/bin/sh", "-c", "command -v xauth"])).trim();
  const display = async (target: Target) => {
    const { stdout } = await run(
      target.sshCommand('echo "<${DISPLAY:+lent}>"', ["-Y", "-o", `XAuthLocation=${xauth}`]),
      { environment: { ...target.environment, DISPLAY: "127.0.0.1:77" } },
    );
    return text(stdout);
  };
  for (
    const [options, expected] of [
      ["", "<lent>\n"],
      ["no-X11-forwarding", "<>\n"],
      ["restrict", "<>\n"],
      ["restrict,X11-forwarding", "<lent>\n"],
    ] as const
  ) {
    await t.step(`display: ${options || "no options"}`, async () => {
      assert.equal(await outcomeOf(ground, options, display), expected);
    });
  }

  await t.step("unix sockets: no-port-forwarding, and where other places are named", async () => {
    const path = `${ground.sshd.folder}/service`;
    await using _service = startEcho({ greeting: "hello\n", path });
    const reach = async (target: Target) => {
      const port = freePort();
      await using client = await startForwarding(target, ["-L", `127.0.0.1:${port}:${path}`]);
      const connection = await connect(tcpAddress(port));
      const answer = await readExactly(connection, 6).then(text, () => "");
      connection.close();
      await finish(client);
      return answer + client.stderr.text;
    };
    const target = ground.scoped(shimTarget(ground));
    await ground.allow("");
    assert.equal(await reach(target), "hello\n");
    for (const options of ["no-port-forwarding", "restrict", 'permitopen="127.0.0.1:*"']) {
      await ground.allow(options);
      assert.match(await reach(target), /^channel \d+: open failed: administratively prohibited/);
    }
    const forward = `${ground.sshd.folder}/listener:${path}`;
    await ground.allow("");
    assert.ok(await listens(target, forward));
    await Deno.remove(`${ground.sshd.folder}/listener`).catch(() => {});
    for (const options of ["no-port-forwarding", "restrict", 'permitlisten="127.0.0.1:*"']) {
      await ground.allow(options);
      assert.ok(!await listens(target, forward), options);
    }
  });

  await t.step("what is refused is told once of each kind", async () => {
    const target = ground.scoped(shimTarget(ground));
    await ground.allow("restrict");
    await ssh(target, "true", ["-tt"]);
    await ground.shim.log.waitFor(/the options of its key do not allow requests of type pty-req/);
  });
});

Deno.test("a key for files is for nothing else, and a forced command stands for files as well", async () => {
  await using ground = await startScopedGround();
  const target = ground.scoped(shimTarget(ground));
  const list = () =>
    run(["sftp", "-b", "-", ...target.clientOptions(), target.host], {
      environment: target.environment,
      stdin: `ls ${ground.sshd.folder}/sshd_config\n`,
    });
  await ground.allow('restrict,command="internal-sftp"');
  const listing = await list();
  assert.equal(listing.code, 0, text(listing.stderr));
  assert.match(text(listing.stdout), /sshd_config/);
  for (const command of ["echo ran", undefined]) {
    const { code, stdout } = await ssh(target, command);
    assert.notEqual(code, 0);
    assert.equal(stdout, "");
  }
  await ground.allow('command="echo \\"asked for $SSH_ORIGINAL_COMMAND\\" >&2"');
  const { code, stderr } = await list();
  assert.notEqual(code, 0);
  assert.match(text(stderr), /asked for sftp/);
});
