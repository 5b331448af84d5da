/** Whether a terminal is a program's own at the moment, by Linux's /proc. */

/**
 * Whether a process may read from its terminal: it is not stopped, and in the foreground. One that
 * is in the background, or stopped by Ctrl-Z, has left the terminal to somebody else.
 *
 * Where the system does not tell, it may.
 */
export async function isWaitingToRead(pid: number | undefined): Promise<boolean> {
  if (pid === undefined) return true;
  try {
    const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
    // Its name may hold anything; see proc(5) for the fields.
    const [state, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (state === "T" || state === "t") return false;
    // It has another terminal than the one that it has passed, or none.
    return foreground === "-1" || foreground === group;
  } catch {
    return true;
  }
}
