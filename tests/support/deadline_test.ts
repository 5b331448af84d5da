/** What a test leaves behind is its own affair. */

import assert from "node:assert/strict";
import { run, RunningProcess } from "./run.ts";
import { settled } from "./scripted_connector.ts";
import { Transcript } from "./transcript.ts";

Deno.test("waits that fail while nobody awaits them end no file, and keep their errors", async () => {
  const transcript = new Transcript();
  const output = transcript.waitFor(/never/);
  transcript.end();
  await using process = new RunningProcess(["sleep", "600"]);
  const waits = [
    process.ended({ timeoutMs: 1 }),
    process.drained({ timeoutMs: 1 }),
    run(["sleep", "600"], { timeoutMs: 1 }),
  ];
  await Promise.allSettled(waits.map((wait) => wait.finally(() => settled())));
  await assert.rejects(output, /^Error: The output ended without \/never\//);
  await assert.rejects(waits[0]!, /^Error: The process still runs after 1 ms/);
  await assert.rejects(waits[1]!, /^Error: The process still runs after 1 ms/);
  await assert.rejects(waits[2]!, /^Error: 1 ms passed before this ended: sleep 600/);
});
