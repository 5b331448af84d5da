/**
 * Compiles sshshim to a file that needs no Deno: `dist/sshshim` for this machine, or
 * `dist/TARGET/sshshim` for others.
 *
 *     deno task compile [--all | --target TARGET...] [--output FILE] [--compiler DENO]
 *
 * The program is bundled first, once for all targets. Its version gets the commit as build
 * metadata. `--output` is for this machine alone. Another Deno may be named as the compiler: it
 * embeds its own runtime.
 */

import { basename, dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { root, run } from "./release/release.ts";
import { type Target, targetOf, targets } from "./targets.ts";

/** Which files become the program. */
const sources = ["main.ts", "lib", "deno.json", "deno.lock"];

/**
 * What stands before the bundle. ssh2 has CommonJS modules that ask where they are, which a bundle
 * does not tell them; nothing is read from there.
 */
const prologue = 'globalThis.__dirname = "/"; globalThis.__filename = "/sshshim.js";\n';

/**
 * ssh2 and one of its dependencies try to load native code and do without it where there is none. A
 * compiled program has its files, by name alone, below the folder for temporary files, and Deno's
 * search for modules goes on from there to the disk, where others may write: these two search nowhere.
 */
const nativeModules = [
  "./crypto/build/Release/sshcrypto.node",
  "../build/Release/cpufeatures.node",
];

/**
 * What `deno compile` is told.
 *
 * Deno demands all permissions for the terminal's device and for /proc/net/tcp. It would keep its
 * code cache in the folder for temporary files under a name that everybody can guess, and run what
 * it finds there. V8 keeps up to 48 MB for what is young, and would fill them with what passes by: a
 * sixteenth of that makes nothing slower.
 */
const compileOptions = [
  ...["--allow-all", "--no-code-cache", "--no-check", "--no-config", "--no-lock"],
  "--v8-flags=--max-semi-space-size=1",
];

/**
 * The version, with the commit that it is made of, such as `0.1.0+743c1e6`; `.changed` follows
 * where files differ from that commit. Without git it is the bare version.
 */
export async function fullVersion(version: string): Promise<string> {
  try {
    const commit = (await run(["git", "rev-parse", "--short=12", "HEAD"])).trim();
    const changes = await run(["git", "status", "--porcelain", "--", ...sources]);
    return `${version}+${commit}${changes === "" ? "" : ".changed"}`;
  } catch {
    // An archive of the sources has no history.
    return version;
  }
}

async function copy(from: string, to: string): Promise<void> {
  if (!(await Deno.stat(from)).isDirectory) return await Deno.copyFile(from, to);
  await Deno.mkdir(to);
  for await (const { name } of Deno.readDir(from)) await copy(`${from}/${name}`, `${to}/${name}`);
}

/** Writes the whole program into one module in a folder, and returns its path. */
export async function bundle(folder: string): Promise<string> {
  const copied = `${folder}/source`;
  await Deno.mkdir(copied);
  for (const source of sources) await copy(`${root}${source}`, `${copied}/${source}`);
  const config = JSON.parse(await Deno.readTextFile(`${copied}/deno.json`));
  config.version = await fullVersion(config.version);
  await Deno.writeTextFile(`${copied}/deno.json`, JSON.stringify(config));

  const bundled = `${folder}/bundled.js`;
  const options = ["--minify", "--platform", "deno", "--external", "*.node"];
  await run([Deno.execPath(), "bundle", ...options, "-o", bundled, "main.ts"], { folder: copied });
  const module = `${folder}/sshshim.js`;
  await Deno.writeTextFile(
    module,
    prologue + withoutNativeModules(await Deno.readTextFile(bundled)),
  );
  return module;
}

function withoutNativeModules(code: string): string {
  for (const name of nativeModules) {
    const parts = code.split(`"${name}"`);
    if (parts.length !== 2) throw new Error(`${name} is not loaded at one place of the bundle.`);
    code = parts.join('"node:none"');
  }
  const [other] = /"[^"]*\.node"/.exec(code) ?? [];
  if (other !== undefined) throw new Error(`The bundle would load ${other}.`);
  return code;
}

/** Compiles the module that `bundle` made. */
async function compile(
  module: string,
  { output, target, compiler }: { output: string; target?: Target; compiler: string },
): Promise<void> {
  const triple = target === undefined ? [] : ["--target", target.triple];
  await run(
    [compiler, "compile", ...compileOptions, ...triple, "--output", output, basename(module)],
    { folder: dirname(module) },
  );
  const { size } = await Deno.stat(output);
  console.log(`${output}: ${(size / 1e6).toFixed(1)} MB`);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      all: { type: "boolean" },
      target: { type: "string", multiple: true },
      output: { type: "string" },
      compiler: { type: "string" },
    },
  });
  const compiler = values.compiler ?? Deno.execPath();
  const chosen = values.all ? targets : (values.target ?? []).map(targetOf);
  const own = Deno.build.os === "windows" ? "sshshim.exe" : "sshshim";
  const outputs: { output: string; target?: Target }[] = chosen.length === 0
    ? [{ output: resolve(values.output ?? `${root}dist/${own}`) }]
    : chosen.map((target) => ({
      output: `${root}dist/${target.triple}/${target.program}`,
      target,
    }));
  const folder = await Deno.makeTempDir({ prefix: "sshshim-compile-" });
  try {
    const module = await bundle(folder);
    for (const it of outputs) await compile(module, { ...it, compiler });
  } catch (error) {
    console.error((error as Error).message);
    Deno.exitCode = 1;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
