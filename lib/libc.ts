/**
 * The C library, by Deno's foreign function interface, as far as Deno has no way of its own: unix
 * sockets that pass descriptors, descriptors of others, terminals, and datagrams. Linux alone.
 *
 * It is loaded by whoever needs it, when he does; each of them does without where it is not there.
 */

const symbols = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  accept4: { parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  open: { parameters: ["buffer", "i32"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  pipe2: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  tcgetattr: { parameters: ["i32", "buffer"], result: "i32" },
  ioctl: { parameters: ["i32", "usize", "buffer"], result: "i32" },
  isatty: { parameters: ["i32"], result: "i32" },
  tcgetsid: { parameters: ["i32"], result: "i32" },
  getsid: { parameters: ["i32"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
  // These wait, each on a thread of its own.
  waitingPoll: {
    name: "poll",
    parameters: ["buffer", "usize", "i32"],
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

/** By which names the library goes, glibc's first, then musl's. */
const names = [
  "libc.so.6",
  `libc.musl-${Deno.build.arch}.so.1`,
  `/lib/ld-musl-${Deno.build.arch}.so.1`,
];

const unix = 1;
const datagram = 2;
const closedOnExec = 0o2000000;
const nonBlocking = 0o4000;
const notControlling = 0o400;
const withoutWaiting = 0x40;
const withoutSignal = 0x4000;

/** Room for a path in an address, in bytes, the NUL after it included. */
export const maximumSocketPathBytes = 108;

/** The C library as far as it is used. */
export type Libc = Deno.DynamicLibrary<typeof symbols>;

let known: { libc: Libc } | { failure: unknown } | undefined;

/** Loads the library, once for all who use it. @throws {Error} where it cannot be had. */
export function loadLibc(): Libc {
  known ??= open();
  if ("failure" in known) throw known.failure;
  return known.libc;
}

function open(): { libc: Libc } | { failure: unknown } {
  if (Deno.build.os !== "linux") return { failure: new Error(`not known on ${Deno.build.os}`) };
  let failure: unknown;
  for (const name of names) {
    try {
      return { libc: Deno.dlopen(name, symbols) };
    } catch (error) {
      failure ??= error;
    }
  }
  return { failure };
}

/**
 * Opens a file so that nothing waits for it, and as nobody's terminal.
 *
 * @returns its descriptor; less than 0 where it cannot be opened.
 */
export function openWithoutWaiting(
  { symbols }: Libc,
  path: string,
  direction: "input" | "output",
): number {
  const flags = (direction === "input" ? 0 : 1) | nonBlocking | notControlling | closedOnExec;
  return symbols.open(new TextEncoder().encode(`${path}\0`), flags);
}

/**
 * Sends one message, without waiting for anybody.
 *
 * @param path an absolute path, or a name after `@` (unix(7), "abstract").
 * @throws {Error} where it is not taken.
 */
export function sendDatagram({ symbols }: Libc, path: string, message: Uint8Array): void {
  const address = unixAddress(path);
  const socket = symbols.socket(unix, datagram | closedOnExec, 0);
  if (socket < 0) throw new Error("no socket can be had");
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

/**
 * The address of a unix socket, as the system's structure.
 *
 * @param path an absolute path, or a name after `@` (unix(7), "abstract").
 * @throws {Error} where it is too long.
 */
export function unixAddress(path: string): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode(path);
  if (name.length >= maximumSocketPathBytes) throw new Error("its path is too long");
  if (path.startsWith("@")) name[0] = 0;
  const address = new Uint8Array(2 + name.length + (path.startsWith("@") ? 0 : 1));
  new Uint16Array(address.buffer, 0, 1)[0] = unix;
  address.set(name, 2);
  return address;
}
