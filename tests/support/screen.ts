/** What a terminal shows after all that was written to it, as far as a shim writes it. */

import { widthOf } from "../../lib/fold.ts";

// deno-lint-ignore no-control-regex
const piece = /\x1b\[(\d*)([A-Za-z])|\x1b([78D])|[\n\r]|[^\x1b\n\r]/gu;

/**
 * The rows of a terminal, without blanks at their ends and without empty rows at the end.
 *
 * @throws {Error} for an escape sequence that is none of ours.
 */
export function screenOf(
  text: string,
  { rows, columns }: { rows: number; columns: number },
): string[] {
  const screen: string[][] = Array.from({ length: rows }, () => []);
  let cursor = { row: 0, column: 0 };
  let saved = cursor;
  const down = () => {
    if (cursor.row < rows - 1) return void cursor.row++;
    screen.shift();
    screen.push([]);
  };
  const put = (character: string) => {
    const width = widthOf(character);
    if (cursor.column + width > columns) {
      down();
      cursor.column = 0;
    }
    const row = screen[cursor.row]!;
    while (row.length < cursor.column) row.push(" ");
    row.splice(cursor.column, width, character, ...Array<string>(width - 1).fill(""));
    cursor.column += width;
  };
  let end = 0;
  for (const match of text.matchAll(piece)) {
    if (match.index !== end) break;
    const [all, number = "", control, short] = match;
    end += all.length;
    const count = Number(number || 1);
    if (all === "\n") down();
    else if (all === "\r") cursor.column = 0;
    else if (short === "D") down();
    else if (short === "7") saved = { ...cursor };
    else if (short === "8") cursor = { ...saved };
    else if (control === "A") cursor.row = Math.max(0, cursor.row - count);
    else if (control === "B") cursor.row = Math.min(rows - 1, cursor.row + count);
    else if (control === "J" && number === "") {
      screen[cursor.row]!.length = Math.min(screen[cursor.row]!.length, cursor.column);
      for (const row of screen.slice(cursor.row + 1)) row.length = 0;
    } else if (control === undefined) put(all);
    else if (control !== "m") break;
  }
  if (end < text.length) throw new Error(`Strange: ${JSON.stringify(text.slice(end, end + 8))}`);
  return screen.map((row) => row.join("").trimEnd()).join("\n").trimEnd().split("\n");
}
