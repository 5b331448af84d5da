/** Terminals as a picture: SVG text, readable on light and on dark pages. */

/** A window of the picture. */
export interface Window {
  title: string;
  /** Its rows, from `screenRows`; `undefined` stands for rows that are left out. */
  rows: readonly (string | undefined)[];
}

/** In the units of the picture. */
const cell = { width: 8.4, height: 20 };
const margin = 16;
const titleHeight = 34;
const gap = 14;
const fontSize = 14;

/** Each colour on a light page, and on a dark one. */
const colours: Readonly<Record<string, readonly [light: string, dark: string]>> = {
  ".window": ["fill: #f6f8fa; stroke: #d0d7de", "fill: #161b22; stroke: #3d444d"],
  ".title, .omitted": ["fill: #59636e", "fill: #9198a1"],
  ".output": ["fill: #1f2328", "fill: #d1d7e0"],
  ".prompt": ["fill: #1a7f37", "fill: #3fb950"],
  ".typed": ["fill: #0550ae; font-weight: 600", "fill: #79c0ff; font-weight: 600"],
};

/**
 * What a terminal shows, row by row, when `text` is written to it: carriage returns go back in the
 * row, and ESC [ K clears the rest of it. Rows are as long as their text.
 *
 * @throws {Error} for any other escape sequence
 */
export function screenRows(text: string): string[] {
  return text.replace(/\r+\n/g, "\n").split("\n").map((line) => {
    let row = "";
    for (const [index, piece] of line.split("\r").entries()) {
      const [written = "", ...cleared] = piece.split("\x1b[K");
      row = index === 0 ? written : written + row.slice(written.length);
      for (const next of cleared) row = row.slice(0, written.length) + next;
    }
    // deno-lint-ignore no-control-regex
    const [strange] = /[\x00-\x1f\x7f].{0,8}/.exec(row) ?? [];
    if (strange !== undefined) throw new Error(`Cannot draw ${JSON.stringify(strange)}.`);
    return row.trimEnd();
  });
}

/** Draws windows below each other, each `columns` wide. */
export function drawWindows(windows: readonly Window[], columns: number): string {
  const width = columns * cell.width + 2 * margin;
  let top = 1;
  const drawn = windows.map((window) => {
    const { text, height } = drawWindow(window, { top, width });
    top += height + gap;
    return text;
  });
  const size = `width="${width + 2}" height="${top - gap + 1}"`;
  const box = `viewBox="0 0 ${width + 2} ${top - gap + 1}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${box} role="img">`,
    `<style>`,
    `text { font: ${fontSize}px ui-monospace, SFMono-Regular, Menlo, Consolas, ` +
    `"DejaVu Sans Mono", monospace; white-space: pre }`,
    ...styles(0),
    `@media (prefers-color-scheme: dark) {`,
    ...styles(1),
    `}`,
    `</style>`,
    ...drawn,
    `</svg>`,
    "",
  ].join("\n");
}

function styles(which: 0 | 1): string[] {
  return Object.entries(colours).map(([selector, rules]) => `${selector} { ${rules[which]} }`);
}

function drawWindow(
  { title, rows }: Window,
  { top, width }: { top: number; width: number },
): { text: string; height: number } {
  const height = titleHeight + rows.length * cell.height + margin;
  const baseline = (row: number) => top + titleHeight + (row + 0.75) * cell.height;
  const text = [
    `<rect class="window" x="1" y="${top}" width="${width}" height="${height}" rx="8"/>`,
    piece(title, { kind: "title", column: 0, y: top + 22 }),
    ...rows.flatMap((row, index) => drawRow(row, baseline(index))),
  ].join("\n");
  return { text, height };
}

function drawRow(row: string | undefined, y: number): string[] {
  if (row === undefined) return [piece("⋮", { kind: "omitted", column: 0, y })];
  const [, prompt, typed] = /^(\$ )(.*)$/.exec(row) ?? [];
  if (typed !== undefined && prompt !== undefined) {
    return [
      piece("$", { kind: "prompt", column: 0, y }),
      piece(typed, { kind: "typed", column: prompt.length, y }),
    ];
  }
  const output = row.trimStart();
  return output === "" ? [] : [
    piece(output, { kind: "output", column: row.length - output.length, y }),
  ];
}

/** Text of one kind; its length is told, so that columns are as wide in every font. */
function piece(
  text: string,
  { kind, column, y }: { kind: string; column: number; y: number },
): string {
  const x = (1 + margin + column * cell.width).toFixed(1);
  const length = ([...text].length * cell.width).toFixed(1);
  const escaped = text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  return `<text class="${kind}" x="${x}" y="${y}" textLength="${length}" ` +
    `lengthAdjust="spacingAndGlyphs" xml:space="preserve">${escaped}</text>`;
}
