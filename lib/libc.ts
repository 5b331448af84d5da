/**
 * The C library, by Deno's foreign function interface, as far as Deno has no way of its own: unix
 * sockets that pass descriptors, descriptors of others, terminals, processes, datagrams, and memory
 * that was freed. On Linux and macOS; `system_layout.ts` has what is different there.
 *
 * It is loaded by whoever needs it, when he does; each of them does without where it is not there.
 */

import { socketAddress, type SystemLayout, systemLayout } from "./system_layout.ts";

/**
 * What follows the named arguments of a function that takes any number of them: the one that counts,
 * seven times. It is the next register's on most machines; on Apple's arm64 it is the first on the
 * stack, behind all eight registers.
 */
const anyNumberOfIntegers = [
  "usize",
  "usize",
  "usize",
  "usize",
  "usize",
  "usize",
  "usize",
] as const;
const anyNumberOfBuffers = [
  "buffer",
  "buffer",
  "buffer",
  "buffer",
  "buffer",
  "buffer",
  "buffer",
] as const;

function symbolsOf({ names }: SystemLayout) {
  return {
    socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
    socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
    bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
    listen: { parameters: ["i32", "i32"], result: "i32" },
    accept: {
      name: names.accept,
      parameters: ["i32", "pointer", "pointer", "i32"],
      result: "i32",
    },
    getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
    sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
    sendmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
    recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
    recvmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
    open: { parameters: ["buffer", "i32"], result: "i32" },
    fcntl: { parameters: ["i32", "i32", ...anyNumberOfIntegers], result: "i32" },
    pipe: { name: names.pipe, parameters: ["buffer", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    tcgetattr: { parameters: ["i32", "buffer"], result: "i32" },
    tcsetattr: { parameters: ["i32", "i32", "buffer"], result: "i32" },
    cfmakeraw: { parameters: ["buffer"], result: "void" },
    ioctl: { parameters: ["i32", "usize", ...anyNumberOfBuffers], result: "i32" },
    isatty: { parameters: ["i32"], result: "i32" },
    tcgetsid: { parameters: ["i32"], result: "i32" },
    getsid: { parameters: ["i32"], result: "i32" },
    grantpt: { parameters: ["i32"], result: "i32" },
    unlockpt: { parameters: ["i32"], result: "i32" },
    ptsname: { parameters: ["i32"], result: "pointer" },
    ttyname_r: { parameters: ["i32", "buffer", "usize"], result: "i32" },
    errno: { name: names.errno, parameters: [], result: "pointer" },
    // Of glibc alone.
    malloc_trim: { parameters: ["usize"], result: "i32", optional: true },
    mallopt: { parameters: ["i32", "i32"], result: "i32", optional: true },
    // Of macOS alone.
    fstat: { name: names.fstat, parameters: ["i32", "buffer"], result: "i32", optional: true },
    sysctl: {
      parameters: ["buffer", "u32", "buffer", "buffer", "pointer", "usize"],
      result: "i32",
      optional: true,
    },
    proc_pidinfo: {
      parameters: ["i32", "i32", "u64", "buffer", "i32"],
      result: "i32",
      optional: true,
    },
    // These wait, each on a thread of its own.
    waitingPoll: {
      name: "poll",
      parameters: ["buffer", "usize", "i32"],
      result: "i32",
      nonblocking: true,
    },
    waitingSelect: {
      name: names.select,
      parameters: ["i32", "buffer", "buffer", "pointer", "pointer"],
      result: "i32",
      nonblocking: true,
    },
    waitingRead: {
      name: "read",
      parameters: ["i32", "buffer", "usize"],
      result: "isize",
      nonblocking: true,
    },
    waitingWrite: {
      name: "write",
      parameters: ["i32", "buffer", "usize"],
      result: "isize",
      nonblocking: true,
    },
  } as const;
}

const unix = 1;
const datagram = 2;

/** fcntl(2). */
const [setDescriptorFlags, getFlags, setFlags] = [2, 3, 4];
const closedOnExec = 1;

/** The C library as far as it is used, and what it is like. */
export interface Libc {
  symbols: Deno.DynamicLibrary<ReturnType<typeof symbolsOf>>["symbols"];
  layout: SystemLayout;
}

let known: { libc: Libc } | { failure: unknown } | undefined;

/** Loads the library, once for all who use it. @throws {Error} where it cannot be had. */
export function loadLibc(): Libc {
  known ??= open();
  if ("failure" in known) throw known.failure;
  return known.libc;
}

/** The same; `undefined` where it cannot be had, for whoever does without. */
export function findLibc(): Libc | undefined {
  try {
    return loadLibc();
  } catch {
    // Another system, or no permission.
    return undefined;
  }
}

function open(): { libc: Libc } | { failure: unknown } {
  const layout = systemLayout();
  if (layout === undefined) return { failure: new Error(`not known on ${Deno.build.os}`) };
  let failure: unknown;
  for (const name of layout.libraries) {
    try {
      return { libc: { symbols: Deno.dlopen(name, symbolsOf(layout)).symbols, layout } };
    } catch (error) {
      failure ??= error;
    }
  }
  return { failure };
}

/** What the last call has failed for; `undefined` where it only has to be tried again. */
export function lastFailure({ symbols, layout }: Libc): Error | undefined {
  const pointer = symbols.errno();
  const number = pointer === null ? 0 : new Deno.UnsafePointerView(pointer).getInt32();
  const { wouldBlock, interrupted } = layout.errors;
  if (number === wouldBlock || number === interrupted) return undefined;
  return new Error(`the system's error ${number}`);
}

/** The flags with which a descriptor was opened (fcntl(2)); less than 0 where there is none. */
export function flagsOf({ symbols }: Libc, descriptor: number): number {
  return symbols.fcntl(descriptor, getFlags, ...sevenTimes(0n));
}

/**
 * Sees to it that nothing waits for a descriptor of ours, and that no other program gets it; where the
 * system does that when it makes one, it has.
 */
export function makeOurs(libc: Libc, descriptor: number): void {
  if (libc.layout.setsFlagsAtOnce) return;
  closeOnExec(libc, descriptor);
  const flags = flagsOf(libc, descriptor) | libc.layout.open.nonBlocking;
  libc.symbols.fcntl(descriptor, setFlags, ...sevenTimes(BigInt(flags)));
}

/** Sees to it that no other program gets a descriptor that was passed. */
export function closeOnExec({ symbols, layout }: Libc, descriptor: number): void {
  if (layout.setsFlagsAtOnce) return;
  symbols.fcntl(descriptor, setDescriptorFlags, ...sevenTimes(BigInt(closedOnExec)));
}

/** Makes a pipe for which nothing waits. @throws {Error} where there is none. */
export function openPipe(libc: Libc): { output: number; input: number } {
  const ends = new Int32Array(2);
  const { closedOnExec, nonBlocking } = libc.layout.open;
  if (libc.symbols.pipe(ends, closedOnExec | nonBlocking) < 0) {
    throw new Error("no pipe can be had");
  }
  for (const end of ends) makeOurs(libc, end);
  return { output: ends[0]!, input: ends[1]! };
}

/** A request of ioctl(2) with a structure. @returns whether it was done. */
export function control(
  { symbols }: Libc,
  descriptor: number,
  request: number,
  structure: Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer>,
): boolean {
  return symbols.ioctl(descriptor, BigInt(request), ...sevenTimes(structure)) >= 0;
}

/** As functions want it that take any number of arguments. */
function sevenTimes<T>(value: T): [T, T, T, T, T, T, T] {
  return [value, value, value, value, value, value, value];
}

/**
 * Opens a file so that nothing waits for it, and as nobody's terminal.
 *
 * @returns its descriptor; less than 0 where it cannot be opened.
 */
export function openWithoutWaiting(
  { symbols, layout }: Libc,
  path: string,
  direction: "input" | "output",
): number {
  const { nonBlocking, notControlling, closedOnExec } = layout.open;
  const flags = (direction === "input" ? 0 : 1) | nonBlocking | notControlling | closedOnExec;
  return symbols.open(new TextEncoder().encode(`${path}\0`), flags);
}

/**
 * What is allocated in pieces of this size and above is to go back to the system when it is freed.
 *
 * glibc does so at first; after it has freed one such piece it keeps those of that size, and pieces
 * that are still in use keep what was freed below them.
 */
export function returnLargePieces({ symbols }: Libc, bytes: number): void {
  const [trimThreshold, mapThreshold] = [-1, -3];
  symbols.mallopt?.(mapThreshold, bytes);
  symbols.mallopt?.(trimThreshold, 4 * bytes);
}

/** All memory that was freed goes back to the system, as far as it is whole pages. */
export function returnFreed({ symbols }: Libc): void {
  symbols.malloc_trim?.(0n);
}

/**
 * Sends one message, without waiting for anybody.
 *
 * @param path an absolute path, or a name after `@` (unix(7), "abstract").
 * @throws {Error} where it is not taken.
 */
export function sendDatagram({ symbols, layout }: Libc, path: string, message: Uint8Array): void {
  const address = socketAddress(layout, path);
  const { closedOnExec } = layout.open;
  const socket = symbols.socket(unix, datagram | (layout.setsFlagsAtOnce ? closedOnExec : 0), 0);
  if (socket < 0) throw new Error("no socket can be had");
  const { withoutWaiting, withoutSignal } = layout.message;
  try {
    const sent = symbols.sendto(
      socket,
      message as Uint8Array<ArrayBuffer>,
      BigInt(message.length),
      withoutWaiting | withoutSignal,
      address,
      address.length,
    );
    if (sent < 0n) throw new Error("nobody takes a message there");
  } finally {
    symbols.close(socket);
  }
}
