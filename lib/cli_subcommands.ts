/** What sshshim does besides serving hosts: the first word says it, `setup` or `ready`. */

import { object } from "@optique/core/constructs";
import type { DocEntry } from "@optique/core/doc";
import { text } from "@optique/core/message";
import { argument, option } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import { defined, type SubcommandGrammar } from "./cli_definition.ts";
import { type Steering, steeringCommands } from "./cli_steering.ts";

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
export type Subcommand =
  | Setup
  | Ready
  | { kind: "steer"; steering: Steering }
  | { kind: "print"; text: string };

/** All of them, as the help lists them. */
export const subcommands: readonly SubcommandGrammar<Subcommand>[] = [
  defined<{ yes: boolean; undo: boolean }, Subcommand>({
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
  defined<{ file: string }, Subcommand>({
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
  ...steeringCommands,
];

/** The one that a first word names. */
export function findSubcommand(
  word: string | undefined,
): SubcommandGrammar<Subcommand> | undefined {
  return subcommands.find(({ name }) => name === word);
}

/** Their lines in the help of the whole program. */
export function subcommandEntries(): DocEntry[] {
  return subcommands.map(({ name, brief }) => ({
    term: { type: "command", name },
    description: [text(brief)],
  }));
}
