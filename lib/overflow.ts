/**
 * Further connections to upstream, for sessions beyond the number that it allows on one.
 *
 * They are made only where authentication needs nobody, carry sessions and what those open, and are closed
 * when they have not been used for a while.
 */

import type { ConnectionHandlers } from "./connector.ts";
import { DisconnectReason, HostKeyError, UpstreamLostError } from "./errors.ts";
import { RequestQueue } from "./global_requests.ts";
import { Liveness, type LivenessOptions } from "./liveness.ts";
import { escapeControls, logger } from "./log.ts";
import type { Relay } from "./relay.ts";
import type { Peer, Schedule, StartableTransport } from "./transport.ts";

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
  /** Ends the pause after an attempt that the network failed. */
  schedule: Schedule;
  /** How long a connection may be unused, in milliseconds; 60 s by default. */
  unusedMs?: number;
  /** How often that is looked at, in milliseconds; 5 s by default. */
  checkMs?: number;
  /** How long that pause is, in milliseconds; 10 s by default. */
  pauseMs?: number;
}

interface Connection {
  transport: StartableTransport;
  liveness: Liveness;
  unusedSince: number | undefined;
}

/** Whether a further connection may be made. */
type State =
  | { kind: "idle" }
  | { kind: "connecting"; attempt: AbortController }
  /** The network failed an attempt: the next one is made when the pause ends. */
  | { kind: "pausing"; cancel(): void }
  /** Another attempt would fail alike, as long as nobody has logged in anew after `login`. */
  | { kind: "refused"; login: Peer | undefined }
  | { kind: "closed" };

/** Makes further connections as they are needed, until `close`. */
export class Overflow {
  readonly #options: OverflowOptions;
  readonly #connections = new Set<Connection>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #state: State = { kind: "idle" };

  constructor(options: OverflowOptions) {
    this.#options = options;
  }

  /** A session waits: makes one more connection, if one may be made now. */
  async grow(): Promise<void> {
    const { relay, maximum } = this.#options;
    const state = this.#state;
    const login = relay.upstream;
    const mayConnect = state.kind === "idle" || (state.kind === "refused" && state.login !== login);
    if (!mayConnect || this.#connections.size >= maximum) return;
    const attempt = new AbortController();
    this.#state = { kind: "connecting", attempt };
    try {
      await this.#connect(attempt.signal);
      if (!attempt.signal.aborted) this.#growIfCrowded();
    } catch (error) {
      if (!attempt.signal.aborted) this.#onFailure(error, login);
    }
  }

  /** A person wants what has failed tried now. */
  retry(): void {
    const state = this.#state;
    if (state.kind === "pausing") state.cancel();
    if (state.kind === "pausing" || state.kind === "refused") this.#growIfCrowded();
  }

  /** Ends all of them. May be called twice. */
  close(): void {
    const state = this.#state;
    this.#state = { kind: "closed" };
    if (state.kind === "connecting") state.attempt.abort();
    if (state.kind === "pausing") state.cancel();
    clearInterval(this.#timer);
    for (const connection of this.#connections) this.#end(connection, "sshshim has been stopped");
  }

  #growIfCrowded(): void {
    this.#state = { kind: "idle" };
    if (this.#options.relay.isCrowded) void this.grow();
  }

  /** @throws what the connector throws, and HostKeyError for a host that is not trusted. */
  async #connect(signal: AbortSignal): Promise<void> {
    const { connector } = this.#options;
    let connection: Connection | undefined;
    let isTrusted = true;
    await connector.connect({
      signal,
      mayAsk: false,
      onReady: (transport, { verdict }) => {
        isTrusted = verdict === "trusted";
        if (signal.aborted) {
          transport.disconnect(DisconnectReason.byApplication, "sshshim has been stopped");
        } else if (isTrusted) {
          connection = this.#onReady(transport);
        } else {
          transport.disconnect(DisconnectReason.byApplication, "the host key is not trusted");
        }
      },
      onLost: ({ reason }) => connection && this.#onLost(connection, reason),
    });
    if (!isTrusted) throw new HostKeyError(`The host key of ${connector.name} is not trusted.`);
  }

  /** @param login the first connection at the time of the attempt. */
  #onFailure(error: unknown, login: Peer | undefined): void {
    const { connector: { name }, schedule, pauseMs = defaultPauseMs } = this.#options;
    if (error instanceof UpstreamLostError) {
      log.info("no further connection to {name}: {error}", { name, error });
      this.#state = {
        kind: "pausing",
        cancel: schedule(pauseMs, () => this.#growIfCrowded()),
      };
    } else {
      // Servers ban whoever fails to log in again and again.
      log.warn("no further connection to {name} before the next login, or SIGUSR2: {error}", {
        name,
        error,
      });
      this.#state = { kind: "refused", login };
    }
  }

  #onReady(transport: StartableTransport): Connection {
    const { relay, connector, keepalive } = this.#options;
    const requests = new RequestQueue();
    const liveness = new Liveness({
      ...keepalive,
      // What is not read cannot be a sign of life.
      lastByteAt: () => relay.isPaused(transport) ? performance.now() : transport.lastByteAt,
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
