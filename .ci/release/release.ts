/** What all steps of a release share: which version of what, and where its files are. */

import { fileURLToPath } from "node:url";
import config from "../../deno.json" with { type: "json" };

/** The version of deno.json; a release's tag is the same. */
export const version: string = config.version;

export const root: string = fileURLToPath(new URL("../../", import.meta.url));

export const description =
  "One authenticated SSH connection, served at a local port to every SSH client";

/**
 * The repository on GitHub as `OWNER/NAME`. It stands nowhere in the sources: the runner's
 * environment has it.
 *
 * @throws {Error} where it has not
 */
export function repository(): string {
  const name = Deno.env.get("GITHUB_REPOSITORY") ?? "";
  if (/^[\w.-]+\/[\w.-]+$/.test(name)) return name;
  throw new Error("Set GITHUB_REPOSITORY to the repository's OWNER/NAME.");
}

/** Where a file of this release can be downloaded. */
export function downloadUrl(file: string): string {
  return `https://github.com/${repository()}/releases/download/${version}/${file}`;
}

/**
 * The section of this version in a changelog, without its heading.
 *
 * @throws {Error} where there is none, or it has no date
 */
export function releaseNotes(changelog: string): string {
  const heading = new RegExp(`^## \\[${version.replaceAll(".", "\\.")}\\] - (.*)$`, "m");
  const match = heading.exec(changelog);
  if (match === null) throw new Error(`CHANGELOG.md has no section "## [${version}] - DATE".`);
  if (!/^\d{4}-\d{2}-\d{2}$/.test(match[1]!)) {
    throw new Error(`CHANGELOG.md has "${match[1]}" where the date of ${version} belongs.`);
  }
  const rest = changelog.slice(match.index + match[0].length);
  return rest.split(/^(?:## |\[[^\]]+\]: )/m)[0]!.trim() + "\n";
}

/** When the newest commit was made, in seconds since 1970: the time of all files of a release. */
export async function commitTime(): Promise<number> {
  return Number(await run(["git", "log", "-1", "--format=%ct"]));
}

/**
 * Runs a command in the project's folder or another one.
 *
 * @returns its standard output
 * @throws {Error} when it fails
 */
export async function run(
  [program = "", ...args]: string[],
  { folder = root, environment = {} }: {
    folder?: string;
    environment?: Record<string, string>;
  } = {},
): Promise<string> {
  const output = await new Deno.Command(program, { args, cwd: folder, env: environment }).output();
  const decoder = new TextDecoder();
  if (output.success) return decoder.decode(output.stdout);
  throw new Error(
    `${[program, ...args].join(" ")} failed:\n${decoder.decode(output.stdout)}` +
      decoder.decode(output.stderr),
  );
}
