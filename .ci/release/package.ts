/**
 * Makes everything that a release consists of from the compiled programs: archives, Debian's
 * packages, the bill of materials, install scripts, a Homebrew formula, a Scoop manifest, and
 * SHA256SUMS over all of these.
 *
 *     deno task package [--programs FOLDER] [--output FOLDER] [--target TARGET...]
 *
 * The programs are in FOLDER/TARGET, as `deno task compile --all` leaves them in `dist`. With
 * `--target`, as a trial, the others may be missing; the formula and the manifest are then as well.
 * It needs tar, gzip, zip and dpkg-deb, and the variable GITHUB_REPOSITORY.
 */

import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { archiveName, targetOf, targets } from "../targets.ts";
import { buildDebian } from "./debian.ts";
import { makeExtras } from "./extras.ts";
import { type Content, pack, writeTree } from "./files.ts";
import { homebrewFormula, parseSums, scoopManifest } from "./manifests.ts";
import { billOfMaterials, licenses, npmPackages } from "./npm_packages.ts";
import { commitTime, repository, root, version } from "./release.ts";

const { values } = parseArgs({
  options: {
    programs: { type: "string", default: `${root}dist` },
    output: { type: "string", default: `${root}dist/release` },
    target: { type: "string", multiple: true },
  },
});
const programs = resolve(values.programs);
const output = resolve(values.output);
const chosen = values.target?.map(targetOf) ?? targets;

await Deno.mkdir(output, { recursive: true });
for (const { name } of Deno.readDirSync(output)) await Deno.remove(`${output}/${name}`);
const work = await Deno.makeTempDir({ prefix: "sshshim-package-" });
try {
  const time = await commitTime();
  const extras = await makeExtras();
  const packages = await npmPackages();
  const licensesText = licenses(packages);

  const beside: Record<string, Content> = {
    LICENSE: { copyOf: `${root}LICENSE` },
    "README.md": { copyOf: `${root}README.md` },
    "CHANGELOG.md": { copyOf: `${root}CHANGELOG.md` },
    "LICENSES-of-others.txt": licensesText,
    "man/sshshim.1": extras.manPage,
  };
  for (const [file, script] of Object.entries(extras.completions)) {
    beside[`completions/${file}`] = script;
  }

  for (const target of chosen) {
    const program = `${programs}/${target.triple}/${target.program}`;
    const file = archiveName(version, target);
    const name = file.slice(0, -target.archive.length);
    const folder = `${work}/${target.triple}`;
    await writeTree(`${folder}/${name}`, { ...beside, [target.program]: { copyOf: program } }, {
      programs: [target.program],
      time,
    });
    await pack(folder, { name, archive: `${output}/${file}` });
    if (target.os !== "linux") continue;
    const place = `${work}/debian-${target.arch}`;
    await Deno.mkdir(place, { mode: 0o755 });
    await buildDebian({
      ...{ program, target, extras, licenses: licensesText, time },
      ...{ folder: place, output },
    });
  }

  for (const script of ["install.sh", "install.ps1"]) {
    const text = await Deno.readTextFile(`${root}.github/${script}`);
    await Deno.writeTextFile(`${output}/${script}`, filledIn(text, script));
  }
  await Deno.writeTextFile(`${output}/sshshim.cdx.json`, billOfMaterials(packages, time));

  if (values.target === undefined) {
    const sums = parseSums(checksums());
    await Deno.writeTextFile(`${output}/sshshim.rb`, homebrewFormula(sums));
    await Deno.writeTextFile(`${output}/sshshim.json`, scoopManifest(sums));
  }
  const sums = checksums();
  await Deno.writeTextFile(`${output}/SHA256SUMS`, sums);
  console.log(sums.trim());
} finally {
  await Deno.remove(work, { recursive: true });
}

/** The script with this repository in its one place. */
function filledIn(text: string, script: string): string {
  const parts = text.split("@REPOSITORY@");
  if (parts.length === 2) return parts.join(repository());
  throw new Error(`.github/${script} does not have @REPOSITORY@ at one place.`);
}

/** A line for each file, as sha256sum writes it. */
function checksums(): string {
  return Array.from(Deno.readDirSync(output), ({ name }) => name).toSorted().map((name) => {
    const sum = createHash("sha256").update(Deno.readFileSync(`${output}/${name}`)).digest("hex");
    return `${sum}  ${name}\n`;
  }).join("");
}
