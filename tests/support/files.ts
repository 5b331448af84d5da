/** Files for transfers: contents that are the same in every run, and what arrived of them. */

import { Buffer } from "node:buffer";
import { createCipheriv, createHash } from "node:crypto";

/** `length` bytes that look random and are always the same for one seed (0 to 255). */
export function patternBytes(length: number, seed = 0): Uint8Array {
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, seed), Buffer.alloc(16));
  const bytes = new Uint8Array(cipher.update(Buffer.alloc(length)));
  cipher.final();
  return bytes;
}

/** The SHA-256 of bytes, in hex. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * Writes a file of `length` pattern bytes, 1 MiB at a time.
 *
 * @returns its SHA-256 in hex
 */
export async function writePatternFile(path: string, length: number, seed = 0): Promise<string> {
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, seed), Buffer.alloc(16));
  const hash = createHash("sha256");
  const zeros = Buffer.alloc(1 << 20);
  using file = await Deno.create(path);
  for (let left = length; left > 0; left -= zeros.length) {
    const bytes = cipher.update(zeros.subarray(0, Math.min(left, zeros.length)));
    hash.update(bytes);
    for (let offset = 0; offset < bytes.length;) {
      offset += await file.write(bytes.subarray(offset));
    }
  }
  cipher.final();
  return hash.digest("hex");
}

/** What is at one path of a folder tree. */
export interface TreeEntry {
  path: string;
  kind: "file" | "folder" | "link";
  /** The permission bits, in octal. */
  mode: string;
  /** Of a file: the time of its last change, in whole seconds since 1970. */
  modifiedAt?: number;
  /** Of a file: the SHA-256 of its content. */
  sha256?: string;
  /** Of a link: where it points. */
  target?: string;
}

/** Everything below a folder, sorted by path. */
export async function readTree(folder: string, prefix = ""): Promise<TreeEntry[]> {
  const entries: TreeEntry[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    const full = `${folder}/${name}`;
    const path = prefix + name;
    const info = await Deno.lstat(full);
    const mode = ((info.mode ?? 0) & 0o7777).toString(8);
    if (info.isSymlink) {
      entries.push({ path, kind: "link", mode, target: await Deno.readLink(full) });
    } else if (info.isDirectory) {
      entries.push({ path, kind: "folder", mode }, ...await readTree(full, `${path}/`));
    } else {
      const modifiedAt = Math.floor((info.mtime?.getTime() ?? 0) / 1000);
      const content = await Deno.readFile(full);
      entries.push({ path, kind: "file", mode, modifiedAt, sha256: sha256(content) });
    }
  }
  return entries.sort((a, b) => a.path < b.path ? -1 : 1);
}

/**
 * Makes a folder with what a transfer may get wrong: an empty file, a large one, nested and empty
 * folders, names with spaces and beyond ASCII, permissions, times and a link.
 */
export async function makeTree(folder: string): Promise<void> {
  await Deno.mkdir(`${folder}/deep/er/est`, { recursive: true });
  await Deno.mkdir(`${folder}/empty folder`);
  await Deno.writeFile(`${folder}/empty`, new Uint8Array());
  await Deno.writeFile(`${folder}/large`, patternBytes(5_000_000));
  await Deno.writeFile(`${folder}/with a space`, patternBytes(32_768, 1));
  await Deno.writeFile(`${folder}/deep/größe`, patternBytes(32_769, 2));
  await Deno.writeTextFile(`${folder}/deep/er/est/script`, "#!/bin/sh\n");
  await Deno.chmod(`${folder}/deep/er/est/script`, 0o750);
  await Deno.chmod(`${folder}/empty`, 0o600);
  await Deno.symlink("../../large", `${folder}/deep/er/link`);
  for (const name of ["empty", "large", "with a space", "deep/größe", "deep/er/est/script"]) {
    await Deno.utime(`${folder}/${name}`, 1_000_000_000, 1_000_000_000);
  }
}
