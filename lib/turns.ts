/** Calls of which only some may be under way at a time: the others wait for their turn. */

/** So many turns. */
export class Turns {
  #free: number;
  readonly #next: (() => void)[] = [];

  /** @param count how many calls may be under way at a time. */
  constructor(count: number) {
    this.#free = count;
  }

  /** Makes a call in its turn; `undefined` where it is not wanted any more before that. */
  async take<T>(signal: AbortSignal, call: () => Promise<T>): Promise<T | undefined> {
    if (this.#free > 0) this.#free--;
    else if (!await this.#turn(signal)) return undefined;
    try {
      return signal.aborted ? undefined : await call();
    } finally {
      const next = this.#next.shift();
      if (next) next();
      else this.#free++;
    }
  }

  /** Resolves with `true` when somebody has handed his turn on, with `false` when it is aborted. */
  #turn(signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const onTurn = () => {
        signal.removeEventListener("abort", onAbort);
        resolve(true);
      };
      const onAbort = () => {
        this.#next.splice(this.#next.indexOf(onTurn), 1);
        resolve(false);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#next.push(onTurn);
    });
  }
}
