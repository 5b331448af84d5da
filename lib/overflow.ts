/**
 * Further connections to upstream, for sessions beyond the number that it allows on one.
 *
 * They are made only where authentication needs nobody, carry sessions and what those open, and are closed
 * when they have not been used for a while.
 */

import type { ConnectionHandlers } from "./connector.ts";
import { DisconnectReason, UpstreamLostError } from "./errors.ts";
import { RequestQueue } from "./global_requests.ts";
import { Liveness, type LivenessOptions } from "./liveness.ts";
import { escapeControls, logger } from "./log.ts";
import type { Relay } from "./relay.ts";
import type { StartableTransport } from "./transport.ts";

const log = logger("overflow");

const defaultPauseMs = 10_000;
const defaultUnusedMs = 60_000;
const defaultCheckMs = 5000;

/** What further connections are made of. */
export interface OverflowOptions {
  connector: { name: string; connect(handlers: ConnectionHandlers): Promise<void> };
  relay: Relay;
  /** How many further connections there may be. */
  maximum: number;
  keepalive: Pick<LivenessOptions, "intervalMs" | "count">;
  /** How long a connection may be unused, in milliseconds; 60 s by default. */
  unusedMs?: number;
  /** How often that is looked at, in milliseconds; 5 s by default. */
  checkMs?: number;
  /** How long no attempt follows one that the network failed, in milliseconds; 10 s by default. */
  pauseMs?: number;
}

interface Connection {
  transport: StartableTransport;
  liveness: Liveness;
  unusedSince: number | undefined;
}

/** Makes further connections as they are needed, until `close`. */
export class Overflow {
  readonly #options: OverflowOptions;
  readonly #connections = new Set<Connection>();
  readonly #stop = new AbortController();
  #timer: ReturnType<typeof setInterval> | undefined;
  #isConnecting = false;
  /** Whether a session waits that the connection being made has no room for. */
  #isWanted = false;
  #notBefore = 0;

  constructor(options: OverflowOptions) {
    this.#options = options;
  }

  /** A session waits: makes one more connection, if one is allowed. */
  async grow(): Promise<void> {
    if (this.#isConnecting) {
      this.#isWanted = true;
      return;
    }
    const isFull = this.#connections.size >= this.#options.maximum;
    if (isFull || this.#stop.signal.aborted || performance.now() < this.#notBefore) return;
    this.#isConnecting = true;
    this.#isWanted = false;
    await this.#connect();
    this.#isConnecting = false;
    if (this.#isWanted) await this.grow();
  }

  async #connect(): Promise<void> {
    const { connector, pauseMs = defaultPauseMs } = this.#options;
    let connection: Connection | undefined;
    try {
      await connector.connect({
        signal: this.#stop.signal,
        mayAsk: false,
        onReady: (transport, { verdict }) => {
          if (this.#stop.signal.aborted) {
            transport.disconnect(DisconnectReason.byApplication, "sshshim has been stopped");
          } else if (verdict === "trusted") {
            connection = this.#onReady(transport);
          } else {
            transport.disconnect(DisconnectReason.byApplication, "the host key is not trusted");
            this.#notBefore = Infinity;
          }
        },
        onLost: ({ reason }) => connection && this.#onLost(connection, reason),
      });
    } catch (error) {
      log.info("no further connection to {name}: {error}", { name: connector.name, error });
      // Servers ban whoever fails to log in again and again.
      const isPassing = error instanceof UpstreamLostError;
      this.#notBefore = isPassing ? performance.now() + pauseMs : Infinity;
    }
  }

  /** Ends all of them. May be called twice. */
  close(): void {
    this.#stop.abort();
    clearInterval(this.#timer);
    for (const connection of this.#connections) this.#end(connection, "sshshim has been stopped");
  }

  #onReady(transport: StartableTransport): Connection {
    const { relay, connector, keepalive } = this.#options;
    const requests = new RequestQueue();
    const liveness = new Liveness({
      ...keepalive,
      lastByteAt: () => transport.lastByteAt,
      isBusy: () => relay.countOn(transport) > 0,
      sendKeepalive: (onReply) => requests.send("keepalive@openssh.com", new Uint8Array(), onReply),
      onDead: (reason) => {
        transport.abort();
        this.#onLost(connection, new Error(reason));
      },
    });
    const connection: Connection = { transport, liveness, unusedSince: undefined };
    this.#connections.add(connection);
    const { checkMs = defaultCheckMs } = this.#options;
    this.#timer ??= setInterval(() => this.#endUnused(), checkMs);
    this.#isWanted = false;
    const receiver = relay.attachOverflow(transport, requests);
    transport.start({
      onPayload: receiver.receive,
      onDrain: receiver.drained,
      onDisconnect: (description) => this.#onLost(connection, new Error(description)),
    });
    log.info("further connection {number} to {name}", {
      number: this.#connections.size,
      name: connector.name,
    });
    return connection;
  }

  #onLost(connection: Connection, reason: Error): void {
    if (!this.#connections.delete(connection)) return;
    connection.liveness.stop();
    this.#options.relay.detachOverflow(
      connection.transport,
      escapeControls(`connection lost: ${reason.message}`),
    );
    if (this.#connections.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #endUnused(): void {
    const { unusedMs = defaultUnusedMs } = this.#options;
    const now = performance.now();
    for (const connection of this.#connections) {
      const isUsed = this.#options.relay.countOn(connection.transport) > 0;
      if (isUsed) connection.unusedSince = undefined;
      else connection.unusedSince ??= now;
      if (connection.unusedSince !== undefined && now - connection.unusedSince >= unusedMs) {
        this.#end(connection, "not used any more");
      }
    }
  }

  #end(connection: Connection, description: string): void {
    connection.transport.disconnect(DisconnectReason.byApplication, description);
    this.#onLost(connection, new Error(description));
  }
}
