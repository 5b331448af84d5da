/** Small services for forwards to lead to, on TCP and unix sockets, and a client for them. */

import { defaultTimeoutMs } from "./deadline.ts";

/** Where a service listens. */
export type Address =
  | { transport: "tcp"; hostname: string; port: number }
  | { transport: "unix"; path: string };

/** A running service. Leaving its scope ends it and its connections. */
export interface Service extends AsyncDisposable {
  readonly address: Address;
  /** Of a service on TCP; 0 for a unix socket. */
  readonly port: number;
  /** How many connections it has accepted. */
  readonly connectionCount: number;
}

/** An address on 127.0.0.1. */
export function tcpAddress(port: number): Address {
  return { transport: "tcp", hostname: "127.0.0.1", port };
}

/**
 * Starts a service that says `greeting` to whoever connects and then sends back what it gets.
 * When its peer has sent everything, it closes.
 *
 * @param options `path` makes it listen on a unix socket instead of a free port of 127.0.0.1
 */
export function startEcho(
  options: { greeting?: string; path?: string } = {},
): Service {
  const greeting = new TextEncoder().encode(options.greeting ?? "");
  return startService(async (connection) => {
    await writeAll(connection, greeting);
    const buffer = new Uint8Array(65_536);
    for (;;) {
      const count = await connection.read(buffer);
      if (count === null) break;
      await writeAll(connection, buffer.subarray(0, count));
    }
  }, options);
}

/** What a service with this greeting sends back to whoever sends `data`. */
export function echoed(greeting: string, data: string | Uint8Array): Uint8Array {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const answer = new Uint8Array(greeting.length + bytes.length);
  answer.set(new TextEncoder().encode(greeting));
  answer.set(bytes, greeting.length);
  return answer;
}

/** Starts a service of which `serve` handles each connection; it is closed afterwards. */
export function startService(
  serve: (connection: Deno.Conn) => Promise<void>,
  options: { path?: string } = {},
): Service {
  const listener = options.path === undefined
    ? Deno.listen({ hostname: "127.0.0.1", port: 0 })
    : Deno.listen({ transport: "unix", path: options.path });
  const address: Address = listener.addr.transport === "unix"
    ? { transport: "unix", path: listener.addr.path }
    : tcpAddress((listener.addr as Deno.NetAddr).port);
  const open = new Map<Deno.Conn, Promise<void>>();
  let connectionCount = 0;
  const accepting = (async () => {
    for await (const connection of listener) {
      connectionCount++;
      open.set(connection, handle(connection));
    }
  })();
  async function handle(connection: Deno.Conn): Promise<void> {
    try {
      await serve(connection);
    } catch {
      // The peer has left in the middle, or the test is over; its own assertions tell which.
    } finally {
      open.delete(connection);
      closeQuietly(connection);
    }
  }
  return {
    address,
    port: address.transport === "tcp" ? address.port : 0,
    get connectionCount() {
      return connectionCount;
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
      const handled = [...open.values()];
      for (const connection of open.keys()) closeQuietly(connection);
      await Promise.all(handled);
    },
  };
}

/**
 * Says whether nobody listens at a port of 127.0.0.1, without connecting to whoever does. It takes
 * the port for a moment, so it is for ports that are to be closed: whoever is about to listen there
 * would be turned away.
 */
export function isFree(port: number): Promise<boolean> {
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
    return Promise.resolve(true);
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) return Promise.resolve(false);
    throw error;
  }
}

/**
 * Connects, sends `data` and then its end, and resolves with all that came back.
 *
 * @throws {Error} when the connection is refused, or reset in the middle
 */
export async function exchange(address: Address, data: string | Uint8Array): Promise<Uint8Array> {
  using connection = await connect(address);
  return await exchangeOver(connection, data);
}

/** The same over a connection that is open already. */
export async function exchangeOver(
  connection: Deno.TcpConn | Deno.UnixConn,
  data: string | Uint8Array,
): Promise<Uint8Array> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const sending = writeAll(connection, bytes).then(() => connection.closeWrite());
  const [received] = await Promise.all([readAll(connection), sending]);
  return received;
}

/** Opens a connection to a service, or to the end of a forward that leads to one. */
export async function connect(address: Address): Promise<Deno.TcpConn | Deno.UnixConn> {
  return address.transport === "unix"
    ? await Deno.connect(address)
    : await Deno.connect({ hostname: address.hostname, port: address.port });
}

/** Writes all of `data`. */
export async function writeAll(connection: Deno.Conn, data: Uint8Array): Promise<void> {
  for (let sent = 0; sent < data.length;) sent += await connection.write(data.subarray(sent));
}

/**
 * Reads exactly `length` bytes.
 *
 * @throws {Error} when the connection ends first, or they do not come in time
 */
export function readExactly(connection: Deno.Conn, length: number): Promise<Uint8Array> {
  return inTime(connection, async () => {
    const bytes = new Uint8Array(length);
    for (let got = 0; got < length;) {
      const count = await connection.read(bytes.subarray(got));
      if (count === null) throw new Error(`The connection ended after ${got} of ${length} bytes.`);
      got += count;
    }
    return bytes;
  });
}

/**
 * Reads until the peer has sent everything.
 *
 * @throws {Error} when the connection is reset, or its end does not come in time
 */
export function readAll(connection: Deno.Conn): Promise<Uint8Array> {
  return inTime(connection, async () => {
    const chunks: Uint8Array[] = [];
    for (;;) {
      const chunk = new Uint8Array(65_536);
      const count = await connection.read(chunk);
      if (count === null) break;
      chunks.push(chunk.subarray(0, count));
    }
    return new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer());
  });
}

/** Closes the connection when reading from it takes too long: there is no other way to end that. */
async function inTime<T>(connection: Deno.Conn, read: () => Promise<T>): Promise<T> {
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    closeQuietly(connection);
  }, defaultTimeoutMs);
  try {
    return await read();
  } catch (error) {
    throw isLate ? new Error(`The peer was silent for ${defaultTimeoutMs} ms.`) : error;
  } finally {
    clearTimeout(timer);
  }
}

/** Closes a connection that may be closed already. */
export function closeQuietly(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // It is closed already.
  }
}
