/**
 * What ssh was started for, by its arguments: over a control socket it does not say whether it was
 * told to run nothing (`-N`), and asks for a shell in any case.
 */

import { readWords } from "./process_facts.ts";

/** ssh's options that take a value (ssh(1)). */
const withValue = "BbcDEeFIiJLlmOoPpQRSWw";

/** Whether arguments of ssh, its name the first of them, want no session. */
export function wantNoSession([, ...words]: readonly string[]): boolean {
  const settings: string[] = [];
  let hasDestination = false;
  for (let index = 0; index < words.length; index++) {
    const word = words[index]!;
    if (word === "--") break;
    if (!word.startsWith("-") || word === "-") {
      // What follows the destination is options, until the command begins.
      if (hasDestination) break;
      hasDestination = true;
      continue;
    }
    for (let at = 1; at < word.length; at++) {
      const letter = word[at]!;
      if (letter === "N") return true;
      if (!withValue.includes(letter)) continue;
      const value = word.slice(at + 1) || (words[++index] ?? "");
      if (letter === "o") settings.push(value);
      break;
    }
  }
  // The first of several counts.
  const types = settings.flatMap((setting) => /^\s*sessiontype[\s=]+(\S+)/i.exec(setting) ?? []);
  return types[1]?.toLowerCase() === "none";
}

/** The same of a process of ours; `false` where the system does not tell. */
export async function wantsNoSession(pid: number | undefined): Promise<boolean> {
  const words = await readWords(pid, "cmdline");
  return words !== undefined && wantNoSession(words);
}
