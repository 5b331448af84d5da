/**
 * What ssh was started for, by its arguments: over a control socket it does not say whether it was
 * told to run nothing (`-N`), and asks for a shell in any case; nor what X11 programs may do (`-Y`).
 */

import { readWords } from "./process_facts.ts";

/** ssh's options that take a value (ssh(1)). */
const withValue = "BbcDEeFIiJLlmOoPpQRSWw";

function isSsh([name = ""]: readonly string[]): boolean {
  return name.split("/").at(-1) === "ssh";
}

/** The options among arguments of ssh, its name the first of them. */
interface SshOptions {
  /** Those of one letter without a value, and `O`. */
  letters: ReadonlySet<string>;
  /** Values of `-o`. */
  settings: readonly string[];
}

function readOptions([, ...words]: readonly string[]): SshOptions {
  const letters = new Set<string>();
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
      if (!withValue.includes(letter)) {
        letters.add(letter);
        continue;
      }
      if (letter === "O") letters.add(letter);
      const value = word.slice(at + 1) || (words[++index] ?? "");
      if (letter === "o") settings.push(value);
      break;
    }
  }
  return { letters, settings };
}

/** What `-o` says of a keyword, in lower case; the first of several counts. */
function settingOf({ settings }: SshOptions, keyword: string): string | undefined {
  const shape = new RegExp(`^\\s*${keyword}[\\s=]+(\\S+)`, "i");
  const values = settings.flatMap((setting) => shape.exec(setting)?.[1] ?? []);
  return values[0]?.toLowerCase();
}

/** Whether arguments of ssh, its name the first of them, want no session. */
export function wantNoSession(words: readonly string[]): boolean {
  const options = readOptions(words);
  return options.letters.has("N") || settingOf(options, "SessionType") === "none";
}

/**
 * Whether arguments of ssh want X11 programs to be trusted, or not; `undefined` where they leave it
 * to the configuration.
 */
export function trustX11(words: readonly string[]): boolean | undefined {
  const options = readOptions(words);
  if (options.letters.has("Y")) return true;
  const setting = settingOf(options, "ForwardX11Trusted");
  return setting === undefined ? undefined : setting === "yes" || setting === "true";
}

/**
 * Whether a process of ours is there for more than one request (`-O`), and goes on to the port when
 * one is refused; `false` where the system does not tell.
 */
export async function wantsMoreThanOneRequest(pid: number | undefined): Promise<boolean> {
  const words = await readWords(pid, "cmdline");
  return words !== undefined && isSsh(words) && !readOptions(words).letters.has("O");
}

/** Whether a process of ours wants none; `false` where the system does not tell. */
export async function wantsNoSession(pid: number | undefined): Promise<boolean> {
  const words = await readWords(pid, "cmdline");
  return words !== undefined && wantNoSession(words);
}

/** What a process of ours says of it; `undefined` where the system does not tell. */
export async function trustsX11(pid: number | undefined): Promise<boolean | undefined> {
  const words = await readWords(pid, "cmdline");
  return words && trustX11(words);
}
