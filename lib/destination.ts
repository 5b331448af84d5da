/**
 * `[USER@]HOST[:PORT]` and `ssh://[USER@]HOST[:PORT]`, and which hosts and user names are refused.
 * No error repeats anything of what was typed.
 */

import { isIPv6 } from "node:net";
import { UsageError } from "./errors.ts";
import { parseSshAddress } from "./ssh_config_proxy.ts";

/** What was typed, without its user. */
export interface Destination {
  username?: string;
  /** Perhaps `HOST:PORT`, which may be the name of a host all the same: {@link divideHost}. */
  host: string;
  /** 1 to 65535; only of a URL. */
  port?: number;
}

/** A user name is not empty, has no control characters, and cannot be taken for an option. */
export const userPattern = /^(?!-)\P{Cc}+$/u;

/**
 * Splits the user off, or a URL into its parts.
 *
 * @throws {UsageError} A part is malformed.
 */
export function parseDestination(typed: string): Destination {
  const destination = typed.startsWith("ssh://") ? parseUrl(typed) : splitUser(typed);
  const { username, host } = destination;
  if (username !== undefined && !userPattern.test(username)) {
    throw new UsageError("USER in USER@HOST is empty, starts with - or has control characters.");
  }
  checkHost(host);
  return destination;
}

function parseUrl(typed: string): Destination {
  const address = parseSshAddress(typed);
  if (address !== undefined) {
    const { user: username, host, port } = address;
    return { username, host, port };
  }
  throw new UsageError(
    "The URL is not ssh://[USER@]HOST[:PORT]: it has no path, and no IPv6 address, which is " +
      "written as [::1]:22.",
  );
}

function splitUser(typed: string): Destination {
  // The last @ counts, as with ssh: a user name may contain others, and colons.
  const at = typed.lastIndexOf("@");
  return { username: at < 0 ? undefined : typed.slice(0, at), host: typed.slice(at + 1) };
}

/** @throws {UsageError} `host` can be no name at all. */
export function checkHost(host: string): void {
  if (host === "") throw new UsageError("The host is empty.");
  if (host.startsWith("-")) throw new UsageError("A host cannot start with -.");
  if (/[\s\p{Cc}]/u.test(host)) {
    throw new UsageError("A host cannot contain white space or control characters.");
  }
}

/** Whether it may be `HOST:PORT`, or a name that only ssh's configuration can have. */
export function isDivisible(host: string): boolean {
  return /[:@/[\]]/.test(host) && !isIPv6(host);
}

/**
 * Splits `HOST[:PORT]`. HOST may be an IPv6 address, in brackets if a port follows.
 *
 * @throws {UsageError} A part is malformed.
 */
export function divideHost(typed: string): { host: string; port?: number } {
  if (typed.includes("://")) {
    throw new UsageError("HOST is written as [USER@]HOST[:PORT] or ssh://[USER@]HOST[:PORT].");
  }
  const [, bracketed, bare, digits] = isIPv6(typed)
    ? [typed, typed]
    : /^(?:\[([^\]]*)\]|([^:]*))(?::([^:]*))?$/.exec(typed) ?? [];
  const host = bracketed ?? bare;
  if (host === undefined) {
    throw new UsageError("HOST has too many colons; write an IPv6 address and port as [::1]:22.");
  }
  checkHost(host);
  if (isDivisible(host)) {
    throw new UsageError(
      "The host is neither a name nor an address; --username and --port give the rest.",
    );
  }
  if (digits === undefined) return { host };
  const port = Number(digits);
  if (!/^\d{1,5}$/.test(digits) || port < 1 || port > 65535) {
    throw new UsageError("PORT in HOST:PORT is not a number from 1 to 65535.");
  }
  return { host, port };
}

/**
 * What was given with the host or by an option.
 *
 * @throws {UsageError} Both were given, and differ.
 */
export function theSame<T>(what: string, withHost?: T, byOption?: T): T | undefined {
  if (withHost !== undefined && byOption !== undefined && withHost !== byOption) {
    throw new UsageError(`The ${what} is given twice and differs: with the host and by an option.`);
  }
  return withHost ?? byOption;
}
