/**
 * Says what keeps this version from being released, all at once.
 *
 *     deno task release-check [TAG]
 */

import config from "../../deno.json" with { type: "json" };
import { releaseNotes, repository, root, version } from "./release.ts";

/** What is wrong, with what to do about it. */
export function problems(
  { tag, scope, changelog, readme, dockerfile }: {
    tag: string | undefined;
    /** The name on JSR, `@SCOPE/NAME`. */
    scope: string;
    changelog: string;
    readme: string;
    dockerfile: string;
  },
): string[] {
  const found: string[] = [];
  const attempt = (action: () => unknown) => {
    try {
      action();
    } catch (error) {
      found.push((error as Error).message);
    }
  };
  if (tag !== undefined && tag !== version) {
    found.push(`The tag is ${tag}, and deno.json has version ${version}. They have to be equal.`);
  }
  attempt(() => releaseNotes(changelog));
  attempt(repository);
  if (scope.startsWith("@x/")) {
    found.push(`deno.json has the name ${scope}: put the scope there that is yours on JSR.`);
  }
  const [placeholder] = /No release is published yet|@x\/sshshim/.exec(readme) ?? [];
  if (placeholder !== undefined) {
    found.push(`README.md still has "${placeholder}": say there how this release is installed.`);
  }
  const bases = Array.from(dockerfile.matchAll(/^FROM (\S+)/gm), ([, image]) => image!);
  for (const base of bases) {
    if (/@sha256:[0-9a-f]{64}$/.test(base)) continue;
    const image = base.split("@")[0];
    found.push(
      `.github/Dockerfile does not pin ${image}. Append "@" and what this prints: ` +
        `docker buildx imagetools inspect ${image} --format '{{.Manifest.Digest}}'`,
    );
  }
  return found;
}

if (import.meta.main) {
  const found = problems({
    tag: Deno.args[0],
    scope: config.name,
    changelog: await Deno.readTextFile(`${root}CHANGELOG.md`),
    readme: await Deno.readTextFile(`${root}README.md`),
    dockerfile: await Deno.readTextFile(`${root}.github/Dockerfile`),
  });
  for (const problem of found) console.error(problem);
  if (found.length > 0) Deno.exit(1);
  console.log(`${version} can be released.`);
}
