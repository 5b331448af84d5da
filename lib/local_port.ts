/** The port that clients connect to: the one that was asked for, or one that is free. */

import { EndpointError, messageOf } from "./errors.ts";
import { findPortOwner, type PortOwner } from "./port_owner.ts";
import { hostOf } from "./published_config.ts";
import type { LiveName } from "./published_files.ts";

/** Where nobody says otherwise. */
const usualPort = 2222;

/**
 * Listens at a port; 0 takes a free one. Without one it is the default, or a free one where another
 * shim has that.
 *
 * @param others the shims that run; their names lead to them, whatever their ports are
 * @throws {EndpointError} where the port cannot be used.
 */
export async function listen(
  { hostname, port, defaultPort = usualPort }: {
    hostname: string;
    port: number | undefined;
    defaultPort?: number;
  },
  others: readonly LiveName[],
): Promise<Deno.TcpListener> {
  const wanted = port ?? defaultPort;
  try {
    return Deno.listen({ hostname, port: wanted });
  } catch (cause) {
    const isTaken = cause instanceof Deno.errors.AddrInUse;
    const other = isTaken ? others.find((other) => other.port === wanted) : undefined;
    if (other !== undefined && port === undefined) {
      return await listen({ hostname, port: 0 }, []);
    }
    const reason = other !== undefined
      ? `the sshshim of ${hostOf(other)} listens there (process ${other.pid})`
      : isTaken
      ? describe(await findPortOwner(wanted))
      : cause instanceof Deno.errors.PermissionDenied
      ? "ports below 1024 need privileges"
      : cause instanceof Deno.errors.AddrNotAvailable
      ? "this machine does not have that address"
      : messageOf(cause);
    const place = hostname.includes(":") ? `[${hostname}]:${wanted}` : `${hostname}:${wanted}`;
    throw new EndpointError(
      `Cannot listen on ${place}: ${reason}. ` +
        `Choose another port with --local-port PORT; --local-port 0 takes a free one.`,
      { cause },
    );
  }
}

function describe(owner: PortOwner | undefined): string {
  if (owner === undefined) return "another program listens there";
  const { program, pid, uid } = owner;
  if (pid !== undefined) return `${program ?? "a program"} listens there (process ${pid})`;
  return uid === Deno.uid()
    ? "another program of yours listens there"
    : `a program of another user, uid ${uid}, listens there`;
}
