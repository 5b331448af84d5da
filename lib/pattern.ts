/** Patterns as OpenSSH's files have them (PATTERNS in ssh_config(5)). */

/** Compares with a pattern of `*` and `?`; letters must agree in case. */
export function matchesPattern(text: string, pattern: string): boolean {
  let at = 0;
  let inPattern = 0;
  // Where the last * stands, and how far the text was when it was met.
  let star = -1;
  let starAt = 0;
  while (at < text.length) {
    const expected = pattern.charAt(inPattern);
    if (expected === "*") {
      star = inPattern++;
      starAt = at;
    } else if (expected !== "" && (expected === "?" || expected === text.charAt(at))) {
      at++;
      inPattern++;
    } else if (star >= 0) {
      // The last * takes one character more.
      inPattern = star + 1;
      at = ++starAt;
    } else {
      return false;
    }
  }
  return /^\**$/.test(pattern.slice(inPattern));
}

/**
 * Compares with several patterns. One after `!` that fits rules the text out, and one of the
 * others must fit.
 */
export function matchesPatterns(text: string, patterns: readonly string[]): boolean {
  const fits = (pattern: string) => matchesPattern(text, pattern);
  if (patterns.some((pattern) => pattern.startsWith("!") && fits(pattern.slice(1)))) return false;
  return patterns.some((pattern) => !pattern.startsWith("!") && fits(pattern));
}
