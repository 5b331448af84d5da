/** Looks at processes that the tests started, but not as their direct children. */

import { defaultTimeoutMs } from "./deadline.ts";
import { runChecked } from "./run.ts";

/** Says whether a process with this id exists and is not merely waiting to be reaped. */
export async function isRunning(pid: number): Promise<boolean> {
  return (await processTable()).some((entry) => entry.pid === pid);
}

/** The ids of all processes that descend from this one. */
export async function descendantsOf(pid: number): Promise<number[]> {
  const table = await processTable();
  const found: number[] = [];
  let parents = [pid];
  while (parents.length > 0) {
    const known = new Set(parents);
    parents = table.filter((entry) => known.has(entry.parent)).map((entry) => entry.pid);
    found.push(...parents);
  }
  return found;
}

/** Kills all processes that descend from this one; some end by themselves meanwhile. */
export async function killDescendantsOf(pid: number): Promise<void> {
  for (const descendant of await descendantsOf(pid)) {
    try {
      Deno.kill(descendant, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/**
 * Resolves once `condition` holds. For facts that nobody announces, such as the end of a process
 * that is not ours or a port that is closed.
 *
 * @throws {Error} when `timeoutMs` passes first
 */
export async function waitUntil(
  what: string,
  condition: () => Promise<boolean>,
  options: { timeoutMs?: number } = {},
): Promise<void> {
  const { timeoutMs = defaultTimeoutMs } = options;
  const deadline = performance.now() + timeoutMs;
  while (!await condition()) {
    if (performance.now() > deadline) throw new Error(`Not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Resolves with the trimmed text of a file as soon as it exists and ends with a line end. */
export async function waitForFile(path: string): Promise<string> {
  let content = "";
  await waitUntil(`${path} has a line`, async () => {
    content = await Deno.readTextFile(path).catch(() => "");
    return content.endsWith("\n");
  });
  return content.trim();
}

async function processTable(): Promise<{ pid: number; parent: number }[]> {
  const table = await runChecked(["ps", "-A", "-o", "pid=,ppid=,stat="]);
  return table.trim().split("\n").flatMap((line) => {
    const [pid, parent, state = ""] = line.trim().split(/\s+/);
    return state.startsWith("Z") ? [] : [{ pid: Number(pid), parent: Number(parent) }];
  });
}
