/** How often a server asks whether we live, from which follows how long it does without an answer. */

import { MessageType } from "./wire.ts";

const name = new TextEncoder().encode("keepalive@openssh.com");

/** sshd counts whole seconds; what comes sooner has waited somewhere. In milliseconds. */
const shortestMs = 900;

/** Two intervals that differ by no more are the same one, in milliseconds: sshd rounds. */
const toleranceMs = 1100;

/** Whether a message asks for a sign of life, of the connection or by a channel, as OpenSSH does. */
export function isServerKeepalive(payload: Uint8Array): boolean {
  const at = payload[0] === MessageType.globalRequest
    ? 5
    : payload[0] === MessageType.channelRequest
    ? 9
    : undefined;
  return at !== undefined && name.every((byte, index) => payload[at + index] === byte);
}

/** Measures the interval of one connection: whatever we send meanwhile makes it longer, never shorter. */
export class ServerKeepalives {
  readonly #onInterval: (seconds: number) => void;
  #lastMs: number | undefined;
  #shortestMs = Infinity;
  #isKnown = false;

  /** @param onInterval called once, when two were alike. */
  constructor(onInterval: (seconds: number) => void) {
    this.#onInterval = onInterval;
  }

  /** The server has asked. @param now in milliseconds. */
  onKeepalive(now: number): void {
    const gapMs = this.#lastMs === undefined ? 0 : now - this.#lastMs;
    this.#lastMs = now;
    if (gapMs < shortestMs || this.#isKnown) return;
    if (Math.abs(gapMs - this.#shortestMs) <= toleranceMs) {
      this.#isKnown = true;
      this.#onInterval(Math.round(Math.min(gapMs, this.#shortestMs) / 1000));
    }
    this.#shortestMs = Math.min(this.#shortestMs, gapMs);
  }
}
