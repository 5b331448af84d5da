/**
 * The configuration that lets ssh reach the endpoint by a name: its text, and the names that it
 * can have.
 */

import { PublishingError } from "./errors.ts";
import { upstreamVariable } from "./shell.ts";

/** What every name ends with: no host of the user's is called so. */
const suffix = ".shim";

/** Longer file names are refused by some systems. */
const nameLimitCharacters = 150;

/** The names that clients use. */
export interface PublishedHost {
  /** `NAME`, of which `NAME.shim` is made. */
  name: string;
  /** A further name, which stands for itself. */
  as?: string;
}

/** Whose a generated file is, as its first line has it. */
export interface Owner {
  pid: number;
  /** The local port. */
  port: number;
  as?: string;
}

/** What a configuration says. */
export interface PublishedFacts extends PublishedHost, Owner {
  /** Where the endpoint listens. */
  address: string;
  /** The account on the host, which the endpoint does not ask for. */
  user: string;
  /** Absolute paths. */
  knownHostsFile: string;
  /** The private key that the endpoint admits. */
  identityFile?: string;
  /** The control socket, by which clients come without encryption. */
  controlPath?: string;
}

/** The host name that clients give. */
export function hostOf({ name }: PublishedHost): string {
  return name + suffix;
}

/** Whether a name is a pattern of Host and a file name that mean nothing else, on any system. */
export function isSafeName(name: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(name) && !name.endsWith(".") &&
    name.length <= nameLimitCharacters && !isDevice(name);
}

/** Windows has devices of these names in every folder. */
function isDevice(name: string): boolean {
  return /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i.test(name);
}

/** A safe name for whatever a user calls a host: `::1` is `0--1`. */
export function nameFor(alias: string): string {
  const name = alias.replace(/[^A-Za-z0-9._-]/gu, "-").slice(0, nameLimitCharacters - 1)
    .replace(/\.+$/, "");
  return isSafeName(name) ? name : `0${name}`;
}

/**
 * The lines for ssh_config. What a user's own `Host *` may say of the way there is said here
 * first, and would lead elsewhere.
 *
 * @throws {PublishingError} where ssh cannot be told a path.
 */
export function configText(facts: PublishedFacts, os: string = Deno.build.os): string {
  const settings = [
    `HostName ${facts.address}`,
    `Port ${facts.port}`,
    ...isPlain(facts.user) ? [`User ${facts.user}`] : [],
    "AddressFamily any",
    `BindAddress ${facts.address}`,
    "ProxyCommand none",
    "ProxyJump none",
    `HostKeyAlias ${hostOf(facts)}`,
    `UserKnownHostsFile ${quotedPath(facts.knownHostsFile, os)}`,
    "StrictHostKeyChecking yes",
    "UpdateHostKeys no",
    ...facts.identityFile === undefined
      ? []
      : [`IdentityFile ${quotedPath(facts.identityFile, os)}`, "IdentitiesOnly yes"],
    "ControlMaster no",
    `ControlPath ${facts.controlPath === undefined ? "none" : quotedPath(facts.controlPath, os)}`,
  ].map((setting) => `    ${setting}\n`).join("");
  const own = `Host ${hostOf(facts)}\n${settings}`;
  const other = facts.as === undefined ? "" : `\nMatch ${guarded(facts.as, os)}\n${settings}`;
  return `${ownerLine(facts)}\n${own}${other}`;
}

/** What sshshim starts on its way to the host must not come back to it. */
function guarded(name: string, os: string): string {
  const isBelow = os === "windows"
    ? `if not defined ${upstreamVariable} exit 1`
    : `printenv ${upstreamVariable}`;
  return `originalhost ${name} !exec "${isBelow}"`;
}

/** The known_hosts file beside it; `keys` are `TYPE BASE64`. */
export function knownHostsText(facts: PublishedHost & Owner, keys: readonly string[]): string {
  return [ownerLine(facts), ...keys.map((key) => `${hostOf(facts)} ${key}`), ""].join("\n");
}

const ownerPattern = /^# sshshim: pid (\d+), port (\d+)(?:, as (\S+))?; /;

/** The first line of every file of ours. */
export function ownerLine({ pid, port, as }: Owner): string {
  const alias = as === undefined ? "" : `, as ${as}`;
  return `# sshshim: pid ${pid}, port ${port}${alias}; written at its start, removed at its end`;
}

/** Whose a file is; `undefined` where it is none of ours. */
export function ownerOf(text: string): Owner | undefined {
  const [line, pid, port, as] = ownerPattern.exec(text) ?? [];
  if (line === undefined) return undefined;
  return { pid: Number(pid), port: Number(port), ...(as === undefined ? {} : { as }) };
}

/** A word that means itself in ssh's configuration, with tokens or without. */
function isPlain(word: string): boolean {
  return /^[\w@+.:,\/-]+$/.test(word) && !word.startsWith("-");
}

/** A path as ssh takes it; it has no way to write some of them. */
function quotedPath(path: string, os: string): string {
  const written = os === "windows" ? path.replaceAll("\\", "/") : path;
  if (isPlain(written)) return written;
  if (/["\\\p{Cc}]|\$\{/u.test(written)) {
    throw new PublishingError(`ssh's configuration cannot name "${path}".`);
  }
  return `"${written.replaceAll("%", "%%")}"`;
}
