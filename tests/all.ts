/**
 * Runs the tests: each file in a process of its own, one more at a time than there are processors,
 * since each waits now and then.
 *
 *     deno run -A tests/all.ts [FILE|FOLDER ...] [OPTION OF deno test ...]
 *
 * Without files it runs all of this folder. DENO_JOBS is another number of processes. The output
 * of a file comes in one piece when it has ended; the last line is the total, as `deno test` words
 * it. A process that tells no result has failed.
 */

import { canSeparate, separately } from "./support/apart.ts";
import { descendantsOf } from "./support/processes.ts";
import { mainModule } from "./support/shim.ts";
import { findTestFiles, inOrder } from "./support/test_files.ts";
import { judge, type Outcome, sumOf, totalLine } from "./support/test_totals.ts";

const flags = ["-A", "--sanitize-ops", "--sanitize-resources"];

/** The files that are being run. */
const running = new Set<string>();

/** Ends this run's processes and itself, with the status that a shell gives for the signal. */
async function interrupt(signal: Deno.Signal, number: number): Promise<never> {
  for (const pid of await descendantsOf(Deno.pid)) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch {
      // It has just ended.
    }
  }
  console.error(`${signal} ended the run in ${[...running].join(", ")}`);
  Deno.exit(128 + number);
}

/** Runs Deno to its end. `onOutput` gets what it writes, to standard error as well. */
async function runDeno(
  words: string[],
  { around = [], onOutput }: { around?: string[]; onOutput?: (bytes: Uint8Array) => void } = {},
): Promise<{ output: string; status: Deno.CommandStatus }> {
  // A shell joins both outputs, or their order would be lost.
  const [program = "", ...args] = [
    ...["/bin/sh", "-c", 'exec "$@" 2>&1', "sh"],
    ...[...around, Deno.execPath(), ...words],
  ];
  const child = new Deno.Command(program, { args, stdin: "null", stdout: "piped" }).spawn();
  const decoder = new TextDecoder();
  let output = "";
  for await (const chunk of child.stdout) {
    onOutput?.(chunk);
    output += decoder.decode(chunk, { stream: true });
  }
  return { output, status: await child.status };
}

/** Runs one file and shows its output. */
async function runFile(
  path: string,
  { options, around, live }: { options: string[]; around: string[]; live: boolean },
): Promise<Outcome> {
  running.add(path);
  const show = (bytes: Uint8Array) => void Deno.stdout.writeSync(bytes);
  const { output, status } = await runDeno(
    ["test", ...flags, ...new Set(["--no-check", ...options]), path],
    { around, ...live && { onOutput: show } },
  );
  running.delete(path);
  const outcome = judge(path, {
    output,
    status,
    filtered: options.some((word) => word.startsWith("--filter")),
  });
  if (!live) console.log(`${outcome.text}\n${outcome.verdict}\n`);
  return outcome;
}

async function main(): Promise<number> {
  const started = performance.now();
  const { files, options } = await findTestFiles(Deno.args, "tests");
  const finish = (outcomes: Outcome[]): number => {
    for (const { failures } of outcomes) for (const line of failures) console.log(line);
    const total = sumOf(outcomes.map(({ counts }) => counts));
    console.log(`\n${totalLine(total, performance.now() - started)}`);
    return total.failed === 0 ? 0 : 1;
  };
  // Once for all of them. It also brings the packages, which a network of its own cannot.
  if (!options.includes("--no-check")) {
    const { output, status } = await runDeno(["check", mainModule, ...files]);
    if (!status.success) {
      console.log(output);
      return finish([judge("types", { output: "", status, filtered: false })]);
    }
  }
  const around = await canSeparate() ? separately : [];
  const live = files.length === 1;
  const outcomes: Outcome[] = [];
  const { together, alone } = inOrder(files);
  const take = async () => {
    for (let path; (path = together.shift()) !== undefined;) {
      outcomes.push(await runFile(path, { options, around, live }));
    }
  };
  const jobs = Number(Deno.env.get("DENO_JOBS")) || navigator.hardwareConcurrency + 1;
  await Promise.all(Array.from({ length: jobs }, take));
  for (const path of alone) outcomes.push(await runFile(path, { options, around, live }));
  return finish(outcomes);
}

// Also, what is heard here is not ignored in the tests: a shell lets what it runs in the background
// ignore SIGINT and SIGQUIT, and all that is started there with it.
const signals = [["SIGHUP", 1], ["SIGINT", 2], ["SIGQUIT", 3], ["SIGTERM", 15]] as const;
for (const [signal, number] of signals) {
  Deno.addSignalListener(signal, () => void interrupt(signal, number));
}
Deno.exit(await main());
