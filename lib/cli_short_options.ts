/** Short options as getopt(3) reads them: `-oPort=22` is `-o Port=22`, and `-vp22` is `-v -p 22`. */

import type { Usage } from "@optique/core/usage";

/** The names of options, with whether they take a value. */
export type OptionNames = ReadonlyMap<string, boolean>;

/** The options of a grammar. */
export function optionNames(usage: Usage): OptionNames {
  return new Map(optionsIn(usage));
}

/** Separates the values that are joined to short options, up to `--`. */
export function separateValues(args: readonly string[], usage: Usage): string[] {
  const options = optionNames(usage);
  const separated: string[] = [];
  let isValue = false;
  for (const [index, arg] of args.entries()) {
    if (!isValue && arg === "--") return [...separated, ...args.slice(index)];
    const words: string[] = isValue ? [arg] : wordsOf(arg, options);
    isValue = !isValue && words.length === 1 && takesValue(arg, options);
    separated.push(...words);
  }
  return separated;
}

function* optionsIn(usage: Usage): Generator<[string, boolean]> {
  for (const term of usage) {
    if (term.type === "option") {
      for (const name of term.names) yield [name, term.metavar !== undefined];
    } else if (term.type === "optional" || term.type === "multiple") {
      yield* optionsIn(term.terms);
    }
  }
}

/** What one argument stands for: flags, the option after them, and its value. */
function wordsOf(arg: string, options: OptionNames): string[] {
  const at = valuedLetter(arg, options);
  if (at === undefined || at === arg.length - 1) return [arg];
  const flags = at === 1 ? [] : [arg.slice(0, at)];
  return [...flags, `-${arg[at]}`, arg.slice(at + 1)];
}

/** Whether the next argument is the value of this one. */
function takesValue(arg: string, options: OptionNames): boolean {
  return options.get(arg) ?? valuedLetter(arg, options) === arg.length - 1;
}

/** The place of the letter in `-abc` that takes a value, if only flags stand before it. */
function valuedLetter(arg: string, options: OptionNames): number | undefined {
  if (!/^-[^-]/.test(arg)) return undefined;
  for (let at = 1; at < arg.length; at++) {
    const takesValue = options.get(`-${arg[at]}`);
    if (takesValue !== false) return takesValue ? at : undefined;
  }
  return undefined;
}
