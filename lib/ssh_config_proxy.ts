/** The way to a host that is not reached directly: ProxyJump and ProxyCommand of ssh_config(5). */

import { UsageError } from "./errors.ts";
import { configError, lowerCase, type Source } from "./ssh_config_line.ts";
import { expandTokens, type Tokens } from "./ssh_config_tokens.ts";
import { badValue, parsePort, type ValueReader, word } from "./ssh_config_values.ts";

/** A host to go through. What is not given here, the configuration says under the host's name. */
export interface JumpHost {
  user?: string;
  /** A name or address as it would be typed; an IPv6 address without its brackets. */
  host: string;
  port?: number;
}

/** What is known of a connection when its ProxyCommand starts. */
export interface ProxiedConnection {
  /** As typed. */
  alias: string;
  hostName: string;
  hostKeyAlias?: string;
  port: number;
  user: string;
  proxyCommand?: string;
}

/** Reads the value of ProxyJump; no values at all stand for `none`. */
export const proxyJump: ValueReader = (line) => {
  if (lowerCase(line.text) === "none") return [];
  const value = word(line)![0]!.replace(/#.*$/s, "");
  if (parseJumpHosts(value) === undefined) {
    throw badValue(
      line,
      "takes [USER@]HOST[:PORT] or ssh://[USER@]HOST[:PORT], with commas between",
    );
  }
  return [value];
};

/** Splits `[user@]host[:port]` and `ssh://` addresses at commas; `undefined` where one is malformed. */
export function parseJumpHosts(value: string): JumpHost[] | undefined {
  const hosts = value.split(",").map(parseJumpHost);
  return hosts.every((host) => host !== undefined) ? hosts : undefined;
}

/**
 * Expands `%h`, `%n`, `%p` and `%r` in jump hosts.
 *
 * @throws {UsageError} A token is unknown, or the result has characters that no host or user name
 * has. ssh hands these names to a shell.
 */
export function expandJumpHosts(
  hosts: readonly JumpHost[],
  { tokens, source }: { tokens: Tokens; source: Source },
): JumpHost[] {
  return hosts.map((jump) => {
    const host = expandTokens(jump.host, { tokens, source });
    const user = jump.user && expandTokens(jump.user, { tokens, source });
    if (isSafeHost(host) && (user === undefined || isSafeUser(user))) {
      return { ...jump, host, user };
    }
    throw configError(
      source,
      "ProxyJump has a host or user with characters that none can have. Correct it.",
    );
  });
}

/** Writes jump hosts as in ProxyJump, where a percent sign begins a token. */
export function writeJumpHosts(hosts: readonly JumpHost[]): string {
  return hosts.map(({ user, host, port }) => {
    const address = host.includes(":") ? `[${host}]` : host;
    return (user === undefined ? "" : `${user}@`) + address +
      (port === undefined ? "" : `:${port}`);
  }).join(",").replaceAll("%", "%%");
}

/** Writes jump hosts as `ssh -G` does: the last one in its usual form, the others as they are. */
export function formatJumpHosts(value: string): string {
  const others = value.slice(0, value.lastIndexOf(",") + 1);
  const last = parseJumpHosts(value)?.at(-1);
  if (last === undefined) return value;
  const isNumeric = last.host.includes(":") || /^[0-9.]*$/.test(last.host);
  const user = last.user === undefined ? "" : `${last.user}@`;
  const port = last.port === undefined ? "" : `:${last.port}`;
  return `${others}${user}${isNumeric ? `[${last.host}]` : last.host}${port}`;
}

/**
 * The ProxyCommand of a connection with its tokens expanded, for `$SHELL -c`. Undefined without a
 * ProxyCommand.
 *
 * @throws {UsageError} The host or the user has control characters or characters that mean
 * something to a shell, or the command has an unknown token.
 */
export function expandProxyCommand(connection: ProxiedConnection): string | undefined {
  const { alias, hostName, hostKeyAlias = alias, port, user, proxyCommand } = connection;
  if (proxyCommand === undefined) return undefined;
  if (![alias, hostName, hostKeyAlias].every(isSafeHost) || !isSafeUser(user)) {
    throw new UsageError(
      `ProxyCommand for ${JSON.stringify(alias)} is not run: the host, its alias or the user ` +
        `has characters that mean something to a shell. Check what you typed.`,
    );
  }
  const tokens = { h: hostName, k: hostKeyAlias, n: alias, p: String(port), r: user };
  const source = { file: `ProxyCommand for "${alias}"`, line: 0 };
  return expandTokens(proxyCommand, { tokens, source });
}

/** Whether a name or address of a host may be put into a shell command, by ssh's rules. */
export function isSafeHost(host: string): boolean {
  return host !== "" && !/^-|[\s\p{Cc}'`"$\\;&<>|(){},]/u.test(host);
}

/** Whether a user's name may be put into a shell command, by ssh's rules. */
export function isSafeUser(user: string): boolean {
  return user !== "" && !/^-|[\p{Cc}'`";&<>|(){}]|\s-|\\$/u.test(user);
}

function parseJumpHost(text: string): JumpHost | undefined {
  return text.startsWith("ssh://") ? parseSshAddress(text) : parseShortForm(text);
}

function parseShortForm(text: string): JumpHost | undefined {
  const [, user, bracketed, bare, port] =
    /^(?:(.+)@)?(?:\[([^\]]*)\]|([^[\]:/@]+))(?::(.*))?$/s.exec(text) ?? [];
  return jumpHost({ user, host: bracketed ?? bare, port });
}

/**
 * Reads `ssh://[user@]host[:port]`, whose user may have `%` sequences; `undefined` where it is
 * malformed. Parameters after the user's name and a dot at the end are dropped; a path is refused.
 */
export function parseSshAddress(text: string): JumpHost | undefined {
  const [, encoded, host, port] =
    /^ssh:\/\/(?:([^@;]+)(?:;[^@]*)?@)?([a-z0-9](?:[a-z0-9_-]|\.(?=[a-z0-9_-]))*)\.?(?::([^/]*))?\/?$/i
      .exec(text) ?? [];
  const user = encoded && decode(encoded);
  return encoded && user === undefined ? undefined : jumpHost({ user, host, port });
}

function jumpHost(
  { user, host, port }: { user?: string; host?: string; port?: string },
): JumpHost | undefined {
  if (host === undefined || host === "") return undefined;
  if (port === undefined || port === "") return { user, host };
  const number = parsePort(port);
  return number === undefined ? undefined : { user, host, port: number };
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    // A malformed % sequence: the address is refused.
    return undefined;
  }
}

/** The name of the last host in a value of ProxyJump; empty without one. */
export function lastJumpHost(value: string | undefined): string {
  return (value === undefined ? undefined : parseJumpHosts(value)?.at(-1)?.host) ?? "";
}
