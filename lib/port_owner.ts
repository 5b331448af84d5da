/** Who listens at a port: what the system tells, which is Linux alone. */

/** What is known of the one who listens. */
export interface PortOwner {
  uid: number;
  /** The program's name and its process; absent where the system tells it to others only. */
  program?: string;
  pid?: number;
}

/** TCP_LISTEN in the kernel's tables. */
const listenState = "0A";

/**
 * Finds one who listens at a port of loopback or of all addresses; `undefined` where nobody is
 * found.
 *
 * @param proc the folder of the kernel's tables
 */
export async function findPortOwner(port: number, proc = "/proc"): Promise<PortOwner | undefined> {
  const ending = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  for (const table of ["tcp", "tcp6"]) {
    const rows = (await readOrNothing(`${proc}/net/${table}`)).split("\n").slice(1);
    for (const row of rows) {
      // The slot, both ends, state, queues, timer, retransmissions, uid, timeout, inode and more.
      const [, local, , state, , , , uid, , inode] = row.trimStart().split(/ +/);
      if (state !== listenState || !local?.endsWith(ending)) continue;
      return { uid: Number(uid), ...await findProcess(`socket:[${inode}]`, proc) };
    }
  }
  return undefined;
}

/** Processes of other users do not show what they have open. */
async function findProcess(socket: string, proc: string) {
  for (const pid of await namesIn(proc)) {
    if (!/^\d+$/.test(pid)) continue;
    for (const descriptor of await namesIn(`${proc}/${pid}/fd`)) {
      const target = await Deno.readLink(`${proc}/${pid}/fd/${descriptor}`).catch(() => "");
      if (target !== socket) continue;
      const program = (await readOrNothing(`${proc}/${pid}/comm`)).trim();
      return { program: program || undefined, pid: Number(pid) };
    }
  }
  return {};
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  } catch {
    // Not for us to read, or the process has just ended.
    return [];
  }
}

async function readOrNothing(file: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch {
    // As above, or a machine without IPv6, or without /proc.
    return "";
  }
}
