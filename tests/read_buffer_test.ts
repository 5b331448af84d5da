/** Memory to read into. */

import assert from "node:assert/strict";
import { ReadBuffer } from "../lib/read_buffer.ts";

Deno.test("what is read into grows as long as reads fill it, up to its limit", () => {
  const buffer = new ReadBuffer({ firstBytes: 4, mostBytes: 50 });
  const reads: [bytes: number, next: number][] = [[3, 4], [4, 16], [15, 16], [16, 50], [50, 50]];
  for (const [bytes, next] of reads) {
    buffer.onRead(bytes);
    assert.equal(buffer.space().length, next);
  }
  assert.equal(buffer.space(7).length, 7);
});

Deno.test("what a read has brought stays until the next read, also where that gets more room", () => {
  const buffer = new ReadBuffer({ firstBytes: 2, mostBytes: 8 });
  const first = buffer.space();
  first.set([1, 2]);
  buffer.onRead(2);
  buffer.space().fill(9);
  assert.deepEqual([...first], [1, 2]);
});
