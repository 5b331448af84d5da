/** BindAddress and BindInterface of ssh_config(5): the address of this machine to connect from. */

import { lookup } from "node:dns/promises";
import { connect } from "node:net";
import { type ByteConnection, connectionOf } from "./byte_connection.ts";
import type { HostConfig } from "./host_config.ts";

/**
 * The address to connect from to one of a family; `undefined` for any.
 *
 * @throws {Error} where there is none of that family.
 */
export async function addressToBind(
  { bindAddress, bindInterface }: Pick<HostConfig, "bindAddress" | "bindInterface">,
  family: 4 | 6,
): Promise<string | undefined> {
  if (bindAddress !== undefined) {
    try {
      return (await lookup(bindAddress, { family })).address;
    } catch (cause) {
      throw new Error(`BindAddress ${bindAddress} is no address for IPv${family}`, { cause });
    }
  }
  if (bindInterface === undefined) return undefined;
  const found = Deno.networkInterfaces()
    .filter((it) => it.name === bindInterface && it.family === `IPv${family}`)
    .map(({ address }) => address);
  const address = found.find((it) => !isLocal(it)) ?? found[0];
  if (address !== undefined) return address;
  throw new Error(`BindInterface ${bindInterface} has no address for IPv${family}`);
}

/** As with ssh, such an address of an interface is taken where it has no other. */
function isLocal(address: string): boolean {
  return /^127\.|^::1$|^fe[89ab]/i.test(address);
}

/** Connects from an address; TCP_NODELAY and SO_KEEPALIVE are set. */
export async function connectFrom(
  localAddress: string,
  { hostname, port, signal }: { hostname: string; port: number; signal: AbortSignal },
): Promise<ByteConnection> {
  signal.throwIfAborted();
  const socket = connect({ host: hostname, port, localAddress, autoSelectFamily: false });
  const connected = Promise.withResolvers<void>();
  const abort = () => connected.reject(signal.reason);
  signal.addEventListener("abort", abort);
  socket.once("connect", () => connected.resolve());
  // Once it is connected, whoever reads is told.
  socket.on("error", (error) => connected.reject(error));
  try {
    await connected.promise;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
  socket.setNoDelay(true);
  socket.setKeepAlive(true);
  return connectionOf(socket);
}
