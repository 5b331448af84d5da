/**
 * Builds the container image from the programs that `deno task compile --all` left in `dist`. With
 * `--push` it goes to the repository's registry under its version, and under `latest` unless the
 * version is a preliminary one; the variables of a GitHub runner say where and as whom.
 *
 *     deno run -A .ci/release/image.ts [--push]
 */

import { parseArgs } from "node:util";
import { debianArch, targets } from "../targets.ts";
import { repository, root, run, version } from "./release.ts";

const { values } = parseArgs({ options: { push: { type: "boolean" } } });
const name = `ghcr.io/${repository().toLowerCase()}`;
const tags = version.includes("-") ? [version] : [version, "latest"];

await using resources = new AsyncDisposableStack();
const context = await Deno.makeTempDir({ prefix: "sshshim-image-" });
resources.defer(() => Deno.remove(context, { recursive: true }));
for (const { triple, os, arch, program } of targets) {
  if (os !== "linux") continue;
  const folder = `${context}/${debianArch[arch]}`;
  await Deno.mkdir(folder);
  await Deno.copyFile(`${root}dist/${triple}/${program}`, `${folder}/sshshim`);
}

const buildArguments = [
  ...["--file", ".github/Dockerfile", "--platform", "linux/amd64,linux/arm64"],
  ...["--provenance=mode=max", "--sbom=true"],
  ...tags.flatMap((tag) => ["--tag", `${name}:${tag}`]),
  ...["--label", `org.opencontainers.image.source=https://github.com/${repository()}`],
  ...["--label", `org.opencontainers.image.version=${version}`],
  ...["--label", "org.opencontainers.image.licenses=MIT"],
];
await run(["docker", "buildx", "create", "--use"]);
if (!values.push) {
  await run(["docker", "buildx", "build", ...buildArguments, context]);
} else {
  await logIn();
  const metadata = `${context}.json`;
  resources.defer(() => Deno.remove(metadata));
  await run([
    ...["docker", "buildx", "build", ...buildArguments],
    ...["--push", "--metadata-file", metadata, context],
  ]);
  const { "containerimage.digest": digest } = JSON.parse(await Deno.readTextFile(metadata));
  await Deno.writeTextFile(Deno.env.get("GITHUB_OUTPUT")!, `name=${name}\ndigest=${digest}\n`, {
    append: true,
  });
}

/** The token goes through standard input, so that no list of processes shows it. */
async function logIn(): Promise<void> {
  const child = new Deno.Command("docker", {
    args: ["login", "ghcr.io", "--username", Deno.env.get("GITHUB_ACTOR")!, "--password-stdin"],
    stdin: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(Deno.env.get("GITHUB_TOKEN")!));
  await writer.close();
  if (!(await child.status).success) throw new Error("docker login failed");
}
