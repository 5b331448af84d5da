/**
 * Writes .github/OPTIONS.md, all options as tables, made of the grammar that parses the command
 * line; with `--check` it only says whether that is what stands there.
 *
 *     deno task docs [--check]
 */

import type { DocEntry } from "@optique/core/doc";
import { program } from "../lib/cli_program.ts";
import { helpPage } from "../lib/cli_parse.ts";
import { subcommands } from "../lib/cli_subcommands.ts";
import { usage } from "../lib/help.ts";
import { descriptionOf } from "./mdoc.ts";
import { root } from "./release/release.ts";

const file = ".github/OPTIONS.md";

/** The page as `deno fmt` has it. */
export async function optionsPage(): Promise<string> {
  const groups = helpPage(program).sections.map(({ title, entries }) => {
    return `### ${title}\n\n${table(entries)}`;
  });
  const own = subcommands.map(({ name, usage, about, page }) => {
    const tables = page().sections.map(({ entries }) => table(entries));
    return [`### ${name}`, block(usage), inline(about), ...tables].join("\n\n");
  });
  return await formatted([
    "# Options",
    "This page is made of the grammar of the command line, as are `sshshim --help`, the manual " +
    "page and the completions: `deno task docs` writes it.",
    "## Serving hosts",
    block(usage),
    ...groups,
    "## Subcommands",
    ...own,
  ].join("\n\n"));
}

function block(usage: string): string {
  return `\`\`\`\nsshshim ${usage}\n\`\`\``;
}

function table(entries: readonly DocEntry[]): string {
  const rows = entries.map((entry) => `| ${nameOf(entry)} | ${inline(descriptionOf(entry))} |`);
  return ["| option | meaning |", "| --- | --- |", ...rows].join("\n");
}

function nameOf({ term }: DocEntry): string {
  if (term.type === "argument") return `\`${term.metavar}\``;
  if (term.type !== "option") throw new Error(`An entry is of type ${term.type}.`);
  const [last, ...others] = term.names.toReversed();
  const value = term.metavar === undefined ? "" : ` ${term.metavar}`;
  return [...others.toReversed().map((name) => `\`${name}\``), `\`${last}${value}\``].join(", ");
}

/** Options, names in capitals and what has signs of Markdown are code. */
function inline(text: string): string {
  return text.split(/(`[^`]+`)/).map((part, index) => {
    if (index % 2 === 1) return part;
    return part.replace(
      /(?<=^|[\s(])(?:-{1,2}[a-z][\w-]*|\S*[~[\]_*<>|]\S*?|[A-Z]+\.shim)(?=[.,;:)]*(?:\s|$))/gi,
      "`$&`",
    );
  }).join("");
}

async function formatted(markdown: string): Promise<string> {
  const formatter = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--ext", "md", "-"],
    cwd: root,
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  await new Blob([markdown]).stream().pipeTo(formatter.stdin);
  const { success, stdout } = await formatter.output();
  if (!success) throw new Error("deno fmt failed; its output above says why.");
  return new TextDecoder().decode(stdout);
}

if (import.meta.main) {
  const page = await optionsPage();
  if (!Deno.args.includes("--check")) await Deno.writeTextFile(root + file, page);
  else if (page !== await Deno.readTextFile(root + file).catch(() => "")) {
    console.error(`${file} is not what the grammar says: deno task docs writes it anew.`);
    Deno.exit(1);
  }
}
