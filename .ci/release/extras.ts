/** What is shipped beside the program: completions, and the manual page where a task makes one. */

import config from "../../deno.json" with { type: "json" };
import { run } from "./release.ts";

/** Completion scripts by the file names that shells expect. */
export type Completions = Readonly<Record<string, string>>;

const shells = {
  "sshshim.bash": "bash",
  "_sshshim": "zsh",
  "sshshim.fish": "fish",
  "sshshim.nu": "nu",
  "sshshim.ps1": "pwsh",
};

/** Files as text. */
export interface Extras {
  completions: Completions;
  /** The page in roff. */
  manPage: string | undefined;
}

/** Makes them from the sources. */
export async function makeExtras(): Promise<Extras> {
  const completions = await Promise.all(
    Object.entries(shells).map(async ([file, shell]) => {
      const script = await run([Deno.execPath(), "run", "-A", "main.ts", "--completion", shell]);
      return [file, script] as const;
    }),
  );
  const manPage = "man" in config.tasks
    ? await run([Deno.execPath(), "task", "--quiet", "man"])
    : undefined;
  return { completions: Object.fromEntries(completions), manPage };
}
