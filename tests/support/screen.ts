/** What a terminal shows after all that was written to it by a shim, by Deno or by a shell. */

import { widthOf } from "../../lib/fold.ts";

// deno-lint-ignore no-control-regex
const piece = /\x1b\[(\??\d*)([A-Za-z])|\x1b([78D])|[\n\r]|[^\x1b\n\r]/gu;

/**
 * The rows of a terminal, without blanks at their ends and without empty rows at the end.
 *
 * @throws {Error} for any other escape sequence.
 */
export function screenOf(
  text: string,
  { rows, columns }: { rows: number; columns: number },
): string[] {
  const screen = new Screen(rows, columns);
  let end = 0;
  for (const { index, 0: all, 1: parameter, 2: letter, 3: short } of text.matchAll(piece)) {
    if (index !== end) break;
    const isKnown = letter === undefined
      ? screen.write(short === undefined ? all : `ESC ${short}`)
      : screen.control(letter, parameter!);
    if (!isKnown) break;
    end += all.length;
  }
  if (end < text.length) throw new Error(`Strange: ${JSON.stringify(text.slice(end, end + 8))}`);
  return screen.text.split("\n");
}

class Screen {
  readonly #rows: string[][];
  readonly #columns: number;
  #cursor = { row: 0, column: 0 };
  #saved = { row: 0, column: 0 };

  constructor(rows: number, columns: number) {
    this.#rows = Array.from({ length: rows }, () => []);
    this.#columns = columns;
  }

  get text(): string {
    return this.#rows.map((row) => row.join("").trimEnd()).join("\n").trimEnd();
  }

  /** A character, or an escape sequence of one. Returns whether it is known. */
  write(what: string): boolean {
    if (what === "\r") this.#cursor.column = 0;
    else if (what === "\n" || what === "ESC D") this.#goDown();
    else if (what === "ESC 7") this.#saved = { ...this.#cursor };
    else if (what === "ESC 8") this.#cursor = { ...this.#saved };
    else this.#put(what);
    return true;
  }

  /** A control sequence. Returns whether it is known. */
  control(letter: string, parameter: string): boolean {
    const { row, column } = this.#cursor;
    const count = Number(parameter || 1);
    switch (letter + parameter) {
      case "J":
        this.#clear(row, column);
        for (let below = row + 1; below < this.#rows.length; below++) this.#clear(below, 0);
        return true;
      case "K":
        this.#clear(row, column);
        return true;
      case "K2":
        this.#clear(row, 0);
        return true;
      case "G0":
        this.#cursor.column = 0;
        return true;
      // How a paste is marked.
      case "h?2004":
      case "l?2004":
        return true;
    }
    if (letter === "A") this.#cursor.row = Math.max(0, row - count);
    else if (letter === "B") this.#cursor.row = Math.min(this.#rows.length - 1, row + count);
    else return letter === "m";
    return true;
  }

  #goDown(): void {
    if (++this.#cursor.row < this.#rows.length) return;
    this.#cursor.row--;
    this.#rows.shift();
    this.#rows.push([]);
  }

  #put(character: string): void {
    const width = widthOf(character);
    if (this.#cursor.column + width > this.#columns) {
      this.#goDown();
      this.#cursor.column = 0;
    }
    const { row, column } = this.#cursor;
    const cells = this.#rows[row]!;
    while (cells.length < column) cells.push(" ");
    cells.splice(column, width, character, ...Array<string>(width - 1).fill(""));
    this.#cursor.column += width;
  }

  #clear(row: number, from: number): void {
    const cells = this.#rows[row]!;
    cells.length = Math.min(cells.length, from);
  }
}
