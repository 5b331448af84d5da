/** How much memory sshshim's process has, and what makes it grow. */

import { run } from "../support/run.ts";
import { pause, residentMB } from "./processes.ts";
import type { Family, FamilyOptions, Row, WayName } from "./rows.ts";
import { runExecs } from "./sessions.ts";
import { startWays, type Way } from "./ways.ts";

const sessionCount = 100;
/** How long it is left alone before its memory is read. */
const settleMs = 3000;

export const memory: Family = {
  name: "memory",
  about: "Resident memory of the process that has the connection, ControlMaster's or sshshim's. " +
    "Each column is a process of its own.",
  measure,
};

async function* measure({ isQuick }: FamilyOptions): AsyncGenerator<Row> {
  const rows = new Map<string, Row>();
  for (const name of ["ControlMaster", "port", "lane"] as const) {
    for await (const [what, megabytes] of measureWay(name, isQuick)) {
      const row = rows.get(what) ?? { what, unit: "MB", samples: {} };
      row.samples[name] = [megabytes];
      rows.set(what, row);
    }
  }
  yield* rows.values();
}

/** Memory in MB and what it is of, one after the other. */
async function* measureWay(name: WayName, isQuick: boolean): AsyncGenerator<[string, number]> {
  const settled = async ({ pid }: Way) => {
    await pause(settleMs);
    return await residentMB(pid!);
  };
  {
    await using ways = await startWays();
    const way = ways.all.find((one) => one.name === name)!;
    const idleMB = await settled(way);
    yield ["idle", idleMB];
    {
      await using _sessions = startSessions(way, "cat");
      yield [`${sessionCount} idle sessions, over idle`, await settled(way) - idleMB];
    }
    const { code } = await run(
      [
        "/bin/sh",
        "-c",
        '"$@" >/dev/null',
        "sh",
        ...way.target.sshCommand("head -c 1000000000 /dev/zero"),
      ],
      { environment: way.target.environment, timeoutMs: 600_000 },
    );
    if (code !== 0) throw new Error(`${name}: a transfer ended with ${code}`);
    yield ["after 1 GB", await residentMB(way.pid!)];
    if (!isQuick) {
      await pause(60_000);
      yield ["a minute later", await residentMB(way.pid!)];
    }
  }
  {
    await using ways = await startWays();
    const way = ways.all.find((one) => one.name === name)!;
    await using _sessions = startSessions(way, "cat /dev/zero");
    yield [`${sessionCount} readers that have stopped`, await settled(way)];
  }
  await using ways = await startWays();
  const way = ways.all.find((one) => one.name === name)!;
  const count = isQuick ? 1000 : 10_000;
  const atOnce = 4;
  await Promise.all(Array.from(Array(atOnce), () => runExecs(way, count / atOnce)));
  yield [`after ${count} execs`, await settled(way)];
}

/** Starts ssh many times, and takes nothing of what it prints. */
function startSessions({ target }: Way, command: string): AsyncDisposable {
  const [program, ...args] = target.sshCommand(command);
  const children = Array.from(Array(sessionCount), () =>
    new Deno.Command(program!, {
      args,
      clearEnv: true,
      env: target.environment,
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn());
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all(children.map(async (child) => {
        child.kill("SIGTERM");
        await child.stdout.cancel();
        await child.stdin.close().catch(() => {});
        await child.status;
      }));
    },
  };
}
