/** What the environment of a client's process has, on Linux, for processes of our own user. */

import { readWords } from "./process_facts.ts";

/**
 * Whether a process was started with a variable that is not empty; where the system does not tell,
 * it may have been.
 */
export async function mayHaveVariable(pid: number | undefined, name: string): Promise<boolean> {
  const variables = await readVariables(pid);
  return variables === undefined || (variables[name] ?? "") !== "";
}

/** The variables that a process was started with; `undefined` where the system does not tell. */
export async function readVariables(
  pid: number | undefined,
): Promise<Readonly<Record<string, string>> | undefined> {
  const words = await readWords(pid, "environ");
  return words && Object.fromEntries(
    words.filter((word) => word !== "").map((word) => {
      const at = word.indexOf("=");
      return at < 0 ? [word, ""] : [word.slice(0, at), word.slice(at + 1)];
    }),
  );
}
