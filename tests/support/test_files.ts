/** Which files of tests are run, and in which order. */

/** Those that take longest: begun late, one of them would keep the others' processors idle. */
const longest: string[] = [
  "resume_test.ts",
  "algorithms_test.ts",
  "control_commands_test.ts",
  "prompt_test.ts",
  "reconnect_test.ts",
  "jump_test.ts",
  "lane_test.ts",
  "resume_program_test.ts",
  "fault_sweep_test.ts",
  "soak_test.ts",
  "library_test.ts",
  "life_test.ts",
  "command_test.ts",
  "host_certificate_test.ts",
];

/**
 * Takes the words of the command line apart: what is a file or a folder, and what is for
 * `deno test`.
 *
 * @param folder where tests are if no word names a place
 */
export async function findTestFiles(
  words: readonly string[],
  folder: string,
): Promise<{ files: string[]; options: string[] }> {
  const files = new Set<string>();
  const options: string[] = [];
  let hasPlaces = false;
  for (const word of words) {
    const info = word.startsWith("-") ? undefined : await Deno.stat(word).catch(() => undefined);
    if (info === undefined) {
      options.push(word);
      continue;
    }
    hasPlaces = true;
    for (const file of info.isDirectory ? await filesIn(word) : [word]) files.add(file);
  }
  if (!hasPlaces) { for (const file of await filesIn(folder)) files.add(file); }
  return { files: [...files], options };
}

async function filesIn(folder: string): Promise<string[]> {
  const found: string[] = [];
  const path = folder.replace(/\/+$/, "");
  for await (const { name, isDirectory } of Deno.readDir(path)) {
    if (isDirectory) found.push(...await filesIn(`${path}/${name}`));
    else if (name.endsWith("_test.ts")) found.push(`${path}/${name}`);
  }
  return found.sort();
}

/** The order in which they begin. */
export function inOrder(files: readonly string[]): string[] {
  const rank = (path: string) => {
    const index = longest.indexOf(path.split("/").at(-1)!);
    return index === -1 ? longest.length : index;
  };
  return files.toSorted((a, b) => rank(a) - rank(b));
}
