/**
 * Cuts the connection upstream at random moments under mixed load, and looks at what is left:
 *
 *     deno run -A tests/soak.ts [--resume] [CUTS=300] [SEED] [BYTES=6000000]
 *
 * With `--resume` nothing may be cut, and transfers are of BYTES at most. The exit status is 1 when something is left over or ended in no proper way.
 */

import { soakResumed } from "./support/resume_soak.ts";
import { assertMemory, soak } from "./support/soak.ts";

const defaultCuts = 300;

/** Half of the cuts, and not more than these, come before memory is measured. */
const longestWarmUp = 40;

async function main(): Promise<number> {
  if (Deno.build.os !== "linux") throw new Error("The soak reads /proc: it needs Linux.");
  const isResumed = Deno.args[0] === "--resume";
  const [words = defaultCuts, seedWords, bytes] = isResumed ? Deno.args.slice(1) : Deno.args;
  const cuts = Number(words);
  const seed = Number(seedWords ?? Math.floor(Math.random() * 2 ** 32));
  const transferBytes = bytes === undefined ? undefined : Number(bytes);
  const numbers = [cuts, seed, transferBytes ?? 1];
  if (!numbers.every(Number.isInteger) || cuts < 1) {
    console.error(
      "CUTS, SEED and BYTES are whole numbers: " +
        "deno run -A tests/soak.ts [--resume] [CUTS=300] [SEED] [BYTES=6000000]",
    );
    return 1;
  }
  const flag = isResumed ? "--resume " : "";
  console.log(`${cuts} cuts; to repeat it: deno run -A tests/soak.ts ${flag}${cuts} ${seed}`);
  const warmUpCuts = Math.min(longestWarmUp, Math.ceil(cuts / 2));
  const report = (line: string) => console.log(line);
  try {
    if (isResumed) {
      const result = await soakResumed({ cuts, seed, report, transferBytes });
      console.log(`${result.whole} pieces of the load were whole over ${result.cuts} losses.`);
    } else assertMemory(await soak({ cuts, warmUpCuts, seed, report }));
    console.log("Nothing is left over.");
    return 0;
  } catch (error) {
    console.error(error);
    return 1;
  }
}

Deno.exit(await main());
