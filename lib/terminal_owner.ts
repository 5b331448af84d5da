/** Whose a terminal is at the moment, where the system tells it. */

import { hasTerminalNow, parseStat, type ProcessStat } from "./process_facts.ts";

/**
 * Whether a process may read from its terminal: it is not stopped, and in the foreground. One that
 * is in the background, or stopped by Ctrl-Z, has left the terminal to somebody else.
 *
 * Where the system does not tell, it may.
 */
export async function isWaitingToRead(pid: number | undefined): Promise<boolean> {
  return pid === undefined ? true : await hasTerminalNow(pid) ?? true;
}

/** Whether we have a controlling terminal, and our processes are in its foreground. */
export function isInForeground(): boolean {
  if (Deno.build.os === "windows") return true;
  if (Deno.build.os === "linux") {
    const { group, foreground } = statOf("self");
    return group === foreground;
  }
  try {
    Deno.openSync("/dev/tty").close();
    return true;
  } catch {
    return false; // There is no terminal.
  }
}

/**
 * Whether a shell would have our processes go on if Ctrl-Z stopped them: one of those that have
 * started them is in another group of the same session (setpgid(2), "orphaned"). Linux alone; where
 * it is not told, none would.
 */
export function hasShell(): boolean {
  try {
    const own = statOf("self");
    let its = own;
    while (its.session === own.session) {
      if (its.group !== own.group) return true;
      its = statOf(its.parent);
    }
  } catch {
    // There is no such process, or it is not ours to see.
  }
  return false;
}

function statOf(pid: string): ProcessStat {
  return parseStat(Deno.readTextFileSync(`/proc/${pid}/stat`));
}
