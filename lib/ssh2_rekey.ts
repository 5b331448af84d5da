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

/** The exchanges after the first one, on one connection. */
export class Rekeying {
  readonly #protocol: RekeyProtocol;
  readonly #onStuck: () => void;
  /** What has passed in both directions since the last one. */
  #bytes = 0;
  #exchangeTimer: ReturnType<typeof setTimeout> | undefined;
  #rekeyTimer: ReturnType<typeof setTimeout> | undefined;
  #isEnded = false;

  /** @param onStuck called when an exchange takes too long. */
  constructor(protocol: RekeyProtocol, onStuck: () => void) {
    this.#protocol = protocol;
    this.#onStuck = onStuck;
  }

  /** So many bytes pass, in either direction. */
  countBytes(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < rekeyAfterBytes || this.#protocol._kexinit !== undefined) return;
    this.#bytes = 0;
    this.#begin();
  }

  /** Keys are exchanged: a peer that does not end that would let packets wait for ever. */
  limitExchange(): void {
    if (!this.#isEnded) this.#exchangeTimer ??= setTimeout(this.#onStuck, exchangeTimeoutMs);
  }

  /** Keys have been exchanged. */
  onExchanged(): void {
    this.#stop();
    this.#bytes = 0;
    this.#exchangeTimer = undefined;
    if (!this.#isEnded) this.#rekeyTimer = setTimeout(() => this.#begin(), rekeyAfterMs);
  }

  /** The connection is gone. May be called twice. */
  end(): void {
    this.#isEnded = true;
    this.#stop();
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
