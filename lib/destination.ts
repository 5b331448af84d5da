/** `[USER@]HOST[:PORT]` as ssh reads it, and which hosts and user names are refused. */

import { isIPv6 } from "node:net";
import { UsageError } from "./errors.ts";

/** The parts of `[USER@]HOST[:PORT]`; the host has passed {@link checkHost}. */
export interface Destination {
  username?: string;
  /** An IPv6 address comes without its brackets. */
  host: string;
  /** 1 to 65535. */
  port?: number;
}

/** A user name is not empty, has no control characters, and cannot be taken for an option. */
export const userPattern = /^(?!-)\P{Cc}+$/u;

/**
 * Splits `[USER@]HOST[:PORT]`. HOST may be an IPv6 address, in brackets if a port follows.
 *
 * @throws {UsageError} A part is malformed. The message repeats nothing of what was typed.
 */
export function parseDestination(typed: string): Destination {
  if (typed.includes("://")) {
    throw new UsageError("HOST is not written as a URL, but as [USER@]HOST[:PORT].");
  }
  // The last @ counts, as with ssh: a user name may contain others.
  const at = typed.lastIndexOf("@");
  const address = typed.slice(at + 1);
  const username = at < 0 ? undefined : typed.slice(0, at);
  if (username?.includes(":")) {
    throw new UsageError("USER@HOST has no place for a password: use --password, or a key.");
  }
  if (username !== undefined && !userPattern.test(username)) {
    throw new UsageError("USER in USER@HOST is empty, starts with - or has control characters.");
  }
  const [, bracketed, bare, digits] = isIPv6(address)
    ? [address, address]
    : /^(?:\[([^\]]*)\]|([^:]*))(?::([^:]*))?$/.exec(address) ?? [];
  const host = bracketed ?? bare;
  if (host === undefined) {
    throw new UsageError("HOST has too many colons; write an IPv6 address and port as [::1]:22.");
  }
  checkHost(host);
  if (digits === undefined) return { username, host };
  const port = Number(digits);
  if (!/^\d{1,5}$/.test(digits) || port < 1 || port > 65535) {
    throw new UsageError("PORT in HOST:PORT is not a number from 1 to 65535.");
  }
  return { username, host, port };
}

/** @throws {UsageError} `host` cannot be the name or the address of a host. */
export function checkHost(host: string): void {
  if (host === "") throw new UsageError("The host is empty.");
  if (host.startsWith("-")) throw new UsageError("A host cannot start with -.");
  if (/[\s\p{Cc}]/u.test(host)) {
    throw new UsageError("A host cannot contain white space or control characters.");
  }
  if (/[@/[\]]/.test(host) || (host.includes(":") && !isIPv6(host))) {
    throw new UsageError(
      "The host is neither a name nor an address; --username and --port give the rest.",
    );
  }
}
