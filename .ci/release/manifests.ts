/** What package managers are told: a Homebrew formula and a Scoop manifest, from the checksums. */

import { archiveName, type Target, targets } from "../targets.ts";
import { description, downloadUrl, repository, version } from "./release.ts";

/** Reads SHA256SUMS: the checksum of each file. */
export function parseSums(text: string): Map<string, string> {
  return new Map(
    text.trim().split("\n").map((line) => {
      const [, sum, name] = /^([0-9a-f]{64}) {2}(\S+)$/.exec(line) ?? [];
      if (sum === undefined) throw new Error(`This is no line of SHA256SUMS: ${line}`);
      return [name!, sum];
    }),
  );
}

function archiveOf(sums: Map<string, string>, target: Target): { url: string; sum: string } {
  const name = archiveName(version, target);
  const sum = sums.get(name);
  if (sum === undefined) throw new Error(`SHA256SUMS has no ${name}.`);
  return { url: downloadUrl(name), sum };
}

function find(os: Target["os"], arch: Target["arch"]): Target {
  return targets.find((it) => it.os === os && it.arch === arch)!;
}

/** The formula, for macOS and Linux. */
export function homebrewFormula(sums: Map<string, string>): string {
  const system = (os: "macos" | "linux") =>
    [
      `  on_${os} do`,
      ...(["aarch64", "x86_64"] as const).flatMap((arch) => {
        const { url, sum } = archiveOf(sums, find(os, arch));
        return [
          `    on_${arch === "aarch64" ? "arm" : "intel"} do`,
          `      url "${url}"`,
          `      sha256 "${sum}"`,
          "    end",
        ];
      }),
      "  end",
    ].join("\n");
  return `class Sshshim < Formula
  desc "${description}"
  homepage "https://github.com/${repository()}"
  version "${version}"
  license "MIT"

${system("macos")}

${system("linux")}

  def install
    bin.install "sshshim"
    man1.install "man/sshshim.1"
    bash_completion.install "completions/sshshim.bash" => "sshshim"
    zsh_completion.install "completions/_sshshim"
    fish_completion.install "completions/sshshim.fish"
  end

  test do
    assert_match "sshshim #{version}", shell_output("#{bin}/sshshim --version")
  end
end
`;
}

/** The manifest, for Windows. */
export function scoopManifest(sums: Map<string, string>): string {
  const architecture = (arch: Target["arch"]) => {
    const target = find("windows", arch);
    const { url, sum } = archiveOf(sums, target);
    return {
      url,
      hash: sum,
      extract_dir: archiveName(version, target).replace(/\.zip$/, ""),
    };
  };
  const home = `https://github.com/${repository()}`;
  const next = (arch: Target["arch"]) => ({
    url: `${home}/releases/download/$version/sshshim-$version-windows-${arch}.zip`,
    extract_dir: `sshshim-$version-windows-${arch}`,
  });
  const manifest = {
    version,
    description,
    homepage: home,
    license: "MIT",
    architecture: { "64bit": architecture("x86_64"), arm64: architecture("aarch64") },
    bin: "sshshim.exe",
    checkver: { github: home },
    autoupdate: {
      architecture: { "64bit": next("x86_64"), arm64: next("aarch64") },
      hash: { url: "$baseurl/SHA256SUMS" },
    },
  };
  return JSON.stringify(manifest, null, 4) + "\n";
}
