/** Programs other than OpenSSH's, as clients of the shim and as the server behind it. */

import assert from "node:assert/strict";
import { startComparison, startGround, type Target } from "./support/both.ts";
import { startDropbear } from "./support/dropbear.ts";
import { patternBytes, sha256, writePatternFile } from "./support/files.ts";
import { freePort } from "./support/ports.ts";
import { asyncssh, paramiko } from "./support/python.ts";
import {
  type CommandResult,
  run,
  runChecked,
  RunningProcess,
  type RunOptions,
  text,
} from "./support/run.ts";
import { echoed, exchange, startEcho, tcpAddress } from "./support/services.ts";

const threeMegabytes = patternBytes(3_000_000);
/** PuTTY's programs and sshd take seconds for more of it where there is no shim between them. */
const someBytes = patternBytes(300_000);
const streams = "cat; echo err >&2; exit 37";

Deno.test("PuTTY's programs work through the shim as they do directly", async (t) => {
  await using ground = await startGround();
  const keyFile = `${ground.sshd.folder}/user.ppk`;
  await runChecked(["puttygen", ground.sshd.keyFile, "-O", "private", "-o", keyFile]);
  const putty = async (program: string, target: Target) => [
    ...[program, "-batch", "-P", String(target.port), "-l", target.username],
    ...["-i", keyFile, "-hostkey", await fingerprintOf(target)],
  ];

  await ground.step(t, "plink runs a command", async (target) => {
    const command = [...await putty("plink", target), "-ssh", target.host, streams];
    return await runClient(target, command, { stdin: someBytes });
  }, { expect: (result) => assertStreams(result, someBytes) });

  await ground.step(t, "plink forwards a port in both directions", async (target) => {
    await using echo = startEcho({ greeting: "hello\n" });
    const [local, remote] = [freePort(), freePort()];
    await using client = new RunningProcess([
      ...await putty("plink", target),
      ...["-L", `${local}:127.0.0.1:${echo.port}`, "-R", `${remote}:127.0.0.1:${echo.port}`],
      ...["-ssh", target.host, "echo ready; cat"],
    ], { environment: target.environment });
    await client.stdout.waitFor(/ready/);
    const ports = [local, remote].map(tcpAddress);
    const answers = await Promise.all(ports.map((port) => exchange(port, someBytes)));
    await client.closeStdin();
    return { answers: answers.map(sha256), code: (await client.drained()).code };
  }, {
    expect: ({ answers, code }) => {
      const expected = sha256(echoed("hello\n", someBytes));
      assert.deepEqual({ answers, code }, { answers: [expected, expected], code: 0 });
    },
  });

  await ground.step(t, "psftp puts, lists, gets and removes files", async (target) => {
    const sum = await writePatternFile(`${target.folder}/file`, someBytes.length);
    const script = `${target.folder}/script`;
    await Deno.writeTextFile(
      script,
      `
lcd ${target.folder}
cd ${target.folder}
mkdir remote
cd remote
put file
mv file renamed
get renamed back
pwd
rm no-such-file
`,
    );
    const result = await runClient(target, [
      ...await putty("psftp", target),
      ...["-be", "-b", script, target.host],
    ]);
    const back = sha256(await Deno.readFile(`${target.folder}/back`));
    const remote = await Array.fromAsync(Deno.readDir(`${target.folder}/remote`));
    return { ...result, isSame: back === sum, remote: remote.map(({ name }) => name) };
  }, {
    expect: ({ code, stdout, stderr, isSame, remote }) => {
      assert.deepEqual({ isSame, remote }, { isSame: true, remote: ["renamed"] }, text(stderr));
      assert.equal(code, 0);
      assert.match(text(stdout), /no such file or directory/);
    },
  });
});

Deno.test("Dropbear's client works through the shim as it does directly", async (t) => {
  await using ground = await startGround();
  const keyFile = `${ground.sshd.folder}/user.dropbear`;
  await runChecked(["dropbearconvert", "openssh", "dropbear", ground.sshd.keyFile, keyFile]);
  const dbclient = (target: Target, ...words: string[]) => [
    ...["dbclient", "-y", "-p", String(target.port), "-i", keyFile, ...words.slice(0, -1)],
    ...[`${target.username}@${target.host}`, ...words.slice(-1)],
  ];

  await ground.step(t, "dbclient runs a command", async (target) => {
    const command = dbclient(target, streams);
    const result = await runClient(target, command, { stdin: threeMegabytes });
    // Before the command's own line it names the host key, which is another one in each mode.
    const stderr = /.*\n$/.exec(text(result.stderr))?.[0];
    return { ...result, stderr: new TextEncoder().encode(stderr) };
  }, { expect: (result) => assertStreams(result) });

  await ground.step(t, "dbclient forwards a port in both directions", async (target) => {
    await using echo = startEcho({ greeting: "hello\n" });
    const [local, remote] = [freePort(), freePort()];
    const forwards = [
      ...["-L", `${local}:127.0.0.1:${echo.port}`, "-R", `${remote}:127.0.0.1:${echo.port}`],
    ];
    await using client = new RunningProcess(dbclient(target, ...forwards, "echo ready; cat"), {
      environment: target.environment,
    });
    await client.stdout.waitFor(/ready/);
    const ports = [local, remote].map(tcpAddress);
    const answers = await Promise.all(ports.map((port) => exchange(port, "ping")));
    await client.closeStdin();
    return { answers, code: (await client.drained()).code };
  }, {
    expect: ({ answers, code }) =>
      assert.deepEqual({ answers: answers.map(text), code }, {
        answers: ["hello\nping", "hello\nping"],
        code: 0,
      }),
  });
});

Deno.test("Python's clients work through the shim as they do directly", async (t) => {
  await using ground = await startGround({ sshd: { config: ["MaxSessions 20"] } });

  await ground.step(t, "paramiko runs a command", (target) =>
    paramiko(
      target,
      `
stdin, stdout, stderr = client.exec_command(${JSON.stringify(streams)})
stdin.write("x" * 3000000)
stdin.channel.shutdown_write()
print(len(stdout.read()), stderr.read(), stdout.channel.recv_exit_status())
`,
    ), { expect: (result) => assertOutput(result, "3000000 b'err\\n' 37\n") });

  await ground.step(t, "paramiko's SFTP keeps files, names and errors", async (target) => {
    await writePatternFile(`${target.folder}/file`, 3_000_000);
    const result = await paramiko(
      target,
      `
folder = ${JSON.stringify(target.folder)}
with client.open_sftp() as sftp:
    sftp.mkdir(folder + "/remote", 0o700)
    sftp.put(folder + "/file", folder + "/remote/größe")
    sftp.chmod(folder + "/remote/größe", 0o640)
    sftp.symlink("größe", folder + "/remote/link")
    print(sorted(sftp.listdir(folder + "/remote")), oct(sftp.stat(folder + "/remote/link").st_mode))
    sftp.get(folder + "/remote/link", folder + "/back")
    try:
        sftp.remove(folder + "/missing")
    except FileNotFoundError as error:
        print(error)
`,
    );
    const [file, back] = await Promise.all(
      ["file", "back"].map((name) => Deno.readFile(`${target.folder}/${name}`).then(sha256)),
    );
    return { ...result, isSame: file === back };
  }, {
    expect: (result) => {
      assertOutput(result, "['größe', 'link'] 0o100640\n[Errno 2] No such file\n");
      assert.ok(result.isSame);
    },
  });

  const tenCommands = `
async def one(connection, number):
    data = str(number) * 200000
    result = await connection.run(f"cat; exit {number}", input=data)
    return [result.stdout == data, result.exit_status]
`;

  await ground.step(t, "asyncssh runs 10 commands at once in one connection", (target) =>
    asyncssh(
      target,
      `${tenCommands}
print(await asyncio.gather(*[one(connection, number) for number in range(10)]))
`,
    ), { expect: (result) => assertOutput(result, tenTimes()) });

  await ground.step(t, "asyncssh runs 10 commands at once in 10 connections", (target) =>
    asyncssh(
      target,
      `${tenCommands}
async def alone(number):
    async with asyncssh.connect(
        ${JSON.stringify(target.host)}, ${target.port}, username=${JSON.stringify(target.username)},
        client_keys=[${JSON.stringify(target.keyFile)}], config=None, agent_path=None,
        known_hosts=${JSON.stringify(target.knownHostsFile)},
    ) as own:
        return await one(own, number)
print(await asyncio.gather(*[alone(number) for number in range(10)]))
`,
    ), { expect: (result) => assertOutput(result, tenTimes()) });
});

Deno.test({
  name: "in front of a Dropbear server, the shim gives what the server gives",
  // Only root can give a Dropbear server keys to authorize without touching anybody's home.
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0,
  async fn(t) {
    await using server = await startDropbear();
    await using comparison = await startComparison(server);

    await comparison.step(
      t,
      "a command's streams and exit status arrive",
      (target) => target.ssh(streams, { stdin: threeMegabytes }),
      { expect: (result) => assertStreams(result) },
    );

    await comparison.step(
      t,
      "a command without input ends",
      (target) => target.ssh("wc -c; exit 5"),
      {
        expect: (result) => assert.deepEqual([result.code, text(result.stdout)], [5, "0\n"]),
      },
    );

    await comparison.step(
      t,
      "a killed command makes ssh exit with 255",
      (target) => target.ssh("kill -KILL $$"),
      { expect: (result) => assert.equal(result.code, 255) },
    );

    await comparison.step(
      t,
      "a terminal works",
      (target) => target.ssh("tty >/dev/null && echo terminal", { options: ["-tt"] }),
      {
        expect: (result) => assert.equal(text(result.stdout), "terminal\r\n"),
      },
    );

    await comparison.step(t, "ports are forwarded in both directions", async (target) => {
      await using echo = startEcho({ greeting: "hello\n" });
      const [local, remote] = [freePort(), freePort()];
      await using client = target.startSsh("echo ready; cat", {
        options: [
          ...["-L", `${local}:127.0.0.1:${echo.port}`],
          ...["-R", `127.0.0.1:${remote}:127.0.0.1:${echo.port}`],
        ],
      });
      await client.stdout.waitFor(/ready/);
      const ports = [local, remote].map(tcpAddress);
      const answers = await Promise.all(ports.map((port) => exchange(port, "ping")));
      await client.closeStdin();
      const { code } = await client.drained();
      return { answers, code, stderr: client.stderr.text };
    }, {
      expect: ({ answers, code, stderr }) =>
        assert.deepEqual({ answers: answers.map(text), code, stderr }, {
          answers: ["hello\nping", "hello\nping"],
          code: 0,
          stderr: "",
        }),
    });
  },
});

/** What `streams` does with its input. */
function assertStreams(result: CommandResult, input = threeMegabytes): void {
  assert.deepEqual(
    { code: result.code, stdout: sha256(result.stdout), stderr: text(result.stderr) },
    { code: 37, stdout: sha256(input), stderr: "err\n" },
  );
}

function assertOutput(result: CommandResult, stdout: string): void {
  assert.deepEqual(
    { code: result.code, stdout: text(result.stdout), stderr: text(result.stderr) },
    { code: 0, stdout, stderr: "" },
  );
}

function tenTimes(): string {
  const results = Array.from({ length: 10 }, (_, index) => `[True, ${index}]`);
  return `[${results.join(", ")}]\n`;
}

function runClient(
  target: Target,
  command: string[],
  options: RunOptions = {},
): Promise<CommandResult> {
  return run(command, { environment: target.environment, ...options });
}

async function fingerprintOf(target: Target): Promise<string> {
  const listing = await runChecked(["ssh-keygen", "-l", "-f", target.knownHostsFile]);
  const fingerprint = /SHA256:\S+(?=.*\(ED25519\))/.exec(listing)?.[0];
  if (fingerprint === undefined) throw new Error(`No Ed25519 key: ${listing}`);
  return fingerprint;
}
