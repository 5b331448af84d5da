/** What `--help` shows besides the list of options: usage, purpose, examples, exit statuses. */

import { type DocPage, formatDocPage } from "@optique/core/doc";
import { lineBreak, type Message, text } from "@optique/core/message";
import type { Usage } from "@optique/core/usage";

export const programName = "sshshim";

/** Optique lists every option here, and its own order is another one. */
export const usageLine: Usage = [
  { type: "literal", value: "[OPTION...] [USER@]HOST[:PORT]... [-- [COMMAND [ARG...]]]" },
];

const about = text(
  "Keeps one authenticated SSH connection to a server and lets every SSH client on this machine " +
    "use it through a local port.",
);

const examples = lines([
  "sshshim prod",
  "sshshim ubuntu@prod.example.com --ed25519-key ~/.ssh/id_ed25519",
  "sshshim --host 192.0.2.7 --username git --rsa-key KEY --local-port 0",
  "sshshim prod -- rsync -a ./ prod.shim:/srv/",
]);

const exitStatuses = lines([
  "Exit status:",
  "  0  stopped by a signal, or its time was over",
  "  1  internal error",
  "  2  the command line is wrong",
  "  3  the server refused the login",
  "  4  the server's host key was refused",
  "  5  the server cannot be reached, or the connection was lost",
  "  6  the local port or its host key cannot be used",
  "After -- COMMAND, the command's: 126 where it cannot be run, 127 where it is",
  "not found, 128 and the signal's number where a signal ended it.",
]);

function lines(all: string[]): Message {
  return all.flatMap((line, index) => index === 0 ? [text(line)] : [lineBreak(), text(line)]);
}

const subcommands = lines([
  "sshshim setup lets ssh find running shims by name, once; see sshshim setup --help.",
  "A server that is called setup is given as ssh://setup, or by --host.",
]);

/** The page of the whole program. */
export function helpText(page: DocPage): string {
  const description = [about, lineBreak(), lineBreak(), ...subcommands];
  return layOut({ ...page, description, examples, footer: exitStatuses });
}

/** Lays out a page that Optique made from a grammar, 80 columns wide. */
export function layOut(page: DocPage): string {
  const sections = page.sections.map(({ title, entries }) => ({
    title,
    // ARG is what completion scripts pass, nothing for people; HOST is what they look for first.
    entries: entries
      .filter(({ term }) => term.type !== "argument" || term.metavar !== "ARG")
      .toSorted((a, b) => Number(b.term.type === "argument") - Number(a.term.type === "argument")),
  }));
  const layout = { maxWidth: 80, termWidth: 24, sectionOrder: () => 0 };
  return formatDocPage(programName, { ...page, sections }, layout).replace(/ +$/gm, "") + "\n";
}
