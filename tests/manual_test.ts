/** The manual page and the table of options: nothing is missing that the command line has. */

import assert from "node:assert/strict";
import { extractOptionNames } from "@optique/core/usage";
import { manualPage } from "../.ci/man.ts";
import { descriptionOf, mdocText } from "../.ci/mdoc.ts";
import { optionsPage } from "../.ci/options.ts";
import { parseArguments } from "../lib/cli.ts";
import { grammar } from "../lib/cli_grammar.ts";
import { helpPage } from "../lib/cli_parse.ts";
import { program } from "../lib/cli_program.ts";
import { subcommands } from "../lib/cli_subcommands.ts";
import { run, runChecked, text } from "./support/run.ts";

const options = [
  ...extractOptionNames(grammar.usage),
  ...["-h", "--help", "-V", "--version", "--completion"],
];
const own = subcommands.map(({ name, page }) => ({
  name,
  options: page().sections.flatMap(({ entries }) => entries).flatMap(({ term }) =>
    term.type === "option" ? term.names : []
  ),
}));

/** What `deno task man` prints, in a folder that is removed. */
async function withPage<T>(action: (file: string) => Promise<T>): Promise<T> {
  const folder = await Deno.makeTempDir({ prefix: "manual-" });
  try {
    await Deno.writeTextFile(`${folder}/sshshim.1`, manualPage({ time: 0 }));
    return await action(`${folder}/sshshim.1`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The page as it is read, 80 columns wide. */
async function renderedPage(): Promise<string> {
  const page = await withPage((file) =>
    runChecked(["mandoc", "-T", "utf8", "-O", "width=80", file])
  );
  // deno-lint-ignore no-control-regex
  return page.replace(/.\x08/g, ""); // Bold and underlined letters are written over others.
}

function printed(...args: string[]): string {
  const command = parseArguments(args);
  assert(command.kind === "print");
  return command.text;
}

function completed(...words: string[]): string[] {
  return printed("--completion", "bash", ...words).split("\n");
}

/** Of a list of options, in which each has a line of its own. */
function assertListed(page: string, name: string): void {
  assert.match(page, new RegExp(`^ +(?:-\\w, )?${name}(?:,? |$)`, "m"), name);
}

Deno.test("mandoc finds nothing wrong with the manual page", async () => {
  const { stdout, stderr } = await withPage((file) =>
    run(["mandoc", "-T", "lint", "-W", "warning", file])
  );
  assert.equal(text(stdout) + text(stderr), "");
});

Deno.test("the manual page has every option and every subcommand, and fits 80 columns", async () => {
  const page = await renderedPage();
  for (const option of options) assertListed(page, option);
  const [, list = ""] = /^SUBCOMMANDS\n([^]*?)^\w/m.exec(page) ?? [];
  for (const { name, options } of own) {
    assert.match(page, new RegExp(`^ +sshshim ${name}\\b`, "m"));
    for (const word of [name, ...options]) assertListed(list, word);
  }
  for (const line of page.split("\n")) assert(line.length <= 80, line);
});

Deno.test("the manual page names every variable of ours", async () => {
  const page = await renderedPage();
  const lib = new URL("../lib/", import.meta.url);
  const names = new Set<string>();
  for (const { name } of Deno.readDirSync(lib)) {
    const source = Deno.readTextFileSync(new URL(name, lib));
    for (const [variable] of source.matchAll(/\bSSHSHIM_[A-Z_]+/g)) names.add(variable);
  }
  assert(names.size >= 5);
  for (const name of names) assert.match(page, new RegExp(`^ +${name}$`, "m"));
});

Deno.test("the table of options is what the grammar says, and lacks none of them", async () => {
  const page = await optionsPage();
  assert.equal(
    await Deno.readTextFile(new URL("../.github/OPTIONS.md", import.meta.url)),
    page,
    "It is stale: deno task docs",
  );
  const assertRow = (part: string, option: string) =>
    assert.match(part, new RegExp(`^\\| [^|]*\`${option}[ \`]`, "m"), option);
  for (const option of options) assertRow(page, option);
  for (const { name, options } of own) {
    const [, part] = page.split(`\n### ${name}\n`);
    assert(part !== undefined, name);
    for (const option of options) assertRow(part, option);
  }
});

Deno.test("the help has every option and every subcommand", () => {
  const help = printed("--help");
  for (const option of options) assertListed(help, option);
  for (const { name, options } of own) {
    assertListed(help, name);
    const ownHelp = printed(name, "--help");
    for (const option of options) assertListed(ownHelp, option);
  }
});

Deno.test("bash's completion has every option and every subcommand", () => {
  for (const words of [[], ["prod"]]) {
    const found = [...completed(...words, "-"), ...completed(...words, "--")];
    // It is for the file that the shell reads at its start.
    const wanted = options.filter((option) => option !== "--completion");
    assert.deepEqual(wanted.filter((option) => !found.includes(option)), []);
  }
  for (const { name, options } of own) {
    assert(completed("").includes(name), name);
    assert(completed(name.slice(0, 2)).includes(name), name);
    assert(!completed("prod", name.slice(0, 2)).includes(name), `${name} is the first word`);
    const found = [...completed(name, "-"), ...completed(name, "--")];
    assert.deepEqual(options.filter((option) => !found.includes(option)), []);
    assert(!found.includes("--local-port"));
  }
});

Deno.test("every option has a description, which is a sentence", () => {
  const pages = [helpPage(program), ...subcommands.map(({ page }) => page())];
  for (const entry of pages.flatMap(({ sections }) => sections).flatMap((it) => it.entries)) {
    assert.match(descriptionOf(entry), /^[A-Z][^]*\.$/, JSON.stringify(entry.term));
  }
  for (const { about, brief } of subcommands) {
    for (const text of [about, brief]) assert.match(text, /^[A-Z].*\.$/);
  }
});

Deno.test("words become the macros of their kind, and keep their characters", () => {
  const cases: [text: string, mdoc: string][] = [
    ["Use --no-reconnect. It ends.", "Use\n.Fl \\-no\\-reconnect .\nIt ends."],
    ["as `ssh -G` does", 'as\n.Ql "ssh \\-G"\ndoes'],
    ["see (ssh_config(5)); or ~/.ssh/a", "see\n.Xr ( ssh_config 5 ) ;\nor\n.Pa \\(ti/.ssh/a"],
    ["-- ends; SSH_ASKPASS asks", "\\-\\- ends;\n.Ev SSH_ASKPASS\nasks"],
    ["ssh's well-known \\ and “”", "ssh's well-known \\e and \\[u201C]\\[u201D]"],
    [".conf", "\\&.conf"],
    [`${"words ".repeat(13)}.d end`, `${"words ".repeat(13).trim()}\n\\&.d end`],
  ];
  for (const [text, mdoc] of cases) assert.equal(mdocText(text), mdoc);
});
