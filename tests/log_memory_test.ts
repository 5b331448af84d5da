/** The last lines of the log in memory: how many, whose, and who follows them. */

import assert from "node:assert/strict";
import { aboutHost, configureLogging, logger } from "../lib/log.ts";
import { LogMemory, logMemory } from "../lib/log_memory.ts";

Deno.test("the oldest lines are forgotten, by their number and by their length", () => {
  const memory = new LogMemory({ lines: 3, characters: 20 });
  const add = (text: string) => memory.add({ host: undefined, text });
  for (const text of ["1", "2", "3", "4"]) add(text);
  assert.deepEqual(memory.linesOf("host"), ["2", "3", "4"]);
  add("x".repeat(18));
  assert.deepEqual(memory.linesOf("host"), ["3", "4", "x".repeat(18)]);
  add("5");
  assert.deepEqual(memory.linesOf("host"), ["4", "x".repeat(18), "5"]);
  add("y".repeat(21));
  assert.deepEqual(memory.linesOf("host"), []);
  add("after it");
  assert.deepEqual(memory.linesOf("host"), ["after it"]);
});

Deno.test("of several hosts each has its own lines, and those that are about none", () => {
  const memory = new LogMemory();
  const followed: string[] = [];
  const stop = memory.follow("one", (text) => followed.push(text));
  for (const host of ["one", "two", undefined]) memory.add({ host, text: `of ${host}` });
  assert.deepEqual(memory.linesOf("one"), ["of one", "of undefined"]);
  assert.deepEqual(followed, ["of one", "of undefined"]);
  stop();
  memory.add({ host: "one", text: "later" });
  assert.equal(followed.length, 2);
});

Deno.test("what is logged is kept with its time, and not as wide as a terminal", () => {
  const written: string[] = [];
  configureLogging({
    ...{ verbosity: "normal", format: "text", write: (line) => written.push(line) },
    columns: () => 40,
  });
  const words = "words ".repeat(20).trim();
  aboutHost("kept", () => logger("part").info("{words}", { words }));
  logger("part").debug("nobody wants to know");
  assert(written[0]!.trimEnd().includes("\n"));
  const [line, ...others] = logMemory.linesOf("kept").slice(-1);
  assert.deepEqual(others, []);
  assert.match(line!, /^\d{4}-\d\d-\d\dT[\d:.]+Z sshshim: kept: part: words (words )+words$/);
  configureLogging({ verbosity: "normal", format: "text" });
});
