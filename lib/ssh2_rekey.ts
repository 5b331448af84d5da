/**
 * When keys are exchanged anew, and how long that may take: ssh2 never begins an exchange by itself,
 * and waits for the end of one for ever.
 */

/** The part of ssh2's `Protocol` that is used here. */
export interface RekeyProtocol {
  /** Our KEXINIT, while keys are exchanged. */
  _kexinit: unknown;
  rekey(): void;
}

/** RFC 4253, section 9, advises these limits. */
const rekeyAfterBytes = 2 ** 30;
const rekeyAfterMs = 60 * 60 * 1000;

/** How long a key exchange may take once there has been a first one, in milliseconds. */
const exchangeTimeoutMs = 30_000;

/** Who has to know, and what. */
export interface RekeyOwner {
  /** Since when bytes can pass, by `performance.now()`; infinite while they cannot. */
  carriedSince(): number;
  /** An exchange takes too long. */
  onStuck(): void;
}

/** The exchanges after the first one, on one connection. */
export class Rekeying {
  readonly #protocol: RekeyProtocol;
  readonly #owner: RekeyOwner;
  /** What has passed in both directions since the last one. */
  #bytes = 0;
  #exchangeTimer: ReturnType<typeof setTimeout> | undefined;
  #rekeyTimer: ReturnType<typeof setTimeout> | undefined;
  #isEnded = false;

  constructor(protocol: RekeyProtocol, owner: RekeyOwner) {
    this.#protocol = protocol;
    this.#owner = owner;
  }

  /** So many bytes pass, in either direction. */
  countBytes(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < rekeyAfterBytes || this.#protocol._kexinit !== undefined) return;
    this.#bytes = 0;
    this.#begin();
  }

  /** Keys are exchanged: a peer that does not end that would let packets wait for ever. */
  limitExchange(waitMs = exchangeTimeoutMs): void {
    if (this.#isEnded) return;
    this.#exchangeTimer ??= setTimeout(() => {
      this.#exchangeTimer = undefined;
      // While the network is away nobody can end it.
      const leftMs = this.#owner.carriedSince() + exchangeTimeoutMs - performance.now();
      if (leftMs > 0) this.limitExchange(Math.min(leftMs, exchangeTimeoutMs));
      else this.#owner.onStuck();
    }, waitMs);
  }

  /** Keys have been exchanged. */
  onExchanged(): void {
    this.#stop();
    this.#bytes = 0;
    this.#exchangeTimer = undefined;
    if (!this.#isEnded) this.#beginAfter(rekeyAfterMs);
  }

  /** The connection is gone. May be called twice. */
  end(): void {
    this.#isEnded = true;
    this.#stop();
  }

  #beginAfter(waitMs: number): void {
    this.#rekeyTimer = setTimeout(() => {
      // While the network is away, nothing is to look as if somebody wanted something.
      if (this.#owner.carriedSince() === Infinity) this.#beginAfter(exchangeTimeoutMs);
      else this.#begin();
    }, waitMs);
  }

  #begin(): void {
    this.#protocol.rekey();
    this.limitExchange();
  }

  #stop(): void {
    clearTimeout(this.#rekeyTimer);
    clearTimeout(this.#exchangeTimer);
  }
}
