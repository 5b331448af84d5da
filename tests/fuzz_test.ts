/** The fuzzer of fuzz.ts in short. */

import assert from "node:assert/strict";
import { fuzz, type FuzzSide } from "./support/fuzz_run.ts";

async function fuzzShortly(side: FuzzSide, count: number): Promise<void> {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const { mutations } = await fuzz({ side, seed, count });
  assert(mutations >= count);
}

Deno.test("whatever a client sends once it is logged in, a bystander and upstream are unharmed", async () => {
  await fuzzShortly("client", 20_000);
});

Deno.test("whatever upstream sends, clients hear what is lawful, and the next upstream serves them", async () => {
  await fuzzShortly("upstream", 20_000);
});

Deno.test("whatever a peer sends before login, nothing comes of it but the end of its connection", async () => {
  await fuzzShortly("login", 200);
});

Deno.test("whatever a client of the control socket sends and passes, a bystander is unharmed, and nothing is left of it", async () => {
  await fuzzShortly("control", 500);
});
