/** The commands that pages of documentation show: their fenced blocks of `console` and `sh`. */

/** A fenced block. */
export interface Block {
  /** The number of its first line in the page. */
  line: number;
  /** What is done, one after the other: the lines with a prompt, or the whole script. */
  steps: Step[];
  /** Why it is not run, as the page says: `<!-- not run: REASON -->` before the block. */
  notRun: string | undefined;
}

/** A command, and the lines that the page shows as what it prints. */
export interface Step {
  command: string;
  shown: string[];
}

/** All of a page's blocks of commands. */
export function blocksOf(page: string): Block[] {
  const lines = page.split("\n");
  const blocks: Block[] = [];
  for (let index = 0; index < lines.length; index++) {
    const [, indentation, language] = /^( *)```(console|sh)$/.exec(lines[index]!) ?? [];
    if (indentation === undefined) continue;
    const line = index + 1;
    const before = lines.slice(0, index).findLast((line) => line.trim() !== "");
    const [, notRun] = /^\s*<!-- not run: (.+) -->$/.exec(before ?? "") ?? [];
    const content: string[] = [];
    while (lines[++index] !== `${indentation}\`\`\``) {
      if (index >= lines.length) throw new Error(`The block at line ${line} has no end.`);
      content.push(lines[index]!.slice(indentation.length));
    }
    const steps = language === "sh"
      ? [{ command: content.join("\n"), shown: [] }]
      : stepsOf(content);
    blocks.push({ line, steps, notRun });
  }
  return blocks;
}

/** A command begins with `$ `, and goes on after a backslash. */
function stepsOf(lines: string[]): Step[] {
  const steps: Step[] = [];
  for (let index = 0; index < lines.length; index++) {
    const line = lines[index]!;
    if (!line.startsWith("$ ")) {
      if (steps.length === 0) throw new Error(`Before a command stands: ${line}`);
      steps.at(-1)!.shown.push(line);
      continue;
    }
    let command = line.slice(2);
    while (command.endsWith("\\")) command += `\n${lines[++index]!.replace(/^> /, "")}`;
    steps.push({ command, shown: [] });
  }
  return steps;
}

/** What an output has to be: `…` stands for anything, as a line of its own for any lines. */
export function patternOf(shown: readonly string[]): RegExp {
  const lines = shown.map((line) =>
    line === "…" ? "(?:.*\\n)*" : `${line.split("…").map(RegExp.escape).join(".*")}\\n`
  );
  return new RegExp(`^${lines.join("")}`);
}
