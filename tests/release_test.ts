/** What a release is made of, made of programs that only look like sshshim. */

import assert from "node:assert/strict";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { problems } from "../.ci/release/check.ts";
import { neededGlibc } from "../.ci/release/debian.ts";
import { parseSums } from "../.ci/release/manifests.ts";
import { releaseNotes, version } from "../.ci/release/release.ts";
import { archiveName, targetOf, targets } from "../.ci/targets.ts";
import { sha256 } from "./support/files.ts";
import { run, runChecked, text } from "./support/run.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const environment = { ...Deno.env.toObject(), GITHUB_REPOSITORY: "somebody/sshshim" };

/** A folder with a program for each target, as the compile task leaves them. */
async function makePrograms(folder: string): Promise<void> {
  for (const { triple, program } of targets) {
    const file = `${folder}/${triple}/${program}`;
    await Deno.mkdir(dirname(file), { recursive: true });
    await Deno.writeTextFile(file, `#!/bin/sh\necho sshshim ${version}\n# ${triple} GLIBC_2.17 \n`);
  }
}

async function makeRelease(programs: string, output: string): Promise<void> {
  await runChecked([
    ...[Deno.execPath(), "run", "-A", "--no-check", `${root}.ci/release/package.ts`],
    ...["--programs", programs, "--output", output],
  ], { environment });
}

Deno.test("a release has an archive for each system, packages, manifests, and the sums of all", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "release-" });
  await using resources = new AsyncDisposableStack();
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  await makePrograms(`${folder}/programs`);
  const output = `${folder}/release`;
  await makeRelease(`${folder}/programs`, output);
  const read = (name: string) => Deno.readTextFile(`${output}/${name}`);
  const sums = parseSums(await read("SHA256SUMS"));

  await t.step("the sums are of all files and right", async () => {
    const names = Array.from(Deno.readDirSync(output), ({ name }) => name).toSorted();
    assert.deepEqual(names.filter((name) => name !== "SHA256SUMS"), [...sums.keys()]);
    assert.deepEqual(
      names,
      [
        "SHA256SUMS",
        ...["install.ps1", "install.sh"],
        ...targets.map((target) => archiveName(version, target)),
        ...["sshshim.cdx.json", "sshshim.json", "sshshim.rb"],
        ...["amd64", "arm64"].map((arch) => `sshshim_${version}_${arch}.deb`),
      ].toSorted(),
    );
    for (const [name, sum] of sums) {
      assert.equal(sha256(await Deno.readFile(`${output}/${name}`)), sum, name);
    }
  });

  await t.step("the same commit gives the same bytes", async () => {
    await makeRelease(`${folder}/programs`, `${folder}/again`);
    assert.equal(await Deno.readTextFile(`${folder}/again/SHA256SUMS`), await read("SHA256SUMS"));
  });

  await t.step("an archive unpacks to one folder, whose program runs", async () => {
    const target = targetOf("x86_64-unknown-linux-gnu");
    const name = archiveName(version, target).replace(target.archive, "");
    await runChecked(["tar", "-xzf", `${output}/${name}.tar.gz`, "-C", folder]);
    const names = Array.from(Deno.readDirSync(`${folder}/${name}`), (it) => it.name).toSorted();
    assert.deepEqual(names, [
      ...["CHANGELOG.md", "LICENSE", "LICENSES-of-others.txt", "README.md", "completions"],
      ...["man", "sshshim"],
    ]);
    const page = await Deno.readTextFile(`${folder}/${name}/man/sshshim.1`);
    assert(page.includes(`\n.Os sshshim ${version}\n`));
    assert.equal(await runChecked([`${folder}/${name}/sshshim`]), `sshshim ${version}\n`);
    const others = await Deno.readTextFile(`${folder}/${name}/LICENSES-of-others.txt`);
    for (const word of ["ssh2 1.17.0: MIT", "@noble/ciphers ", `Deno ${Deno.version.deno}`]) {
      assert(others.includes(word), word);
    }
    for (const [shell, file] of [["bash", "sshshim.bash"], ["fish", "sshshim.fish"]] as const) {
      const script = await Deno.readTextFile(`${folder}/${name}/completions/${file}`);
      const printed = await runChecked(
        [Deno.execPath(), "run", "-A", "--no-check", "main.ts", "--completion", shell],
        { folder: root },
      );
      assert.equal(script, printed);
    }
  });

  await t.step("that of Windows has the program as well", async () => {
    const target = targetOf("x86_64-pc-windows-msvc");
    const archive = `${output}/${archiveName(version, target)}`;
    const listing = await runChecked(["python3", "-m", "zipfile", "-l", archive]);
    assert.match(listing, /\/sshshim\.exe /);
  });

  await t.step("Debian's package tells what it needs and has what belongs to it", async () => {
    const file = `${output}/sshshim_${version}_amd64.deb`;
    const control = await runChecked(["dpkg-deb", "--field", file]);
    for (const line of [`Version: ${version}`, "Architecture: amd64", /libc6 \(>= 2\.17\)/]) {
      assert.match(control, line instanceof RegExp ? line : new RegExp(`^${line}$`, "m"));
    }
    const content = await runChecked(["dpkg-deb", "--contents", file]);
    assert.match(content, /^-rwxr-xr-x root\/root .* \.\/usr\/bin\/sshshim$/m);
    for (
      const path of [
        "bash-completion/completions/sshshim",
        "doc/sshshim/copyright",
        "man/man1/sshshim.1.gz",
      ]
    ) {
      assert(content.includes(`./usr/share/${path}`), path);
    }
    // Some have a stricter umask than others.
    assert.doesNotMatch(content, /^(d(?!rwxr-xr-x)|-(?!rwxr-xr-x|rw-r--r--))/m);
  });

  await t.step("the manifests name the archives and their sums", async () => {
    const formula = await read("sshshim.rb");
    assert(formula.includes('    man1.install "man/sshshim.1"\n'));
    const scoop = JSON.parse(await read("sshshim.json"));
    for (const target of targets) {
      const name = archiveName(version, target);
      const url = `https://github.com/somebody/sshshim/releases/download/${version}/${name}`;
      const sum = sums.get(name)!;
      if (target.os !== "windows") {
        assert(formula.includes(`url "${url}"\n      sha256 "${sum}"`), name);
      } else {
        const { [target.arch === "x86_64" ? "64bit" : "arm64"]: entry } = scoop.architecture;
        assert.deepEqual([entry.url, entry.hash], [url, sum]);
      }
    }
  });

  await t.step("the bill of materials names each package, its license and its sum", async () => {
    const bom = JSON.parse(await read("sshshim.cdx.json"));
    assert.deepEqual([bom.bomFormat, bom.specVersion], ["CycloneDX", "1.5"]);
    const refs: string[] = bom.components.map((it: { purl: string }) => it.purl);
    assert(refs.includes("pkg:npm/ssh2@1.17.0"));
    assert(refs.includes(`pkg:github/denoland/deno@v${Deno.version.deno}`));
    assert(!refs.some((ref) => ref.includes("%40types/")));
    for (const { purl, licenses, hashes } of bom.components) {
      assert(licenses[0].license.id, purl);
      if (purl.startsWith("pkg:npm/")) assert.match(hashes[0].content, /^[0-9a-f]{128}$/, purl);
    }
  });

  await t.step("the install script of the release knows where it is from", async () => {
    for (const script of ["install.sh", "install.ps1"]) {
      const filled = await read(script);
      assert(filled.includes("somebody/sshshim") && !filled.includes("@REPOSITORY@"), script);
    }
    const tried = await run(
      [Deno.execPath(), "run", "-A", "--no-check", `${root}.ci/release/try_install.ts`, output],
      { environment },
    );
    assert.equal(tried.code, 0, text(tried.stderr));
  });
});

Deno.test("what keeps a version from being released is told all at once", () => {
  const before = Deno.env.get("GITHUB_REPOSITORY");
  const ready = {
    tag: version,
    scope: "@somebody/sshshim",
    changelog: `# Changelog\n\n## [${version}] - 2030-01-02\n\n- new\n`,
    readme: "sh install.sh",
    dockerfile: `FROM gcr.io/base:nonroot@sha256:${"0".repeat(64)}\n`,
  };
  try {
    Deno.env.set("GITHUB_REPOSITORY", "somebody/sshshim");
    assert.deepEqual(problems(ready), []);
    Deno.env.delete("GITHUB_REPOSITORY");
    const found = problems({
      tag: `v${version}`,
      scope: "@x/sshshim",
      changelog: ready.changelog.replace("2030-01-02", "Unreleased"),
      readme: "**No release is published yet.**",
      dockerfile: "FROM gcr.io/base:nonroot\n",
    });
    const expected = [
      /^The tag is v/,
      /"Unreleased" where the date/,
      /^Set GITHUB_REPOSITORY/,
      /@x\/sshshim/,
      /README\.md still has "No release/,
      /Dockerfile does not pin gcr\.io\/base:nonroot/,
    ];
    assert.equal(found.length, expected.length, found.join("\n"));
    expected.forEach((pattern, index) => assert.match(found[index]!, pattern));
  } finally {
    if (before === undefined) Deno.env.delete("GITHUB_REPOSITORY");
    else Deno.env.set("GITHUB_REPOSITORY", before);
  }
});

Deno.test("the notes of a release are its section of the changelog", () => {
  const changelog = `# Changelog\n\n## [9.0.0] - 2031-01-01\n\n- newer\n\n` +
    `## [${version}] - 2030-01-02\n\n### Added\n\n- this\n\n## [0.0.1] - 2029-01-01\n\n- older\n\n` +
    `[0.0.1]: https://example.com\n`;
  assert.equal(releaseNotes(changelog), "### Added\n\n- this\n");
  assert.equal(
    releaseNotes(changelog.replace(/## \[0\.0\.1\][^]*- older\n\n/, "")),
    "### Added\n\n- this\n",
  );
  assert.throws(() => releaseNotes("# Changelog\n"), /has no section/);
});

Deno.test("the oldest glibc that will do is read from the program", () => {
  const bytes = (words: string) => new TextEncoder().encode(words);
  assert.equal(neededGlibc(bytes("\0GLIBC_2.2.5\0GLIBC_2.17\0GLIBC_2.9\0")), "2.17");
});
