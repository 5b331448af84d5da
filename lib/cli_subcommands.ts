/** What sshshim does besides serving hosts: the first word says it, such as `setup`. */

import { object } from "@optique/core/constructs";
import { text } from "@optique/core/message";
import { option } from "@optique/core/primitives";
import type { Usage } from "@optique/core/usage";
import { parseWords } from "./cli_parse.ts";
import { layOut } from "./help.ts";

/** The line in ssh's configuration by which the names of shims are found. */
export interface Setup {
  kind: "setup";
  undoes: boolean;
  mayAsk: boolean;
}

/** What is to be done; `print` as with other command lines. */
export type Subcommand = Setup | { kind: "print"; text: string };

const setupGrammar = object({
  yes: option("--yes", { description: [text("Do not ask.")] }),
  undo: option("--undo", { description: [text("Take the line out again.")] }),
});

const setupUsage: Usage = [
  { type: "literal", value: "setup" },
  { type: "literal", value: "[--yes | --undo]" },
];

const setupAbout = "Adds a line to ~/.ssh/config, once, by which ssh and what runs it find the " +
  "names of all shims that run: after that, ssh NAME.shim is enough.";

/**
 * Reads a command line whose first word is a subcommand; `undefined` where it is none.
 *
 * @throws {UsageError} The words after it are not understood.
 */
export function parseSubcommand([word, ...rest]: readonly string[]): Subcommand | undefined {
  switch (word) {
    case "setup": {
      const result = parseWords(rest, {
        parser: setupGrammar,
        usageLine: setupUsage,
        completes: false,
        help: (page) => layOut({ ...page, description: [text(setupAbout)] }),
      });
      if (result.kind === "print") return result;
      const { yes, undo } = result.parsed;
      return { kind: "setup", undoes: undo, mayAsk: !yes };
    }
    default:
      return undefined;
  }
}
