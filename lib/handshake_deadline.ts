/** The time that the server has for the phase of the handshake it is in. */
export class Deadline {
  readonly #onExpired: (timeoutMs: number) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;

  constructor(onExpired: (timeoutMs: number) => void) {
    this.#onExpired = onExpired;
  }

  /** @param timeoutMs `undefined` for no limit. */
  start(timeoutMs: number | undefined): void {
    this.stop();
    if (this.#isOver || timeoutMs === undefined) return;
    this.#timer = setTimeout(() => this.#onExpired(timeoutMs), timeoutMs);
  }

  /** No phase follows. */
  end(): void {
    this.stop();
    this.#isOver = true;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
