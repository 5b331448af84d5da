/** The command line of the whole program, hosts and subcommands, as it is shown and completed. */

import { divideCommand } from "./cli_command.ts";
import { grammar, type Parsed } from "./cli_grammar.ts";
import { type CommandGrammar, completions } from "./cli_parse.ts";
import { optionNames } from "./cli_short_options.ts";
import { findSubcommand, subcommandEntries, subcommands } from "./cli_subcommands.ts";
import { helpText, usage } from "./help.ts";

/** Serving hosts, in whose help the subcommands are. */
export const program: CommandGrammar<Parsed> = {
  parser: grammar,
  usage,
  completes: true,
  help: (page) => helpText(page, subcommandEntries()),
};

/** In place of the first host there may be a subcommand. */
const atTheFirstWord: CommandGrammar<Parsed> = {
  ...program,
  parser: {
    ...program.parser,
    *suggest(context, prefix) {
      for (const { name } of subcommands) {
        if (name.startsWith(prefix)) yield { kind: "literal", text: name };
      }
      yield* program.parser.suggest(context, prefix);
    },
  },
};

/**
 * The answer to `--completion SHELL WORD...`, which scripts ask for: what the last word may be
 * completed to. `undefined` where that is not what the arguments are.
 */
export function completionFrom(
  [option, shell, ...words]: readonly string[],
): string | undefined {
  if (option !== "--completion" || shell === undefined || words.length === 0) return undefined;
  // What is completed divides nothing yet; the words of a command are its own.
  const { command } = divideCommand(words.slice(0, -1), optionNames(grammar.usage));
  if (command !== undefined) return "";
  const [first, ...rest] = words;
  if (rest.length === 0) return completions(atTheFirstWord, { shell, words });
  return findSubcommand(first)?.completions({ shell, words: rest }) ??
    completions(program, { shell, words });
}
