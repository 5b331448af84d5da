/**
 * A file that is read and written without waiting for anybody: by the system's own calls, where they
 * can be used, since Deno's do not know such files in every version.
 */

import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { type Libc, loadLibc } from "./libc.ts";

/** Each call fails, or gives less than 0, where it would have to wait. */
export interface NonblockingFile extends Disposable {
  /** @returns how many bytes. */
  read(buffer: Uint8Array<ArrayBuffer>): number;
  /** @returns how many bytes. */
  write(bytes: Uint8Array<ArrayBuffer>): number;
}

/** Opens a terminal, or another file that does not have to be waited for. @throws {Error} */
export function openNonblocking(path: string, direction: "input" | "output"): NonblockingFile {
  const { O_RDONLY, O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
  const flags = (direction === "input" ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY;
  const libc = systemCalls();
  return libc ? openBySystem(libc, path, flags) : openByDeno(path, flags);
}

function openBySystem({ symbols }: Libc, path: string, flags: number): NonblockingFile {
  const file = symbols.open(new TextEncoder().encode(`${path}\0`), flags);
  if (file < 0) throw new Error(`"${path}" cannot be opened`);
  return {
    read: (buffer) => Number(symbols.read(file, buffer, BigInt(buffer.length))),
    write: (bytes) => Number(symbols.write(file, bytes, BigInt(bytes.length))),
    [Symbol.dispose]: () => void symbols.close(file),
  };
}

function openByDeno(path: string, flags: number): NonblockingFile {
  const file = openSync(path, flags);
  return {
    read: (buffer) => readSync(file, buffer),
    write: (bytes) => writeSync(file, bytes),
    [Symbol.dispose]: () => closeSync(file),
  };
}

let known: Libc | undefined;
let isKnown = false;

/** `undefined` where they cannot be used. */
function systemCalls(): Libc | undefined {
  if (isKnown) return known;
  isKnown = true;
  try {
    known = loadLibc();
  } catch {
    // Another system, or no permission.
  }
  return known;
}
