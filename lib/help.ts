/**
 * What is told of the program besides the grammar's own words: purpose, examples, exit statuses; and
 * how `--help` shows it all.
 */

import { type DocEntry, type DocPage, formatDocPage } from "@optique/core/doc";
import { lineBreak, type Message, text } from "@optique/core/message";

export const programName = "sshshim";

/** Optique lists every option here, and its own order is another one. */
export const usage = "[OPTION...] [USER@]HOST[:PORT]... [-- [COMMAND [ARG...]]]";

export const about =
  "Keeps one authenticated SSH connection to a server and lets every SSH client on this machine " +
  "use it through a local port.";

/** Command lines, and what each is for. */
export const examples: readonly { line: string; purpose: string }[] = [
  { line: "sshshim prod", purpose: "Serve the host that ssh's configuration calls prod." },
  {
    line: "sshshim ubuntu@prod.example.com --ed25519-key ~/.ssh/id_ed25519",
    purpose: "Log in with one key and no other.",
  },
  {
    line: "sshshim --host 192.0.2.7 -l git --rsa-key KEY --local-port 0",
    purpose: "Name host, user and key by options alone; clients find it at a port that is free.",
  },
  {
    line: "sshshim prod -- rsync -a ./ prod.shim:/srv/",
    purpose: "Serve it for as long as one command runs.",
  },
];

/** From 0 on, what each status means. */
export const exitStatuses: readonly string[] = [
  "stopped by a signal, or by --idle-exit or --max-life",
  "internal error",
  "the command line or ssh's configuration is wrong, or the audit or ready file cannot be used",
  "the server refused the login, a file to log in with cannot be used, or nobody is there to ask",
  "the server's host key was refused",
  "the server, or a jump host, cannot be reached or has no common algorithm; the connection was " +
  "lost, with --no-reconnect; or no shim of the name runs, answers or is connected in time",
  "the local port, its host key or the file of authorized keys cannot be used; or a running shim " +
  "refuses what it is asked for",
];

/** Which status a command has after `--`. */
export const commandStatus =
  "After -- COMMAND, the command's: 126 where it cannot be run, 127 where it is not found, 128 and " +
  "the signal's number where a signal ended it.";

/** Optique's own words for these are not ours. */
const others: Readonly<Record<string, string>> = {
  "--help": "Show this help.",
  "--version": "Show the version.",
  "--completion": "Print a completion script for bash, zsh, fish, nu or pwsh.",
};

/** Columns of `--help`. */
const width = 80;

/** The page of the whole program, whose subcommands stand first. */
export function helpText(page: DocPage, subcommands: readonly DocEntry[]): string {
  return layOut({
    ...page,
    description: [
      ...[text(about), lineBreak(), lineBreak()],
      text(
        `In place of hosts there may be a subcommand; "${programName} SUBCOMMAND --help" tells `,
      ),
      text("more. A server that is called like one is given as ssh://NAME, or by --host."),
    ],
    sections: [{ title: "Subcommands", entries: subcommands }, ...page.sections],
    examples: lines(examples.map(({ line }) => line)),
    footer: lines([
      "Exit status:",
      ...exitStatuses.flatMap((meaning, status) => wrapped(`  ${status}  ${meaning}`, "     ")),
      ...wrapped(commandStatus, ""),
    ]),
  });
}

/** Lays out a page that Optique made from a grammar. */
export function layOut(page: DocPage): string {
  const layout = { maxWidth: width, termWidth: 24, sectionOrder: () => 0 };
  return formatDocPage(programName, arranged(page), layout).replace(/ +$/gm, "") + "\n";
}

/** The same page with what people look for first in front, and without what is not for them. */
export function arranged(page: DocPage): DocPage {
  const sections = page.sections.map(({ title, entries }) => ({
    title,
    // ARG is what completion scripts pass, nothing for people; HOST is what they look for first.
    entries: entries
      .filter(({ term }) => term.type !== "argument" || term.metavar !== "ARG")
      .toSorted((a, b) => Number(b.term.type === "argument") - Number(a.term.type === "argument"))
      .map((entry) => ({ ...entry, description: ourDescription(entry) })),
  }));
  return { ...page, sections };
}

function ourDescription({ term, description }: DocEntry): Message | undefined {
  const name = term.type === "option" ? term.names.find((name) => name in others) : undefined;
  return name === undefined ? description : [text(others[name]!)];
}

function lines(all: readonly string[]): Message {
  return all.flatMap((line, index) => index === 0 ? [text(line)] : [lineBreak(), text(line)]);
}

/** One long line as several; `indent` is before all but the first. */
function wrapped(line: string, indent: string): string[] {
  if (line.length < width) return [line];
  const end = line.lastIndexOf(" ", width - 1);
  return [line.slice(0, end), ...wrapped(indent + line.slice(end + 1), indent)];
}
