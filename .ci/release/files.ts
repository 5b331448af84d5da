/** Trees of files that become archives, the same bytes for the same commit. */

import { dirname } from "node:path";
import { run } from "./release.ts";

/** A file to be: its text, or a file to copy. */
export type Content = string | { copyOf: string };

/** Writes files into a folder, all with the same time; programs can be run. */
export async function writeTree(
  folder: string,
  files: Readonly<Record<string, Content>>,
  { programs, time }: { programs: readonly string[]; time: number },
): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    const file = `${folder}/${path}`;
    await Deno.mkdir(dirname(file), { recursive: true });
    if (typeof content === "string") await Deno.writeTextFile(file, content);
    else await Deno.copyFile(content.copyOf, file);
  }
  await setModes(folder, { programs: programs.map((path) => `${folder}/${path}`), time });
}

async function setModes(
  path: string,
  { programs, time }: { programs: readonly string[]; time: number },
): Promise<void> {
  const { isDirectory } = await Deno.stat(path);
  if (isDirectory) {
    for await (const { name } of Deno.readDir(path)) {
      await setModes(`${path}/${name}`, { programs, time });
    }
  }
  await Deno.chmod(path, isDirectory || programs.includes(path) ? 0o755 : 0o644);
  await Deno.utime(path, time, time);
}

/** Packs the only folder in a folder; the ending of the name says how. */
export async function pack(
  folder: string,
  { name, archive }: { name: string; archive: string },
): Promise<void> {
  const names = (await run(["find", name, "-print"], { folder })).trim().split("\n").toSorted();
  if (archive.endsWith(".zip")) {
    await run(["zip", "-q", "-X", archive, ...names], { folder, environment: { TZ: "UTC" } });
    return;
  }
  const options = ["--format=ustar", "--owner=0", "--group=0", "--numeric-owner", "--no-recursion"];
  const tar = archive.replace(/\.gz$/, "");
  await run(["tar", "-cf", tar, ...options, ...names], { folder });
  await run(["gzip", "-n", "-9", tar]);
}
