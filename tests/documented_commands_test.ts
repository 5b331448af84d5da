/**
 * The commands of the documentation do what it says: each fenced block of `console` or `sh` is run,
 * in a home that is empty but for what ssh needs to find `prod`, unless the page says why not.
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { type Block, blocksOf, patternOf, type Step } from "./support/pages.ts";
import { canHaveWorld, hosts, makeWorld, type World } from "./support/prod.ts";
import type { RunningProcess } from "./support/run.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const pages = [
  "README.md",
  ...Array.from(Deno.readDirSync(`${root}.github`), ({ name }) => `.github/${name}`).sort(),
].filter((name) => name.endsWith(".md"));

/** A command that serves until Ctrl-C, as far as its words tell. */
const serving =
  /^sshshim (?!setup|ready|list|status|stop|reconnect|wait|kill|forward|logs|connect)(?![^]* (--|-G|--print-config|--completion|-V|-h|--version|--help)( |$))/;
/** It cannot be left running in a terminal of its own here; `-f` waits for its forwards. */
const forwarding = /^ssh (?=([^]* )?-N )/;

/** The reader at work on one page. */
class Reader implements AsyncDisposable {
  readonly #world: World;
  /** What serves, and for which commands. */
  #servers: { command: string; process: RunningProcess }[] = [];
  #isSetUp = false;

  constructor(world: World) {
    this.#world = world;
  }

  /** Does what a block says. What served before goes on, unless the block has its own. */
  async follow({ steps }: Block): Promise<void> {
    const setsUp = steps.some(({ command }) => command.startsWith("sshshim setup"));
    if (!setsUp && !this.#isSetUp) await this.#run({ command: "sshshim setup --yes", shown: [] });
    this.#isSetUp = true;
    if (steps.some(({ command }) => serving.test(command))) await this.stop();
    else if (!this.#servers.some(({ command }) => /\bprod\b/.test(command))) {
      await this.stop();
      await this.#serve({ command: "sshshim prod", shown: [] });
    }
    for (const step of steps) {
      if (serving.test(step.command)) await this.#serve(step);
      else await this.#run(step);
    }
  }

  async #run({ command, shown }: Step): Promise<void> {
    const { code, output } = await this.#world.run(
      command.replace(forwarding, "ssh -f -o ExitOnForwardFailure=yes "),
    );
    assert.equal(code, 0, `${command}\n${output}`);
    if (shown.length > 0) assert.match(`${output}\0`, new RegExp(patternOf(shown).source + "\\0"));
  }

  /** The page may show the beginning of what it says. */
  async #serve({ command, shown }: Step): Promise<void> {
    const process = this.#world.start(command);
    this.#servers.push({ command, process });
    const words = command.replace(/ -J \S+/, "").split(/[\s@]+/);
    const count = words.filter((word) => hosts.includes(word)).length;
    const banner = `^sshshim: .* is at .*\\n(?:[^]*?^sshshim: .* is at .*\\n){${count - 1}}`;
    try {
      await process.stdout.waitFor(new RegExp(count > 1 ? banner : "Ctrl-C ends it|^Host ", "m"));
    } catch (cause) {
      throw new Error(`${command} does not serve:\n${process.stderr.text}`, { cause });
    }
    assert.match(process.stdout.text, patternOf(shown));
  }

  /** Ends what serves as Ctrl-C does, and asserts that it was content until then. */
  async stop(): Promise<void> {
    for (const { command, process } of this.#servers.splice(0)) {
      process.kill("SIGINT");
      assert.equal((await process.drained()).code, 0, `${command}\n${process.stderr.text}`);
      await process[Symbol.asyncDispose]();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { process } of this.#servers) await process[Symbol.asyncDispose]();
  }
}

for (const page of pages) {
  const blocks = blocksOf(await Deno.readTextFile(root + page));
  if (blocks.every(({ notRun }) => notRun !== undefined)) continue;
  Deno.test({
    name: `the commands of ${page} work as they stand`,
    // It needs namespaces for mounts and the network.
    ignore: !await canHaveWorld(),
    async fn(t) {
      await using world = await makeWorld();
      await using reader = new Reader(world);
      for (const block of blocks) {
        if (block.notRun !== undefined) continue;
        const name = `${block.line}: ${block.steps[0]!.command.split("\n")[0]}`;
        await t.step(name, () => reader.follow(block));
      }
      await t.step("and what serves ends well", () => reader.stop());
    },
  });
}

Deno.test("blocks of commands are found, with what they print and why they are not run", () => {
  const page = [
    "Text.",
    "```console",
    "$ one \\",
    "  more",
    "shown … here",
    "…",
    "$ two",
    "```",
    "<!-- not run: needs a moon -->",
    "",
    "- ```sh",
    "  ```sh",
    "  three",
    "  four",
    "  ```",
    "```text",
    "$ not a command",
    "```",
  ].join("\n");
  assert.deepEqual(blocksOf(page), [
    {
      line: 2,
      steps: [
        { command: "one \\\n  more", shown: ["shown … here", "…"] },
        { command: "two", shown: [] },
      ],
      notRun: undefined,
    },
    { line: 12, steps: [{ command: "three\nfour", shown: [] }], notRun: undefined },
  ]);
  const pattern = patternOf(["shown … here", "…"]);
  assert.match("shown or (not) here\nmore\n", pattern);
  assert.doesNotMatch("shown or not\n", pattern);
});
