/** What the system tells of a process: Linux by /proc (proc(5)), macOS by calls. */

import { readMacState, readMacWords } from "./mac_processes.ts";

/** The fields of `/proc/PID/stat` that are used here, as they stand there. */
export interface ProcessStat {
  /** The process may have given itself any name. */
  name: string;
  state: string | undefined;
  parent: string;
  group: string | undefined;
  session: string | undefined;
  /** Its controlling terminal; `0` where it has none. */
  terminal: string | undefined;
  /** The group that is in the foreground of that terminal; `-1` where there is none. */
  foreground: string | undefined;
  /** By which it is told from another that had its number before. */
  startTime: string | undefined;
}

/** Reads the text of `/proc/PID/stat`. The name may hold anything, parentheses among it. */
export function parseStat(stat: string): ProcessStat {
  const end = stat.lastIndexOf(")");
  const fields = stat.slice(end + 2).split(" ");
  const [state, parent, group, session, terminal, foreground] = fields;
  const name = stat.slice(stat.indexOf("(") + 1, end);
  const startTime = fields[19];
  return { name, state, parent: parent!, group, session, terminal, foreground, startTime };
}

/** The arguments of a process, or its variables; `undefined` where the system does not tell. */
export async function readWords(
  pid: number | undefined,
  file: "cmdline" | "environ",
): Promise<string[] | undefined> {
  if (pid === undefined) return undefined;
  try {
    if (Deno.build.os === "darwin") {
      const words = readMacWords(pid);
      const { args, environment } = words ?? { args: undefined, environment: [] };
      if (file === "cmdline") return args;
      return environment.length > 0 ? environment : undefined;
    }
    return (await Deno.readTextFile(`/proc/${pid}/${file}`)).split("\0");
  } catch {
    return undefined;
  }
}

/**
 * Whether a process may read from its terminal: it is not stopped, and in the foreground; `undefined`
 * where the system does not tell.
 */
export async function hasTerminalNow(pid: number): Promise<boolean | undefined> {
  try {
    if (Deno.build.os === "darwin") {
      const { isStopped, group, foreground } = readMacState(pid)!;
      return !isStopped && (foreground === undefined || foreground === group);
    }
    const { state, group, foreground } = parseStat(await Deno.readTextFile(`/proc/${pid}/stat`));
    if (state === "T" || state === "t") return false;
    // It has another terminal than the one that it has passed, or none.
    return foreground === "-1" || foreground === group;
  } catch {
    return undefined;
  }
}

/** Whether a process finds the same files and the same networks as we do. */
export async function sharesOurWorld(pid: number): Promise<boolean> {
  // There is one of each.
  if (Deno.build.os === "darwin") return true;
  try {
    const [ours, theirs] = await Promise.all(
      ["self", `${pid}`].map((process) =>
        Promise.all(["mnt", "net"].map((kind) => Deno.readLink(`/proc/${process}/ns/${kind}`)))
      ),
    );
    return ours!.join() === theirs!.join();
  } catch {
    return false;
  }
}
