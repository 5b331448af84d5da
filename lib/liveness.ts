/**
 * Whether upstream is alive: a real round trip with a deadline.
 *
 * TCP notices a dead path after minutes or never. Any byte from upstream counts as life; after a
 * silence a keepalive is sent, and if nothing comes for too long the connection is given up.
 */

/** What is watched, and what is done about it. */
export interface LivenessOptions {
  /** How long a silence lasts before it is broken while channels are open, in milliseconds. */
  intervalMs: number;
  /** How many such silences in a row mean death. */
  count: number;
  /** When the last byte came, by `performance.now()`. */
  lastByteAt(): number;
  isBusy(): boolean;
  /** Sends a keepalive; `onReply` is called when it is answered. */
  sendKeepalive(onReply: () => void): void;
  /** Called once, when upstream is taken for dead. */
  onDead(reason: string): void;
}

const tickMs = 1000;
/** With nothing open, silences are broken less often. */
const idleFactor = 3;
const wakeUpDeadlineMs = 3000;

/** Watches one connection until `stop`. */
export class Liveness {
  readonly #options: LivenessOptions;
  readonly #timer: ReturnType<typeof setInterval>;
  #probe: { sentAt: number; deadlineMs: number } | undefined;
  #roundTripMs: number | undefined;

  constructor(options: LivenessOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#tick(), tickMs);
  }

  /** The smoothed round trip to upstream's SSH server, once one was measured. */
  get roundTripMs(): number | undefined {
    return this.#roundTripMs;
  }

  /** Asks for a sign of life that has to come at once, for instance after a sleep. */
  probe(): void {
    this.#sendProbe(wakeUpDeadlineMs);
  }

  /** May be called twice. */
  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const { intervalMs, count, lastByteAt, isBusy } = this.#options;
    const now = performance.now();
    const silentMs = now - lastByteAt();
    const probe = this.#probe;
    if (probe === undefined) {
      if (silentMs < (isBusy() ? intervalMs : intervalMs * idleFactor)) return;
      this.#sendProbe(intervalMs * (count - 1));
    } else if (now - probe.sentAt >= probe.deadlineMs && silentMs >= probe.deadlineMs) {
      this.stop();
      this.#options.onDead(`no answer for ${Math.round(silentMs / 1000)} s`);
    }
  }

  #sendProbe(deadlineMs: number): void {
    const probe = { sentAt: performance.now(), deadlineMs };
    this.#probe = probe;
    this.#options.sendKeepalive(() => {
      const roundTripMs = performance.now() - probe.sentAt;
      this.#roundTripMs = this.#roundTripMs === undefined
        ? roundTripMs
        : 0.75 * this.#roundTripMs + 0.25 * roundTripMs;
      if (this.#probe === probe) this.#probe = undefined;
    });
  }
}
