/** Those who wait until the connection to the host is there. */

import type { UpstreamStatus } from "./status.ts";

/** What is looked at whenever the state is another one. */
export interface WatchedUpstream {
  describe(): Pick<UpstreamStatus, "state" | "reason">;
  /** Somebody wants something: a connection that sleeps or waits is tried. */
  hurry(): void;
}

/** Told of each state. */
export class StateWatch {
  readonly #onChange = new Set<() => void>();

  /** There is another state. */
  onState(): void {
    for (const onChange of this.#onChange) onChange();
  }

  /**
   * Resolves when the connection is there; whoever waits for it wants it, as a client does.
   *
   * @throws {Error} with the reason where it is not to be, or `signal` is aborted.
   */
  async whenReady(upstream: WatchedUpstream, signal: AbortSignal): Promise<void> {
    if (upstream.describe().state === "stopped") throw notReady(upstream);
    upstream.hurry();
    for (;;) {
      const { state } = upstream.describe();
      if (state === "ready") return;
      if (state === "asleep" || state === "stopped" || state === "closed") throw notReady(upstream);
      await this.#change(signal);
    }
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const end = () => {
        this.#onChange.delete(onChange);
        signal.removeEventListener("abort", onAbort);
      };
      const onChange = () => {
        end();
        resolve();
      };
      const onAbort = () => {
        end();
        reject(signal.reason);
      };
      this.#onChange.add(onChange);
      signal.addEventListener("abort", onAbort);
    });
  }
}

function notReady(upstream: WatchedUpstream): Error {
  const { state, reason } = upstream.describe();
  const words = state === "closed" ? "sshshim has been stopped" : reason ?? "nobody has said why";
  return new Error(`It is not connected: ${words}`);
}
