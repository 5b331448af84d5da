/** The files that an Include line of ssh_config(5) names: glob(7) patterns. */

/**
 * The paths that fit an absolute pattern of `*`, `?`, `[…]` and `\`, in the order of their
 * characters. A name that begins with a dot must be asked for by one. Without a path that fits,
 * and where a folder cannot be read, there is nothing.
 */
export async function pathsMatching(pattern: string): Promise<string[]> {
  const isWindows = Deno.build.os === "windows";
  const [root, ...parts] = (isWindows ? pattern.replaceAll("\\", "/") : pattern).split("/");
  let paths = [root!];
  for (const part of parts) {
    const isPattern = /[*?[]/.test(part);
    const next = isPattern
      ? await Promise.all(paths.map((path) => namesIn(path, part)))
      : paths.map((path) => [`${path}/${unescape(part)}`]);
    paths = next.flat();
  }
  const exists = await Promise.all(paths.map(isThere));
  return paths.filter((_, index) => exists[index]).sort(byCharacter);
}

async function namesIn(folder: string, pattern: string): Promise<string[]> {
  const expected = patternExpression(pattern);
  const paths: string[] = [];
  try {
    for await (const { name } of Deno.readDir(`${folder}/`)) {
      const isHidden = name.startsWith(".") && !pattern.startsWith(".");
      if (!isHidden && expected.test(name)) paths.push(`${folder}/${name}`);
    }
  } catch {
    // Not a folder, or not for us to read: as for ssh, nothing in it fits.
  }
  return paths;
}

async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch {
    return false;
  }
}

function patternExpression(pattern: string): RegExp {
  const source = pattern.replace(
    /\\(.)|\[([!^]?)(\]?[^\]]*)\]|([*?])|(.)/gsu,
    (_, escaped?: string, negation?: string, set?: string, wildcard?: string, other?: string) => {
      if (set !== undefined) return setExpression(set, negation !== "");
      if (wildcard !== undefined) return wildcard === "*" ? ".*" : ".";
      return literal(escaped ?? other ?? "");
    },
  );
  return new RegExp(`^${source}$`, "su");
}

/** The inside of `[…]`: characters, and ranges such as `a-z`. */
function setExpression(set: string, isNegated: boolean): string {
  const members = [...set.matchAll(/(.)-(.)|(.)/gsu)].map(([, from, to, one]) => {
    if (one !== undefined) return literal(one);
    return from! <= to! ? `${literal(from!)}-${literal(to!)}` : "";
  });
  return `[${isNegated ? "^" : ""}${members.join("")}]`;
}

function literal(character: string): string {
  return `\\u{${character.codePointAt(0)?.toString(16)}}`;
}

function unescape(text: string): string {
  return text.replace(/\\(.)/gsu, "$1");
}

function byCharacter(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
