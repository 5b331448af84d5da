/** A client of SOCKS version 5 (RFC 1928), without authentication. */

import { type Address, connect, exchangeOver, readExactly, writeAll } from "./services.ts";

/** Where a SOCKS client wants to be led; a name is resolved by the server. */
export interface Destination {
  host: string;
  port: number;
}

/**
 * Connects to `destination` through a SOCKS server, sends `data` and its end, and resolves with
 * what came back.
 *
 * @throws {Error} when the server refuses; the message holds the reply code
 */
export async function exchangeBySocks(
  server: Address,
  destination: Destination,
  data: string | Uint8Array,
): Promise<Uint8Array> {
  using connection = await connectBySocks(server, destination);
  const reply = await readExactly(connection, 10);
  if (reply[1] !== 0) throw new Error(`SOCKS refused with reply ${reply[1]}`);
  return await exchangeOver(connection, data);
}

/**
 * Connects to a SOCKS server and tells it the destination; its reply of ten bytes comes when the
 * destination has answered.
 */
export async function connectBySocks(
  server: Address,
  destination: Destination,
): Promise<Deno.TcpConn | Deno.UnixConn> {
  const connection = await connect(server);
  await writeAll(connection, Uint8Array.of(5, 1, 0));
  const [version, method] = await readExactly(connection, 2);
  if (version !== 5 || method !== 0) throw new Error(`SOCKS answered ${version}, ${method}`);
  const port = [destination.port >> 8, destination.port & 255];
  await writeAll(connection, Uint8Array.of(5, 1, 0, ...encodeHost(destination.host), ...port));
  return connection;
}

function encodeHost(host: string): number[] {
  const octets = host.split(".").map(Number);
  if (octets.length === 4 && octets.every((octet) => octet >= 0 && octet <= 255)) {
    return [1, ...octets];
  }
  return [3, host.length, ...new TextEncoder().encode(host)];
}
