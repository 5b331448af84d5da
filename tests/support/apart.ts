/** A network and process numbers of its own for each file of tests, where the system lets us. */

import { run } from "./run.ts";

/** Loopback, and an address beside it (RFC 5737), as every machine with a network has. */
const network = [
  "ip link set lo up",
  "ip link add here type veth peer name there",
  "ip address add 192.0.2.1/24 dev here",
  "ip link set here up",
  "ip link set there up",
].join(" && ");

/**
 * The words before a command that make it the only one in its world: all ports are free, other
 * processes are not seen, and when it has ended, or is killed, nothing is left of it. The shell
 * stays, since the first process of such a world has to take leave of orphans.
 */
export const separately: string[] = [
  ...["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"],
  ...["/bin/sh", "-c", `${network} && "$@"; exit $?`, "sh"],
];

/** Whether this process may do that: on Linux, as root, unless a container forbids it. */
export async function canSeparate(): Promise<boolean> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return false;
  return (await run([...separately, "true"])).code === 0;
}
