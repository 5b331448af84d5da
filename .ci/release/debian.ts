/** The package for Debian and its relatives. */

import { gzipSync } from "node:zlib";
import { debianArch, type Target } from "../targets.ts";
import type { Extras } from "./extras.ts";
import { writeTree } from "./files.ts";
import { description, repository, root, run, version } from "./release.ts";

/** As Debian orders versions: 0.1.0~rc.1 is before 0.1.0. */
const debianVersion = version.replace("-", "~");

/** What the package is called. */
export function debianName({ arch }: Target): string {
  return `sshshim_${debianVersion}_${debianArch[arch]}.deb`;
}

/** The oldest glibc that has every symbol that a program asks for, such as `2.27`. */
export function neededGlibc(program: Uint8Array): string {
  const text = new TextDecoder("latin1").decode(program);
  const minors = Array.from(text.matchAll(/GLIBC_2\.(\d+)\b/g), ([, minor]) => Number(minor));
  return `2.${Math.max(...minors)}`;
}

/** Builds the package in `output`, and returns its path. */
export async function buildDebian(
  { program, target, extras, licenses, time, folder, output }: {
    program: string;
    target: Target;
    extras: Extras;
    licenses: string;
    time: number;
    /** An empty one, for this alone. */
    folder: string;
    output: string;
  },
): Promise<string> {
  const { completions, manPage } = extras;
  const glibc = neededGlibc(await Deno.readFile(program));
  const [owner] = repository().split("/");
  const license = await Deno.readTextFile(`${root}LICENSE`);
  await writeTree(folder, {
    "DEBIAN/control": [
      "Package: sshshim",
      `Version: ${debianVersion}`,
      `Architecture: ${debianArch[target.arch]}`,
      `Maintainer: The maintainers of sshshim <${owner}@users.noreply.github.com>`,
      `Installed-Size: ${Math.ceil((await Deno.stat(program)).size / 1024)}`,
      `Depends: libc6 (>= ${glibc}), libgcc-s1`,
      "Suggests: openssh-client",
      "Section: net",
      "Priority: optional",
      `Homepage: https://github.com/${repository()}`,
      `Description: ${description.replace(/^One/, "one")}`,
      " The host is verified once and you log in once; ssh, sftp, scp, rsync, git and",
      " others then use that connection as if a port of 127.0.0.1 were the host itself.",
      " If it is lost it comes back, and so do the remote forwards.",
      "",
    ].join("\n"),
    "usr/bin/sshshim": { copyOf: program },
    "usr/share/bash-completion/completions/sshshim": completions["sshshim.bash"]!,
    "usr/share/zsh/vendor-completions/_sshshim": completions["_sshshim"]!,
    "usr/share/fish/vendor_completions.d/sshshim.fish": completions["sshshim.fish"]!,
    "usr/share/doc/sshshim/copyright": `${license}\n${licenses}`,
  }, { programs: ["usr/bin/sshshim"], time });
  const compressed: Record<string, string> = {
    "usr/share/doc/sshshim/NEWS.gz": await Deno.readTextFile(`${root}CHANGELOG.md`),
    "usr/share/man/man1/sshshim.1.gz": manPage,
  };
  for (const [path, text] of Object.entries(compressed)) {
    const file = `${folder}/${path}`;
    await Deno.mkdir(file.slice(0, file.lastIndexOf("/")), { recursive: true, mode: 0o755 });
    await Deno.writeFile(file, gzipSync(text, { level: 9 }), { mode: 0o644 });
  }
  const path = `${output}/${debianName(target)}`;
  await run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", folder, path], {
    environment: { SOURCE_DATE_EPOCH: String(time) },
  });
  return path;
}
