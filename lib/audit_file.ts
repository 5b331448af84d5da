/**
 * The file of the audit, to which lines are appended.
 *
 * Nobody waits for it: lines queue up before a slow disk and are counted where they do not fit. A
 * file that was moved or removed, as rotation does, is made anew with the next line. Where it cannot
 * be written, as on a full disk, the log says so once, and once more when it can be again; the lines
 * between are counted in the file.
 */

import { reasonOf, UsageError } from "./errors.ts";
import { LineQueue, type LineTarget } from "./line_queue.ts";
import { logger } from "./log.ts";
import { within } from "./timing.ts";

const log = logger("audit");

/** What may wait for the disk, in bytes. */
const limitBytes = 4 * 1024 * 1024;

/** How long the last lines may take to be written, in milliseconds. */
const flushTimeoutMs = 500;

/** Makes a line that tells how many are missing. */
export type DescribeLost = (count: number) => string;

/** An audit file. Leaving its scope writes what waits, if the disk takes it in time. */
export class AuditFile implements AsyncDisposable {
  readonly #file: RotatedFile;
  readonly #queue: LineQueue;

  /**
   * Opens the file, or makes it, for this user alone.
   *
   * @throws {UsageError} where that is not possible.
   */
  static async open(path: string, describeLost: DescribeLost): Promise<AuditFile> {
    const file = new RotatedFile(path, describeLost);
    try {
      await file.open();
    } catch (cause) {
      throw new UsageError(
        `The audit file ${path} cannot be used: ${
          reasonOf(cause)
        }. Name another with --audit FILE.`,
        { cause },
      );
    }
    return new AuditFile(file, describeLost);
  }

  private constructor(file: RotatedFile, describeLost: DescribeLost) {
    this.#file = file;
    this.#queue = new LineQueue(file, {
      limitBytes,
      onDropped: (count) => this.#queue.write(describeLost(count)),
    });
  }

  /** Takes a line, ended by a newline. */
  write(line: string): void {
    this.#queue.write(line);
  }

  /** Resolves when all that was taken is written, or cannot be; nothing is taken after that. */
  async [Symbol.asyncDispose](): Promise<void> {
    await within(flushTimeoutMs, this.#queue.flushed().then(() => this.#file.close()));
  }
}

/** A file under a name that others may give to another file. */
class RotatedFile implements LineTarget {
  readonly #path: string;
  readonly #describeLost: DescribeLost;
  #open: { file: Deno.FsFile; info: Deno.FileInfo } | undefined;
  /** How many lines could not be written since the last that could. */
  #lostCount = 0;
  /** The last line was cut off. */
  #isTorn = false;

  constructor(path: string, describeLost: DescribeLost) {
    this.#path = path;
    this.#describeLost = describeLost;
  }

  /** @throws {Error} where it is not a file of ours. */
  async open(): Promise<Deno.FsFile> {
    // Opening a pipe would wait for its reader.
    const found = await statOf(this.#path);
    if (found && !found.isFile) throw new Error("it is not a file");
    const file = await Deno.open(this.#path, { append: true, create: true, mode: 0o600 });
    const info = await file.stat();
    try {
      const named = await Deno.lstat(this.#path);
      if (!isOurs(info)) throw new Error("it belongs to another user");
      // In a folder that all may write to it could lead to any file of ours.
      if (named.isSymlink && !isOurs(named)) throw new Error("it is a link of another user's");
      if (!named.isSymlink && !isSame(named, info)) throw new Error("it is replaced just now");
    } catch (error) {
      file.close();
      throw error;
    }
    this.#open = { file, info };
    this.#isTorn = false;
    return file;
  }

  close(): void {
    this.#open?.file.close();
    this.#open = undefined;
  }

  /** Writes a line; never rejects, since the next line may fare better. */
  async write(line: Uint8Array): Promise<number> {
    try {
      const file = await this.#current();
      if (this.#isTorn) await this.#append(file, encoder.encode("\n"));
      if (this.#lostCount > 0) {
        await this.#append(file, encoder.encode(this.#describeLost(this.#lostCount)));
        log.info("the audit file {path} is written again; {count} lines are missing", {
          path: this.#path,
          count: this.#lostCount,
        });
        this.#lostCount = 0;
      }
      await this.#append(file, line);
    } catch (error) {
      if (this.#lostCount++ === 0) {
        log.warn("the audit file {path} cannot be written, and lines are dropped: {reason}", {
          path: this.#path,
          reason: reasonOf(error),
        });
      }
    }
    return line.length;
  }

  /** The file that has the name now. */
  async #current(): Promise<Deno.FsFile> {
    const found = await statOf(this.#path);
    if (this.#open) {
      const { file, info } = this.#open;
      if (found && isSame(found, info)) return file;
      this.close();
    }
    return await this.open();
  }

  async #append(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
    for (let written = 0; written < bytes.length;) {
      written += await file.write(bytes.subarray(written));
      this.#isTorn = written < bytes.length;
    }
  }
}

function isOurs({ uid }: Deno.FileInfo): boolean {
  return uid === null || uid === Deno.uid();
}

function isSame(one: Deno.FileInfo, two: Deno.FileInfo): boolean {
  return one.dev === two.dev && one.ino === two.ino;
}

const encoder = new TextEncoder();

async function statOf(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
