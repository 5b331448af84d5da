/**
 * A connection to the remote host that is ready: it is watched, the relay has what comes from it,
 * and it ends once, whatever ends it.
 */

import { DisconnectReason } from "./errors.ts";
import { Liveness, type LivenessOptions } from "./liveness.ts";
import { logger } from "./log.ts";
import { isServerKeepalive } from "./server_keepalives.ts";
import type { RoundTripStatus } from "./status.ts";
import type { ConnectionEnd, StartableTransport, UpstreamReceiver } from "./transport.ts";

const log = logger("upstream");

/** How a ready connection is kept, and whom its end is told. */
export interface ReadyConnectionOptions {
  /** For the log. */
  name: string;
  keepalive: Pick<LivenessOptions, "intervalMs" | "count">;
  /** Whether anything is open on it. */
  isBusy(): boolean;
  /** Whether it is not read at the moment. */
  isPaused(): boolean;
  sendKeepalive: LivenessOptions["sendKeepalive"];
  /** The server asks for a sign of life. */
  onServerKeepalive?(): void;
  /** The reason where it is given up because it has been silent. */
  silenceError(description: string): Error;
  /** The reason where we have ended it with DISCONNECT. */
  disconnectError(description: string): Error;
  /** Called once, with what came first. */
  onEnd(end: ConnectionEnd): void;
}

/** A connection from the moment in which the server has let us in. */
export class ReadyConnection {
  readonly transport: StartableTransport;
  readonly #options: ReadyConnectionOptions;
  readonly #liveness: Liveness;
  #hasEnded = false;

  constructor(transport: StartableTransport, options: ReadyConnectionOptions) {
    this.transport = transport;
    this.#options = options;
    const { keepalive, isBusy, isPaused, sendKeepalive } = options;
    this.#liveness = new Liveness({
      ...keepalive,
      // What is not read cannot be a sign of life.
      lastByteAt: () => isPaused() ? performance.now() : transport.lastByteAt,
      isBusy,
      sendKeepalive,
      onDead: (description) => {
        transport.abort();
        this.end({ reason: options.silenceError(description), endedBy: "network" });
      },
    });
  }

  /** Gives the relay what comes; called in the turn in which the connection is ready. */
  start({ receive, unimplemented, drained }: UpstreamReceiver): void {
    const { onServerKeepalive } = this.#options;
    const onPayload = onServerKeepalive === undefined ? receive : (payload: Uint8Array) => {
      if (isServerKeepalive(payload)) onServerKeepalive();
      receive(payload);
    };
    this.transport.start({
      onPayload,
      onUnimplemented: unimplemented,
      onDrain: drained,
      onDisconnect: (description) => this.#onDisconnect(description),
    });
  }

  /** Asks for a sign of life that has to come at once. */
  probe(): void {
    this.#liveness.probe();
  }

  /** The last round trip that was measured. */
  get lastRoundTrip(): RoundTripStatus | undefined {
    return this.#liveness.roundTrips.last;
  }

  /**
   * Measures a round trip now; `undefined` where no answer comes, or where the server is not to be
   * sent keepalives.
   */
  async measureRoundTrip(): Promise<RoundTripStatus | undefined> {
    if (this.#options.keepalive.intervalMs === 0) return undefined;
    return await this.#liveness.roundTrips.measure();
  }

  /** Ends it with a word to the server. May be called twice. */
  disconnect(description: string): void {
    this.transport.disconnect(DisconnectReason.byApplication, description);
    this.#onDisconnect(description);
  }

  /** It has ended. What is said after the first time does not count. */
  end(end: ConnectionEnd): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    const { smoothedMs: roundTripMs } = this.#liveness.roundTrips;
    this.#liveness.stop();
    if (roundTripMs !== undefined) {
      const { name } = this.#options;
      log.debug("{name}: the round trip took {ms} ms", { name, ms: Math.round(roundTripMs) });
    }
    this.#options.onEnd(end);
  }

  #onDisconnect(description: string): void {
    this.end({ reason: this.#options.disconnectError(description), endedBy: "us" });
  }
}
