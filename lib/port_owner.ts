/** Who listens at a port: what the system tells, which is Linux alone. */

import { findHolders } from "./socket_holders.ts";

const procFolder = "/proc";

/** What is known of the one who listens. */
export interface PortOwner {
  uid: number;
  /** The program's name and its process; absent where the system tells it to others only. */
  program?: string;
  pid?: number;
}

/** TCP_LISTEN in the kernel's tables. */
const listenState = "0A";

/** Finds one who listens at a port; `undefined` where nobody is found. */
export async function findPortOwner(port: number): Promise<PortOwner | undefined> {
  const ending = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  for (const table of ["tcp", "tcp6"]) {
    const rows = (await readOrNothing(`${procFolder}/net/${table}`)).split("\n").slice(1);
    for (const row of rows) {
      // The slot, both ends, state, queues, timer, retransmissions, uid, timeout, inode and more.
      const [, local, , state, , , , uid, , inode] = row.trimStart().split(/ +/);
      if (state !== listenState || !local?.endsWith(ending)) continue;
      return { uid: Number(uid), ...inode && await findProcess(inode) };
    }
  }
  return undefined;
}

/** Processes of other users do not show what they have open. */
async function findProcess(inode: string): Promise<{ program?: string; pid?: number }> {
  const pid = (await findHolders(new Set([inode]))).get(inode);
  if (pid === undefined) return {};
  const program = (await readOrNothing(`${procFolder}/${pid}/comm`)).trim();
  return { program: program || undefined, pid };
}

async function readOrNothing(file: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch {
    // As above, or a machine without IPv6, or without /proc.
    return "";
  }
}
