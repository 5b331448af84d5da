/** One attempt to reach upstream: address, connection, handshake. */

import { lookup } from "node:dns/promises";
import { Authentication, type LoadedCredential } from "./authentication.ts";
import { UpstreamLostError } from "./errors.ts";
import { handshake, type HostTrust } from "./handshake.ts";
import { logger } from "./log.ts";
import { ByteSocket } from "./socket.ts";
import type { Ssh2Transport } from "./transport.ts";

const log = logger("upstream");

/** Where upstream is, and how it is entered. */
export interface Destination {
  host: string;
  port: number;
  username: string;
  credential: LoadedCredential;
  trust: HostTrust;
}

/** Whom an attempt tells of its success, and of the end after it. */
export interface ConnectionHandlers {
  signal: AbortSignal;
  onReady(transport: Ssh2Transport): void;
  onLost(reason: Error): void;
}

/** How long each address of the host may take to answer, in milliseconds. */
const connectTimeoutMs = 30_000;

/** Makes connections to one destination; the name is looked up anew for each. */
export class Connector {
  readonly #destination: Destination;

  constructor(destination: Destination) {
    this.#destination = destination;
  }

  /** `user@host:port`, for people. */
  get name(): string {
    const { username, host, port } = this.#destination;
    return `${username}@${host.includes(":") ? `[${host}]` : host}:${port}`;
  }

  /**
   * Connects, verifies the host and authenticates.
   *
   * @throws {UpstreamLostError} where the host cannot be reached.
   * @throws {NegotiationError} where no algorithm is common.
   * @throws {HostKeyError} where its key is not trusted; no credential was sent.
   * @throws {AuthenticationError} where it refuses the credential.
   */
  async connect({ signal, onReady, onLost }: ConnectionHandlers): Promise<void> {
    const { username, credential, trust } = this.#destination;
    const socket = new ByteSocket(await openConnection(this.#destination, signal), {
      role: "client",
    });
    const abort = () => socket.destroy();
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    try {
      await handshake(socket, {
        name: this.name,
        username,
        authentication: new Authentication(username, credential),
        trust,
        onReady,
        onLost,
      });
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }
}

/** Opens a TCP connection to the first address of the host that answers. */
async function openConnection(
  { host, port }: Destination,
  signal: AbortSignal,
): Promise<Deno.TcpConn> {
  const where = `${host}:${port}`;
  let addresses: string[];
  try {
    addresses = (await lookup(host, { all: true })).map(({ address }) => address);
  } catch (cause) {
    throw new UpstreamLostError(
      `Cannot find the address of ${host}. Check the name, and that this machine is online.`,
      { cause },
    );
  }
  let lastError: unknown;
  for (const hostname of addresses) {
    try {
      const connection = await Deno.connect({
        hostname,
        port,
        signal: AbortSignal.any([signal, AbortSignal.timeout(connectTimeoutMs)]),
      });
      connection.setNoDelay(true);
      return connection;
    } catch (error) {
      log.debug("{hostname}:{port} cannot be reached: {error}", { hostname, port, error });
      lastError = error;
      if (signal.aborted) break;
    }
  }
  throw new UpstreamLostError(`Cannot connect to ${where}: ${reasonOf(lastError)}`, {
    cause: lastError,
  });
}

/** What went wrong and what may help. */
function reasonOf(error: unknown): string {
  if (error instanceof Deno.errors.ConnectionRefused) {
    return "the connection was refused. Check the port, and that an SSH server runs there.";
  }
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return `no answer within ${connectTimeoutMs / 1000} s. Check the address and any firewall.`;
  }
  return `${(error as Error)?.message ?? "it has no address"}. Check the network.`;
}
