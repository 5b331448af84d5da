import assert from "node:assert/strict";
import { dropsEarly } from "../lib/early_drop.ts";

Deno.test("from 10 connections on 30 % are turned away, more with each, and from 100 on all", () => {
  for (
    const [unauthenticated, share] of [[0, 0], [9, 0], [10, 0.3], [55, 0.65], [100, 1], [500, 1]]
  ) {
    const dropped = Array.from({ length: 1000 }, (_, index) => (index + 0.5) / 1000)
      .filter((chance) => dropsEarly(unauthenticated!, chance)).length;
    assert.equal(dropped, share! * 1000, `at ${unauthenticated}`);
  }
});
