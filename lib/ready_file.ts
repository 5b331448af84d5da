/**
 * A file that is there while the local port can be used, for scripts that wait for it.
 *
 * It stands under its name only when it is whole. Where others may write, as in /tmp, they can
 * neither have it written somewhere else nor have a file of theirs taken for it: what stands under
 * its name at the start has to be one that was left behind, or nothing starts.
 */

import process from "node:process";
import { reasonOf, UsageError } from "./errors.ts";

/** The property by which a file is known for one of ours, as the banner in JSON. */
const mark = "listening";

/** The file, while it is ours to write. */
export class ReadyFile {
  readonly #path: string;
  /** The file that was written; others may have taken its place. */
  #written: Deno.FileInfo | undefined;
  readonly #onUnload = () => this.remove();

  /**
   * Removes one that was left behind.
   *
   * @throws {UsageError} where something else has its name.
   */
  constructor(path: string) {
    this.#path = path;
    const left = statOf(path);
    if (left === undefined) return;
    const objection = objectionTo(path, left);
    if (objection !== undefined) {
      throw new UsageError(
        `The ready file ${path} ${objection}, so it is left as it is. ` +
          `Remove it, or name another one with --ready-file FILE.`,
      );
    }
    attempt(path, () => Deno.removeSync(path));
  }

  /**
   * Writes it, readable by this user alone.
   *
   * @throws {UsageError} where that is not possible.
   */
  write(properties: Record<string, unknown>): void {
    const text = `${JSON.stringify({ event: mark, pid: Deno.pid, ...properties })}\n`;
    const partial = `${this.#path}.${crypto.randomUUID()}`;
    attempt(this.#path, () => {
      Deno.writeTextFileSync(partial, text, { createNew: true, mode: 0o600 });
      try {
        this.#written = Deno.lstatSync(partial);
        Deno.renameSync(partial, this.#path);
      } catch (error) {
        Deno.removeSync(partial);
        throw error;
      }
    });
    // A second stop signal leaves no time for anything else.
    globalThis.addEventListener("unload", this.#onUnload);
  }

  /** Removes it, unless another has taken its place. May be called twice. */
  remove(): void {
    globalThis.removeEventListener("unload", this.#onUnload);
    const written = this.#written;
    this.#written = undefined;
    if (written === undefined) return;
    try {
      const { dev, ino } = Deno.lstatSync(this.#path);
      if (dev === written.dev && ino === written.ino) Deno.removeSync(this.#path);
    } catch {
      // It is gone, or its folder is: that is what was wanted.
    }
  }
}

/**
 * Why the sshshim that has the file cannot be used, for a process of the same machine or container;
 * `undefined` where it can.
 */
export function unreadiness(path: string): string | undefined {
  let pid: unknown;
  try {
    const facts = JSON.parse(Deno.readTextFileSync(path));
    if (facts?.event === mark) pid = facts.pid;
  } catch (error) {
    if (!(error instanceof SyntaxError)) return `${path} cannot be read: ${reasonOf(error)}`;
  }
  if (typeof pid !== "number") return `${path} was not written by sshshim`;
  return lives(pid) ? undefined : `process ${pid}, which wrote ${path}, has ended`;
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It is another user's.
    return (error as { code?: string }).code === "EPERM";
  }
}

/** Why a file is none that was left behind; `undefined` where it is one. */
function objectionTo(path: string, file: Deno.FileInfo): string | undefined {
  if (file.isSymlink) return "is a symbolic link";
  if (!file.isFile) return "is not a file";
  if (file.uid !== null && file.uid !== Deno.uid()) return "belongs to another user";
  try {
    const { event } = JSON.parse(Deno.readTextFileSync(path));
    if (event === mark) return undefined;
  } catch {
    // It is no JSON, or cannot be read.
  }
  return "was not written by sshshim";
}

function statOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw failure(path, error);
  }
}

function attempt(path: string, action: () => void): void {
  try {
    action();
  } catch (error) {
    throw failure(path, error);
  }
}

function failure(path: string, cause: unknown): UsageError {
  return new UsageError(
    `The ready file ${path} cannot be written: ${reasonOf(cause)}. ` +
      `Name another one with --ready-file FILE.`,
    { cause },
  );
}
