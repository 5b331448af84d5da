/** What processes use, from /proc: CPU time and memory. */

import { runChecked } from "../support/run.ts";

const ticksPerSecond = Number(await runChecked(["getconf", "CLK_TCK"]));

/** User and system time of all threads so far, in seconds. */
export async function cpuSeconds(pid: number): Promise<number> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  // The name, which may hold spaces, ends with the last parenthesis; state is the next field.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** Resident memory in MB (10^6 bytes). */
export async function residentMB(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024 / 1e6;
}

/** A pause. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
