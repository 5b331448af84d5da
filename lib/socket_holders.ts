/** Which processes hold sockets: what Linux shows of those of our own user, and to root. */

const procFolder = "/proc";

/** The processes that hold these sockets, by the sockets' numbers; the newest are asked first. */
export async function findHolders(inodes: ReadonlySet<string>): Promise<Map<string, number>> {
  const holders = new Map<string, number>();
  if (inodes.size === 0) return holders;
  const entries = await Array.fromAsync(Deno.readDir(procFolder), ({ name }) => Number(name));
  const pids = entries.filter((pid) => pid > 0).sort((one, two) => two - one);
  for (const pid of pids) {
    if (holders.size === inodes.size) break;
    for (const inode of await inodesOf(pid)) {
      if (inodes.has(inode) && !holders.has(inode)) holders.set(inode, pid);
    }
  }
  return holders;
}

/** The numbers of a process's sockets; none where they are hidden from us. */
async function inodesOf(pid: number): Promise<string[]> {
  const folder = `${procFolder}/${pid}/fd`;
  try {
    const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
    const links = await Promise.all(
      // A file that was closed meanwhile is none.
      names.map((name) => Deno.readLink(`${folder}/${name}`).catch(() => "")),
    );
    return links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []);
  } catch {
    // It has ended, or is somebody else's.
    return [];
  }
}
