/** Lists of algorithms as ssh_config(5) has them: KexAlgorithms, Ciphers and others. */

import { matchesPattern, matchesPatterns } from "./pattern.ts";

/** What a list is applied to. */
export interface Algorithms {
  /** Those without a list, best first. */
  usual: readonly string[];
  /** All that we have; patterns find them in this order. */
  all: readonly string[];
}

/**
 * Applies a list, which replaces the usual algorithms, extends them (`+`), shortens them (`-`) or
 * comes before them (`^`); without one they are as usual. Names that we do not have are left out.
 */
export function applyList(list: string | undefined, { usual, all }: Algorithms): string[] {
  if (list === undefined) return [...usual];
  const patterns = patternsOf(list);
  if (list.startsWith("-")) return usual.filter((name) => !matchesPatterns(name, patterns));
  const named = patterns.flatMap((it) => all.filter((name) => matchesPattern(name, it)));
  if (list.startsWith("+")) return [...new Set([...usual, ...named])];
  if (list.startsWith("^")) return [...new Set([...named, ...usual])];
  return [...new Set(named)];
}

/** What a list names and we do not have; a list that takes away needs nothing. */
export function missingOf(list: string, all: readonly string[]): string[] {
  if (list.startsWith("-")) return [];
  return patternsOf(list).filter((it) => !all.some((name) => matchesPattern(name, it)));
}

function patternsOf(list: string): string[] {
  return list.replace(/^[-+^]/, "").split(",").filter(Boolean);
}
