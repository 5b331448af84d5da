/** Text that is cut before a terminal would wrap it. */

import assert from "node:assert/strict";
import { fold, widthOf } from "../lib/fold.ts";

Deno.test("text is cut at spaces, and where there are none, before it is too wide", () => {
  const cases: [text: string, columns: number, pieces: string[]][] = [
    ["", 10, [""]],
    ["ten of it.", 10, ["ten of it."]],
    ["eleven of it", 10, ["eleven of", "it"]],
    ["abcdefghijklmnopqrstuvwxyz", 10, ["abcdefghij", "klmnopqrst", "uvwxyz"]],
    ["          word", 10, ["         ", "word"]],
    ["漢字漢字漢字漢字", 10, ["漢字漢字漢", "字漢字"]],
    ["🙂🙂🙂🙂🙂🙂", 10, ["🙂🙂🙂🙂🙂", "🙂"]],
    ["however little there is", 1, ["however", "little", "there is"]],
    ["as it is, with no width", Infinity, ["as it is, with no width"]],
  ];
  for (const [text, columns, pieces] of cases) assert.deepEqual(fold(text, columns), pieces, text);
});

Deno.test("no piece is wider than allowed, and nothing but spaces is lost", () => {
  const alphabet = ["a", " ", "é", "漢", "🙂", "\u0301", "\u00a0", "\u2800"];
  for (let seed = 1; seed < 500; seed++) {
    let state = seed;
    const text = Array.from({ length: seed }, () => {
      state = state * 48_271 % 2_147_483_647;
      return alphabet[state % alphabet.length];
    }).join("");
    const columns = 8 + seed % 80;
    const pieces = fold(text, columns);
    for (const piece of pieces) assert(widthOf(piece) <= columns, `${seed}`);
    const bare = (words: string) => words.replaceAll(" ", "");
    assert.equal(bare(pieces.join("")), bare(text));
  }
});
