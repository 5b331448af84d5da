/** A network and process numbers of its own for each file of tests, where the system lets us. */

import { run } from "./run.ts";

/**
 * The words before a command that make it the only one in its world: all ports are free, other
 * processes are not seen, and when it has ended, or is killed, nothing is left of it. The shell
 * stays, since the first process of such a world has to take leave of orphans.
 */
export const separately: string[] = [
  ...["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"],
  ...["/bin/sh", "-c", 'ip link set lo up && "$@"; exit $?', "sh"],
];

/** Whether this process may do that: on Linux, as root, unless a container forbids it. */
export async function canSeparate(): Promise<boolean> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return false;
  return (await run([...separately, "true"])).code === 0;
}
