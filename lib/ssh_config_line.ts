/** One line of ssh_config(5): its keyword and its arguments. */

import { UsageError } from "./errors.ts";

/** Where a setting stands: a file and its line, counted from 1, or an option. */
export interface Source {
  /** The path of a file, or `-o`. */
  file: string;
  /** 0 for an option. */
  line: number;
}

/** A line that is neither blank nor a comment. */
export interface ConfigLine {
  /** In lower case. */
  keyword: string;
  /** The arguments, without quotes, escapes and a comment at the end. */
  words: readonly string[];
  /** What follows the keyword, as written; commands are taken from here. */
  text: string;
  source: Source;
}

/** An error that names the file and the line; `problem` says what is wrong and what helps. */
export function configError(source: Source, problem: string): UsageError {
  return new UsageError(`${formatSource(source)}: ${problem}`);
}

/** The source for people: `/home/me/.ssh/config line 3`, or `-o`. */
function formatSource({ file, line }: Source): string {
  return line === 0 ? file : `${file} line ${line}`;
}

/**
 * Reads a line; null for a blank line and for a comment.
 *
 * @throws {UsageError} The line has no value, unbalanced quotes or control characters.
 */
export function parseConfigLine(content: string, source: Source): ConfigLine | null {
  const line = content.replace(/[ \t\r\n\f]+$/, "");
  if (line === "" || /^\s*#/.test(line)) return null;
  const [start, written] = /^\s*([^ \t=]*)/.exec(line)!;
  if (written === "") throw configError(source, "The line does not begin with a keyword.");
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(line)) {
    throw configError(source, "The line has control characters. Remove them.");
  }
  const keyword = lowerCase(start.replace(/^[ \t]+/, "").replace(/^"(.*)"$/, "$1"));
  const text = line.slice(start.length).replace(/^[ \t]*=?[ \t]*/, "");
  if (text === "") throw configError(source, "A keyword has no value. Add one.");
  const words = splitWords(text);
  if (words === undefined) throw configError(source, "A quotation mark is not closed. Close it.");
  return { keyword, words, text, source };
}

/** Lowers A to Z only, as ssh does: full case folding would make other letters equal to them. */
export function lowerCase(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/**
 * Splits at spaces and tabs. Single and double quotes group; a backslash escapes a quote, a
 * backslash and, outside of quotes, a space; a `#` at the beginning of a word ends the line, if it
 * may have a comment.
 *
 * @returns `undefined` when a quote is not closed
 */
export function splitWords(
  text: string,
  { hasComments = true }: { hasComments?: boolean } = {},
): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let index = 0; index < text.length; index++) {
    const character = text.charAt(index);
    const next = text.charAt(index + 1);
    const isSpace = character === " " || character === "\t";
    if (quote === "" && isSpace) {
      if (word !== undefined) words.push(word);
      word = undefined;
      continue;
    }
    if (hasComments && word === undefined && character === "#") break;
    word ??= "";
    if (character === "\\" && (/["'\\]/.test(next) || (next === " " && quote === ""))) {
      word += next;
      index++;
    } else if (quote === "" && (character === '"' || character === "'")) {
      quote = character;
    } else if (character === quote) {
      quote = "";
    } else {
      word += character;
    }
  }
  if (quote !== "") return undefined;
  if (word !== undefined) words.push(word);
  return words;
}
