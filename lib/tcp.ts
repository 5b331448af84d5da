/** A TCP connection to the first address of a host that answers. */

import { lookup } from "node:dns/promises";
import type { ByteConnection } from "./byte_connection.ts";
import { messageOf, UpstreamLostError } from "./errors.ts";
import type { HostConfig } from "./host_config.ts";
import { logger } from "./log.ts";
import { addressToBind, connectFrom } from "./tcp_bound.ts";

const log = logger("upstream");

/** How long an address may take to answer where nothing else is configured, in milliseconds. */
const defaultTimeoutMs = 30_000;

/**
 * Looks the name up, anew each time, and connects; TCP_NODELAY and SO_KEEPALIVE are set.
 *
 * @throws {UpstreamLostError} where no address answers.
 */
export async function connectTcp(
  config: HostConfig,
  signal: AbortSignal,
): Promise<{ connection: ByteConnection; address: string }> {
  const { hostName, port, addressFamily, connectTimeoutSeconds, connectionAttempts } = config;
  const family = { any: 0, inet: 4, inet6: 6 }[addressFamily];
  const addresses = await lookup(hostName, { all: true, family }).catch((cause) => {
    throw new UpstreamLostError(
      `Cannot find the address of ${hostName}. Check the name, and that this machine is online.`,
      { cause },
    );
  });
  const timeoutMs = connectTimeoutSeconds ? connectTimeoutSeconds * 1000 : defaultTimeoutMs;
  let lastError: unknown;
  for (let attempt = 0; attempt < connectionAttempts; attempt++) {
    for (const { address, family } of addresses) {
      try {
        const local = await addressToBind(config, family as 4 | 6);
        const target = {
          hostname: address,
          port,
          signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
        };
        if (local !== undefined) return { connection: await connectFrom(local, target), address };
        const connection = await Deno.connect(target);
        connection.setNoDelay(true);
        connection.setKeepAlive(true);
        return { connection, address };
      } catch (error) {
        signal.throwIfAborted();
        log.debug("{address} port {port} cannot be reached: {error}", { address, port, error });
        lastError = error;
      }
    }
  }
  throw new UpstreamLostError(
    `Cannot connect to ${hostName}:${port}: ${explain(lastError, timeoutMs)}`,
    { cause: lastError },
  );
}

/** What went wrong and what may help. */
function explain(error: unknown, timeoutMs: number): string {
  if (error instanceof Deno.errors.ConnectionRefused) {
    return "the connection was refused. Check the port, and that an SSH server runs there.";
  }
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return `no answer within ${timeoutMs / 1000} s. Check the address and any firewall.`;
  }
  const reason = error === undefined ? "it has no address" : messageOf(error);
  return `${reason}. Check the network.`;
}
