/**
 * Text from elsewhere in pieces that a terminal does not wrap by itself. Where it does, whoever wrote
 * the text chooses what begins a line of the screen, and that may look like words of ours.
 */

/** Where the terminal does not tell, in columns. */
const usualColumns = 80;

/** However little room there is, in columns. */
const fewestColumns = 8;

/** The width of the terminal now. */
export function terminalColumns(): number {
  try {
    return Deno.consoleSize().columns || usualColumns;
  } catch {
    return usualColumns;
  }
}

/** How many columns text may take: what is not ASCII counts twice, as the widest characters do. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) width += character <= "\x7f" ? 1 : 2;
  return width;
}

/**
 * Cuts text without control characters into pieces of at most so many columns, at spaces where there
 * are any.
 */
export function fold(text: string, columns: number): string[] {
  if (text.length * 2 <= columns) return [text];
  const limit = Math.max(columns, fewestColumns);
  const pieces: string[] = [];
  let piece = "";
  let width = 0;
  for (const character of text) {
    const own = widthOf(character);
    if (width + own > limit) {
      const space = piece.lastIndexOf(" ");
      pieces.push(space > 0 ? piece.slice(0, space) : piece);
      piece = space > 0 ? piece.slice(space + 1) : "";
      width = widthOf(piece);
    }
    piece += character;
    width += own;
  }
  return [...pieces, piece];
}

/** The text in so many columns; `...` stands for what is cut off. */
export function clip(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  let clipped = "";
  for (const character of text) {
    if (widthOf(clipped + character) > columns - 3) break;
    clipped += character;
  }
  return `${clipped}...`;
}
