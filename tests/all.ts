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
import { killDescendantsOf } from "./support/processes.ts";
import { mainModule } from "./support/shim.ts";
import { shareRsaKeys } from "./support/sshd.ts";
import { findTestFiles, inOrder } from "./support/test_files.ts";
import { judge, type Outcome, sumOf, totalLine } from "./support/test_totals.ts";

const flags = ["-A", "--cached-only", "--sanitize-ops", "--sanitize-resources"];

/** The files that are being run. */
const running = new Set<string>();
/** Whether a signal has come: nothing begins any more. */
let isInterrupted = false;
/** The folder of the keys that they share. */
const keys = await Deno.makeTempDir({ prefix: "keys-" });

/** Ends this run's processes and itself, with the status that a shell gives for the signal. */
async function interrupt(signal: Deno.Signal, number: number): Promise<never> {
  isInterrupted = true;
  await killDescendantsOf(Deno.pid);
  Deno.removeSync(keys, { recursive: true });
  console.error(`${signal} ended the run in ${[...running].join(", ")}`);
  Deno.exit(128 + number);
}

/** How Deno is run. */
interface DenoOptions {
  /** The words that come before it. */
  around?: readonly string[];
  /** Further variables. */
  environment?: Record<string, string>;
  /** Gets what it writes, to standard error as well. */
  onOutput?: (bytes: Uint8Array) => void;
}

/** Runs Deno to its end. */
async function runDeno(
  words: readonly string[],
  { around = [], environment = {}, onOutput }: DenoOptions = {},
): Promise<{ output: string; status: Deno.CommandStatus }> {
  // A shell joins both outputs, or their order would be lost.
  const [program = "", ...args] = [
    ...["/bin/sh", "-c", 'exec "$@" 2>&1', "sh"],
    ...[...around, Deno.execPath(), ...words],
  ];
  const child = new Deno.Command(program, {
    ...{ args, env: environment, stdin: "null", stdout: "piped" },
  }).spawn();
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  let output = "";
  const reading = (async () => {
    for (let chunk; !(chunk = await reader.read()).done;) {
      onOutput?.(chunk.value);
      output += decoder.decode(chunk.value, { stream: true });
    }
  })();
  const status = await child.status;
  // What a test has left behind may hold the pipe.
  const timer = setTimeout(() => reader.cancel(), 5_000);
  await reading;
  clearTimeout(timer);
  return { output, status };
}

/** Runs one file and shows its output: at once if it is the only one. */
async function runFile(
  path: string,
  { options, isOnly, ...world }: { options: string[]; isOnly: boolean } & DenoOptions,
): Promise<Outcome> {
  running.add(path);
  const show = (bytes: Uint8Array) => void Deno.stdout.writeSync(bytes);
  const { output, status } = await runDeno(
    ["test", ...flags, ...new Set(["--no-check", ...options]), path],
    { ...world, ...isOnly && { onOutput: show } },
  );
  running.delete(path);
  const outcome = judge(path, {
    output,
    status,
    filtered: options.some((word) => word.startsWith("--filter")),
  });
  if (!isOnly) console.log(`${outcome.text}\n${outcome.verdict}\n`);
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
  // Once for all of them.
  const preparations = [
    // A network of its own leads to no packages.
    ["cache", mainModule],
    ...options.includes("--no-check") ? [] : [["check", ...files]],
  ];
  for (const words of preparations) {
    const { output, status } = await runDeno(words);
    if (status.success) continue;
    console.log(output);
    return finish([judge(`deno ${words[0]}`, { output: "", status, filtered: false })]);
  }
  const world = {
    ...{ options, isOnly: files.length === 1, around: await canSeparate() ? separately : [] },
    environment: await shareRsaKeys(keys),
  };
  const outcomes: Outcome[] = [];
  const waiting = inOrder(files);
  const take = async () => {
    for (let path; (path = waiting.shift()) !== undefined;) {
      outcomes.push(await runFile(path, world));
      if (isInterrupted) await new Promise(() => {});
    }
  };
  const jobs = Number(Deno.env.get("DENO_JOBS")) || navigator.hardwareConcurrency + 1;
  await Promise.all(Array.from({ length: jobs }, take));
  return finish(outcomes);
}

// Also, what is heard here is not ignored in the tests: a shell lets what it runs in the background
// ignore SIGINT and SIGQUIT, and all that is started there with it.
const signals = [["SIGHUP", 1], ["SIGINT", 2], ["SIGQUIT", 3], ["SIGTERM", 15]] as const;
for (const [signal, number] of signals) {
  Deno.addSignalListener(signal, () => void interrupt(signal, number));
}
try {
  Deno.exitCode = await main();
} finally {
  Deno.removeSync(keys, { recursive: true });
}
Deno.exit();
