/** Several hosts that listen and fail: when the ready file is written, and what it has. */

import assert from "node:assert/strict";
import { parseArguments } from "../lib/cli.ts";
import { Life } from "../lib/life.ts";

async function withLife(run: (life: Life, ready: string) => void): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "life-" });
  const ready = `${folder}/ready`;
  const command = parseArguments(["a", "b", "--ready-file", ready]);
  assert(command.kind === "run");
  const life = new Life(command.options, {
    isBusy: () => false,
    onLastMinute() {},
    schedule: () => () => {},
  });
  try {
    run(life, ready);
  } finally {
    life.end();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("where the last of several hosts fails, nothing is ready", () =>
  withLife((life, ready) => {
    life.onListening("a", { name: "a" });
    life.onFailure("a");
    life.onFailure("b");
    assert.throws(() => Deno.lstatSync(ready), Deno.errors.NotFound);
  }));

Deno.test("a host that was lost before the others listened is not among those that are ready", () =>
  withLife((life, ready) => {
    life.onListening("a", { name: "a" });
    life.onFailure("a");
    life.onListening("b", { name: "b" });
    assert.deepEqual(JSON.parse(Deno.readTextFileSync(ready)).hosts, [{ name: "b" }]);
  }));
