/** What the environment of a client's process has, on Linux, for processes of our own user. */

import { readWords } from "./process_facts.ts";

/**
 * Whether a process was started with a variable that is not empty; where the system does not tell,
 * it may have been.
 */
export async function mayHaveVariable(pid: number | undefined, name: string): Promise<boolean> {
  const variables = await readWords(pid, "environ");
  if (variables === undefined) return true;
  return variables.some((it) => it.startsWith(`${name}=`) && it.length > name.length + 1);
}
