/**
 * The files that an Include line of ssh_config(5) names: patterns of glob(7), as OpenSSH's own glob
 * reads them. It compares bytes: `?` is one of the two that an `é` has.
 */

import { utf8String } from "./ssh_data.ts";

/**
 * The paths that fit an absolute pattern of `*`, `?`, `[…]` and `\`, in the order of their bytes.
 * A name that begins with a dot must be asked for by one. Without a path that fits, and where a
 * folder cannot be read, there is nothing.
 */
export function pathsMatching(pattern: string): string[] {
  const isWindows = Deno.build.os === "windows";
  const [root, ...parts] = (isWindows ? pattern.replaceAll("\\", "/") : pattern).split("/");
  let paths = [root!];
  for (const part of parts) {
    const isPattern = /[*?[]/.test(part);
    const next = isPattern
      ? paths.map((path) => namesIn(path, part))
      : paths.map((path) => [`${path}/${unescape(part)}`]);
    paths = next.flat();
  }
  return paths.filter(isThere).sort(byBytes);
}

function namesIn(folder: string, pattern: string): string[] {
  const expected = patternExpression(utf8String(pattern));
  const namesDot = /^\\?\./.test(pattern);
  const paths: string[] = [];
  try {
    for (const { name } of Deno.readDirSync(`${folder}/`)) {
      if (name.startsWith(".") && !namesDot) continue;
      if (expected.test(utf8String(name))) paths.push(`${folder}/${name}`);
    }
  } catch {
    // Not a folder, or not for us to read: as for ssh, nothing in it fits.
  }
  return paths;
}

function isThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/** A pattern and the names that it is for are byte strings. */
function patternExpression(pattern: string): RegExp {
  const source = pattern.replace(
    /\\(.)|\[(!?)((?:\[:\w*:\]|\\.|[^\\])(?:\[:\w*:\]|\\.|[^\]\\])*)\]|([*?])|(.)/gs,
    (_, escaped?: string, negation?: string, set?: string, wildcard?: string, other?: string) => {
      if (set !== undefined) return setExpression(set, negation !== "");
      if (wildcard !== undefined) return wildcard === "*" ? ".*" : ".";
      return literal(escaped ?? other ?? "");
    },
  );
  return new RegExp(`^${source}$`, "s");
}

/** The classes of characters such as `[:alpha:]`, for the inside of a set. */
const classes: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  blank: " \\t",
  cntrl: "\\x00-\\x1f\\x7f",
  digit: "0-9",
  graph: "!-~",
  lower: "a-z",
  print: " -~",
  punct: "!-\\/:-@\\[-`{-~",
  space: "\\t-\\r ",
  upper: "A-Z",
  xdigit: "0-9A-Fa-f",
};

/** The inside of `[…]`: characters, ranges such as `a-z`, and classes; nothing fits a wrong class. */
function setExpression(set: string, isNegated: boolean): string {
  const members = [...set.matchAll(/\[:(\w*):\]|(\\.|[^\\])-(\\?.)|(\\?.)/gs)].map(
    ([, name, from, to, one]) => {
      if (name !== undefined) return Object.hasOwn(classes, name) ? classes[name] : undefined;
      const [first, last] = [from ?? one, to ?? one].map((it) => it!.at(-1)!);
      return first! <= last! ? `${literal(first!)}-${literal(last!)}` : "";
    },
  );
  return members.includes(undefined) ? "(?!)" : `[${isNegated ? "^" : ""}${members.join("")}]`;
}

function literal(byte: string): string {
  return `\\x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`;
}

function unescape(text: string): string {
  return text.replace(/\\(.)/gsu, "$1");
}

function byBytes(a: string, b: string): number {
  const [first, second] = [utf8String(a), utf8String(b)];
  return first < second ? -1 : first > second ? 1 : 0;
}
