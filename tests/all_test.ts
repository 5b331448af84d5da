/** The run of all tests, with files that do not behave. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { waitForFile, waitUntil } from "./support/processes.ts";
import { makeFolder } from "./support/program.ts";
import { run, runChecked, RunningProcess, text } from "./support/run.ts";
import { findTestFiles, inOrder } from "./support/test_files.ts";
import { counted, judge, sumOf, totalLine } from "./support/test_totals.ts";

const command = [
  ...[Deno.execPath(), "run", "--no-check", "-A"],
  fileURLToPath(new URL("all.ts", import.meta.url)),
];
const environment = { ...Deno.env.toObject(), NO_COLOR: "1" };

/** Writes files of tests into a folder; the words are the bodies. */
async function write(folder: string, files: Record<string, string>): Promise<void> {
  for (const [name, body] of Object.entries(files)) {
    await Deno.writeTextFile(`${folder}/${name}_test.ts`, body);
  }
}

const good = `Deno.test("good", async (t) => void await t.step("part", () => {}));`;

Deno.test("each file counts, also one that ends in the middle or has no tests", async () => {
  await using folder = await makeFolder();
  await write(folder.path, {
    good,
    bad: `Deno.test("fails", () => { throw new Error("oh dear"); }); ${good}`,
    pending: `Deno.test("never ends", () => new Promise(() => {}));`,
    broken: `throw new Error("at once");`,
    killed: `Deno.test("is killed", () => Deno.kill(Deno.pid, "SIGKILL"));`,
    gone: `Deno.exit(0);`,
    bare: `export {};`,
    sly: `console.log("ok | 7 passed | 0 failed (1s)"); Deno.kill(Deno.pid, "SIGKILL");`,
    skipped: `Deno.test.ignore("is skipped", () => {});`,
  });
  const { code, stdout, stderr } = await run([...command, folder.path], { environment });
  assert.equal(text(stderr), "");
  assert.equal(code, 1);
  const [failures, total] = text(stdout).trimEnd().split("\n\n").slice(-2);
  assert.match(total!, /^FAILED \| 2 passed \(2 steps\) \| 7 failed \| 1 ignored \(\d+s\)$/);
  const named = failures!.split("\n").map((line) =>
    line.replaceAll(/(^|\S*)\/(?=\w+_test\.ts)/g, "")
  );
  assert.deepEqual(
    named.map((line) => line.replace(/ => .*| by SIGKILL$| with status 137$/, "")).sort(),
    [
      "bad_test.ts: fails",
      "bare_test.ts: it has no tests",
      "broken_test.ts: broken_test.ts (uncaught error)",
      "gone_test.ts: it has no tests",
      "killed_test.ts: it ended",
      "pending_test.ts: never ends",
      "sly_test.ts: it ended",
    ],
  );
});

Deno.test("an error of types fails the run", async () => {
  await using folder = await makeFolder();
  await write(folder.path, { good, wrong: `export const word: string = 1;` });
  const { code, stdout } = await run([...command, folder.path], { environment });
  assert.equal(code, 1);
  assert.match(text(stdout), /TS2322/);
  assert.match(text(stdout), /\nFAILED \| 0 passed \| 1 failed \(\d+s\)\n$/);
});

Deno.test("files are named, and all other words are for deno test", async () => {
  await using folder = await makeFolder();
  await write(folder.path, { good, other: `Deno.test("other", () => {});` });
  const only = await run([...command, `${folder.path}/good_test.ts`], { environment });
  assert.equal(only.code, 0);
  assert.match(text(only.stdout), /\nok \| 1 passed \(1 step\) \| 0 failed \(\d+s\)\n$/);
  const filtered = await run([...command, folder.path, "--filter", "other"], { environment });
  assert.equal(filtered.code, 0);
  assert.match(text(filtered.stdout), /\nok \| 1 passed \| 0 failed \| 1 filtered out \(\d+s\)\n$/);
});

Deno.test("a run that is interrupted ends what it has started", async () => {
  await using folder = await makeFolder();
  const mark = `${folder.path}/mark`;
  await Deno.writeTextFile(mark, "");
  await write(folder.path, {
    long: `Deno.test("long", async () => {
      const { status } = new Deno.Command("sh", {
        args: ["-c", 'echo ready > "$0.ready"; exec tail -f "$0"', ${JSON.stringify(mark)}],
      }).spawn();
      await status;
    });`,
  });
  await using process = new RunningProcess([...command, folder.path], { environment });
  assert.equal(await waitForFile(`${mark}.ready`), "ready");
  process.kill("SIGTERM");
  const { code } = await process.drained();
  assert.equal(code, 143, process.stderr.text);
  assert.match(process.stderr.text, /^SIGTERM ended the run in .*\/long_test\.ts$/m);
  await waitUntil("nothing is left", async () => {
    return !(await runChecked(["ps", "-A", "-o", "args="])).includes(`tail -f ${mark}`);
  });
});

Deno.test("all files are found, and the longest begin first", async () => {
  const { files, options } = await findTestFiles([], fileURLToPath(new URL(".", import.meta.url)));
  assert.deepEqual(options, []);
  assert(files.some((path) => path.endsWith("/support/proxy_test.ts")));
  assert.deepEqual(inOrder(files).sort(), files.sort());
  const order = inOrder(["a_test.ts", "x/soak_test.ts", "b_test.ts", "x/resume_test.ts"]);
  assert.deepEqual(order, ["x/resume_test.ts", "x/soak_test.ts", "a_test.ts", "b_test.ts"]);
});

Deno.test("counts are read from the last line and summed up", () => {
  const status = { success: true, code: 0, signal: null };
  const of = (output: string) => judge("x", { output, status, filtered: false });
  const first = of("ok | 1 passed\n\x1b[32mok\x1b[0m | 2 passed (3 steps) | 0 failed (9ms)\n");
  assert.deepEqual(first.counts, counted({ passed: 2, steps: 3 }));
  assert.equal(first.verdict, "x: ok | 2 passed (3 steps) | 0 failed (9ms)");
  const killed = { output: "ok | 7 passed | 0 failed (1s)", filtered: false };
  const ended = { success: false, code: 137, signal: null };
  assert.deepEqual(judge("x", { ...killed, status: ended }).counts, counted({ failed: 1 }));
  const second = of("ok | 1 passed | 0 failed | 4 ignored | 5 filtered out (9ms)\n");
  const sum = sumOf([first.counts, second.counts]);
  const words = "3 passed (3 steps) | 0 failed | 4 ignored | 5 filtered out";
  assert.equal(totalLine(sum, 9_400), `ok | ${words} (9s)`);
  assert.equal(totalLine(sumOf([sum, counted({ failed: 1 })]), 600_000).slice(0, 8), "FAILED |");
  assert.match(totalLine(sum, 600_000), / \(10m0s\)$/);
});
