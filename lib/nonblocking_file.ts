/**
 * A file that is read and written without waiting for anybody: by the system's own calls where they
 * can be used, since Deno has other systems' flags for that in some versions.
 */

import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { findLibc, type Libc, openWithoutWaiting } from "./libc.ts";

/** Each call fails, or gives less than 0, where it would have to wait. */
export interface NonblockingFile extends Disposable {
  /** @returns how many bytes. */
  read(buffer: Uint8Array<ArrayBuffer>): number;
  /** @returns how many bytes. */
  write(bytes: Uint8Array<ArrayBuffer>): number;
}

/** Opens a terminal, or another file that does not have to be waited for. @throws {Error} */
export function openNonblocking(path: string, direction: "input" | "output"): NonblockingFile {
  const libc = Deno.build.os === "linux" ? findLibc() : undefined;
  return libc ? openBySystem(libc, path, direction) : openByDeno(path, direction);
}

function openBySystem(
  libc: Libc,
  path: string,
  direction: "input" | "output",
): NonblockingFile {
  const { symbols } = libc;
  const file = openWithoutWaiting(libc, path, direction);
  if (file < 0) throw new Error(`"${path}" cannot be opened`);
  return {
    read: (buffer) => Number(symbols.read(file, buffer, BigInt(buffer.length))),
    write: (bytes) => Number(symbols.write(file, bytes, BigInt(bytes.length))),
    [Symbol.dispose]: () => void symbols.close(file),
  };
}

function openByDeno(path: string, direction: "input" | "output"): NonblockingFile {
  const { O_RDONLY, O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
  const flags = (direction === "input" ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY;
  const file = openSync(path, flags);
  return {
    read: (buffer) => readSync(file, buffer),
    write: (bytes) => writeSync(file, bytes),
    [Symbol.dispose]: () => closeSync(file),
  };
}
