/**
 * Where the control sockets of a user's shims are: `NAME.ctl` in a folder that nobody else can reach.
 *
 * A socket is somebody's as long as he can be connected to there; one at a time looks and takes a
 * name, by a lock on the folder.
 */

import { createHash } from "node:crypto";
import { isAbsolute, join } from "node:path";
import type { ByteConnection } from "./byte_connection.ts";
import { messageOf } from "./errors.ts";
import { publishedFolder, withFolder } from "./published_files.ts";
import type { LocalSystem } from "./state_folder.ts";

/** Whether there are named pipes in place of sockets, and at a socket's place a file that tells which. */
export const byPipes = Deno.build.os === "windows";

/** What the name of a socket ends with. */
const ending = ".ctl";

/** The longest path, in bytes: every system takes it, and so does ssh, which adds to it for itself. */
const longestPathBytes = 100;

/**
 * The folder of a user's control sockets: that of his log-in, which the system empties at its end, or
 * where there is none, the one in which ssh finds the names of shims.
 */
export function controlFolder({ home, variable }: Pick<LocalSystem, "home" | "variable">): string {
  const runtime = variable("XDG_RUNTIME_DIR") ?? "";
  const isThere = isAbsolute(runtime) && isFolder(runtime);
  return isThere ? join(runtime, "sshshim") : publishedFolder(home);
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** A place for a control socket. */
export interface ControlPlace {
  /** Absolute. */
  path: string;
  /** Where it is while nobody is to find it who passes streams. */
  hiddenPath: string;
}

/**
 * Takes the place for a name, or for `NAME-2` and so on where somebody is at it, and listens there.
 *
 * @param listen is called while nobody else takes a place.
 * @throws {Error} where there can be none.
 */
export async function takeControlPlace<T>(
  { folder, name }: { folder: string; name: string },
  listen: (path: string) => T | Promise<T>,
): Promise<{ place: ControlPlace; listener: T }> {
  await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
  return await withFolder(folder, async () => {
    for (let count = 1;; count++) {
      const place = placeFor(folder, count === 1 ? name : `${name}-${count}`);
      if (await isInUse(place)) continue;
      for (const path of [place.path, place.hiddenPath]) removeSocket(path);
      return { place, listener: await listen(place.path) };
    }
  });
}

/** The sockets that there are, whether somebody is there or not. */
export function findControlPlaces(folder: string): ControlPlace[] {
  try {
    const names = Array.from(Deno.readDirSync(folder), ({ name }) => name)
      .filter((name) => name.endsWith(ending))
      .map((name) => name.replace(/^\./, ""));
    return [...new Set(names)].sort().map((name) => ({
      path: join(folder, name),
      hiddenPath: join(folder, `.${name}`),
    }));
  } catch {
    // There is no such folder: nobody runs.
    return [];
  }
}

/** Connects to whoever is at a place; `undefined` where nobody is. */
export async function connectTo(
  { path, hiddenPath }: ControlPlace,
): Promise<ByteConnection | undefined> {
  for (const candidate of [path, hiddenPath]) {
    try {
      if (!byPipes) return await Deno.connect({ transport: "unix", path: candidate });
      // What Windows alone needs is loaded there alone.
      const { connectToPipe } = await import("./named_pipe.ts");
      const pipe = await connectToPipe(candidate);
      if (pipe !== undefined) return pipe;
    } catch (error) {
      if (isNobody(error)) continue;
      throw new Error(`"${candidate}" cannot be used: ${messageOf(error)}`, { cause: error });
    }
  }
  return undefined;
}

/** Whether the error says that nobody listens. */
function isNobody(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused;
}

/** Removes a socket, or what stands for one, and nothing else. */
export function removeSocket(path: string): void {
  try {
    if (isControlSocket(Deno.lstatSync(path))) Deno.removeSync(path);
  } catch {
    // It is not there.
  }
}

/** Whether this is a socket, or a file that tells of a pipe where there are no sockets. */
export function isControlSocket({ isSocket, isFile }: Deno.FileInfo): boolean {
  return byPipes ? isFile : isSocket === true;
}

function placeFor(folder: string, name: string): ControlPlace {
  const long = join(folder, `.${name}${ending}`);
  const fits = new TextEncoder().encode(long).length <= longestPathBytes;
  const short = fits ? name : createHash("sha256").update(name).digest("hex").slice(0, 16);
  const hiddenPath = join(folder, `.${short}${ending}`);
  if (new TextEncoder().encode(hiddenPath).length > longestPathBytes) {
    throw new Error(`"${folder}" is too long a name for a folder of sockets`);
  }
  return { path: join(folder, `${short}${ending}`), hiddenPath };
}

async function isInUse(place: ControlPlace): Promise<boolean> {
  const connection = await connectTo(place);
  connection?.close();
  return connection !== undefined;
}
