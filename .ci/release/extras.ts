/** What is shipped beside the program: completions and the manual page. */

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
  manPage: string;
}

/** Makes them from the sources. */
export async function makeExtras(): Promise<Extras> {
  const completions = await Promise.all(
    Object.entries(shells).map(async ([file, shell]) => {
      const script = await run([Deno.execPath(), "run", "-A", "main.ts", "--completion", shell]);
      return [file, script] as const;
    }),
  );
  const manPage = await run([Deno.execPath(), "task", "--quiet", "man"]);
  return { completions: Object.fromEntries(completions), manPage };
}
