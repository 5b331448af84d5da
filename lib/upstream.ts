/**
 * The life of the one connection to the remote host:
 *
 *     connecting → ready → waiting → connecting → …
 *
 * and `asleep` or `stopped` where it is not sought by itself, `closed` at the end. Each state owns
 * its data and its timer; `#transition` is the only place where one follows another. Every
 * attempt is a new generation: its callbacks are bound to the state that it made, and do nothing in
 * any other.
 */

import { Backoff } from "./backoff.ts";
import type { Connects } from "./connector.ts";
import { DisconnectReason, NobodyToAskError, UpstreamLostError } from "./errors.ts";
import type { Session } from "./handshake.ts";
import { logger } from "./log.ts";
import { Losses, shownReason } from "./losses.ts";
import { ReadyConnection, type ReadyConnectionOptions } from "./ready_connection.ts";
import type { Relay } from "./relay.ts";
import { escapeControls } from "./shown_text.ts";
import { SleepWatch } from "./sleep_watch.ts";
import type {
  AttemptCause,
  AwayStatus,
  HostStatus,
  RoundTripStatus,
  TotalsStatus,
  UpstreamStatus,
} from "./status.ts";
import type { ConnectionEnd, StartableTransport, UpstreamReceiver } from "./transport.ts";
import { followers, type State, type UpstreamState } from "./upstream_state.ts";

const log = logger("upstream");

const defaultProvenMs = 60_000;

/** A client hurries a wait, and a person an attempt, that is longer than this; in milliseconds. */
const hurryMs = 1000;

/** How upstream is kept. */
export interface UpstreamOptions {
  connector: Connects;
  relay: Relay;
  reconnects: boolean;
  maximumDelayMs: number;
  keepalive: ReadyConnectionOptions["keepalive"];
  /** The delays between attempts; by default they double up to `maximumDelayMs`. */
  backoff?: Pick<Backoff, "next" | "reset">;
  /** How long a connection has to live to end the series of failures; 60 s by default. */
  provenMs?: number;
  /** Told of each new state; it must not throw. */
  onState?(state: UpstreamState): void;
  /** Called once a second, whatever the state; it must not throw. */
  onTick?(): void;
}

/** What is told of the connection, beside what the relay knows of it. */
export type UpstreamOwnStatus =
  & Omit<UpstreamStatus, "sessions">
  & Pick<HostStatus, "address">
  & Pick<TotalsStatus, "reconnections">;

/** The connection to the remote host. */
export class Upstream {
  readonly #options: UpstreamOptions;
  readonly #backoff: Pick<Backoff, "next" | "reset">;
  readonly #sleepWatch = new SleepWatch({
    onWake: () => this.#onWake(),
    onTick: () => this.#options.onTick?.(),
  });
  readonly #lost = Promise.withResolvers<Error>();
  readonly #losses = new Losses(Date.now);
  #state: State = { kind: "idle" };
  /** Since when, in milliseconds since 1970. */
  #stateSince = Date.now();
  /** Where it was reached last. */
  #address: string | undefined;
  #hasBeenReady = false;
  /** Whether the last connection had lived long, and nothing has been tried since. */
  #isProven = false;
  /** Why upstream is away, in a line for people. */
  #awayWords = "";

  constructor(options: UpstreamOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? new Backoff(options.maximumDelayMs);
  }

  /** `user@host:port`, for people. */
  get name(): string {
    return this.#options.connector.name;
  }

  /** Whether the first client waits for the first log-in, for which a person may be asked. */
  get isFirstLogin(): boolean {
    return this.#state.kind === "connecting" && !this.#hasBeenReady;
  }

  /** Where it stands, and how it has been. */
  describe(): UpstreamOwnStatus {
    const state = this.#state;
    const isReady = state.kind === "ready";
    return {
      state: state.kind,
      since: new Date(this.#stateSince).toISOString(),
      nextAttempt: state.kind === "waiting" ? instantOf(state.retryAt) : null,
      reason: "reason" in state ? shownReason(state.reason) : null,
      away: isReady ? awayOf(state.session) : null,
      address: this.#address ?? null,
      exchange: isReady ? state.session.exchange ?? null : null,
      roundTrip: isReady ? state.connection.lastRoundTrip ?? null : null,
      losses: this.#losses.describe(),
      reconnections: this.#losses.reconnections,
    };
  }

  /** Measures how far the host is away; `undefined` where it is not there, or does not answer. */
  async measureRoundTrip(): Promise<RoundTripStatus | undefined> {
    const state = this.#state;
    if (state.kind !== "ready" || state.session.carried?.away) return undefined;
    return await state.connection.measureRoundTrip();
  }

  /** Resolves with the reason when the connection is gone and is not to come back. */
  get whenLost(): Promise<Error> {
    return this.#lost.promise;
  }

  /**
   * The first attempt.
   *
   * @throws what the connector throws: nothing is tried again before it has worked once.
   */
  async start(): Promise<void> {
    await this.#connect({ mayAsk: true, isAttended: true, cause: "person" });
  }

  /** In place of `start`: the first attempt is made when a client wants something. */
  awaitClient(): void {
    this.#transition({ kind: "asleep", reason: new Error("no client has come yet") });
  }

  /** A client wants something: a long wait is cut short, and a first one. */
  hurry(): void {
    const state = this.#state;
    if (state.kind === "asleep") void this.#reconnect({ mayAsk: true, cause: "client" });
    if (state.kind !== "waiting") return;
    if (state.isFirst || state.retryAt - performance.now() > hurryMs) {
      void this.#reconnect({ mayAsk: false, cause: "client" });
    }
  }

  /** A person wants the connection tried now. */
  retry(): void {
    const state = this.#state;
    if (state.kind === "ready" && state.session.carried) state.session.carried.retry();
    else if (state.kind === "ready") state.connection.probe();
    else if (state.kind === "waiting" || state.kind === "asleep" || state.kind === "stopped") {
      this.#backoff.reset();
      void this.#reconnect({ mayAsk: state.kind !== "waiting", cause: "person" });
    } else if (state.kind === "connecting" && !state.mayAsk) {
      if (performance.now() - state.since <= hurryMs) return;
      // It hangs, perhaps on a path that is no more: its failure begins a new series.
      this.#backoff.reset();
      state.attempt.abort(new UpstreamLostError(`${this.name} did not answer yet`));
    }
  }

  /**
   * A person wants a new connection, whatever the one is like that there is.
   *
   * @throws {Error} where the loss of the connection would be the end.
   */
  reconnect(): void {
    const state = this.#state;
    if (state.kind === "ready") {
      if (!this.#options.reconnects) {
        throw new Error("The connection is not given up: with --no-reconnect that is the end.");
      }
      const reason = new UpstreamLostError(`${this.name}: a new connection is wanted`);
      state.connection.end({ reason, endedBy: "us" });
      state.connection.transport.disconnect(DisconnectReason.byApplication, reason.message);
    }
    this.retry();
  }

  /** Ends the connection for good. May be called twice. */
  close(): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    this.#sleepWatch.stop();
    this.#transition({ kind: "closed" });
    if (state.kind === "connecting") state.attempt.abort();
    if (state.kind === "ready") state.connection.disconnect("sshshim has been stopped");
  }

  async #connect(
    { mayAsk, isAttended = false, cause }: {
      mayAsk: boolean;
      isAttended?: boolean;
      cause: AttemptCause;
    },
  ): Promise<void> {
    const attempt = new AbortController();
    const since = performance.now();
    const connecting: State = { kind: "connecting", attempt, mayAsk, since };
    this.#isProven = false;
    this.#transition(connecting);
    this.#losses.onAttempt();
    let connection: ReadyConnection | undefined;
    let presumed: UpstreamReceiver | undefined;
    await this.#options.connector.connect({
      signal: attempt.signal,
      mayAsk,
      isAttended,
      onPresumed: (transport, session) => {
        if (this.#state === connecting) presumed = this.#attach(transport, session);
      },
      onRefuted: () => {
        const isOurs = presumed && this.#state === connecting;
        if (isOurs) this.#options.relay.detachUpstream(this.#awayWords);
        presumed = undefined;
      },
      onReady: (transport, session) => {
        if (this.#state === connecting) {
          this.#losses.onReady(cause);
          connection = this.#onReady(transport, session, presumed);
        } else transport.disconnect(DisconnectReason.byApplication, "sshshim has been stopped");
      },
      onLost: (end) => connection?.end(end),
    });
  }

  #onWake(): void {
    log.info("the machine has slept");
    const { kind } = this.#state;
    if (kind === "ready" && this.#state.session.carried) this.#state.session.carried.probe();
    else if (kind === "ready" || kind === "waiting" || kind === "connecting") this.retry();
  }

  /** One more attempt; its failure decides what is done next. */
  async #reconnect(
    { mayAsk, cause }: { mayAsk: boolean; cause: AttemptCause },
  ): Promise<void> {
    this.#options.relay.awaitUpstream();
    try {
      await this.#connect({ mayAsk, cause });
    } catch (error) {
      if (this.#state.kind !== "connecting") return;
      if (error instanceof NobodyToAskError && !mayAsk && this.#options.relay.isWanted) {
        // It was tried in silence, and somebody waits: that is worth a question.
        this.#transition({ kind: "asleep", reason: error });
        return this.#reconnect({ mayAsk: true, cause });
      }
      this.#onFailure(error as Error);
    }
  }

  /** What waits for upstream is sent. */
  #attach(transport: StartableTransport, { verdict, onHostKeys }: Session): UpstreamReceiver {
    const allowsForwards = verdict === "trusted";
    return this.#options.relay.attachUpstream(transport, { allowsForwards, onHostKeys });
  }

  /** @param receiver where it is attached already. */
  #onReady(
    transport: StartableTransport,
    session: Session,
    receiver?: UpstreamReceiver,
  ): ReadyConnection {
    const { relay, keepalive, provenMs = defaultProvenMs } = this.#options;
    const connection = new ReadyConnection(transport, {
      ...{ name: this.name, keepalive, onServerKeepalive: session.onServerKeepalive },
      isBusy: () => relay.channelCount > 0,
      // What carries it is watched itself.
      isPaused: () => session.carried !== undefined || relay.isPaused(transport),
      sendKeepalive: (onReply) => relay.sendKeepalive(onReply),
      silenceError: (description) => new UpstreamLostError(`${this.name}: ${description}`),
      disconnectError: (description) =>
        new UpstreamLostError(`${this.name} broke the protocol: ${description}`),
      onEnd: (end) => {
        // Otherwise we are closed.
        if (this.#state === ready) this.#onLost(end);
      },
    });
    const provenTimer = setTimeout(() => {
      this.#backoff.reset();
      this.#isProven = true;
    }, provenMs);
    const ready: State = { kind: "ready", connection, session, provenTimer };
    this.#address = session.address;
    this.#hasBeenReady = true;
    this.#transition(ready);
    session.carried?.watch(() => {
      if (this.#state !== ready) return;
      this.#options.onState?.({ kind: "ready", away: session.carried?.away });
    });
    connection.start(receiver ?? this.#attach(transport, session));
    const { name } = this;
    log.info("connected to {name}", { name });
    if (keepalive.intervalMs === 0) {
      log.info("no keepalives: only traffic and TCP show whether {name} is still there", { name });
    }
    return connection;
  }

  #onLost(end: ConnectionEnd): void {
    const { reason, endedBy } = end;
    this.#losses.onLost(end);
    const { relay, reconnects } = this.#options;
    const wasUnused = relay.channelCount === 0 && relay.forwardCount === 0;
    log.warn("connection lost: {reason}", { reason });
    // Upstream's own words may be among it, and it is for terminals.
    const byServer = endedBy === "server";
    this.#awayWords = escapeControls(`connection lost: ${reason.message}`);
    const hasServed = relay.detachUpstream(this.#awayWords, { byServer });
    // Some servers end it after each session: those that wait need not wait longer each time.
    if (hasServed && byServer) this.#backoff.reset();
    if (!reconnects) {
      this.#transition({ kind: "stopped", reason });
      this.#lost.resolve(reason);
    } else if (wasUnused && byServer) {
      // The server has closed a connection that nobody used: it would do so again.
      this.#sleep(reason);
    } else {
      this.#onFailure(reason);
    }
  }

  #onFailure(reason: Error): void {
    const isFirst = !this.#hasBeenReady && reason instanceof UpstreamLostError;
    if (isFirst || reason instanceof NobodyToAskError) {
      // Who waits now is told at once; the next client may find somebody at the terminal.
      this.#options.relay.refuseOpens(escapeControls(reason.message));
      this.#options.relay.awaitUpstream();
      this.#sleep(reason);
    } else if (reason instanceof UpstreamLostError) {
      const delayMs = this.#backoff.next();
      const timer = setTimeout(
        () => void this.#reconnect({ mayAsk: false, cause: "timer" }),
        delayMs,
      );
      const [retryAt, isFirst] = [performance.now() + delayMs, this.#isProven];
      this.#transition({ kind: "waiting", reason, retryAt, isFirst, timer });
      log.info("{reason}; trying again in {seconds} s", {
        reason: reason.message.replace(/\.$/, ""),
        seconds: (delayMs / 1000).toFixed(1),
      });
      if (isFirst && this.#options.relay.isWanted) this.hurry();
    } else {
      this.#transition({ kind: "stopped", reason });
      log.error("{reason} Not tried again; send SIGUSR2 to try once more.", {
        reason: reason.message,
      });
      this.#options.relay.refuseOpens(escapeControls(reason.message));
    }
  }

  #sleep(reason: Error): void {
    this.#transition({ kind: "asleep", reason });
    log.info("{reason}; the next client wakes the connection", {
      reason: reason.message.replace(/\.$/, ""),
    });
  }

  #transition(next: Exclude<State, { kind: "idle" }>): void {
    const previous = this.#state;
    if (!followers[previous.kind].includes(next.kind)) {
      throw new Error(`no way from ${previous.kind} to ${next.kind}`);
    }
    if (previous.kind === "waiting") clearTimeout(previous.timer);
    if (previous.kind === "ready") clearTimeout(previous.provenTimer);
    this.#state = next;
    this.#stateSince = Date.now();
    log.debug("{name}: {from} → {to}", { name: this.name, from: previous.kind, to: next.kind });
    this.#options.onState?.(
      "reason" in next ? { kind: next.kind, reason: next.reason } : { kind: next.kind },
    );
  }
}

function awayOf({ carried }: Session): AwayStatus | null {
  if (carried?.away === undefined) return null;
  const { since, reason } = carried.away;
  return { since: new Date(since).toISOString(), reason: shownReason(reason) };
}

/** A time by `performance.now()` as an instant. */
function instantOf(time: number): string {
  return new Date(Date.now() + time - performance.now()).toISOString();
}
