/** Many small files, by sftp and by scp. */

import { run, text } from "../support/run.ts";
import { type Family, type FamilyOptions, inTurn, type Row, rowOf } from "./rows.ts";
import { startWays, type Way, type Ways } from "./ways.ts";

const fileCount = 1000;
const fileBytes = 2000;
const timeoutMs = 600_000;

export const files: Family = {
  name: "files",
  about: `${fileCount} files of ${fileBytes} bytes in one folder, from the start of the program ` +
    "to its end.",
  measure,
};

async function* measure({ isQuick }: FamilyOptions): AsyncGenerator<Row> {
  await using ways = await startWays();
  const source = `${ways.folder}/source`;
  await Deno.mkdir(source);
  const bytes = new Uint8Array(fileBytes);
  for (let index = 0; index < fileCount; index++) {
    await Deno.writeFile(`${source}/${index}`, bytes);
  }
  for (const program of ["sftp", "scp"] as const) {
    for (const direction of ["down", "up"] as const) {
      const samples = await inTurn(
        ways.all,
        isQuick ? 1 : 4,
        (way) => timeCopy(way, ways, { program, direction, source }),
      );
      yield rowOf(`${program}, ${fileCount} small files ${direction}`, "ms", samples, Number);
    }
  }
}

/** How long it takes to copy the folder, in milliseconds. */
async function timeCopy(
  { name, target }: Way,
  { folder }: Ways,
  { program, direction, source }: {
    program: "sftp" | "scp";
    direction: "down" | "up";
    source: string;
  },
): Promise<number> {
  const copy = `${folder}/copy`;
  const words = [program, "-q", ...target.clientOptions()];
  const remote = (path: string) => `${target.host}:${path}`;
  const [command, stdin] = program === "sftp"
    ? [
      [...words, "-b", "-", target.host],
      `${direction === "up" ? "put" : "get"} -Rp ${source} ${copy}\n`,
    ]
    : direction === "up"
    ? [[...words, "-r", source, remote(copy)], undefined]
    : [[...words, "-r", remote(source), copy], undefined];
  // sftp puts a folder into one that is there.
  if (program === "sftp" && direction === "up") await Deno.mkdir(copy);
  const start = performance.now();
  const { code, stderr } = await run(command, {
    environment: target.environment,
    timeoutMs,
    ...stdin && { stdin },
  });
  const ms = performance.now() - start;
  const copied = await countFiles(copy);
  await Deno.remove(copy, { recursive: true });
  if (code !== 0 || copied !== fileCount) {
    throw new Error(`${name}: ${copied} files by ${command.join(" ")}: ${text(stderr)}`);
  }
  return ms;
}

async function countFiles(folder: string): Promise<number> {
  let count = 0;
  for await (const entry of Deno.readDir(folder)) {
    count += entry.isDirectory ? await countFiles(`${folder}/${entry.name}`) : 1;
  }
  return count;
}
