/**
 * One known_hosts file (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): which of its lines are about a
 * host. As with ssh, of a line about another host nothing else is looked at.
 *
 * A hashed name can only be found by hashing once for each line. What was found stays until the
 * file changes, so that a long file costs that once and not at each connection.
 */

import { Buffer } from "node:buffer";
import { createHmac, randomBytes } from "node:crypto";
import { HmacSha1 } from "./hmac_sha1.ts";
import { matchesPatterns } from "./pattern.ts";
import { fieldCountOf, isPublicKey } from "./public_key.ts";
import { lowerCase } from "./ssh_config_line.ts";

/** A line about a host; `line` counts from 1. */
export interface KnownLine {
  file: string;
  line: number;
  /** `@cert-authority`: the key signs host certificates, and is no host's own. */
  marker: "" | "@revoked" | "@cert-authority";
  type: string;
  /** In the wire format of RFC 4253, section 6.6. */
  key: Buffer;
}

/** A line that says nothing, and why; material for a debug log. */
export interface IgnoredLine {
  file: string;
  line: number;
  reason: string;
}

/** What a file has about a host. */
export interface KnownLines {
  lines: readonly KnownLine[];
  /** Neither comments nor understood, as far as it was looked at. They never make a key known. */
  ignored: readonly IgnoredLine[];
}

/** A file, or what stands in for one. */
export interface KnownHostsSource {
  /** @param host as it is stored: in lower case, with another port than 22 as `[host]:port`. */
  about(host: string): KnownLines;
}

/** The text of a file. */
export class KnownHostsFile implements KnownHostsSource {
  readonly #name: string;
  readonly #text: string;
  readonly #found = new Map<string, KnownLines>();

  constructor(name: string, text: string) {
    this.#name = name;
    this.#text = text;
  }

  about(host: string): KnownLines {
    let found = this.#found.get(host);
    if (found === undefined) this.#found.set(host, found = this.#find(host));
    return found;
  }

  #find(host: string): KnownLines {
    const lines: KnownLine[] = [];
    const ignored: IgnoredLine[] = [];
    const wanted = new WantedHost(host);
    this.#text.split("\n").forEach((content, index) => {
      const parsed = parseLine(content, wanted);
      if (parsed === undefined) return;
      const place = { file: this.#name, line: index + 1 };
      if (typeof parsed === "string") ignored.push({ ...place, reason: parsed });
      else lines.push({ ...place, ...parsed });
    });
    return { lines, ignored };
  }
}

/** Files as they were read, by their paths. */
const kept = new Map<string, { identity: string; file: KnownHostsFile }>();

/** A file may change twice within one tick of its clock: one that is this new is read again. */
const unsettledMs = 2000;

/** @throws {Error} where the file cannot be read. */
export async function readKnownHostsFile(path: string): Promise<KnownHostsFile> {
  // Before it is read: what changes in between is noticed at the next time.
  const identity = identityOf(await Deno.stat(path));
  const before = kept.get(path);
  if (before !== undefined && before.identity === identity) return before.file;
  const file = new KnownHostsFile(path, await Deno.readTextFile(path));
  if (identity === undefined) kept.delete(path);
  else kept.set(path, { identity, file });
  return file;
}

/** What changes with the content; `undefined` where that cannot be told. */
function identityOf({ isFile, dev, ino, size, mtime, ctime }: Deno.FileInfo): string | undefined {
  const changedAt = Math.max(mtime?.getTime() ?? Infinity, ctime?.getTime() ?? 0);
  if (!isFile || changedAt > Date.now() - unsettledMs) return undefined;
  return [dev, ino, size, mtime?.getTime(), ctime?.getTime()].join();
}

/** What a line says about a host, `undefined` for nothing, or why it is ignored. */
function parseLine(
  content: string,
  wanted: WantedHost,
): Omit<KnownLine, "file" | "line"> | string | undefined {
  const divided = divideLine(content);
  if (divided === undefined || typeof divided === "string") return divided;
  const { marker, hosts } = divided;
  const isAbout = wanted.isIn(hosts);
  if (isAbout === undefined) return "broken hashed host name";
  if (!isAbout) return undefined;
  const key = readKey(divided);
  return typeof key === "string" ? key : { marker, ...key };
}

/** A line as it is written; what is absent is not there. */
interface DividedLine {
  marker: KnownLine["marker"];
  hosts: string;
  /** The key's type, the key, and whatever follows. */
  fields: string;
}

function divideLine(content: string): DividedLine | string | undefined {
  const text = content.replace(/^[ \t]+|[ \t\r]+$/g, "");
  if (text === "" || text.startsWith("#")) return undefined;
  const marker = text.startsWith("@") ? firstField(text) : "";
  if (!isMarker(marker)) return `unknown marker ${marker}`;
  const behindMarker = marker === "" ? text : text.slice(marker.length).replace(/^[ \t]+/, "");
  const hosts = firstField(behindMarker);
  if (hosts === "") return "too few fields";
  if (hosts.startsWith("@")) return "more than one marker";
  return { marker, hosts, fields: behindMarker.slice(hosts.length).trimStart() };
}

function readKey({ fields }: DividedLine): Pick<KnownLine, "type" | "key"> | string {
  const [type, base64] = fields.split(/[ \t]+/);
  if (!type || base64 === undefined) return "too few fields";
  const key = Buffer.from(base64, "base64");
  if (key.toString("base64") !== base64) return "the key is not base64";
  if (!isPublicKey(key, type)) return `not a key of type ${type}`;
  return { type, key };
}

/** What a host is stored under: its name, and its address where CheckHostIP wants that as well. */
export interface StoredNames {
  host: string;
  address?: string;
}

/** A line that has a key, of whatever host. */
export interface EntryLine extends Pick<KnownLine, "marker" | "key"> {
  /** The hosts as they are written. */
  hosts: string;
  /** What of the host it is about. */
  isAbout: { host: boolean; address: boolean };
}

/**
 * Reads the lines of a file that may be rewritten, one at a time.
 *
 * @returns a function that returns `undefined` for a line that is a comment, or is not understood to
 *   its end.
 */
export function entryReader(names: StoredNames): (content: string) => EntryLine | undefined {
  const wantedHost = new WantedHost(names.host);
  const wantedAddress = names.address === undefined ? undefined : new WantedHost(names.address);
  return (content) => {
    const divided = divideLine(content);
    if (divided === undefined || typeof divided === "string") return undefined;
    const key = readKey(divided);
    if (typeof key === "string" || fieldCountOf(key.type) === undefined) return undefined;
    const { marker, hosts } = divided;
    const host = wantedHost.isIn(hosts);
    const address = wantedAddress ? wantedAddress.isIn(hosts) : false;
    if (host === undefined || address === undefined) return undefined;
    return { marker, hosts, key: key.key, isAbout: { host, address } };
  };
}

/**
 * Opens a file and keeps other processes of ours from changing it until it is closed; also where it
 * was replaced while we waited.
 */
export async function openLocked(path: string, options: Deno.OpenOptions): Promise<Deno.FsFile> {
  while (true) {
    const handle = await Deno.open(path, options);
    try {
      await handle.lock(true);
    } catch {
      // Some file systems have no locks: a line may be there twice then, which does no harm.
    }
    const [ours, current] = [await handle.stat(), await Deno.stat(path).catch(() => undefined)];
    if (current?.ino === ours.ino && current.dev === ours.dev) return handle;
    handle.close();
  }
}

function firstField(text: string): string {
  return text.slice(0, text.search(/[ \t]|$/));
}

function isMarker(text: string): text is KnownLine["marker"] {
  return text === "" || text === "@revoked" || text === "@cert-authority";
}

/** OpenSSH's salts are as long as the digests. */
const saltBytes = 20;
const hashedNameLength = "|1|".length + 28 + "|".length + 28;

/** A host that is looked for in many lines. */
class WantedHost {
  readonly #name: string;
  readonly #hmac: HmacSha1;
  readonly #salt = Buffer.alloc(saltBytes);

  constructor(name: string) {
    this.#name = name;
    this.#hmac = new HmacSha1(Buffer.from(name));
  }

  /** Whether the hosts of a line are about it; `undefined` for a hashed name that is broken. */
  isIn(hosts: string): boolean | undefined {
    if (!hosts.startsWith("|")) return matchesPatterns(this.#name, lowerCase(hosts).split(","));
    const isHashed = hosts.length === hashedNameLength && hosts.startsWith("|1|");
    const salt = this.#salt;
    if (!isHashed || salt.write(hosts.slice(3, 31), "base64") < salt.length) return undefined;
    const digest = this.#hmac.under(salt);
    return hosts.endsWith(digest.toString("base64")) && hosts === hashedName(salt, digest);
  }
}

/** A host name as HashKnownHosts keeps it. */
export function hashedHost(host: string): string {
  const salt = randomBytes(saltBytes);
  return hashedName(salt, createHmac("sha1", salt).update(host).digest());
}

function hashedName(salt: Buffer, digest: Buffer): string {
  return `|1|${salt.toString("base64")}|${digest.toString("base64")}`;
}
