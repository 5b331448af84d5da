/**
 * Installs Debian's package, tries it, and removes it. As root.
 *
 *     deno run -A .ci/release/try_debian.ts PACKAGE
 */

import assert from "node:assert/strict";
import { resolve } from "node:path";
import { run, version } from "./release.ts";

const [argument] = Deno.args;
if (argument === undefined) throw new Error("Name the package.");
const file = resolve(argument);

const listing = await run(["sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar -t', file]);
const paths = listing.trim().split("\n").map((path) => path.slice(1))
  .filter((path) => !path.endsWith("/"));
const isThere = (path: string) => Deno.stat(path).then(() => true, () => false);

await run(["apt-get", "install", "-y", "--no-install-recommends", file]);
try {
  for (const path of paths) {
    // Containers leave documentation out.
    if (!/^\/usr\/share\/(doc|man)\//.test(path)) assert(await isThere(path), path);
  }
  assert((await run(["sshshim", "--version"])).startsWith(`sshshim ${version}`));
  const smoke = [Deno.execPath(), "run", "-A", ".ci/binary_smoke.ts", "/usr/bin/sshshim"];
  console.log((await run(smoke)).trim());
  const completion = "/usr/share/bash-completion/completions/sshshim";
  const loaded = await run(["bash", "-c", `. ${completion} && complete -p sshshim`]);
  assert.match(loaded, /^complete .* sshshim$/m);
} finally {
  await run(["apt-get", "purge", "-y", "sshshim"]);
}
for (const path of paths) assert(!await isThere(path), `${path} is left.`);
console.log("The package installs, runs and leaves nothing behind.");
