/** Which file is at a path: others may put theirs there. */

/** Names the file at a path, a link as itself; `undefined` where there is none. */
export function identityOf(path: string): string | undefined {
  try {
    const { dev, ino } = Deno.lstatSync(path);
    return `${dev} ${ino}`;
  } catch {
    return undefined;
  }
}
