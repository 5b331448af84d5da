/**
 * The one call of the system's C library: a message to a unix socket of datagrams, which Deno has
 * not without an unstable flag. Linux alone, where the library has one name.
 */

const symbols = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
} as const;

const unix = 1;
const datagram = 2;
const closedOnExec = 0o2000000;
const withoutWaiting = 0x40;
const withoutSignal = 0x4000;

/** Room for a path in an address, in bytes, the NUL after it included. */
const maximumPathBytes = 108;

/** The C library as far as it is used. */
export type Libc = Deno.DynamicLibrary<typeof symbols>;

/** Loads the library. @throws {Error} where it cannot be had. */
export function loadLibc(): Libc {
  if (Deno.build.os !== "linux") throw new Error(`not known on ${Deno.build.os}`);
  return Deno.dlopen("libc.so.6", symbols);
}

/**
 * Sends one message, without waiting for anybody.
 *
 * @param path an absolute path, or a name after `@` (unix(7), "abstract").
 * @throws {Error} where it is not taken.
 */
export function sendDatagram({ symbols }: Libc, path: string, message: Uint8Array): void {
  const name = new TextEncoder().encode(path);
  if (name.length >= maximumPathBytes) throw new Error("its path is too long");
  if (path.startsWith("@")) name[0] = 0;
  const address = new Uint8Array(2 + name.length + (path.startsWith("@") ? 0 : 1));
  new Uint16Array(address.buffer, 0, 1)[0] = unix;
  address.set(name, 2);
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
