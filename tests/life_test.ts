/** The real program from its start to its end: who is told when it can be used, and what ends it. */

import assert from "node:assert/strict";
import { waitForFile } from "./support/processes.ts";
import { makeFolder, runProgram } from "./support/program.ts";
import { startServiceManager } from "./support/service_manager.ts";
import { freePort } from "./support/ports.ts";
import { run, RunningProcess, text } from "./support/run.ts";
import { startServing } from "./support/login.ts";
import { startHosts, startShims, targetOf } from "./support/several.ts";
import { program, shimEnvironment, shimProgram, upstreamArguments } from "./support/shim.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";

/** The shim at a free port, ended with its scope. */
function startShimOf(sshd: Sshd, args: string[]): RunningProcess {
  const common = [...upstreamArguments(sshd), "--local-port", "0", "-F", "none"];
  return new RunningProcess([...shimProgram, ...common, ...args], {
    environment: shimEnvironment(sshd.folder),
  });
}

/** Asserts what `sshshim ready` says of a file: nothing where it can be used. */
async function assertReady(path: string, expected: RegExp | undefined): Promise<void> {
  const { code, stderr } = await run([...program, "ready", path]);
  assert.equal(code, expected === undefined ? 0 : 1);
  assert.match(text(stderr), expected ?? /^$/);
}

function exists(path: string): Promise<boolean> {
  return Deno.lstat(path).then(() => true, () => false);
}

Deno.test("--idle-exit and --max-life end it with status 0", async (t) => {
  await using sshd = await startSshd();
  for (
    const [option, reason] of [
      ["--idle-exit", "no client for 1s"],
      ["--max-life", "1s have passed"],
    ] as const
  ) {
    await t.step(option, async () => {
      await using shim = startShimOf(sshd, [option, "1s"]);
      assert.equal((await shim.drained()).code, 0, shim.stderr.text);
      assert(shim.stderr.text.includes(`ended by ${option}: ${reason}`), shim.stderr.text);
    });
  }
  await t.step(
    "a session that is there then is told why",
    async () => {
      // On a busy machine it takes long to come in.
      const args = [...upstreamArguments(sshd), "--max-life", "15"];
      await using shim = await startServing(args, { folder: sshd.folder });
      const result = await run(shim.target.sshCommand("echo in; sleep 60"), {
        environment: shim.target.environment,
      });
      assert.deepEqual([result.code, text(result.stdout)], [255, "in\n"]);
      assert.match(text(result.stderr), /sshshim: --max-life: 15s have passed/);
      assert(await shim.log.waitFor(/ended by --max-life/));
    },
  );
});

Deno.test("a ready file is there while the port can be used", async (t) => {
  await using sshd = await startSshd();
  await using folder = await makeFolder();
  const path = `${folder.path}/ready`;
  const start = () => startShimOf(sshd, ["--ready-file", path]);
  await t.step("from the banner to the end, with what the banner says", async () => {
    await using shim = start();
    const facts = JSON.parse(await waitForFile(path));
    assert.deepEqual([facts.event, facts.pid, facts.username], [
      "listening",
      shim.pid,
      sshd.username,
    ]);
    await shim.stdout.waitFor(new RegExp(`is at 127\\.0\\.0\\.1:${facts.localPort}\n`));
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    await assertReady(path, undefined);
    shim.kill("SIGTERM");
    assert.equal((await shim.drained()).code, 0);
    assert.equal(await exists(path), false);
    await assertReady(
      path,
      /^sshshim: not ready: \S+ cannot be read: No such file or directory\.$/m,
    );
    assert.deepEqual([...Deno.readDirSync(folder.path)].map(({ name }) => name), []);
  });
  await t.step(
    "one that was left behind is gone before the log-in, and is written anew",
    async () => {
      {
        await using shim = start();
        await waitForFile(path);
        shim.kill("SIGKILL");
        await shim.ended();
      }
      assert(await exists(path));
      await assertReady(path, /^sshshim: not ready: process \d+, which wrote \S+, has ended\.$/m);
      const failure = await runProgram(folder.path, [
        ...["--host", "127.0.0.1", "--port", "1", "--ed25519-key", sshd.keyFile],
        ...["--local-port", "0", "--ready-file", path],
      ]);
      assert.equal(failure.code, 5, text(failure.stderr));
      assert.equal(await exists(path), false);
    },
  );
  await t.step("another's file in its place stays at the end", async () => {
    await using shim = start();
    await waitForFile(path);
    await Deno.writeTextFile(`${path}.new`, "another's\n");
    await Deno.rename(`${path}.new`, path);
    shim.kill("SIGTERM");
    assert.equal((await shim.drained()).code, 0);
    assert.equal(await Deno.readTextFile(path), "another's\n");
  });
  await t.step("what is not sshshim's is neither removed nor followed", async () => {
    await Deno.writeTextFile(`${folder.path}/precious`, '{"event":"other"}');
    await assertReady(`${folder.path}/precious`, /\/precious was not written by sshshim\.$/m);
    await Deno.symlink(`${folder.path}/precious`, `${folder.path}/link`);
    await Deno.mkdir(`${folder.path}/folder`);
    for (
      const [name, words] of [
        ["precious", "was not written by sshshim"],
        ["link", "is a symbolic link"],
        ["folder", "is not a file"],
        ["nowhere/ready", "cannot be written"],
      ] as const
    ) {
      await using shim = startShimOf(sshd, ["--ready-file", `${folder.path}/${name}`]);
      assert.equal((await shim.drained()).code, 2, shim.stderr.text);
      assert(shim.stderr.text.includes(words), shim.stderr.text);
    }
    assert.equal(await Deno.readTextFile(`${folder.path}/precious`), '{"event":"other"}');
    assert((await Deno.lstat(`${folder.path}/link`)).isSymlink);
  });
});

Deno.test({
  name: "--notify tells the service manager when the port can be used, how it goes, and the end",
  ignore: Deno.build.os !== "linux",
  async fn(t) {
    await using sshd = await startSshd();
    const args = [...upstreamArguments(sshd), "--notify"];
    const { folder } = sshd;
    for (const address of [`${folder}/notify`, `@sshshim-${crypto.randomUUID()}`]) {
      await t.step(address.startsWith("@") ? "at an abstract address" : "at a path", async () => {
        await using manager = await startServiceManager(address);
        {
          await using shim = await startServing(args, {
            folder,
            environment: { NOTIFY_SOCKET: address, WATCHDOG_USEC: "100000" },
          });
          await manager.stdout.waitFor(/^STATUS=\S+@127\.0\.0\.1:\d+: connected$/m);
          await manager.stdout.waitFor(/^READY=1$[^]*^WATCHDOG=1$[^]*^WATCHDOG=1$/m);
          assert.doesNotMatch(shim.log.text, /service manager/);
        }
        await manager.stdout.waitFor(/^STOPPING=1$/m);
      });
    }
    await t.step("and where nobody can be told, it says so once and goes on", async () => {
      await using shim = await startServing(args, {
        folder,
        environment: { NOTIFY_SOCKET: `${folder}/nobody` },
      });
      await shim.log.waitFor(/the service manager cannot be told anything at \S+nobody/);
      assert.equal((await shim.target.ssh("exit 3")).code, 3);
      assert.equal(shim.log.text.match(/service manager/g)?.length, 1);
    });
    await t.step("without a service manager it is nothing", async () => {
      await using shim = await startServing(args, { folder });
      assert.doesNotMatch(shim.log.text, /service manager/);
    });
  },
});

/** The first of them cannot be reached. */
const hostNames = ["gone", "prod", "staging"];

Deno.test("several hosts have one ready file, one idle time, and their names in one audit", async () => {
  await using hosts = await startHosts(["prod", "staging"]);
  const nowhere = freePort();
  await Deno.writeTextFile(
    hosts.config,
    await Deno.readTextFile(hosts.config) + `Host gone\n  HostName 127.0.0.1\n  Port ${nowhere}\n`,
  );
  const [ready, audit] = [`${hosts.folder}/ready`, `${hosts.folder}/audit`];
  const options = ["--ready-file", ready, "--audit", audit, "--idle-exit", "10"];
  await using shim = startShims(hosts, ["--log-format", "json", ...options, ...hostNames]);
  const facts = JSON.parse(await waitForFile(ready));
  assert.deepEqual(
    facts.hosts.map(({ name }: { name: string }) => name).sort(),
    hostNames.slice(1),
  );
  const target = await targetOf(hosts, shim, "staging");
  // While it is there, the other host's idleness ends nothing.
  assert.equal((await target.ssh("sleep 11; exit 3")).code, 3);
  assert.equal((await shim.drained()).code, 0, shim.stderr.text);
  assert.match(shim.stderr.text, /ended by --idle-exit: no client for 10s/);
  const lines = (await Deno.readTextFile(audit)).trimEnd().split("\n")
    .map((line) => JSON.parse(line));
  const portOf = (name: string) => hosts.servers[name]!.port;
  const events = (name: string) =>
    lines.filter(({ host }) => host.endsWith(`:${portOf(name)}`)).map(({ event }) => event);
  assert.deepEqual(events("prod"), ["start", "end"]);
  assert(events("staging").includes("client-open"));
});
