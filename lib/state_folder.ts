/**
 * The folder that keeps keys between runs, and the files in it. They are what proves who is who, so
 * nobody else may write there.
 */

import { randomBytes } from "node:crypto";
import { basename, dirname, posix, win32 } from "node:path";
import { reasonOf } from "./errors.ts";
import { homeFolder } from "./local_facts.ts";

/** The system as far as it decides about paths and permissions; by default the one we run on. */
export interface LocalSystem {
  os: typeof Deno.build.os;
  /** The user that we run as; `null` where there are no such numbers. */
  uid: number | null;
  /** The user's folder. */
  home: string;
  /** A variable of the environment. */
  variable(name: string): string | undefined;
}

/** The system that we run on. */
export function thisSystem(): LocalSystem {
  return {
    os: Deno.build.os,
    uid: Deno.uid(),
    home: homeFolder(),
    variable: (name) => Deno.env.get(name),
  };
}

/** The folder that keeps keys between runs, as each system wants it. */
export function defaultStateFolder(system: LocalSystem = thisSystem()): string {
  const { os, home, variable } = system;
  switch (os) {
    case "darwin":
      return posix.join(home, "Library", "Application Support", "sshshim");
    case "windows": {
      const folder = variable("LOCALAPPDATA") ?? win32.join(home, "AppData", "Local");
      return win32.join(folder, "sshshim");
    }
    default: {
      const folder = variable("XDG_STATE_HOME") ?? "";
      // The XDG specification has relative paths ignored.
      const state = posix.isAbsolute(folder) ? folder : posix.join(home, ".local", "state");
      return posix.join(state, "sshshim");
    }
  }
}

/** Why a folder cannot hold keys: whoever can write there can replace them, at any time. */
export function folderFault(
  { uid, mode }: Pick<Deno.FileInfo, "uid" | "mode">,
  folder: string,
  system: LocalSystem = thisSystem(),
): { reason: string; advice: string } | undefined {
  // Windows keeps access in lists, which a new folder inherits from that of the user's data.
  if (system.os === "windows") return undefined;
  if (uid !== system.uid && uid !== 0) {
    const advice = `Make "${folder}" yours, or set XDG_STATE_HOME.`;
    return { reason: `its folder belongs to another user, uid ${uid}`, advice };
  }
  if (((mode ?? 0) & 0o022) === 0) return undefined;
  return { reason: "others can write in its folder", advice: `Run: chmod 700 "${folder}"` };
}

/**
 * Sees to it that there is a file which we alone can read, and makes it and its folder if there is
 * none. It appears under its name complete, and only if there is none: of two instances that start
 * together, one wins, and both find its file.
 *
 * @param content called where there is none.
 * @returns why the folder cannot hold it, if it cannot; one that is not safe is left as it is, and
 *   whoever reads the file tells.
 */
export async function keepFile(
  file: string,
  content: () => Promise<string>,
): Promise<string | undefined> {
  const folder = dirname(file);
  const temporary = `${folder}/.${basename(file)}.${randomBytes(8).toString("hex")}`;
  try {
    if (await exists(file)) return undefined;
    await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
    if (folderFault(await Deno.stat(folder), folder)) return undefined;
    try {
      await writeNewFile(temporary, await content());
      await Deno.link(temporary, file);
    } finally {
      if (await exists(temporary)) await Deno.remove(temporary);
    }
    return undefined;
  } catch (error) {
    if (!isFileError(error)) throw error;
    if (error instanceof Deno.errors.AlreadyExists && await exists(file)) return undefined;
    return reasonOf(error);
  }
}

/** Whether an error is the operating system's word about a file, and not a mistake in the code. */
export function isFileError(error: unknown): boolean {
  if (Object.values(Deno.errors).some((type) => error instanceof type)) return true;
  // Deno has no class for a full or read-only file system, for instance: those have a code.
  return error instanceof Error && "code" in error && /^E[A-Z]+$/.test(String(error.code));
}

async function writeNewFile(file: string, text: string): Promise<void> {
  const handle = await Deno.open(file, { write: true, createNew: true, mode: 0o600 });
  const writer = handle.writable.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    // Before it gets its name: a power failure must not leave that name on an empty file.
    await handle.sync();
  } finally {
    await writer.close();
  }
}

async function exists(file: string): Promise<boolean> {
  try {
    await Deno.stat(file);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
