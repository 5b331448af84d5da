/** How fast bytes go from the host and to it, and what that costs the process in between. */

import { run, text } from "../support/run.ts";
import { cpuSeconds } from "./processes.ts";
import { type Family, type FamilyOptions, inTurn, type Row, rowOf } from "./rows.ts";
import { startWays, type Way } from "./ways.ts";

/** Which way the bytes go: from the host, or to it. */
export type StreamDirection = "down" | "up";

const directions: StreamDirection[] = ["down", "up"];
const timeoutMs = 600_000;

export const streams: Family = {
  name: "streams",
  about: "Zeros through exec sessions, one and eight at a time, from the first byte to the last; " +
    "and user and system time of the process that has the connection, ControlMaster's or sshshim's.",
  measure,
};

/** A stream at a host that is far away over a fast link: the windows decide. */
export const far: Family = {
  name: "far",
  about: "One stream, with a round trip of 200 ms and no other limit.",
  async *measure({ isQuick }) {
    await using ways = await startWays({ delayMs: 100, queueBytes: 64 << 20 });
    for (const direction of directions) {
      const samples = await inTurn(
        ways.all,
        isQuick ? 1 : 3,
        (way) => measureStreams(way, direction, { count: 1, megabytes: isQuick ? 20 : 50 }),
      );
      yield rowOf(`one stream ${direction}, 200 ms away`, "MB/s", samples, ({ rate }) => rate);
    }
  },
};

async function* measure({ isQuick }: FamilyOptions): AsyncGenerator<Row> {
  await using ways = await startWays();
  const used: Row[] = [];
  for (const count of [1, 8]) {
    for (const direction of directions) {
      const samples = await inTurn(
        ways.all,
        isQuick ? 2 : 5,
        (way) => measureStreams(way, direction, { count, megabytes: isQuick ? 80 : 320 }),
      );
      const what = `${count === 1 ? "one stream" : "eight streams"} ${direction}`;
      yield rowOf(what, "MB/s", samples, ({ rate }) => rate);
      samples.delete("ssh");
      used.push(rowOf(`CPU, ${what}`, "s/GB", samples, ({ cpuPerGB }) => cpuPerGB));
    }
  }
  yield* used;
}

/**
 * Reads standard input to its end and prints when the first byte and the end came, in nanoseconds:
 * neither the start of ssh nor its handshake counts.
 */
const stopwatch = "head -c 1 >/dev/null; date +%s%N; cat >/dev/null; date +%s%N";

/** Megabytes (10^6 bytes) a second of all streams together, and seconds of CPU for a gigabyte. */
async function measureStreams(
  way: Way,
  direction: StreamDirection,
  { count, megabytes }: { count: number; megabytes: number },
): Promise<{ rate: number; cpuPerGB: number }> {
  const before = way.pid === undefined ? 0 : await cpuSeconds(way.pid);
  const times = await Promise.all(
    Array.from({ length: count }, () => timeStream(way, direction, megabytes / count)),
  );
  const used = way.pid === undefined ? 0 : await cpuSeconds(way.pid) - before;
  const start = Math.min(...times.map(({ first }) => first));
  const end = Math.max(...times.map(({ last }) => last));
  return { rate: megabytes / (end - start), cpuPerGB: used / (megabytes / 1000) };
}

/** When the first and the last of so many zeros arrived, in seconds. */
async function timeStream(
  { target }: Way,
  direction: StreamDirection,
  megabytes: number,
): Promise<{ first: number; last: number }> {
  const zeros = `head -c ${megabytes}000000 /dev/zero`;
  const [script, command] = direction === "down"
    ? [`"$@" | { ${stopwatch}; }`, zeros]
    : [`${zeros} | "$@"`, stopwatch];
  const { stdout, stderr } = await run(
    ["/bin/sh", "-c", script, "sh", ...target.sshCommand(command)],
    { environment: target.environment, timeoutMs },
  );
  const [first, last] = text(stdout).trim().split("\n").map((line) => Number(line) / 1e9);
  if (first === undefined || last === undefined) throw new Error(text(stderr));
  return { first, last };
}
