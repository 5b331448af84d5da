/**
 * OpenSSH's known_hosts files: which host keys does the user trust for which host.
 *
 * The format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT", and the verdicts are those that
 * ssh(1) reaches with the same files. Two of ssh's rules are easily missed:
 *
 * - a host with known keys that offers another key has *changed*, even when the offered key is of
 *   a type that the files do not have: otherwise an impostor would only have to pick another type;
 * - a host at a port other than 22 is looked up as `[host]:port`; only if the files say nothing
 *   about that name, a key known for the bare host name is accepted as well.
 */

import { Buffer } from "node:buffer";
import { createHmac, randomBytes } from "node:crypto";
import { dirname } from "node:path";
import { HostKeyError, reasonOf } from "./errors.ts";
import { matchesPatterns } from "./pattern.ts";
import { fieldsOf, fingerprint, isPublicKey } from "./public_key.ts";
import { lowerCase } from "./ssh_config_line.ts";

/** A host as the user named it, and its TCP port. */
export interface HostAddress {
  host: string;
  port: number;
}

/** What the files say about a host key; `line` counts from 1. */
export type Verdict =
  | { kind: "known"; file: string; line: number }
  | { kind: "unknown" }
  /**
   * The host has other keys. `knownType` is the offered key's type where the files have one of
   * that type, and else the type of a key that they have instead.
   */
  | { kind: "changed"; file: string; line: number; knownType: string; knownFingerprint: string }
  | { kind: "revoked"; file: string; line: number };

/** A line that says nothing, and why; material for a debug log. */
export interface IgnoredLine {
  file: string;
  line: number;
  reason: string;
}

interface Entry {
  file: string;
  line: number;
  marker: "" | "@revoked";
  /** The host name patterns as written. */
  hosts: string;
  type: string;
  key: Buffer;
}

/** The known host keys of a list of files. */
export class KnownHosts {
  readonly #entries: readonly Entry[];

  /** Lines that are neither comments nor understood. They never make a key known. */
  readonly ignored: readonly IgnoredLine[];

  private constructor(entries: readonly Entry[], ignored: readonly IgnoredLine[]) {
    this.#entries = entries;
    this.ignored = ignored;
  }

  /**
   * Reads `files` in order. A file that does not exist counts as empty.
   *
   * @throws {HostKeyError} when a file exists and cannot be read: passing over it could hide that
   * a key is revoked or has changed.
   */
  static async load(files: readonly string[]): Promise<KnownHosts> {
    const entries: Entry[] = [];
    const ignored: IgnoredLine[] = [];
    for (const file of files) {
      let text: string;
      try {
        text = await Deno.readTextFile(file);
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) continue;
        throw new HostKeyError(
          `Cannot read the known_hosts file "${file}": ${reasonOf(error)}. ` +
            `Make it readable, or name another one with UserKnownHostsFile.`,
          { cause: error },
        );
      }
      text.split("\n").forEach((content, index) => {
        const parsed = parseLine(content);
        if (parsed === undefined) return;
        const line = index + 1;
        if (typeof parsed === "string") ignored.push({ file, line, reason: parsed });
        else entries.push({ file, line, ...parsed });
      });
    }
    return new KnownHosts(entries, ignored);
  }

  /** Judges the key that a host offers; `publicKey` is in the wire format of RFC 4253, 6.6. */
  check(address: HostAddress, publicKey: Uint8Array): Verdict {
    const verdict = this.#judge(lookupName(address), publicKey);
    if (verdict.kind !== "unknown" || address.port === 22) return verdict;
    // Like ssh, take a key that is known for the host at any port. A key revoked under the bare
    // name is compromised wherever it is used; ssh warns of it here, and then asks all the same.
    const bare = this.#judge(lookupName({ ...address, port: 22 }), publicKey);
    return bare.kind === "changed" ? verdict : bare;
  }

  /**
   * Names the types of the keys known for a host, in the order of the files and without
   * repetition. Host key algorithms of these types must be offered first: a server that has keys
   * of several types would else present one that looks changed.
   */
  keyTypes(address: HostAddress): string[] {
    const types = this.#typesFor(lookupName(address));
    return types.length > 0 ? types : this.#typesFor(lookupName({ ...address, port: 22 }));
  }

  #judge(name: string, publicKey: Uint8Array): Verdict {
    const entries = this.#entries.filter((entry) => matchesHost(name, entry.hosts));
    const same = entries.filter((entry) => entry.key.equals(publicKey));
    const revoked = same.find((entry) => entry.marker === "@revoked");
    if (revoked !== undefined) return { kind: "revoked", file: revoked.file, line: revoked.line };
    const known = same[0];
    if (known !== undefined) return { kind: "known", file: known.file, line: known.line };
    const others = entries.filter((entry) => entry.marker === "");
    const type = hostKeyType(publicKey);
    const other = others.find((entry) => entry.type === type) ?? others[0];
    if (other === undefined) return { kind: "unknown" };
    return {
      kind: "changed",
      file: other.file,
      line: other.line,
      knownType: other.type,
      knownFingerprint: fingerprint(other.key),
    };
  }

  #typesFor(name: string): string[] {
    const entries = this.#entries.filter((entry) => matchesHost(name, entry.hosts));
    const revoked = entries.filter((entry) => entry.marker === "@revoked");
    const usable = entries.filter((entry) =>
      entry.marker === "" && !revoked.some((other) => other.key.equals(entry.key))
    );
    return [...new Set(usable.map((entry) => entry.type))];
  }
}

/**
 * Appends a host's key to `file`, which is created (0600, its folder 0700) when missing. A key that
 * it has already is not added again. With `isHashed` the host's name cannot be read from the line.
 *
 * @throws {HostKeyError} when the file cannot be written, or the host name has characters that
 * mean something else in a known_hosts file.
 */
export async function addKnownHost(
  file: string,
  entry: HostAddress & { publicKey: Uint8Array; isHashed?: boolean },
): Promise<void> {
  const { host, publicKey, isHashed } = entry;
  // deno-lint-ignore no-control-regex
  if (host === "" || /[\x00-\x20\x7f@?*#[\]|'"\\,!]/.test(host)) {
    throw new HostKeyError(
      `Cannot add the key of host "${host}" to "${file}": the name has characters that a ` +
        `known_hosts file cannot hold. Check the name.`,
    );
  }
  const key = Buffer.from(publicKey).toString("base64");
  const name = lookupName(entry);
  const line = `${isHashed ? hashedHost(name) : name} ${hostKeyType(publicKey)} ${key}\n`;
  try {
    await Deno.mkdir(dirname(file), { recursive: true, mode: 0o700 });
    using handle = await Deno.open(file, { read: true, append: true, create: true, mode: 0o600 });
    await lock(handle);
    // While a person was asked, or just now, another process may have added it.
    if ((await KnownHosts.load([file])).check(entry, publicKey).kind === "known") return;
    const separator = await endsInsideLine(handle) ? "\n" : "";
    // One write on a file opened for appending: two processes that add a line at the same time
    // cannot cut each other's line in two.
    const bytes = new TextEncoder().encode(separator + line);
    if (await handle.write(bytes) !== bytes.length) throw new Error("the disk is full");
  } catch (error) {
    throw new HostKeyError(
      `Cannot add the key of host "${host}" to "${file}": ${reasonOf(error)}. ` +
        `Make it writable, or name another file with UserKnownHostsFile.`,
      { cause: error },
    );
  }
}

/**
 * The type of the key that a host offers: the first field (RFC 4253, section 6.6).
 *
 * @throws {HostKeyError} when the bytes are no fields, or the first is not a name.
 */
export function hostKeyType(publicKey: Uint8Array): string {
  const type = fieldsOf(publicKey)?.[0]?.toString("latin1");
  if (type === undefined || !/^[!-~]+$/.test(type)) {
    throw new HostKeyError(
      "The host key is malformed: it does not begin with a key type. " +
        "Check that the port is that of an SSH server.",
    );
  }
  return type;
}

/** The name under which a host is looked up and stored. */
function lookupName({ host, port }: HostAddress): string {
  const name = lowerCase(host);
  return port === 22 ? name : `[${name}]:${port}`;
}

/** The entry of a line, `undefined` for a line without one, or why the line is ignored. */
function parseLine(content: string): Omit<Entry, "file" | "line"> | string | undefined {
  const text = content.replace(/^[ \t]+|[ \t\r]+$/g, "");
  if (text === "" || text.startsWith("#")) return undefined;
  const fields = text.split(/[ \t]+/);
  const marker = fields[0]?.startsWith("@") ? fields.shift() : "";
  // The key of a certificate authority signs host keys; it is not one itself.
  if (marker === "@cert-authority") return undefined;
  if (marker !== "" && marker !== "@revoked") return `unknown marker ${marker}`;
  const [hosts, type, base64] = fields;
  if (hosts === undefined || type === undefined || base64 === undefined) return "too few fields";
  if (hosts.startsWith("@")) return "more than one marker";
  if (hosts.startsWith("|") && parseHashedHost(hosts) === undefined) {
    return "broken hashed host name";
  }
  const key = decodeBase64(base64);
  if (key === undefined) return "the key is not base64";
  if (!isPublicKey(key, type)) return `not a key of type ${type}`;
  return { marker, hosts, type, key };
}

/** Decodes base64 in its canonical form only; `undefined` for anything else. */
function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : undefined;
}

/** Whether `name`, in lower case, is one of the hosts of a line. */
function matchesHost(name: string, hosts: string): boolean {
  if (hosts.startsWith("|")) return matchesHashedHost(name, hosts);
  return matchesPatterns(name, lowerCase(hosts).split(","));
}

function matchesHashedHost(name: string, hosts: string): boolean {
  const hashed = parseHashedHost(hosts);
  return hashed !== undefined &&
    createHmac("sha1", hashed.salt).update(name).digest().equals(hashed.hash);
}

/** A host name as `HashKnownHosts` keeps it. */
function hashedHost(name: string): string {
  const salt = randomBytes(20);
  const hash = createHmac("sha1", salt).update(name).digest();
  return `|1|${salt.toString("base64")}|${hash.toString("base64")}`;
}

/** Parses `|1|salt|hash`, both in base64 and as long as a SHA-1 digest. */
function parseHashedHost(text: string): { salt: Buffer; hash: Buffer } | undefined {
  const [, saltText, hashText] = /^\|1\|([^|]+)\|([^|]+)$/.exec(text) ?? [];
  if (saltText === undefined || hashText === undefined) return undefined;
  const salt = decodeBase64(saltText);
  const hash = decodeBase64(hashText);
  return salt?.length === 20 && hash?.length === 20 ? { salt, hash } : undefined;
}

/** Waits for other processes that add to the file; closing it lets the next one. */
async function lock(handle: Deno.FsFile): Promise<void> {
  try {
    await handle.lock(true);
  } catch {
    // Some file systems have no locks: a line may be there twice then, which does no harm.
  }
}

/** Whether the last line of a file lacks its line feed. */
async function endsInsideLine(handle: Deno.FsFile): Promise<boolean> {
  const { isFile, size } = await handle.stat();
  if (!isFile || size === 0) return false;
  await handle.seek(-1, Deno.SeekMode.End);
  const last = new Uint8Array(1);
  return await handle.read(last) === 1 && last[0] !== 0x0a;
}
