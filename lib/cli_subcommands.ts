/** What sshshim does besides serving hosts: the first word says it, `setup` or `ready`. */

import { object } from "@optique/core/constructs";
import type { DocEntry, DocPage } from "@optique/core/doc";
import { text } from "@optique/core/message";
import { argument, option } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import {
  type CommandGrammar,
  commonGroup,
  completions,
  helpPage,
  parseWords,
} from "./cli_parse.ts";
import { layOut } from "./help.ts";

/** The line in ssh's configuration by which the names of shims are found. */
export interface Setup {
  kind: "setup";
  undoes: boolean;
  mayAsk: boolean;
}

/** The question whether the sshshim with this ready file can be used. */
export interface Ready {
  kind: "ready";
  file: string;
}

/** What is to be done; `print` as with other command lines. */
export type Subcommand = Setup | Ready | { kind: "print"; text: string };

/** How a subcommand is written, and the words that tell of it. */
interface Definition<T> {
  name: string;
  /** From the name on. */
  usage: string;
  /** What it does, in a line of the whole program's help. */
  brief: string;
  /** The same for its own. */
  about: string;
  parser: CommandGrammar<T>["parser"];
  /** What is to be done. */
  command: (parsed: T) => Subcommand;
}

/** A subcommand as the command line, its help and the manual have it. */
export interface SubcommandGrammar extends Omit<Definition<never>, "parser" | "command"> {
  /** @throws {UsageError} The words after its name are not understood. */
  parse(words: readonly string[]): Subcommand;
  /** What the last of the words after its name may be completed to. */
  completions(typed: { shell: string; words: readonly string[] }): string;
  /** Its own options. */
  page(): DocPage;
}

function defined<T>({ parser, command, ...words }: Definition<T>): SubcommandGrammar {
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

/** All of them, as the help lists them. */
export const subcommands: readonly SubcommandGrammar[] = [
  defined({
    name: "setup",
    usage: "setup [--yes | --undo]",
    brief: "Let ssh find running shims by name; once.",
    about: "Adds a line to ~/.ssh/config, once, by which ssh and what runs it find the names of " +
      "all shims that run: after that, `ssh NAME.shim` is enough.",
    parser: object({
      yes: option("--yes", { description: [text("Do not ask.")] }),
      undo: option("--undo", { description: [text("Take the line out again.")] }),
    }),
    command: ({ yes, undo }) => ({ kind: "setup", undoes: undo, mayAsk: !yes }),
  }),
  defined({
    name: "ready",
    usage: "ready FILE",
    brief: "Tell whether the one with this --ready-file can be used.",
    about:
      "Ends with status 0 if the sshshim that has this `--ready-file` can be used, and with 1 " +
      "if not: for probes in containers, which have no shell.",
    parser: object({
      file: argument(string({ metavar: "FILE", pattern: /^[^\0]+$/ }), {
        description: [text("What `--ready-file` named.")],
      }),
    }),
    command: ({ file }) => ({ kind: "ready", file }),
  }),
];

/** The one that a first word names. */
export function findSubcommand(word: string | undefined): SubcommandGrammar | undefined {
  return subcommands.find(({ name }) => name === word);
}

/** Their lines in the help of the whole program. */
export function subcommandEntries(): DocEntry[] {
  return subcommands.map(({ name, brief }) => ({
    term: { type: "command", name },
    description: [text(brief)],
  }));
}
