/**
 * Known_hosts files whose lines about one host are made to say what the host itself says of its
 * keys, by ssh's rules: which changes are safe, and how a file is replaced.
 */

import { Buffer } from "node:buffer";
import { basename, dirname } from "node:path";
import { reasonOf } from "./errors.ts";
import {
  type EntryLine,
  entryReader,
  hashedHost,
  openLocked,
  type StoredNames,
} from "./known_hosts_file.ts";
import { hasKey, isSameKey, publicKeyLine } from "./public_key.ts";

/** Files as they were read, and what the host's keys mean for them. */
export interface KnownKeys {
  /** The text of each file that is there, one character per byte. */
  texts: ReadonlyMap<string, string>;
  /** Keys of the host that no line about it has. */
  added: readonly Uint8Array[];
  /** Keys of lines about the host that it has no more. */
  removed: readonly Uint8Array[];
  /** Why the files must stay as they are. */
  objection: string | undefined;
}

/**
 * Compares a host's keys with what files say about it.
 *
 * @throws {Error} where a file cannot be read.
 */
export async function compareKeys(
  files: readonly string[],
  names: StoredNames,
  keys: readonly Uint8Array[],
): Promise<KnownKeys> {
  const texts = await readTexts(files);
  const found: Uint8Array[] = [];
  const removed: Uint8Array[] = [];
  let objection: string | undefined;
  const readEntry = entryReader(names);
  const entries = [...texts].flatMap(([file, text]) =>
    text.split("\n").flatMap((content, index) => {
      const entry = readEntry(content);
      return entry === undefined ? [] : [{ ...entry, place: `${file} line ${index + 1}` }];
    })
  );
  for (const entry of entries) {
    const { key, place } = entry;
    if (!isAboutEither(entry)) {
      if (hasKey(keys, key)) objection ??= `${place} has one of the keys for another name`;
      continue;
    }
    const complaint = complaintAbout(entry, names);
    if (complaint !== undefined) objection ??= `${place} ${complaint}`;
    if (hasKey(keys, key)) found.push(key);
    else if (!hasKey(removed, key)) removed.push(key);
  }
  const elsewhere = entries.find((it) => !isAboutEither(it) && hasKey(removed, it.key));
  if (elsewhere !== undefined) {
    objection ??= `${elsewhere.place} has a key that is to be removed, for another name`;
  }
  return { texts, added: keys.filter((key) => !hasKey(found, key)), removed, objection };
}

/** Why ssh leaves the files alone where such a line is about the host. */
function complaintAbout(
  { marker, hosts, isAbout }: EntryLine,
  { address }: StoredNames,
): string | undefined {
  if (marker !== "") return `is marked ${marker}`;
  if (/[*?]/.test(hosts)) return "has a pattern";
  if (hosts.split(",").length > 2) return "has more than two names";
  const isOfBoth = isAbout.host && isAbout.address;
  if (address !== undefined && hosts.includes(",") && !isOfBoth) {
    return "has another name or address beside the host's";
  }
  return undefined;
}

async function readTexts(files: readonly string[]): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for (const file of files) {
    try {
      // Not from a pipe or a device, which cannot be replaced.
      if ((await Deno.stat(file)).isFile) texts.set(file, textOf(await Deno.readFile(file)));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) {
        throw new Error(`"${file}" cannot be read: ${reasonOf(error)}`, { cause: error });
      }
    }
  }
  return texts;
}

/** What a file is to say. */
export interface Rewriting {
  names: StoredNames;
  /** All keys of the host: lines about it that have others go, and those that are missing come. */
  keys: readonly Uint8Array[];
  /** Whether names cannot be read from the lines that are added. */
  isHashed: boolean;
  /** What the file was when that was decided; `undefined` where there was none. */
  expected: string | undefined;
}

/**
 * Replaces a file at once, keeps the old one beside it as `.old`, and follows a symbolic link to the
 * file that it names. Owner and mode stay.
 *
 * @returns whether there was anything to change
 * @throws {Error} where the file cannot be replaced, or is not what it was.
 */
export async function rewriteKnownHosts(path: string, rewriting: Rewriting): Promise<boolean> {
  const { expected } = rewriting;
  if (expected === undefined) {
    if (rewriting.keys.length === 0) return false;
    using _new = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
  }
  const target = await Deno.realPath(path);
  using handle = await openLocked(target, { read: true, write: true });
  const before = await handle.stat();
  const text = textOf(await Deno.readFile(target));
  if (text !== (expected ?? "")) throw new Error("it has just been changed by somebody else");
  const replacement = rewritten(text, rewriting);
  if (replacement === undefined) return false;
  const temporary = await Deno.makeTempFile({
    dir: dirname(target),
    prefix: `${basename(target)}.`,
  });
  try {
    await fill(temporary, { text: replacement, like: before });
    await keepOld(target);
    const now = await Deno.stat(target);
    if (now.size !== before.size || now.mtime?.getTime() !== before.mtime?.getTime()) {
      throw new Error("it has just been changed by somebody else");
    }
    await Deno.rename(temporary, target);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {}); // What went wrong first is what matters.
    throw error;
  }
  return true;
}

async function fill(
  file: string,
  { text, like }: { text: string; like: Deno.FileInfo },
): Promise<void> {
  using handle = await Deno.open(file, { write: true });
  const bytes = Buffer.from(text, "latin1");
  for (let at = 0; at < bytes.length;) at += await handle.write(bytes.subarray(at));
  await handle.sync();
  if (Deno.build.os === "windows") return;
  const { uid, gid } = await handle.stat();
  if (uid !== like.uid || gid !== like.gid) await Deno.chown(file, like.uid, like.gid);
  await Deno.chmod(file, like.mode! & 0o777);
}

async function keepOld(file: string): Promise<void> {
  const old = `${file}.old`;
  try {
    await Deno.remove(old);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  await Deno.link(file, old);
}

/** The text of the new file; `undefined` where it says all that already. */
function rewritten(
  text: string,
  { names, keys, isHashed }: Rewriting,
): string | undefined {
  const contents = text.split("\n");
  if (contents.at(-1) === "") contents.pop();
  const isKnown = keys.map(() => ({ host: false, address: names.address === undefined }));
  const readEntry = entryReader(names);
  const kept = contents.filter((content) => {
    const entry = readEntry(content);
    if (entry === undefined || entry.marker !== "" || !isAboutEither(entry)) return true;
    const index = keys.findIndex((key) => isSameKey(key, entry.key));
    if (index === -1) return false;
    isKnown[index]!.host ||= entry.isAbout.host;
    isKnown[index]!.address ||= entry.isAbout.address;
    return true;
  });
  const added = keys.flatMap((key, index) => {
    const { host, address } = isKnown[index]!;
    const missing = [host ? [] : [names.host], address ? [] : [names.address!]].flat();
    return knownLines(missing, key, isHashed);
  });
  if (kept.length === contents.length && added.length === 0) return undefined;
  return [...kept, ...added].map((line) => `${line}\n`).join("");
}

/** The lines for a key: one for all names, or where they are hashed one for each. */
export function knownLines(
  names: readonly string[],
  publicKey: Uint8Array,
  isHashed: boolean,
): string[] {
  const key = publicKeyLine(publicKey);
  if (isHashed) return names.map((name) => `${hashedHost(name)} ${key}`);
  return names.length === 0 ? [] : [`${names.join(",")} ${key}`];
}

function isAboutEither({ isAbout }: EntryLine): boolean {
  return isAbout.host || isAbout.address;
}

/** Whatever bytes a file has, they stay what they are. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}
