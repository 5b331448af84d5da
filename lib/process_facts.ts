/** What Linux's /proc tells of a process (proc(5)). */

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
    return (await Deno.readTextFile(`/proc/${pid}/${file}`)).split("\0");
  } catch {
    return undefined;
  }
}

/** Whether a process finds the same files and the same networks as we do. */
export async function sharesOurWorld(pid: number): Promise<boolean> {
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
