/** The audit: who came, what was opened, asked for and refused, how large it was, and never what. */

import assert from "node:assert/strict";
import { lostLine } from "../lib/audit.ts";
import { AuditFile } from "../lib/audit_file.ts";
import { configureLogging } from "../lib/log.ts";
import { MessageType } from "../lib/wire.ts";
import { laneTarget, shimTarget } from "./support/behind.ts";
import { startGround, type Target } from "./support/both.ts";
import { waitUntil } from "./support/processes.ts";
import { run, RunningProcess, text } from "./support/run.ts";
import { RawClient } from "./support/raw_client.ts";
import { exchange, startEcho, tcpAddress } from "./support/services.ts";
import { startServing } from "./support/login.ts";
import { freePort } from "./support/ports.ts";
import { startShim, upstreamArguments } from "./support/shim.ts";
import { withFolder } from "./support/signing.ts";
import { startSshd } from "./support/sshd.ts";

interface Line {
  [name: string]: unknown;
  event: string;
  time: string;
}

/** The lines of a file; those that come with all others left out. */
async function linesOf(path: string): Promise<Line[]> {
  const lines = (await Deno.readTextFile(path)).trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line));
}

/** Waits for a line, and returns those until then. */
async function linesUntil(path: string, isLast: (line: Line) => boolean): Promise<Line[]> {
  let lines: Line[] = [];
  await waitUntil("the line is there", async () => {
    lines = await linesOf(path).catch(() => []);
    return lines.some(isLast);
  });
  return lines;
}

/** The line without what differs from run to run. */
function factsOf({ time, ...facts }: Line): Record<string, unknown> {
  assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  const { durationMs, host, ...others } = facts;
  assert.match(String(host), /^\S+@127\.0\.0\.1:\d+$/);
  assert(durationMs === undefined || typeof durationMs === "number" && durationMs >= 0);
  return others;
}

Deno.test("the audit has a line for each client, channel, forward, request and refusal", async (t) => {
  await using sshd = await startSshd();
  const { folder } = sshd;
  const path = `${folder}/audit`;
  await using echo = startEcho();
  const args = [...upstreamArguments(sshd), "--audit", path];
  {
    await using shim = await startServing(args, { folder });
    const { target } = shim;
    const ssh = (words: string[], stdin = "") =>
      run(["ssh", ...words.slice(0, -1), ...target.sshArguments(), ...words.slice(-1)], {
        environment: target.environment,
        stdin,
      });

    await t.step("a command", async () => {
      const client = ssh(
        ["-o", "SendEnv=none", "cat; echo secret-word >&2; exit 3"],
        "twelve bytes",
      );
      assert.equal((await client).code, 3);
      const lines = (await linesUntil(path, isCloseOf(1))).map(factsOf);
      const { pid, parents, ...opened } = lines[1]!;
      assert(Number.isInteger(pid) && Array.isArray(parents), JSON.stringify(lines[1]));
      const { port, ...rest } = opened;
      assert(Number.isInteger(port));
      assert.deepEqual(rest, {
        event: "client-open",
        client: 1,
        username: "anybody",
        uid: Deno.uid(),
        program: await Deno.realPath("/usr/bin/ssh"),
      });
      assert.equal(lines[0]!.event, "start");
      assert.deepEqual(
        lines.slice(2).filter(({ type }) =>
          !["env", "exit-status", "eow@openssh.com"].includes(String(type))
        ),
        [
          { event: "channel-open", client: 1, channel: 0, type: "session", openedBy: "client" },
          {
            ...{ event: "channel-request", client: 1, channel: 0 },
            ...{ type: "exec", by: "client", outcome: "granted" },
          },
          {
            ...{ event: "channel-close", client: 1, channel: 0, toHostBytes: 12 },
            ...{ toClientBytes: 12 + "secret-word\n".length, requestsNotListed: 0 },
          },
          { event: "client-close", client: 1, toHostBytes: 12, toClientBytes: 24 },
        ],
      );
    });

    await t.step("forwards in both directions, and their sizes", async () => {
      const [localPort, remotePort] = [freePort(), freePort()];
      await using client = new RunningProcess([
        "ssh",
        ...["-o", "ExitOnForwardFailure=yes", "-R", `${remotePort}:127.0.0.1:${echo.port}`],
        ...["-L", `${localPort}:127.0.0.1:${echo.port}`],
        ...target.sshArguments(),
        "echo up; cat",
      ], { environment: target.environment });
      await client.stdout.waitFor(/up/);
      assert.equal(text(await exchange(tcpAddress(localPort), "one")), "one");
      assert.equal(text(await exchange(tcpAddress(remotePort), "four")), "four");
      await client.closeStdin();
      await client.drained();
      const lines = (await linesUntil(path, isCloseOf(2))).map(factsOf)
        .filter(({ client, type }) => client === 2 && type !== "session");
      const find = (event: string, type?: string) =>
        lines.find((line) => line.event === event && line.type === type);
      assert.deepEqual(find("forward-open"), {
        ...{ event: "forward-open", client: 2, request: "tcpip-forward" },
        place: `localhost:${remotePort}`,
      });
      const there = find("channel-open", "direct-tcpip")!;
      assert.deepEqual([there.target, there.openedBy], [`127.0.0.1:${echo.port}`, "client"]);
      const back = find("channel-open", "forwarded-tcpip")!;
      assert.deepEqual([back.target, back.openedBy], [`localhost:${remotePort}`, "host"]);
      const sizes = [there, back].map(({ channel }) => {
        const end = lines.find((it) => it.event === "channel-close" && it.channel === channel)!;
        return [end.toHostBytes, end.toClientBytes];
      });
      assert.deepEqual(sizes, [[3, 3], [4, 4]]);
    });

    await t.step("refusals, by whom and why", async () => {
      const port = freePort();
      const result = await ssh(["-W", `127.0.0.1:${port}`, "-v"]);
      assert.notEqual(result.code, 0);
      const refused = factsOf(
        (await linesUntil(path, isCloseOf(3))).find(({ event }) => event === "channel-refused")!,
      );
      const { origin: _, ...facts } = refused;
      assert.deepEqual(facts, {
        ...{ event: "channel-refused", client: 3, channel: facts.channel, type: "direct-tcpip" },
        ...{ openedBy: "client", target: `127.0.0.1:${port}`, by: "host", code: 2 },
        reason: "Connection refused",
      });
    });

    await t.step("the end of a client that breaks the protocol, and why", async () => {
      {
        await using client = await RawClient.connect(target);
        client.send(MessageType.channelData, 77, "what is this");
        await client.lastWords();
      }
      const lines = await linesUntil(path, isCloseOf(4));
      const { reason } = lines.find(isCloseOf(4))!;
      assert.match(String(reason), /no such channel/);
    });

    await t.step("a subsystem, by its name", async () => {
      const options = target.clientOptions();
      await run(["sftp", "-b", "/dev/null", ...options, "127.0.0.1"], {
        environment: target.environment,
      });
      const lines = await linesUntil(path, isCloseOf(5));
      assert.deepEqual(
        lines.filter(({ type }) => type === "subsystem").map((
          { name, outcome },
        ) => [name, outcome]),
        [["sftp", "granted"]],
      );
    });
  }

  await t.step("it is for this user alone, and has its end", async () => {
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    const last = factsOf((await linesOf(path)).at(-1)!);
    assert.deepEqual(last, { event: "end", reason: "sshshim has been stopped" });
  });
  await t.step("nothing of what was sent is in it", async () => {
    const all = await Deno.readTextFile(path);
    for (const word of ["secret-word", "twelve", "exit 3", "cat"]) {
      assert(!all.includes(word), word);
    }
  });
});

/** Whether a line is a client's last. */
function isCloseOf(client: number): (line: Line) => boolean {
  return (line) => line.event === "client-close" && line.client === client;
}

/** A file of another user's, and a link of theirs to one of ours. */
async function filesOfOthers(folder: string): Promise<[string, string][]> {
  const [file, link, ours] = [`${folder}/theirs`, `${folder}/their_link`, `${folder}/ours`];
  await Deno.writeTextFile(file, "");
  await Deno.writeTextFile(ours, "");
  await Deno.symlink(ours, link);
  await run(["chown", "-h", "65534", file, link]);
  return [[file, "it belongs to another user"], [link, "it is a link of another user's"]];
}

Deno.test("a file of the audit that cannot be used ends it with status 2 and clear words", async (t) => {
  await withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/folder`);
    for (
      const [path, reason] of [
        [`${folder}/folder`, "it is not a file"],
        [`${folder}/nowhere/audit`, "No such file"],
        ["/dev/full", "it is not a file"],
        ...(Deno.uid() === 0 ? await filesOfOthers(folder) : []),
      ] as const
    ) {
      await t.step(path.slice(path.lastIndexOf("/")), async () => {
        await assert.rejects(
          AuditFile.open(path, lostLine),
          { name: "UsageError", message: new RegExp(`${path} cannot be used: ${reason}`) },
        );
      });
    }
  });
});

Deno.test("a file of the audit that was moved or removed is made anew", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/audit`;
    await using audit = await AuditFile.open(path, lostLine);
    const hasLine = (file: string, line: string) =>
      waitUntil(
        `${line} in ${file}`,
        async () => (await Deno.readTextFile(file).catch(() => "")) === `${line}\n`,
      );
    audit.write("one\n");
    await hasLine(path, "one");
    await Deno.rename(path, `${path}.1`);
    audit.write("two\n");
    await hasLine(path, "two");
    await Deno.remove(path);
    audit.write("three\n");
    await hasLine(path, "three");
    await Deno.truncate(path);
    audit.write("four\n");
    await hasLine(path, "four");
    assert.equal(await Deno.readTextFile(`${path}.1`), "one\n");
  });
});

/** Only root can lay a small disk. */
const canMount = Deno.build.os === "linux" && Deno.uid() === 0 &&
  (await run(["unshare", "-m", "true"]).catch(() => undefined))?.code === 0;

Deno.test({
  name: "a full disk is told once and stops nothing, and the missing lines are counted",
  ignore: !canMount,
  async fn() {
    await withFolder(async (folder) => {
      const logged: string[] = [];
      configureLogging({
        verbosity: "normal",
        format: "text",
        write: (line) => void logged.push(line),
      });
      await run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]);
      try {
        const path = `${folder}/audit`;
        const line = `${JSON.stringify({ event: "x".repeat(2990) })}\n`;
        {
          await using audit = await AuditFile.open(path, lostLine);
          // 21 of them fit, and then those of the others that come only after the disk has room again.
          for (let count = 0; count < 30; count++) audit.write(line);
          await waitUntil("it is full", () => Promise.resolve(logged.length > 0));
          assert.match(logged[0]!, /audit: warning: the audit file .* lines are dropped: No space/);
          for (let count = 0; count < 10; count++) audit.write(line);
          await Deno.rename(path, `${path}.1`);
          await Deno.remove(`${path}.1`);
          audit.write(line);
          await waitUntil("it is written again", () => Promise.resolve(logged.length > 1));
        }
        assert.equal(logged.length, 2, logged.join(""));
        const [, count] = /written again; (\d+) lines are missing/.exec(logged[1]!)!;
        const [lost, ...others] = await linesOf(path);
        assert.deepEqual([lost!.event, lost!.count], ["lines-lost", Number(count)]);
        assert(others.length > 0 && Number(count) + others.length <= 41);
      } finally {
        await run(["umount", folder]);
        configureLogging({ verbosity: "quiet", format: "text" });
      }
    });
  },
});

Deno.test("connections of other users are in the audit", {
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0,
}, async () => {
  const folder = await Deno.makeTempDir();
  await using _ = { [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }) };
  const path = `${folder}/audit`;
  await using ground = await startGround({ shim: { arguments: ["--audit", path] } });
  const target: Target = shimTarget(ground);
  await run([
    ...["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"],
    ...["ssh", "-F", "none", "-p", String(target.port), "127.0.0.1"],
  ], { environment: { PATH: Deno.env.get("PATH")!, HOME: "/nonexistent" } });
  const lines = await linesUntil(path, ({ event }) => event === "connections-refused");
  assert.deepEqual(lines.map(factsOf).at(-1), {
    event: "connections-refused",
    count: 1,
    reason: "of user nobody",
  });
});

Deno.test("forwards by the control socket are sshshim's own in the audit", async () => {
  await using sshd = await startSshd();
  await using echo = startEcho({ greeting: "hello\n" });
  const path = `${sshd.folder}/audit`;
  await using shim = await startShim(sshd, { arguments: ["--audit", path] });
  const target = laneTarget({ shim, sshd });
  const port = freePort();
  const forward = ["-L", `${port}:127.0.0.1:${echo.port}`];
  assert.equal((await target.ssh("", { options: ["-O", "forward", ...forward] })).code, 0);
  await exchange(tcpAddress(port), "there");
  assert.equal((await target.ssh("", { options: ["-O", "cancel", ...forward] })).code, 0);
  const lines = await linesUntil(path, ({ event }) => event === "client-close");
  const its = lines.filter(({ client }) => client !== undefined).map(factsOf);
  const { client } = its[0]!;
  assert.deepEqual(its.map((line) => [line.event, line.client]), [
    ["client-open", client],
    ["channel-open", client],
    ["channel-close", client],
    ["client-close", client],
  ]);
  assert.deepEqual([its[0]!.pid, its[0]!.uid], [shim.pid, Deno.uid()]);
});
