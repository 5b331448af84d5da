/** The systems that sshshim is compiled for, and what they call things. */

/** One system, as `deno compile --target` names it, and as archives, packages and images do. */
export interface Target {
  readonly triple: string;
  readonly os: "linux" | "macos" | "windows";
  readonly arch: "x86_64" | "aarch64";
  /** The program's file name. */
  readonly program: string;
  /** How its archive ends. */
  readonly archive: ".tar.gz" | ".zip";
}

/** What Debian and container images call the processors. */
export const debianArch = { x86_64: "amd64", aarch64: "arm64" } as const;

/** All that `deno compile` of Deno 2.9.6 knows. */
export const targets: readonly Target[] = [
  { triple: "x86_64-unknown-linux-gnu", os: "linux", arch: "x86_64" },
  { triple: "aarch64-unknown-linux-gnu", os: "linux", arch: "aarch64" },
  { triple: "x86_64-apple-darwin", os: "macos", arch: "x86_64" },
  { triple: "aarch64-apple-darwin", os: "macos", arch: "aarch64" },
  { triple: "x86_64-pc-windows-msvc", os: "windows", arch: "x86_64" },
  { triple: "aarch64-pc-windows-msvc", os: "windows", arch: "aarch64" },
].map((it) => ({
  ...it as Pick<Target, "triple" | "os" | "arch">,
  program: it.os === "windows" ? "sshshim.exe" : "sshshim",
  archive: it.os === "windows" ? ".zip" : ".tar.gz",
}));

/** The target of this name. */
export function targetOf(triple: string): Target {
  const found = targets.find((it) => it.triple === triple);
  if (found !== undefined) return found;
  throw new Error(`There is no target ${triple}. There are: ${targets.map((it) => it.triple)}.`);
}

/** What the archive of a version for a target is called; its only folder is called so as well. */
export function archiveName(version: string, { os, arch, archive }: Target): string {
  return `sshshim-${version}-${os}-${arch}${archive}`;
}
