/** How long is waited between attempts. */

import assert from "node:assert/strict";
import { Backoff } from "../lib/backoff.ts";

function take(backoff: Backoff, count: number): number[] {
  return Array.from({ length: count }, () => Math.round(backoff.next()));
}

/** Just below 1, as the greatest number that `Math.random` gives. */
const greatest = 1 - 2 ** -53;

Deno.test("the longest delays double from 0.2 s up to the maximum", () => {
  assert.deepEqual(
    take(new Backoff(30_000, () => greatest), 10),
    [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000],
  );
});

Deno.test("the shortest delay is always 0.2 s", () => {
  assert.deepEqual(take(new Backoff(30_000, () => 0), 10), Array(10).fill(200));
});

Deno.test("a delay lies between both, as chance will have it", () => {
  const chances = [0.5, 0.5, 0.25, 0.75];
  const backoff = new Backoff(30_000, () => chances.shift()!);
  assert.deepEqual(take(backoff, 4), [200, 300, 350, 1250]);
});

Deno.test("after a reset the next failure is a first one", () => {
  const backoff = new Backoff(30_000, () => greatest);
  take(backoff, 6);
  backoff.reset();
  assert.deepEqual(take(backoff, 3), [200, 400, 800]);
});

Deno.test("a maximum below the first delay does not make attempts come faster", () => {
  assert.deepEqual(take(new Backoff(50, () => greatest), 3), [200, 200, 200]);
});

Deno.test("the maximum holds after any number of failures", () => {
  const backoff = new Backoff(30_000, () => greatest);
  take(backoff, 5000);
  assert.deepEqual(take(backoff, 1), [30_000]);
});

Deno.test("without a script, delays are random and stay within their limits", () => {
  const backoff = new Backoff(1000);
  const delays = take(backoff, 200);
  assert(delays.every((delayMs) => delayMs >= 200 && delayMs <= 1000));
  assert(new Set(delays).size > 10);
});
