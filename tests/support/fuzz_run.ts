/** Runs the cases of the fuzzer, and says how to see a failure again. */

import { runClientCase } from "./fuzz_client.ts";
import { runControlCase } from "./fuzz_control.ts";
import { Trace } from "./fuzz_trace.ts";
import { runLoginCase } from "./fuzz_login.ts";
import { runUpstreamCase } from "./fuzz_upstream.ts";
import { Random } from "./models.ts";

/** What is fuzzed, by the name of who is hostile. */
const sides = {
  client: runClientCase,
  upstream: runUpstreamCase,
  login: runLoginCase,
  control: runControlCase,
};

/** Who is hostile. */
export type FuzzSide = keyof typeof sides;

/** The names of all sides. */
export const fuzzSides = Object.keys(sides) as FuzzSide[];

/** What a run is to do. */
export interface FuzzOptions {
  side: FuzzSide;
  seed: number;
  /** Cases are begun until there were so many mutations. */
  count: number;
  /** The only case to run. */
  only?: number;
  /** Called after each case. */
  onCase?(counts: FuzzCounts): void;
}

/** How much was run. */
export interface FuzzCounts {
  cases: number;
  mutations: number;
}

/**
 * Runs cases; each follows from the seed and its own number alone.
 *
 * @throws {Error} with the messages of the case that failed, and how to run it alone.
 */
export async function fuzz({ side, seed, count, only, onCase }: FuzzOptions): Promise<FuzzCounts> {
  if (only !== undefined) {
    return { cases: 1, mutations: await runCase({ side, seed, index: only }) };
  }
  const counts = { cases: 0, mutations: 0 };
  while (counts.mutations < count) {
    counts.mutations += await runCase({ side, seed, index: counts.cases++ });
    onCase?.(counts);
  }
  return counts;
}

async function runCase(
  { side, seed, index }: { side: FuzzSide; seed: number; index: number },
): Promise<number> {
  const trace = new Trace();
  try {
    return await sides[side](new Random(seed + Math.imul(index, 0x85ebca6b)), trace);
  } catch (cause) {
    const command = `deno task fuzz --side ${side} --seed ${seed} --only ${index}`;
    throw new Error(`${trace}\ncase ${index} of seed ${seed} failed; to see it again: ${command}`, {
      cause,
    });
  }
}
