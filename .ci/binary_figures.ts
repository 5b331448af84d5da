/**
 * Measures a compiled sshshim against `deno run`: its size, how long it takes to show its version
 * and to listen, and its memory when it listens. Each is the median of 15 runs. On Linux.
 *
 *     deno run -A .ci/binary_figures.ts BINARY
 */

import { run, RunningProcess } from "../tests/support/run.ts";
import {
  lendHostKey,
  mainModule,
  shimEnvironment,
  upstreamArguments,
} from "../tests/support/shim.ts";
import { startSshd } from "../tests/support/sshd.ts";

const [binary] = Deno.args;
if (binary === undefined) throw new Error("Name the program.");
const runs = 15;

await using resources = new AsyncDisposableStack();
const folder = await Deno.makeTempDir();
resources.defer(() => Deno.remove(folder, { recursive: true }));
await lendHostKey(folder);
const sshd = resources.use(await startSshd());

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

async function versionMs(program: string[]): Promise<number> {
  const start = performance.now();
  await run([...program, "--version"]);
  return performance.now() - start;
}

async function listening(program: string[]): Promise<{ ms: number; megabytes: number }> {
  const start = performance.now();
  await using shim = new RunningProcess(
    [...program, ...upstreamArguments(sshd), "-F", "none", "--local-port", "0"],
    { environment: shimEnvironment(folder) },
  );
  await shim.stdout.waitFor(/Ctrl-C ends it/);
  const ms = performance.now() - start;
  const status = await Deno.readTextFile(`/proc/${shim.pid}/status`);
  return { ms, megabytes: Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024 };
}

const size = (await Deno.stat(binary)).size / 1e6;
const programs: [string, string[]][] = [
  [`compiled, ${size.toFixed(1)} MB`, [binary]],
  ["deno run", [Deno.execPath(), "run", "--no-check", "-A", mainModule]],
];
for (const [name, program] of programs) {
  const versions: number[] = [];
  const listenings: { ms: number; megabytes: number }[] = [];
  for (let i = 0; i < runs; i++) {
    versions.push(await versionMs(program));
    listenings.push(await listening(program));
  }
  console.log(
    `${name}: --version ${median(versions).toFixed(0)} ms, ` +
      `listens after ${median(listenings.map(({ ms }) => ms)).toFixed(0)} ms ` +
      `with ${median(listenings.map(({ megabytes }) => megabytes)).toFixed(0)} MB`,
  );
}
