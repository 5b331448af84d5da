/**
 * Prints the changelog's section of this version.
 *
 *     deno run -A .ci/release/notes.ts
 */

import { releaseNotes, root } from "./release.ts";

console.log(releaseNotes(await Deno.readTextFile(`${root}CHANGELOG.md`)));
