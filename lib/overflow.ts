/**
 * Further connections to upstream, for sessions beyond the number that it allows on one.
 *
 * They are made only where authentication needs nobody, carry sessions and what those open, and are
 * closed when they have not been used for a while.
 */

import type { Connects } from "./connector.ts";
import { DisconnectReason, HostKeyError, UpstreamLostError } from "./errors.ts";
import { RequestQueue } from "./global_requests.ts";
import type { Session } from "./handshake.ts";
import { logger } from "./log.ts";
import { ReadyConnection, type ReadyConnectionOptions } from "./ready_connection.ts";
import type { Relay } from "./relay.ts";
import { escapeControls } from "./shown_text.ts";
import type { ExchangeStatus, OverflowStatus } from "./status.ts";
import type {
  ConnectionEnd,
  Peer,
  Schedule,
  StartableTransport,
  UpstreamReceiver,
} from "./transport.ts";
import { MessageType } from "./wire.ts";

const log = logger("overflow");

const defaultPauseMs = 10_000;
const defaultUnusedMs = 60_000;
/** How often it is looked at whether a connection is used, in milliseconds. */
const checkMs = 5000;

/** What further connections are made of. */
export interface OverflowOptions {
  connector: Connects;
  relay: Relay;
  /** How many further connections there may be. */
  maximum: number;
  keepalive: ReadyConnectionOptions["keepalive"];
  /** Ends the pause after an attempt that came to nothing. */
  schedule: Schedule;
  /** How long a connection may be unused, in milliseconds; 60 s by default. */
  unusedMs?: number;
  /** How long that pause is, in milliseconds; 10 s by default. */
  pauseMs?: number;
}

interface Connection {
  ready: ReadyConnection;
  /** In milliseconds since 1970. */
  since: number;
  exchange: ExchangeStatus | undefined;
  /** Whether upstream has opened a session on it. */
  isProven: boolean;
  unusedSince: number | undefined;
}

/** Whether a further connection may be made. */
type State =
  | { kind: "idle" }
  /** `wasDropped`: meanwhile a connection has ended that nobody could use yet. */
  | { kind: "connecting"; attempt: AbortController; wasDropped: boolean }
  /** An attempt came to nothing: the next one is made when the pause ends. */
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

  /** The connections that there are. */
  describe(): OverflowStatus {
    const { maximum, relay } = this.#options;
    return {
      maximum,
      connections: [...this.#connections].map(({ ready, since, exchange }) => ({
        since: new Date(since).toISOString(),
        channels: relay.countOn(ready.transport),
        exchange: exchange ?? null,
        roundTrip: ready.lastRoundTrip ?? null,
      })),
    };
  }

  /** A session waits: makes one more connection, if one may be made now. */
  async grow(): Promise<void> {
    const { relay, maximum } = this.#options;
    const state = this.#state;
    const login = relay.upstream;
    const mayConnect = state.kind === "idle" || (state.kind === "refused" && state.login !== login);
    if (!mayConnect || this.#connections.size >= maximum) return;
    const attempt = new AbortController();
    const connecting = { kind: "connecting" as const, attempt, wasDropped: false };
    this.#state = connecting;
    try {
      await this.#connect(attempt.signal);
      if (attempt.signal.aborted) return;
      if (connecting.wasDropped) this.#pause();
      else this.#growIfCrowded();
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
    for (const connection of this.#connections) {
      this.#dismiss(connection, "sshshim has been stopped");
    }
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
      onReady: (transport, { verdict, ...session }) => {
        isTrusted = verdict === "trusted";
        if (signal.aborted) {
          transport.disconnect(DisconnectReason.byApplication, "sshshim has been stopped");
        } else if (isTrusted) {
          connection = this.#onReady(transport, session);
        } else {
          transport.disconnect(DisconnectReason.byApplication, "the host key is not trusted");
        }
      },
      onLost: (end) => connection?.ready.end(end),
    });
    if (!isTrusted) throw new HostKeyError(`The host key of ${connector.name} is not trusted.`);
  }

  /** @param login the first connection at the time of the attempt. */
  #onFailure(error: unknown, login: Peer | undefined): void {
    const { connector: { name } } = this.#options;
    if (error instanceof UpstreamLostError) {
      log.info("no further connection to {name}: {error}", { name, error });
      this.#pause();
    } else {
      // Servers ban whoever fails to log in again and again.
      log.warn("no further connection to {name} before the next login, or SIGUSR2: {error}", {
        name,
        error,
      });
      this.#state = { kind: "refused", login };
    }
  }

  #pause(): void {
    const { schedule, pauseMs = defaultPauseMs } = this.#options;
    this.#state = { kind: "pausing", cancel: schedule(pauseMs, () => this.#growIfCrowded()) };
  }

  #onReady(
    transport: StartableTransport,
    { exchange, carried, onServerKeepalive }: Omit<Session, "verdict">,
  ): Connection {
    const { relay, connector: { name }, keepalive } = this.#options;
    const requests = new RequestQueue();
    const asError = (description: string) => new Error(description);
    const ready = new ReadyConnection(transport, {
      ...{ name, keepalive, onServerKeepalive },
      isBusy: () => relay.countOn(transport) > 0,
      isPaused: () => carried !== undefined || relay.isPaused(transport),
      sendKeepalive: (onReply) => requests.sendKeepalive(onReply),
      silenceError: asError,
      disconnectError: asError,
      onEnd: (end) => this.#onEnd(connection, end),
    });
    const connection: Connection = {
      ...{ ready, since: Date.now(), exchange },
      ...{ isProven: false, unusedSince: undefined },
    };
    this.#connections.add(connection);
    this.#timer ??= setInterval(() => this.#dismissUnused(), checkMs);
    ready.start(watchingOpens(relay.attachOverflow(transport, requests), connection));
    log.info("further connection {number} to {name}", { number: this.#connections.size, name });
    return connection;
  }

  #onEnd(connection: Connection, { reason }: ConnectionEnd): void {
    const { relay } = this.#options;
    const wasDropped = this.#connections.delete(connection) && !connection.isProven;
    // Before its sessions wait again, and want another connection.
    if (wasDropped) this.#onDropped(reason);
    relay.detachOverflow(
      connection.ready.transport,
      escapeControls(`connection lost: ${reason.message}`),
    );
    if (this.#connections.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Upstream let us in and opened nothing: the next attempt may fare alike. */
  #onDropped(reason: Error): void {
    const { connector: { name } } = this.#options;
    log.info("further connection to {name} ended before it was used: {reason}", { name, reason });
    if (this.#state.kind === "connecting") this.#state.wasDropped = true;
    else if (this.#state.kind === "idle") this.#pause();
  }

  #dismissUnused(): void {
    const { unusedMs = defaultUnusedMs, relay } = this.#options;
    const now = performance.now();
    for (const connection of this.#connections) {
      const isUsed = relay.countOn(connection.ready.transport) > 0;
      if (isUsed) connection.unusedSince = undefined;
      else connection.unusedSince ??= now;
      if (connection.unusedSince !== undefined && now - connection.unusedSince >= unusedMs) {
        this.#dismiss(connection, "not used any more");
      }
    }
  }

  #dismiss(connection: Connection, description: string): void {
    this.#connections.delete(connection);
    connection.ready.disconnect(description);
  }
}

/** A receiver that notes on `connection` whether upstream opens what it is asked for. */
function watchingOpens(receiver: UpstreamReceiver, connection: Connection): UpstreamReceiver {
  return {
    ...receiver,
    receive: (payload) => {
      connection.isProven ||= payload[0] === MessageType.channelOpenConfirmation;
      receiver.receive(payload);
    },
  };
}
