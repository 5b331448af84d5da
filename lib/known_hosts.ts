/**
 * OpenSSH's known_hosts files: which host keys does the user trust for which host.
 *
 * The verdicts are those that ssh(1) reaches with the same files. Two of ssh's rules are easily
 * missed:
 *
 * - a host with known keys that offers another key has *changed*, even when the offered key is of
 *   a type that the files do not have: otherwise an impostor would only have to pick another type;
 * - a host at a port other than 22 is looked up as `[host]:port`; only if the files say nothing
 *   about that name, a key known for the bare host name is accepted as well.
 */

import { dirname } from "node:path";
import { HostKeyError, reasonOf } from "./errors.ts";
import type { Certificate } from "./key_certificate.ts";
import {
  type KnownHostsSource,
  type KnownLine,
  openLocked,
  readKnownHostsFile,
} from "./known_hosts_file.ts";
import { knownLines } from "./known_hosts_rewrite.ts";
import { logger } from "./log.ts";
import {
  certificateName,
  certificateTypes,
  fieldsOf,
  fingerprint,
  isSameKey,
} from "./public_key.ts";
import { lowerCase } from "./ssh_config_line.ts";

const log = logger("trust");

/** A host as the user named it, and its TCP port. */
export interface HostAddress {
  host: string;
  port: number;
}

/** What the files say about a host key; `line` counts from 1. */
export type Verdict =
  /** `isBare`: for the host at any port. */
  | { kind: "known"; file: string; line: number; isBare?: boolean }
  | { kind: "unknown" }
  /**
   * The host has other keys. `knownType` is the offered key's type where the files have one of
   * that type, and else the type of a key that they have instead.
   */
  | { kind: "changed"; file: string; line: number; knownType: string; knownFingerprint: string }
  | { kind: "revoked"; file: string; line: number };

/** The known host keys of a list of files. */
export class KnownHosts {
  readonly #files: readonly KnownHostsSource[];

  constructor(files: readonly KnownHostsSource[]) {
    this.#files = files;
  }

  /** Reads `paths` in order. As with ssh, a file that cannot be read counts as empty. */
  static async load(paths: readonly string[]): Promise<KnownHosts> {
    const files: KnownHostsSource[] = [];
    for (const path of paths) {
      try {
        files.push(await readKnownHostsFile(path));
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) continue;
        const reason = reasonOf(error);
        log.warn("the known_hosts file {path} is passed over: {reason}", { path, reason });
      }
    }
    return new KnownHosts(files);
  }

  /** These files and another one after them. */
  with(file: KnownHostsSource): KnownHosts {
    return new KnownHosts([...this.#files, file]);
  }

  /** Judges the plain key that a host offers, in the wire format of RFC 4253, 6.6. */
  check(address: HostAddress, publicKey: Uint8Array): Verdict {
    const [own, bare] = lookupNames(address);
    const verdict = this.#judge(own, publicKey);
    if (verdict.kind !== "unknown" || bare === undefined) return verdict;
    // Like ssh, take a key that is known for the host at any port. A key revoked under the bare
    // name is compromised wherever it is used; ssh warns of it here, and then asks all the same.
    const verdictOnBare = this.#judge(bare, publicKey);
    if (verdictOnBare.kind === "changed") return verdict;
    return verdictOnBare.kind === "known" ? { ...verdictOnBare, isBare: true } : verdictOnBare;
  }

  /** Judges a key by an address of the host alone, at its port. */
  checkAddress(address: HostAddress, publicKey: Uint8Array): Verdict {
    return this.#judge(storedName(address), publicKey);
  }

  /**
   * Looks for the authority that has signed a host's certificate; `known` says nothing yet about
   * whether the certificate is good for this host.
   */
  checkAuthority(
    address: HostAddress,
    { subjectKey, authorityKey }: Certificate,
  ): Exclude<Verdict, { kind: "changed" }> {
    for (const name of lookupNames(address)) {
      const lines = this.#linesAbout(name);
      const keys = [subjectKey, authorityKey];
      const revoked = lines.find(({ marker, key }) =>
        marker === "@revoked" && keys.some((it) => isSameKey(it, key))
      );
      if (revoked !== undefined) return { kind: "revoked", ...placeOf(revoked) };
      const authority = lines.find(({ marker, key }) =>
        marker === "@cert-authority" && isSameKey(authorityKey, key)
      );
      if (authority !== undefined) return { kind: "known", ...placeOf(authority) };
    }
    return { kind: "unknown" };
  }

  /**
   * Names the types of what is known for a host, without repetition: of its keys, of certificates
   * for these, and of all certificates where an authority is known. Host key algorithms of these
   * types must be offered first: a server that has keys of several types would else present one
   * that looks changed.
   */
  keyTypes(address: HostAddress): string[] {
    for (const name of lookupNames(address)) {
      const types = this.#typesFor(name);
      if (types.length > 0) return types;
    }
    return [];
  }

  #judge(name: string, publicKey: Uint8Array): Verdict {
    const lines = this.#linesAbout(name);
    const same = lines.filter(({ key }) => isSameKey(key, publicKey));
    const revoked = same.find(({ marker }) => marker === "@revoked");
    if (revoked !== undefined) return { kind: "revoked", ...placeOf(revoked) };
    const known = same.find(({ marker }) => marker === "");
    if (known !== undefined) return { kind: "known", ...placeOf(known) };
    const others = lines.filter(({ marker }) => marker === "");
    const type = hostKeyType(publicKey);
    const other = others.find((it) => it.type === type) ?? others[0];
    if (other === undefined) return { kind: "unknown" };
    return {
      kind: "changed",
      ...placeOf(other),
      knownType: other.type,
      knownFingerprint: fingerprint(other.key),
    };
  }

  #typesFor(name: string): string[] {
    const lines = this.#linesAbout(name);
    const revoked = lines.filter(({ marker }) => marker === "@revoked");
    const types = new Set<string>();
    for (const { marker, type, key } of lines) {
      if (marker === "@revoked" || revoked.some((it) => it.key.equals(key))) continue;
      const all = marker === "" ? [type, certificateName(type)] : certificateTypes;
      for (const it of all) types.add(it);
    }
    return [...types];
  }

  #linesAbout(name: string): readonly KnownLine[] {
    return this.#files.flatMap((file) => {
      const { lines, ignored } = file.about(name);
      for (const { file, line, reason } of ignored) {
        log.debug("{file} line {line} is ignored: {reason}", { file, line, reason });
      }
      return lines;
    });
  }
}

function placeOf({ file, line }: KnownLine): { file: string; line: number } {
  return { file, line };
}

/**
 * Appends a host's key to `file`, which is created (0600, its folder 0700) when missing. A key that
 * it has already is not added again. With `isHashed` the host's name cannot be read from the line.
 * With `ip` the line is about that address as well, or there is a further one.
 *
 * @throws {HostKeyError} when the file cannot be written, or the host name has characters that
 * mean something else in a known_hosts file.
 */
export async function addKnownHost(
  file: string,
  entry: HostAddress & { publicKey: Uint8Array; isHashed?: boolean; ip?: HostAddress },
): Promise<void> {
  const { host, publicKey, isHashed = false, ip } = entry;
  // deno-lint-ignore no-control-regex
  if (host === "" || /[\x00-\x20\x7f@?*#[\]|'"\\,!]/.test(host)) {
    throw new HostKeyError(
      `Cannot add the key of host "${host}" to "${file}": the name has characters that a ` +
        `known_hosts file cannot hold. Check the name.`,
    );
  }
  const names = [entry, ...(ip === undefined ? [] : [ip])].map(storedName);
  const lines = knownLines(names, publicKey, isHashed).map((line) => `${line}\n`).join("");
  try {
    await Deno.mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const options = { read: true, append: true, create: true, mode: 0o600 };
    using handle = await openLocked(file, options);
    // While a person was asked, or just now, another process may have added it.
    if ((await KnownHosts.load([file])).check(entry, publicKey).kind === "known") return;
    const separator = await endsInsideLine(handle) ? "\n" : "";
    // One write on a file opened for appending: two processes that add a line at the same time
    // cannot cut each other's line in two.
    const bytes = new TextEncoder().encode(separator + lines);
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

/** The name under which a host is stored, and looked up first. */
export function storedName(address: HostAddress): string {
  return lookupNames(address)[0];
}

/** The names under which a host is looked up: its own, and the one without its port, if it has one. */
function lookupNames({ host, port }: HostAddress): [own: string] | [own: string, bare: string] {
  const name = lowerCase(host);
  return port === 22 ? [name] : [`[${name}]:${port}`, name];
}

/** Whether the last line of a file lacks its line feed. */
async function endsInsideLine(handle: Deno.FsFile): Promise<boolean> {
  const { isFile, size } = await handle.stat();
  if (!isFile || size === 0) return false;
  await handle.seek(-1, Deno.SeekMode.End);
  const last = new Uint8Array(1);
  return await handle.read(last) === 1 && last[0] !== 0x0a;
}
