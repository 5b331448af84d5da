/** The signals by which a person or the system ends the program. */

/** Signals to stop: the first one, and those that come after it. */
export class StopSignals {
  readonly #first = Promise.withResolvers<Deno.Signal>();
  readonly #onSecond: () => void;
  #count = 0;
  #passOn: ((signal: Deno.Signal) => void) | undefined;

  /** @param onSecond whoever sends another one does not want to wait. */
  constructor({ onSecond }: { onSecond: () => void }) {
    this.#onSecond = onSecond;
    const signals: Deno.Signal[] = Deno.build.os === "windows"
      ? ["SIGINT", "SIGBREAK", "SIGHUP"]
      : ["SIGINT", "SIGTERM", "SIGHUP"];
    for (const signal of signals) Deno.addSignalListener(signal, () => this.#on(signal));
  }

  /** Resolves at the first one. */
  get first(): Promise<Deno.Signal> {
    return this.#first.promise;
  }

  /** From now on they are somebody else's, and SIGQUIT, too. */
  passTo(handler: (signal: Deno.Signal) => void): void {
    this.#passOn = handler;
    if (Deno.build.os !== "windows") {
      Deno.addSignalListener("SIGQUIT", () => this.#on("SIGQUIT"));
    }
  }

  #on(signal: Deno.Signal): void {
    if (this.#passOn) return this.#passOn(signal);
    if (++this.#count > 1) this.#onSecond();
    this.#first.resolve(signal);
  }
}
