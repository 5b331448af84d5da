/**
 * The life of the one connection to the remote host:
 *
 *     idle → connecting → ready → closed
 *
 * Each state owns its data; `#transition` is the only place where one follows another.
 */

import { lookup } from "node:dns/promises";
import { Authentication, type LoadedCredential } from "./authentication.ts";
import { DisconnectReason, UpstreamLostError } from "./errors.ts";
import { handshake, type HostTrust } from "./handshake.ts";
import { logger } from "./log.ts";
import type { Relay } from "./relay.ts";
import { ByteSocket } from "./socket.ts";
import type { Ssh2Transport } from "./transport.ts";

const log = logger("upstream");

/** How long each address of the host may take to answer, in milliseconds. */
const connectTimeoutMs = 30_000;

/** Where upstream is, and how it is entered. */
export interface UpstreamOptions {
  host: string;
  port: number;
  username: string;
  credential: LoadedCredential;
  trust: HostTrust;
  relay: Relay;
}

type State =
  | { kind: "idle" }
  | { kind: "connecting"; socket: ByteSocket | undefined }
  | { kind: "ready"; transport: Ssh2Transport }
  | { kind: "closed" };

const followers: Record<State["kind"], readonly State["kind"][]> = {
  idle: ["connecting", "closed"],
  connecting: ["connecting", "ready", "closed"],
  ready: ["closed"],
  closed: [],
};

/** The connection to the remote host, from `connect` to its end. */
export class Upstream {
  readonly #options: UpstreamOptions;
  readonly #lost = Promise.withResolvers<UpstreamLostError>();
  #state: State = { kind: "idle" };

  constructor(options: UpstreamOptions) {
    this.#options = options;
  }

  /** `user@host:port`, for people. */
  get name(): string {
    const { username, host, port } = this.#options;
    return `${username}@${host.includes(":") ? `[${host}]` : host}:${port}`;
  }

  /** Resolves with the reason when a connection that was ready is gone. */
  get whenLost(): Promise<UpstreamLostError> {
    return this.#lost.promise;
  }

  /**
   * Connects, verifies the host and authenticates.
   *
   * @throws {UpstreamLostError} where the host cannot be reached.
   * @throws {HostKeyError} where its key is not trusted; no credential was sent.
   * @throws {AuthenticationError} where it refuses the credential.
   */
  async connect(): Promise<void> {
    this.#transition({ kind: "connecting", socket: undefined });
    const connection = await openConnection(this.#options);
    const socket = new ByteSocket(connection, { role: "client" });
    if (this.#state.kind !== "connecting") {
      socket.destroy();
      throw new UpstreamLostError(`${this.name}: stopped while connecting`);
    }
    this.#transition({ kind: "connecting", socket });
    const { username, credential, trust } = this.#options;
    await handshake(socket, {
      name: this.name,
      username,
      authentication: new Authentication(username, credential),
      trust,
      onReady: (transport) => this.#onReady(transport),
      onLost: (reason) => this.#onLost(reason),
    });
  }

  /** Ends the connection. May be called twice. */
  close(): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    this.#transition({ kind: "closed" });
    if (state.kind === "ready") {
      state.transport.disconnect(DisconnectReason.byApplication, "sshshim has been stopped");
    } else if (state.kind === "connecting") {
      state.socket?.destroy();
    }
  }

  #onReady(transport: Ssh2Transport): void {
    this.#transition({ kind: "ready", transport });
    const receiver = this.#options.relay.attachUpstream(transport);
    transport.start({
      onPayload: receiver.receive,
      onDrain: receiver.drained,
      onDisconnect: (description) => {
        if (this.#state.kind === "closed") return;
        this.#onLost(new UpstreamLostError(`${this.name} broke the protocol: ${description}`));
      },
    });
  }

  #onLost(reason: UpstreamLostError): void {
    if (this.#state.kind !== "ready") return;
    this.#transition({ kind: "closed" });
    this.#options.relay.detachUpstream(`connection lost: ${reason.message}`);
    this.#lost.resolve(reason);
  }

  #transition(next: State): void {
    const from = this.#state.kind;
    if (!followers[from].includes(next.kind)) {
      throw new Error(`no way from ${from} to ${next.kind}`);
    }
    this.#state = next;
    if (next.kind === from) return;
    log.debug("{name}: {from} → {to}", { name: this.name, from, to: next.kind });
  }
}

/** Opens a TCP connection to the first address of the host that answers. */
async function openConnection({ host, port }: UpstreamOptions): Promise<Deno.TcpConn> {
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
      const signal = AbortSignal.timeout(connectTimeoutMs);
      const connection = await Deno.connect({ hostname, port, signal });
      connection.setNoDelay(true);
      return connection;
    } catch (error) {
      log.debug("{hostname}:{port} cannot be reached: {error}", { hostname, port, error });
      lastError = error;
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
