/**
 * A line below all that is written to a terminal, as a guest there: the cursor stays where others
 * have left it, with what stands before it in its row. What is behind the cursor and the rows below
 * are the line's, so that others may write, and windows be resized, without having to know of it.
 *
 * Nobody waits for it: while the terminal takes nothing, no more than one write of it waits.
 */

import { closeSync, constants, openSync, writeSync } from "node:fs";
import { type LineTarget, writeAll } from "./line_queue.ts";
import { hasShell, isInForeground } from "./terminal_owner.ts";

/** The line's text in so many columns. */
export type LineText = (columns: number) => string;

/** With less room there is no line. */
const fewestColumns = 16;
const fewestRows = 4;

/** Clears what is behind and below the cursor. */
const clearing = "\x1b[J";

/**
 * Makes room for a row below the cursor, which scrolls at the bottom: one row down in the same
 * column, and up again. Then writes there, and returns.
 */
const drawing = (text: string, isDim: boolean) =>
  `\x1bD\x1b[A\x1b7${clearing}\x1b[B\r${isDim ? `\x1b[2m${text}\x1b[m` : text}\x1b8`;

const encoder = new TextEncoder();

/** What a line needs to know of its terminal. */
export interface LineTerminal extends LineTarget {
  /** Writes at once or not at all. */
  writeNow(bytes: Uint8Array): void;
  /** Its dimensions; `undefined` while it is somebody else's. */
  dimensions(): { columns: number; rows: number } | undefined;
  /** Whether the line may be told apart by its colour. */
  hasColours: boolean;
}

/** The line of one terminal; without a text there is none. */
export class TerminalLine {
  readonly #terminal: LineTerminal;
  #text: LineText | undefined;
  /** What stands on the terminal; empty for nothing. */
  #shown = "";
  /** How many want to have the terminal for themselves. */
  #hiderCount = 0;
  /** The writes, one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  #isRefreshing = false;
  /** Whether others may have changed what is shown. */
  #isStale = false;

  constructor(terminal: LineTerminal) {
    this.#terminal = terminal;
  }

  /** What is written to `target`, whole lines that show on the same terminal, goes above the line. */
  above(target: LineTarget): LineTarget {
    return {
      write: (bytes) => {
        if (this.#text === undefined && this.#shown === "") return target.write(bytes);
        return this.#inTurn(async () => {
          await this.#clear();
          await writeAll(target, bytes);
          await this.#draw();
          return bytes.length;
        });
      },
    };
  }

  /** From now on it has this text; without one it is gone. */
  show(text: LineText | undefined): void {
    this.#text = text;
    this.#refresh();
  }

  /** Others have changed what stands there: it is drawn anew. */
  redraw(): void {
    this.#isStale = true;
    this.#refresh();
  }

  /** It is gone until {@link unhide}, and is so when this resolves. */
  hide(): Promise<void> {
    this.#hiderCount++;
    return this.#inTurn(() => this.#clear());
  }

  /** The end of a {@link hide}. */
  unhide(): void {
    this.#hiderCount--;
    this.#refresh();
  }

  /** It is gone when this returns, unless the terminal takes nothing. */
  clearNow(): void {
    if (this.#shown !== "") this.#terminal.writeNow(encoder.encode(clearing));
    this.#shown = "";
  }

  #refresh(): void {
    if (this.#isRefreshing) return;
    this.#isRefreshing = true;
    void this.#inTurn(async () => {
      this.#isRefreshing = false;
      const wanted = this.#wanted();
      if (wanted === "") await this.#clear();
      else if (wanted !== this.#shown || this.#isStale) await this.#draw();
    });
  }

  /** What should stand there. */
  #wanted(): string {
    if (this.#text === undefined || this.#hiderCount > 0) return "";
    const dimensions = this.#terminal.dimensions();
    if (dimensions === undefined) return "";
    const { columns, rows } = dimensions;
    if (columns < fewestColumns || rows < fewestRows) return "";
    // In the last column some terminals wrap.
    return this.#text(columns - 1);
  }

  async #clear(): Promise<void> {
    if (this.#shown === "") return;
    this.#shown = "";
    // Whose it is now has written over it.
    if (this.#terminal.dimensions() !== undefined) await this.#write(clearing);
  }

  async #draw(): Promise<void> {
    this.#isStale = false;
    this.#shown = this.#wanted();
    if (this.#shown !== "") await this.#write(drawing(this.#shown, this.#terminal.hasColours));
  }

  async #write(text: string): Promise<void> {
    try {
      await writeAll(this.#terminal, encoder.encode(text));
    } catch {
      // The terminal is gone, and the line with it.
    }
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const done = this.#last.then(action);
    // Whoever writes is told of what goes wrong, and others go on.
    this.#last = done.catch(() => {});
    return done;
  }
}

/** The terminal to which standard error leads. */
export const stderrTerminal: LineTerminal = {
  write: (bytes) => Deno.stderr.write(bytes),
  writeNow,
  dimensions() {
    try {
      return isInForeground() ? Deno.consoleSize() : undefined;
    } catch {
      // The system does not tell.
      return undefined;
    }
  },
  get hasColours() {
    return !Deno.noColor;
  },
};

/** Whether there can be a line: it needs a terminal that understands more than text. */
export function canHaveLine(): boolean {
  if (!Deno.stderr.isTerminal()) return false;
  return Deno.build.os === "windows" || !["dumb", ""].includes(Deno.env.get("TERM") ?? "");
}

/**
 * Lets the line follow what becomes of the terminal and of us: other dimensions, Ctrl-Z and what
 * comes after it, and an end, expected or not, at which nothing of it is left.
 */
export function followTerminal(line: TerminalLine): void {
  // The system tells of a mistake that ends us after these events.
  for (const type of ["unload", "error", "unhandledrejection"]) {
    globalThis.addEventListener(type, () => line.clearNow());
  }
  if (Deno.build.os === "windows") return;
  for (const signal of ["SIGWINCH", "SIGCONT"] as const) {
    Deno.addSignalListener(signal, () => line.redraw());
  }
  // Elsewhere it is not known whether there is a shell that would have us go on.
  if (Deno.build.os !== "linux") return;
  Deno.addSignalListener("SIGTSTP", () => {
    if (!hasShell()) return;
    line.clearNow();
    Deno.kill(Deno.pid, "SIGSTOP");
  });
}

/** Opened anew, so that it can be written to without waiting; that of Windows always can. */
function writeNow(bytes: Uint8Array): void {
  if (Deno.build.os === "windows") return void Deno.stderr.writeSync(bytes);
  const path = Deno.build.os === "linux" ? "/proc/self/fd/2" : "/dev/tty";
  let file: number | undefined;
  try {
    file = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    writeSync(file, bytes);
  } catch {
    // It is gone, or takes nothing.
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
