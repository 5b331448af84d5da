/** The npm packages that are in a compiled sshshim: their licenses, and the bill of materials. */

import { Buffer } from "node:buffer";
import { description, repository, root, run, version } from "./release.ts";

/** A package that the program contains. */
export interface NpmPackage {
  name: string;
  version: string;
  /** As SPDX has it. */
  license: string;
  /** The text of its license. */
  licenseText: string;
  /** The checksum of its archive in deno.lock, SHA-512 in hex. */
  sha512: string;
}

/** Types alone, and what would build native code: nothing of these is in the program. */
const absent = /^(@types\/.*|undici-types|nan|buildcheck)$/;

/** All of them, by name. */
export async function npmPackages(): Promise<NpmPackage[]> {
  const info: {
    npmPackages: Record<string, { name: string; version: string; localPath: string }>;
  } = JSON.parse(await run([Deno.execPath(), "info", "--json", "main.ts"]));
  const lock: { npm: Record<string, { integrity: string }> } = JSON.parse(
    await Deno.readTextFile(`${root}deno.lock`),
  );
  const packages = Object.values(info.npmPackages).filter(({ name }) => !absent.test(name));
  return await Promise.all(packages.map(async ({ name, version, localPath }) => {
    const manifest = JSON.parse(await Deno.readTextFile(`${localPath}/package.json`));
    const license: string = manifest.license ?? manifest.licenses?.[0]?.type;
    if (!license) throw new Error(`${name} ${version} tells no license.`);
    const integrity = lock.npm[`${name}@${version}`]!.integrity.replace(/^sha512-/, "");
    return {
      name,
      version,
      license,
      licenseText: await readLicense(localPath),
      sha512: Buffer.from(integrity, "base64").toString("hex"),
    };
  }));
}

async function readLicense(folder: string): Promise<string> {
  const file = Array.from(Deno.readDirSync(folder), ({ name }) => name)
    .find((name) => /^(licen[cs]e|copying)/i.test(name));
  if (file === undefined) throw new Error(`${folder} has no license file.`);
  return (await Deno.readTextFile(`${folder}/${file}`)).trim();
}

/** The licenses of everything that is not ours, as one text. */
export function licenses(packages: readonly NpmPackage[]): string {
  const deno =
    `Deno ${Deno.version.deno}, with V8 ${Deno.version.v8} and the Rust libraries in it:` +
    `\nMIT; see https://github.com/denoland/deno/tree/v${Deno.version.deno}`;
  return [
    "A compiled sshshim contains the following.",
    deno,
    ...packages.map(({ name, version, license, licenseText }) =>
      `${name} ${version}: ${license}\n\n${licenseText}`
    ),
  ].join(`\n\n${"-".repeat(80)}\n\n`) + "\n";
}

/** The bill of materials: a document of CycloneDX 1.5. */
export function billOfMaterials(packages: readonly NpmPackage[], time: number): string {
  const library = ({ name, version, license, sha512 }: NpmPackage) => ({
    type: "library",
    "bom-ref": `${name}@${version}`,
    name,
    version,
    purl: `pkg:npm/${name.replace("@", "%40")}@${version}`,
    hashes: [{ alg: "SHA-512", content: sha512 }],
    licenses: [{ license: { id: license } }],
  });
  const bom = {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: {
      timestamp: new Date(time * 1000).toISOString(),
      component: {
        type: "application",
        "bom-ref": "sshshim",
        name: "sshshim",
        version,
        description,
        purl: `pkg:github/${repository()}@${version}`,
        licenses: [{ license: { id: "MIT" } }],
      },
    },
    components: [
      {
        type: "platform",
        "bom-ref": "deno",
        name: "deno",
        version: Deno.version.deno,
        purl: `pkg:github/denoland/deno@v${Deno.version.deno}`,
        licenses: [{ license: { id: "MIT" } }],
      },
      ...packages.map(library),
    ],
  };
  return JSON.stringify(bom, null, 2) + "\n";
}
