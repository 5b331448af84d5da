/** The last lines of the log, kept in memory for whoever asks for them later. */

/** How much is kept: so many lines, and so many characters. */
const usualLimits = { lines: 2000, characters: 256 * 1024 };

/** What was logged once, without a newline at its end. */
interface KeptLine {
  /** The host that it is about, where there are several; `undefined` is about all of them. */
  host: string | undefined;
  text: string;
}

/** The last lines, and those who want each new one. */
export class LogMemory {
  readonly #limits: typeof usualLimits;
  readonly #followers = new Set<(line: KeptLine) => void>();
  #lines: KeptLine[] = [];
  #characters = 0;

  constructor(limits = usualLimits) {
    this.#limits = limits;
  }

  /** Keeps a line, and forgets the oldest where there is no room for it. */
  add(line: KeptLine): void {
    this.#lines.push(line);
    this.#characters += line.text.length;
    let first = 0;
    while (
      this.#lines.length - first > this.#limits.lines ||
      (this.#characters > this.#limits.characters && first < this.#lines.length)
    ) this.#characters -= this.#lines[first++]!.text.length;
    if (first > 0) this.#lines = this.#lines.slice(first);
    for (const onLine of this.#followers) onLine(line);
  }

  /** The lines about a host, the oldest first. */
  linesOf(host: string): string[] {
    return this.#lines.filter((line) => isAbout(line, host)).map(({ text }) => text);
  }

  /** Calls `onLine` for each new line about a host. @returns what ends that. */
  follow(host: string, onLine: (text: string) => void): () => void {
    const follower = (line: KeptLine) => void (isAbout(line, host) && onLine(line.text));
    this.#followers.add(follower);
    return () => void this.#followers.delete(follower);
  }
}

function isAbout({ host }: KeptLine, wanted: string): boolean {
  return host === undefined || host === wanted;
}

/** What this process has logged. */
export const logMemory = new LogMemory();
