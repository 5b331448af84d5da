/** What processes of `deno test` came to, and their sum. */

const kinds = ["passed", "failed", "ignored", "measured", "filtered out"] as const;

/** Numbers of tests, as the last line of `deno test` has them; of those that passed, also steps. */
export type Counts = Record<typeof kinds[number] | "steps", number>;

/** What one file came to. */
export interface Outcome {
  counts: Counts;
  /** All that it wrote, but for its last line. */
  text: string;
  /** Its last line, after its name: no line of a part is to be taken for the total. */
  verdict: string;
  /** The lines that name what has failed. */
  failures: string[];
}

/** Counts that are 0, but for those that are given. */
export function counted(numbers: Partial<Counts> = {}): Counts {
  const none = Object.fromEntries([...kinds, "steps"].map((kind) => [kind, 0])) as Counts;
  return { ...none, ...numbers };
}

/** The sum of counts. */
export function sumOf(all: readonly Counts[]): Counts {
  const sum = counted();
  for (const counts of all) {
    for (const kind of [...kinds, "steps"] as const) sum[kind] += counts[kind];
  }
  return sum;
}

/** Deno's colours, which it uses in a pipe as well. */
// deno-lint-ignore no-control-regex
const colours = /\x1b\[[0-9;]*m/g;
const resultLine = /^(?:ok|FAILED) \| (\d+ passed.*)$/gm;

/**
 * Reads what a process has written. One that tells no result, or that a signal or an error has
 * ended all the same, has failed, and so has a file without tests.
 *
 * @param options `filtered`: whether it was told to leave tests out
 */
export function judge(
  path: string,
  { output: coloured, status, filtered }: {
    output: string;
    status: Deno.CommandStatus;
    filtered: boolean;
  },
): Outcome {
  const output = coloured.replaceAll(colours, "");
  // A test may show the output of another run; its own line is the last one.
  const result = [...output.matchAll(resultLine)].at(-1);
  const counts = counted();
  for (const part of (result?.[1] ?? "").split(" | ")) {
    const [, count, kind, steps = 0] =
      /^(\d+) (passed|failed|ignored|measured|filtered out)(?: \((\d+) steps?\))?/.exec(part) ?? [];
    if (kind === undefined) continue;
    counts[kind as keyof Counts] = Number(count);
    if (kind === "passed") counts.steps = Number(steps);
  }
  const failures = failuresIn(output.slice(0, result?.index)).map((name) => `${path}: ${name}`);
  const crash = status.success
    ? kinds.every((kind) => counts[kind] === 0) && !filtered ? "it has no tests" : undefined
    : counts.failed > 0
    ? undefined
    : `it ended ${status.signal === null ? `with status ${status.code}` : `by ${status.signal}`}`;
  if (crash !== undefined) {
    // Whatever it says of itself may be the words of a test.
    Object.assign(counts, counted({ failed: 1 }));
    failures.push(`${path}: ${crash}`);
  }
  const words = [result?.[0], crash].filter((part) => part !== undefined);
  return {
    counts,
    text: (result === undefined ? output : output.slice(0, result.index)).trim(),
    verdict: `${path}: ${words.join("; ")}`,
    failures,
  };
}

/** The names under the heading that `deno test` gives them at its end. */
function failuresIn(output: string): string[] {
  const [, list = ""] = /\n FAILURES \s*\n\n((?:.+\n)+)/.exec(output) ?? [];
  return list.split("\n").filter((line) => line !== "");
}

/** The last line of a whole run, as `deno test` has it. */
export function totalLine(counts: Counts, milliseconds: number): string {
  const passed = `${counts.passed} passed`;
  const steps = `(${counts.steps} ${counts.steps === 1 ? "step" : "steps"})`;
  const seconds = Math.round(milliseconds / 1000);
  const time = `${seconds < 60 ? "" : `${Math.floor(seconds / 60)}m`}${seconds % 60}s`;
  return [
    counts.failed === 0 ? "ok" : "FAILED",
    counts.steps === 0 ? passed : `${passed} ${steps}`,
    `${counts.failed} failed`,
    ...kinds.slice(2).filter((kind) => counts[kind] > 0).map((kind) => `${counts[kind]} ${kind}`),
  ].join(" | ") + ` (${time})`;
}
