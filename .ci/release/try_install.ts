/**
 * Runs this system's install script of a release that is in a folder, served over HTTP: a good
 * archive, a damaged one, and the removal. For a compiled program it makes such a folder first.
 *
 *     deno run -A .ci/release/try_install.ts FOLDER | PROGRAM
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { archiveName, targets } from "../targets.ts";
import { parseSums } from "./manifests.ts";
import { root, run, version } from "./release.ts";

const [argument] = Deno.args;
if (argument === undefined) throw new Error("Name the folder of the release, or the program.");
const isWindows = Deno.build.os === "windows";
await using resources = new AsyncDisposableStack();
const { isDirectory } = await Deno.stat(argument);
const folder = isDirectory ? resolve(argument) : await makeRelease(resolve(argument));

/** A release of one program, for this system. */
async function makeRelease(program: string): Promise<string> {
  const target = targets.find(({ triple }) => triple === Deno.build.target)!;
  const folder = await Deno.makeTempDir({ prefix: "sshshim-release-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const archive = archiveName(version, target);
  const name = archive.slice(0, -target.archive.length);
  await Deno.mkdir(`${folder}/${name}`);
  await Deno.copyFile(program, `${folder}/${name}/${target.program}`);
  // The one of Git for Windows writes no zip.
  const tar = isWindows ? `${Deno.env.get("SystemRoot")}\\System32\\tar.exe` : "tar";
  await run([tar, "-a", "-c", "-f", archive, name], { folder });
  const sum = createHash("sha256").update(await Deno.readFile(`${folder}/${archive}`)).digest(
    "hex",
  );
  await Deno.writeTextFile(`${folder}/SHA256SUMS`, `${sum}  ${archive}\n`);
  const script = isWindows ? "install.ps1" : "install.sh";
  await Deno.copyFile(`${root}.github/${script}`, `${folder}/${script}`);
  return folder;
}

let isDamaged = false;
const address = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
const server = Deno.serve(address, async (request) => {
  const name = new URL(request.url).pathname.split("/").at(-1)!;
  if (!parseSums(await Deno.readTextFile(`${folder}/SHA256SUMS`)).has(name)) {
    if (name !== "SHA256SUMS") return new Response("none", { status: 404 });
  }
  const body = await Deno.readFile(`${folder}/${name}`);
  if (isDamaged && name !== "SHA256SUMS") body[body.length >> 1]! ^= 1;
  return new Response(body);
});
const home = await Deno.makeTempDir({ prefix: "sshshim-install-" });
const program = isWindows
  ? `${home}\\Programs\\sshshim\\sshshim.exe`
  : `${home}/.local/bin/sshshim`;
const script = isWindows
  ? ["powershell", "-NoProfile", "-ExecutionPolicy", "Bypass", "-File", `${folder}\\install.ps1`]
  : ["sh", `${folder}/install.sh`];

async function install(...options: string[]): Promise<{ code: number; said: string }> {
  const [command = "", ...args] = [...script, ...options];
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args,
    env: {
      SSHSHIM_RELEASES: `http://127.0.0.1:${server.addr.port}`,
      ...(isWindows ? { LOCALAPPDATA: home } : { HOME: home }),
    },
  }).output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  console.log(said.trim());
  return { code, said };
}

async function installedVersion(): Promise<string> {
  const { stdout } = await new Deno.Command(program, { args: ["--version"] }).output();
  return new TextDecoder().decode(stdout);
}

try {
  isDamaged = true;
  const damaged = await install();
  assert.notEqual(damaged.code, 0);
  assert.match(damaged.said, /is damaged/);
  await assert.rejects(Deno.stat(program));

  isDamaged = false;
  assert.equal((await install()).code, 0);
  assert((await installedVersion()).startsWith(`sshshim ${version}`));
  assert.equal((await install(isWindows ? "-Version" : "--version", version)).code, 0);

  assert.equal((await install(isWindows ? "-Uninstall" : "--uninstall")).code, 0);
  await assert.rejects(Deno.stat(program));
} finally {
  await server.shutdown();
  await Deno.remove(home, { recursive: true });
}
console.log("The install script installs, refuses a damaged archive, and removes.");
