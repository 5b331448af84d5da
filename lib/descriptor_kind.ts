/**
 * What a descriptor leads to, and so how it is used: by calls that do not wait, or by calls that do,
 * on threads. On Linux /proc tells, on macOS the C library.
 */

import type { Libc } from "./libc.ts";

/** `reopened`: it can be opened once more, which gives a description of our own. */
export type DescriptorKind = "reopened" | "prompt" | "socket" | "file" | "waiting";

/** What is known of the file behind a descriptor. */
interface FileFacts {
  type: "socket" | "pipe" | "file" | "characters" | "other";
  device: number;
  /** The file's own number; 0 where it has none. */
  number: number;
  /** Which device it is itself. */
  special: number;
}

/** Devices that never wait, by their numbers: `/dev/null`, `/dev/zero` and on Linux `/dev/full`. */
const promptDevices: Record<string, readonly number[]> = {
  linux: [0x103, 0x105, 0x107],
  darwin: [0x3000002, 0x3000003],
};

/** `/dev/tty` and `/dev/ptmx` on Linux: who opens them gets another terminal, his own or a new one. */
const otherTerminals = [0x500, 0x502];

/** macOS's `/dev/tty`, which is another terminal as well. */
const ownTerminal = "/dev/tty";

/** Of struct stat on macOS: where its parts are, and what the mode says. */
const macStat = { size: 144, device: 0, mode: 4, number: 8, special: 24 };
const modeTypes: Record<number, FileFacts["type"]> = {
  0o010000: "pipe",
  0o020000: "characters",
  0o040000: "file",
  0o100000: "file",
  0o140000: "socket",
};

/** How a descriptor is used. */
export function kindOf(libc: Libc, descriptor: number): DescriptorKind {
  const facts = factsOf(libc, descriptor);
  if (facts === undefined) return "waiting";
  const { type, special } = facts;
  if (type === "file") return "file";
  if (type === "characters" && promptDevices[Deno.build.os]!.includes(special)) return "prompt";
  // On macOS nothing but a terminal can be opened once more, and sending may wait in any case.
  if (Deno.build.os === "darwin") {
    return pathToReopen(libc, descriptor) === undefined ? "waiting" : "reopened";
  }
  if (type === "socket") return "socket";
  if (type === "pipe") return "reopened";
  return type === "characters" && !otherTerminals.includes(special) ? "reopened" : "waiting";
}

/** By which path it can be opened once more; `undefined` where there is none. */
export function pathToReopen({ symbols }: Libc, descriptor: number): string | undefined {
  if (Deno.build.os === "linux") return `/proc/self/fd/${descriptor}`;
  const name = new Uint8Array(256);
  if (symbols.ttyname_r(descriptor, name, BigInt(name.length - 1)) !== 0) return undefined;
  const path = new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
  return path === ownTerminal ? undefined : path;
}

/** Whether two descriptors lead to one file: then what goes there keeps its order. */
export function leadToOneFile(libc: Libc, one: number, other: number): boolean {
  const [a, b] = [factsOf(libc, one), factsOf(libc, other)];
  return a !== undefined && b !== undefined && a.number !== 0 && a.number === b.number &&
    a.device === b.device;
}

function factsOf(libc: Libc, descriptor: number): FileFacts | undefined {
  return Deno.build.os === "linux" ? linuxFacts(descriptor) : macFacts(libc, descriptor);
}

function linuxFacts(descriptor: number): FileFacts | undefined {
  try {
    const stat = Deno.statSync(`/proc/self/fd/${descriptor}`);
    const { isSocket, isFifo, isFile, isDirectory, isCharDevice, dev, ino, rdev } = stat;
    const type = isSocket
      ? "socket"
      : isFifo
      ? "pipe"
      : isFile || isDirectory
      ? "file"
      : isCharDevice
      ? "characters"
      : "other";
    return { type, device: dev, number: ino ?? 0, special: rdev ?? 0 };
  } catch {
    // The system does not tell.
    return undefined;
  }
}

function macFacts({ symbols }: Libc, descriptor: number): FileFacts | undefined {
  const stat = new Uint8Array(macStat.size * 2);
  return symbols.fstat?.(descriptor, stat) === 0 ? parseMacStat(stat) : undefined;
}

/** Reads macOS's struct stat. */
export function parseMacStat(stat: Uint8Array): FileFacts {
  const view = new DataView(stat.buffer, stat.byteOffset, stat.byteLength);
  return {
    type: modeTypes[view.getUint16(macStat.mode, true) & 0o170000] ?? "other",
    device: view.getInt32(macStat.device, true),
    number: Number(view.getBigUint64(macStat.number, true)),
    special: view.getUint32(macStat.special, true),
  };
}
