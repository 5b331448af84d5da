/** The soak of soak.ts in short. */

import assert from "node:assert/strict";
import { soak } from "./support/soak.ts";

Deno.test("cuts at random moments under mixed load leave nothing behind", async () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  console.log(`seed ${seed}`);
  const report = (line: string) => console.log(line);
  const { whole, cut } = await soak({ cuts: 8, warmUpCuts: 4, seed, report });
  assert.ok(whole > 0 && cut > 0, `${whole} pieces of the load were whole, ${cut} were cut`);
});
