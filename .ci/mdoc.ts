/** From words to mdoc(7), the language of manual pages. */

import type { DocEntry } from "@optique/core/doc";
import { formatMessage } from "@optique/core/message";

/** What a manual shows in a face of its own, where it stands as a word. */
const faces: readonly Face[] = [
  ["Ql", /`[^`]+`/, (found) => `"${plain(found.slice(1, -1))}"`],
  ["Fl", /--[a-z][\w-]*|-[A-Za-z]\b/, (found) => plain(found.slice(1))],
  ["Ev", /[A-Z]+_[A-Z_]+\b/, (found) => found],
  ["Pa", /\$[A-Z_]+\/[\w./-]+|~?\/[\w.*/-]*\w/, plain],
  ["Xr", /[a-z][\w-]*\([1-9]\)/, (found) => found.replace(/\((.)\)/, " $1")],
];

/** A macro, which words it is for, and what it is given of them. */
type Face = [macro: string, pattern: RegExp, argument: (found: string) => string];

const word = new RegExp(
  `(?<=^|\\s)(\\(?)(${faces.map(([, { source }]) => source).join("|")})([.,;:)]*)(?=\\s|$)`,
);

/** Running text. */
export function mdocText(text: string): string {
  return sentences(text).flatMap(linesOf).join("\n");
}

/** Text that keeps its characters: no hyphen becomes a dash, and no quote is bent. */
export function plain(text: string): string {
  const names: Record<string, string> = {
    ...{ "\\": "\\e", "-": "\\-", "~": "\\(ti", "^": "\\(ha", "`": "\\(ga" },
    ...{ "'": "\\(aq", '"': "\\(dq" },
  };
  return text.replace(/[\\~^`'"-]/g, (character) => names[character]!).replace(
    /[^\0-\x7f]/gu,
    (character) => `\\[u${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}]`,
  );
}

/** A list of options, with what each is for. */
export function mdocOptions(entries: readonly DocEntry[]): string {
  return mdocList(entries.map((entry) => [headOf(entry), mdocText(descriptionOf(entry))]));
}

/** A list of terms, in mdoc, and what each is. */
export function mdocList(items: readonly (readonly [term: string, text: string])[]): string {
  const lines = items.flatMap(([term, text]) => [`.It ${term}`, text]);
  return [".Bl -tag -width Ds", ...lines, ".El"].join("\n");
}

/** A synopsis: what is to be replaced is in capitals. */
export function mdocUsage(usage: string): string {
  return plain(usage).replace(/[A-Z]+|(?:\\-)+(?:[a-z]|\\-)*|[a-z][a-z-]*/g, (word) => {
    return /[A-Z]/.test(word) ? `\\fI${word}\\fR` : `\\fB${word}\\fR`;
  });
}

/** The description of an entry as text. */
export function descriptionOf({ description }: DocEntry): string {
  return formatMessage(description ?? [], { quotes: false });
}

function headOf({ term }: DocEntry): string {
  if (term.type === "argument") return `Ar ${plain(term.metavar)}`;
  if (term.type !== "option") throw new Error(`An entry is of type ${term.type}.`);
  const names = term.names.map((name) => `Fl ${plain(name.slice(1))}`).join(" , ");
  return term.metavar === undefined ? names : `${names} Ar ${plain(term.metavar)}`;
}

/** mdoc wants each sentence to begin a line. */
function sentences(text: string): string[] {
  return text.split(/(?<=[.!?])\s+(?=[A-Z`-])|\n/);
}

function linesOf(sentence: string): string[] {
  const found = word.exec(sentence);
  if (found === null) return textLines(sentence);
  const [all, opening = "", content = "", closing = ""] = found;
  const [macro, , argument] = faces.find(([, pattern]) => pattern.exec(content)?.[0] === content)!;
  return [
    ...textLines(sentence.slice(0, found.index)),
    [`.${macro}`, ...opening, argument(content), ...closing].join(" "),
    ...linesOf(sentence.slice(found.index + all.length)),
  ];
}

function textLines(text: string): string[] {
  const line = text.trim();
  if (line === "") return [];
  // Prose has typographic quotes and hyphens where the device has them.
  const written = plain(line).replace(/(?<!-)\\-(?!\\-)/g, "-").replaceAll("\\(aq", "'");
  return written.match(/\S.{0,76}(?=\s|$)|\S+/g)!.map((part) => part.replace(/^[.']/, "\\&$&"));
}
