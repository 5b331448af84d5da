/** Text that grows while a process writes it, and whoever waits for a piece of it. */

import { defaultTimeoutMs, kept } from "./deadline.ts";

/** Everything that one stream has carried so far, as text. */
export class Transcript {
  #text = "";
  #ended = false;
  #waiting = new Set<() => void>();

  /** What has come so far. */
  get text(): string {
    return this.#text;
  }

  /** The complete lines that have come so far, without their line ends. */
  get lines(): string[] {
    return this.#text.split(/\r?\n/).slice(0, -1);
  }

  /** Adds what the stream carried next. */
  append(text: string): void {
    this.#text += text;
    this.#wake();
  }

  /** Says that nothing will follow. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /**
   * Resolves with the first match of `pattern` in the text from position `from` (in UTF-16 units)
   * on.
   *
   * @throws {Error} when the stream ends or `timeoutMs` passes without a match; the message holds
   *   the end of the text
   */
  waitFor(
    pattern: RegExp,
    options: { from?: number; timeoutMs?: number } = {},
  ): Promise<RegExpExecArray> {
    return kept(this.#waitFor(pattern, options));
  }

  async #waitFor(
    pattern: RegExp,
    { from = 0, timeoutMs = defaultTimeoutMs }: { from?: number; timeoutMs?: number },
  ): Promise<RegExpExecArray> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#wake();
    }, timeoutMs);
    try {
      while (true) {
        const match = pattern.exec(this.#text.slice(from));
        if (match !== null) return match;
        if (this.#ended || late) {
          const why = this.#ended ? "The output ended" : `${timeoutMs} ms passed`;
          throw new Error(`${why} without ${pattern}. Its last part:\n${this.#text.slice(-4000)}`);
        }
        await new Promise<void>((resolve) => this.#waiting.add(resolve));
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}
