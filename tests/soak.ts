/**
 * Cuts the connection upstream at random moments under mixed load, and looks at what is left:
 *
 *     deno run -A tests/soak.ts [CUTS=300] [SEED]
 *
 * The exit status is 1 when something is left over or ended in no proper way.
 */

import { assertMemory, soak } from "./support/soak.ts";

const defaultCuts = 300;

/** Half of the cuts, and not more than these, come before memory is measured. */
const longestWarmUp = 40;

async function main(): Promise<number> {
  if (Deno.build.os !== "linux") throw new Error("The soak reads /proc: it needs Linux.");
  const cuts = Number(Deno.args[0] ?? defaultCuts);
  const seed = Number(Deno.args[1] ?? Math.floor(Math.random() * 2 ** 32));
  if (!Number.isInteger(cuts) || cuts < 1 || !Number.isInteger(seed)) {
    console.error("CUTS and SEED are whole numbers: deno run -A tests/soak.ts [CUTS=300] [SEED]");
    return 1;
  }
  console.log(`${cuts} cuts; to repeat it: deno run -A tests/soak.ts ${cuts} ${seed}`);
  const warmUpCuts = Math.min(longestWarmUp, Math.ceil(cuts / 2));
  const report = (line: string) => console.log(line);
  try {
    assertMemory(await soak({ cuts, warmUpCuts, seed, report }));
    console.log("Nothing is left over.");
    return 0;
  } catch (error) {
    console.error(error);
    return 1;
  }
}

Deno.exit(await main());
