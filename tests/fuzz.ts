/**
 * Sends wrong messages to the relay, and looks at who else is harmed:
 *
 *     deno task fuzz [--side client] [--seed N] [--count N | --only CASE]
 *
 * Everything follows from the seed. The exit status is 1 when a case failed.
 */

import { parseArgs } from "node:util";
import { fuzz, type FuzzSide, fuzzSides } from "./support/fuzz_run.ts";

const defaultCount = 100_000;

/** How often a run says how far it is, in mutations. */
const reportEvery = 100_000;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      side: { type: "string" },
      seed: { type: "string", default: `${Math.floor(Math.random() * 2 ** 32)}` },
      count: { type: "string", default: `${defaultCount}` },
      only: { type: "string" },
    },
  });
  const [seed, count, only] = [values.seed, values.count, values.only ?? "0"].map(Number);
  const isKnown = values.side === undefined || fuzzSides.some((side) => side === values.side);
  if (!isKnown || ![seed, count, only].every((number) => Number.isInteger(number))) {
    console.error(`SIDE is one of ${fuzzSides.join(", ")}; the others are whole numbers.`);
    return 1;
  }
  const wanted = values.side === undefined ? fuzzSides : [values.side as FuzzSide];
  for (const side of wanted) {
    const isFine = await run({
      side,
      seed: seed!,
      count: count!,
      only: values.only === undefined ? undefined : only,
    });
    if (!isFine) return 1;
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
