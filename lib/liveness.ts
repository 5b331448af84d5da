/**
 * Whether upstream is alive: a real round trip with a deadline.
 *
 * TCP notices a dead path after minutes or never. Any byte from upstream counts as life; after a
 * silence a keepalive is sent, and if nothing comes for too long the connection is given up. Some
 * servers hang up on a keepalive: without an interval nothing is sent or watched here, and the end is
 * left to traffic and TCP's own keepalives.
 */

import { RoundTrips } from "./round_trips.ts";

/** What is watched, and what is done about it. */
export interface LivenessOptions {
  /** How long a silence lasts before it is broken while channels are open, in ms; 0: for ever. */
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

/** Whether anything is open is asked this often. */
const longestTickMs = 1000;
/** With nothing open, silences are broken less often. */
const idleFactor = 3;
/** How soon `probe` wants its sign of life, in milliseconds. */
const wakeUpDeadlineMs = 3000;

/** Watches one connection until `stop`. */
export class Liveness {
  readonly #options: LivenessOptions;
  readonly roundTrips: RoundTrips;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #probe: { sentAt: number; deadlineMs: number } | undefined;
  #isStopped = false;

  constructor(options: LivenessOptions) {
    this.#options = options;
    this.roundTrips = new RoundTrips(options.sendKeepalive);
    this.#schedule();
  }

  /** Asks for a sign of life that has to come at once, for instance after a sleep. */
  probe(): void {
    if (this.#options.intervalMs === 0) return;
    this.#sendProbe(wakeUpDeadlineMs);
    this.#schedule();
  }

  /** May be called twice. */
  stop(): void {
    this.#isStopped = true;
    this.roundTrips.stop();
    clearTimeout(this.#timer);
  }

  /** When the silence has lasted too long, by `performance.now()`. */
  get #dueAt(): number {
    const { intervalMs, lastByteAt, isBusy } = this.#options;
    if (this.#probe) return this.#probe.sentAt + this.#probe.deadlineMs;
    return lastByteAt() + (isBusy() ? intervalMs : intervalMs * idleFactor);
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#isStopped || this.#options.intervalMs === 0) return;
    const waitMs = Math.min(longestTickMs, Math.max(1, this.#dueAt - performance.now()));
    this.#timer = setTimeout(() => this.#tick(), waitMs);
  }

  #tick(): void {
    const { intervalMs, count, lastByteAt, onDead } = this.#options;
    const now = performance.now();
    // Whatever came since: not every server answers a keepalive as it should.
    if (this.#probe && lastByteAt() > this.#probe.sentAt) this.#probe = undefined;
    if (now >= this.#dueAt) {
      if (this.#probe) {
        this.stop();
        return onDead(`no answer for ${Math.round((now - lastByteAt()) / 1000)} s`);
      }
      this.#sendProbe(intervalMs * Math.max(1, count - 1));
    }
    this.#schedule();
  }

  #sendProbe(deadlineMs: number): void {
    const probe = { sentAt: performance.now(), deadlineMs };
    this.#probe = probe;
    this.roundTrips.ask(() => {
      if (this.#probe === probe) this.#probe = undefined;
    });
  }
}
