/**
 * The line of a user's ssh_config by which the names of shims are found, and files with it and
 * without. Every other character stays what it is.
 */

import { parseConfigLine } from "./ssh_config_line.ts";

/** The line as setup writes it. */
export const includeLine = "Include ~/.ssh/sshshim/*.conf";

/** Where the line stands in whatever spelling, counted from 1, if it holds for all hosts. */
export function findInclude(content: string, home: string): number | undefined {
  const wanted = `${slashed(home)}/.ssh/sshshim/*.conf`;
  for (const [index, text] of content.split("\n").entries()) {
    const line = parseLine(text);
    if (line === undefined) continue;
    // What follows is for some hosts alone.
    if (line.keyword === "host" || line.keyword === "match") return undefined;
    if (line.keyword !== "include") continue;
    if (line.words.some((word) => wholePath(word, home) === wanted)) return index + 1;
  }
  return undefined;
}

/** With the line at the top, where no block of a host comes before it. */
export function addInclude(content: string): string {
  const [firstEnd] = /\r?\n/.exec(content) ?? ["\n"];
  return includeLine + firstEnd + content;
}

/** Without the first line that setup wrote; `undefined` where there is none. */
export function removeInclude(content: string): string | undefined {
  const lines = content.split(/(?<=\n)/);
  const index = lines.findIndex((line) => line.replace(/\r?\n$/, "") === includeLine);
  return index < 0 ? undefined : lines.toSpliced(index, 1).join("");
}

function parseLine(text: string) {
  try {
    return parseConfigLine(text, { file: "", line: 1 }) ?? undefined;
  } catch {
    // ssh will say what is wrong with it.
    return undefined;
  }
}

/** An Include is relative to `~/.ssh`. */
function wholePath(word: string, home: string): string {
  const path = slashed(word).replace(/^(?:~|%d|\$\{HOME\})(?=\/)/, slashed(home));
  return /^(?:\/|[A-Za-z]:\/)/.test(path) ? path : `${slashed(home)}/.ssh/${path}`;
}

/** Windows takes both slashes. */
function slashed(path: string): string {
  return path.replaceAll("\\", "/").replace(/\/$/, "");
}
