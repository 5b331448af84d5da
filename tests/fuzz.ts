/**
 * Sends wrong messages to the relay, and looks at who else is harmed:
 *
 *     deno task fuzz [--side client|upstream|login|control] [--seed N] [--count N | --only CASE]
 *
 * Everything follows from the seed. The exit status is 1 when a case failed.
 */

import { parseArgs } from "node:util";
import { fuzz, type FuzzSide, fuzzSides } from "./support/fuzz_run.ts";

/** How many mutations a side has; one before login costs a key exchange. */
const defaultCounts: Record<FuzzSide, number> = {
  client: 100_000,
  upstream: 100_000,
  login: 2000,
  control: 20_000,
};

/** How often a run says how far it is, in mutations. */
const reportEvery = 100_000;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      side: { type: "string" },
      seed: { type: "string" },
      count: { type: "string" },
      only: { type: "string" },
    },
  });
  const sides = fuzzSides.filter((side) => values.side === undefined || side === values.side);
  const numbers = [values.seed, values.count, values.only];
  if (sides.length === 0 || numbers.some((text) => text !== undefined && !/^\d+$/.test(text))) {
    console.error(`SIDE is one of ${fuzzSides.join(", ")}; the others are whole numbers.`);
    return 1;
  }
  const [
    seed = Math.floor(Math.random() * 2 ** 32),
    count,
    only,
  ] = numbers.map((text) => text === undefined ? undefined : Number(text));
  for (const side of sides) {
    if (!await run({ side, seed, count: count ?? defaultCounts[side], only })) return 1;
  }
  return 0;
}

async function run(
  options: { side: FuzzSide; seed: number; count: number; only: number | undefined },
): Promise<boolean> {
  const { side, seed } = options;
  console.log(`side ${side}, seed ${seed}`);
  const startedAt = performance.now();
  let nextReport = reportEvery;
  try {
    const { cases, mutations } = await fuzz({
      ...options,
      onCase: ({ cases, mutations }) => {
        if (mutations < nextReport) return;
        nextReport += reportEvery;
        console.log(`${mutations} mutations in ${cases} cases`);
      },
    });
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    console.log(`side ${side}: ${mutations} mutations in ${cases} cases, ${seconds} s, no fault`);
    return true;
  } catch (error) {
    console.error(error);
    return false;
  }
}

Deno.exit(await main());
