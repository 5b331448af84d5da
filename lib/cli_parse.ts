/** From words to what a grammar makes of them, or to the text that they ask for. */

import type { DocPage } from "@optique/core/doc";
import { runParserSync } from "@optique/core/facade";
import { formatMessage, type Message, text } from "@optique/core/message";
import type { Mode, Parser } from "@optique/core/parser";
import config from "../deno.json" with { type: "json" };
import { separateValues } from "./cli_short_options.ts";
import { bashCompletion } from "./completion_bash.ts";
import { UsageError } from "./errors.ts";
import { arranged, programName } from "./help.ts";

/** The group of options that every command line has. */
export const commonGroup = "Other";

/** What a command line is read by. */
export interface CommandGrammar<T> {
  parser: Parser<Mode & "sync", T, unknown>;
  /** What follows the program's name. */
  usage: string;
  /** Whether `--completion` is an option: it is about the whole program. */
  completes: boolean;
  /** Lays out the page of `--help`. */
  help: (page: DocPage) => string;
}

/** What came of it: `text` ends with a newline and is to be printed. */
export type Words<T> = { kind: "parsed"; parsed: T } | { kind: "print"; text: string };

/** @throws {UsageError} The words are not understood. The message has no value of them. */
export function parseWords<T>(args: readonly string[], grammar: CommandGrammar<T>): Words<T> {
  let printed = "";
  const { parser, usage } = grammar;
  // What these callbacks return takes the place of the parsed arguments.
  const onShow = () => undefined;
  const completion = {
    option: { group: commonGroup },
    shells: { bash: bashCompletion },
    onShow,
  } as const;
  const words = separateValues(args, parser.usage);
  const parsed: T | undefined = runParserSync(parser, programName, words, {
    help: {
      option: { names: ["-h", "--help"], group: commonGroup },
      onShow: (_status, page) => void (printed = grammar.help(page)),
    },
    version: {
      option: { names: ["-V", "--version"], group: commonGroup },
      value: `${programName} ${config.version}`,
      onShow,
    },
    ...(grammar.completes ? { completion } : {}),
    usageLine: [{ type: "literal", value: usage }],
    aboveError: "none",
    onError(_status, error) {
      throw new UsageError(formatMessage(withoutTypedValues(error, args)));
    },
    stdout: (chunk) => void (printed += `${chunk}\n`),
    stderr() {},
  });
  return parsed === undefined ? { kind: "print", text: printed } : { kind: "parsed", parsed };
}

/** What the last word may be completed to, as the shell's script wants it. */
export function completions<T>(
  grammar: CommandGrammar<T>,
  { shell, words }: { shell: string; words: readonly string[] },
): string {
  const result = parseWords(["--completion", shell, ...words], { ...grammar, completes: true });
  return result.kind === "print" ? result.text : "";
}

/** The page that `--help` shows of a grammar, before it is laid out. */
export function helpPage<T>(grammar: CommandGrammar<T>): DocPage {
  let shown: DocPage = { sections: [] };
  parseWords(["--help"], { ...grammar, help: (page) => (shown = page, "") });
  return arranged(shown);
}

/** Optique's own messages quote what was typed, as for an unknown shell; not here. */
function withoutTypedValues(error: Message, args: readonly string[]): Message {
  return error.map((term) =>
    term.type === "value" && args.some((arg) => arg.includes(term.value)) ? text('"…"') : term
  );
}
