/** Many sessions: at once, and one after the other. */

import { run, text } from "../support/run.ts";
import { type Family, type FamilyOptions, inTurn, type Row, rowOf } from "./rows.ts";
import { startWays, timeExec, type Way } from "./ways.ts";

const timeoutMs = 600_000;

export const sessions: Family = {
  name: "sessions",
  about: "`ssh HOST true`, 50 at once until all have ended, and 200 in a row by a shell.",
  measure,
};

async function* measure({ isQuick }: FamilyOptions): AsyncGenerator<Row> {
  await using ways = await startWays();
  const atOnce = (way: Way) => timed(() => Promise.all(Array.from(Array(50), () => timeExec(way))));
  yield rowOf("50 sessions at once", "ms", await inTurn(ways.all, isQuick ? 2 : 6, atOnce), Number);
  const count = isQuick ? 40 : 200;
  const inARow = (way: Way) => timed(() => runExecs(way, count));
  yield rowOf(
    `${count} execs in a row, each`,
    "ms",
    await inTurn(ways.all, isQuick ? 1 : 2, inARow),
    (ms) => ms / count,
  );
}

/** Runs `true` so many times in a row, by a shell that does nothing else. */
export async function runExecs({ name, target }: Way, count: number): Promise<void> {
  const script = `n=0; while [ $n -lt ${count} ]; do "$@" || exit 1; n=$((n + 1)); done`;
  const { code, stderr } = await run(
    ["/bin/sh", "-c", script, "sh", ...target.sshCommand("true")],
    {
      environment: target.environment,
      timeoutMs,
    },
  );
  if (code !== 0) throw new Error(`${name}: ${text(stderr)}`);
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await act();
  return performance.now() - start;
}
