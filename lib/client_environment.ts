/** What the environment of a client's process has, on Linux, for processes of our own user. */

/**
 * Whether a process was started with a variable that is not empty; where the system does not tell,
 * it may have been.
 */
export async function mayHaveVariable(pid: number | undefined, name: string): Promise<boolean> {
  if (pid === undefined) return true;
  try {
    const variables = (await Deno.readTextFile(`/proc/${pid}/environ`)).split("\0");
    return variables.some((it) => it.startsWith(`${name}=`) && it.length > name.length + 1);
  } catch {
    return true;
  }
}
