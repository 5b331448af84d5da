/**
 * Whether a path is in nobody else's hands, as sshd judges (StrictModes): what is there, and each
 * folder above it, belongs to the user or to root, and nobody else can write it. Here a folder such
 * as /tmp will do as well, where everybody writes and nobody can replace what is another's.
 */

import { dirname } from "node:path";
import { type LocalSystem, thisSystem } from "./state_folder.ts";

/** What is told of a file, a folder or a socket. */
type PathInfo = Pick<Deno.FileInfo, "uid" | "mode" | "isDirectory" | "isSocket">;

/** What anybody may add to, and only the owners may take from. */
const sticky = 0o1000;

/**
 * Finds the place that a path leads to, links followed, if it is safe.
 *
 * @returns the place without links, or in words what is wrong with it
 * @throws {Error} where it is not there, or cannot be looked at.
 */
export async function findOwnPath(
  path: string,
  system: LocalSystem = thisSystem(),
): Promise<{ path: string } | { fault: string }> {
  const real = await Deno.realPath(path);
  // Windows keeps access in lists; what is in a user's folder is that user's.
  if (system.os === "windows") return { path: real };
  for (let place = real;; place = dirname(place)) {
    const fault = ownPathFault(await Deno.stat(place), system);
    if (fault) return { fault: `${place} ${fault}` };
    if (dirname(place) === place) return { path: real };
  }
}

/** What is wrong with what is at one place; `undefined` for nothing. */
export function ownPathFault(
  { uid, mode, isDirectory, isSocket }: PathInfo,
  system: Pick<LocalSystem, "os" | "uid">,
): string | undefined {
  if (system.os === "windows") return undefined;
  if (uid !== system.uid && uid !== 0) return `belongs to another user, uid ${uid}`;
  if (isSocket) return undefined; // Who may write to it may speak to its owner, and no more.
  const bits = mode ?? 0o777;
  if ((bits & 0o022) === 0) return undefined;
  return isDirectory && (bits & sticky) !== 0 ? undefined : "can be written by others";
}
