/** A subcommand by its grammar: how it is read, completed and told of. */

import type { DocPage } from "@optique/core/doc";
import { text } from "@optique/core/message";
import {
  type CommandGrammar,
  commonGroup,
  completions,
  helpPage,
  parseWords,
} from "./cli_parse.ts";
import { layOut } from "./help.ts";

/** How a subcommand is written, and the words that tell of it. */
interface Definition<T, Command> {
  name: string;
  /** From the name on. */
  usage: string;
  /** What it does, in a line of the whole program's help. */
  brief: string;
  /** The same for its own. */
  about: string;
  parser: CommandGrammar<T>["parser"];
  /** What is to be done. */
  command: (parsed: T) => Command;
}

/** A subcommand as the command line, its help and the manual have it. */
export interface SubcommandGrammar<Command>
  extends Omit<Definition<never, Command>, "parser" | "command"> {
  /** @throws {UsageError} The words after its name are not understood. */
  parse(words: readonly string[]): Command | { kind: "print"; text: string };
  /** What the last of the words after its name may be completed to. */
  completions(typed: { shell: string; words: readonly string[] }): string;
  /** Its own options. */
  page(): DocPage;
}

/** Makes it of its definition. */
export function defined<T, Command>(
  { parser, command, ...words }: Definition<T, Command>,
): SubcommandGrammar<Command> {
  const grammar: CommandGrammar<T> = {
    parser,
    usage: words.usage,
    completes: false,
    help: (page) => layOut({ ...page, description: [text(words.about)] }),
  };
  return {
    ...words,
    parse(args) {
      const result = parseWords(args, grammar);
      return result.kind === "print" ? result : command(result.parsed);
    },
    completions: (typed) => completions(grammar, typed),
    page() {
      const page = helpPage(grammar);
      return { ...page, sections: page.sections.filter(({ title }) => title !== commonGroup) };
    },
  };
}
