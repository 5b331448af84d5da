/** The options before a key in a file of authorized keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT). */

import {
  everything,
  type KeyPermissions,
  type PermittedPlace,
  sftpCommand,
} from "./client_rules.ts";
import { isAddressPattern } from "./address_patterns.ts";

/** What the options of a key say. Strings are byte strings. */
export interface KeyOptions {
  /** What may be done with it. */
  permissions: KeyPermissions;
  /** When it ceases to count, in milliseconds since 1970. */
  expiresAt: number | undefined;
  /** Patterns of addresses from which it counts; `undefined` for any. */
  from: readonly string[] | undefined;
  /** Of a security key. */
  needsTouch: boolean;
  needsVerification: boolean;
}

/** Options that sshd has, and that cannot be kept to here. */
const unsupported: readonly string[] = [
  ...["cert-authority", "principals", "tunnel", "user-rc", "no-user-rc"],
];

const withValue: readonly string[] = [
  ...["command", "environment", "expiry-time", "from", "permitopen", "permitlisten"],
  ...["principals", "tunnel"],
];

/** sshd's own limits. */
const mostPlaces = 4096;
const mostVariables = 1024;

/** One option: its name, its value in quotation marks, and what follows it. */
const option = /^([a-z0-9-]{1,40})(?:=("(?:\\"|[^"\\]|\\(?!"))*"))?(,(?=.)|$)/is;

/**
 * Reads options, which stand before a key without a blank between them.
 *
 * @returns in words why the key does not count, where an option is not understood
 */
export function parseKeyOptions(text: string): KeyOptions | string {
  let options: KeyOptions = {
    permissions: everything,
    expiresAt: undefined,
    from: undefined,
    needsTouch: true,
    needsVerification: false,
  };
  for (let rest = text; rest !== "";) {
    const [all, name, quoted] = option.exec(rest) ?? [];
    if (all === undefined || name === undefined) return "its options are not understood";
    const value = quoted?.slice(1, -1).replaceAll('\\"', '"');
    const next = withOption(options, name.toLowerCase(), value);
    if (typeof next === "string") return next;
    options = next;
    rest = rest.slice(all.length);
  }
  return options;
}

function withOption(
  options: KeyOptions,
  name: string,
  value: string | undefined,
): KeyOptions | string {
  if (withValue.includes(name) !== (value !== undefined)) return `its option ${name} is malformed`;
  if (unsupported.includes(name)) return `its option ${name} cannot be kept to here`;
  return value === undefined
    ? withFlag(options, name)
    : withSetting(options, name, value) ?? `its option ${name} is malformed`;
}

function withFlag(options: KeyOptions, name: string): KeyOptions | string {
  const isPermitted = !name.startsWith("no-");
  const permit = (change: Partial<KeyPermissions>): KeyOptions => ({
    ...options,
    permissions: { ...options.permissions, ...change },
  });
  switch (name) {
    case "restrict":
      return permit({
        terminal: false,
        agentForwarding: false,
        x11Forwarding: false,
        portForwarding: false,
      });
    case "pty":
    case "no-pty":
      return permit({ terminal: isPermitted });
    case "agent-forwarding":
    case "no-agent-forwarding":
      return permit({ agentForwarding: isPermitted });
    case "x11-forwarding":
    case "no-x11-forwarding":
      return permit({ x11Forwarding: isPermitted });
    case "port-forwarding":
    case "no-port-forwarding":
      return permit({ portForwarding: isPermitted });
    case "touch-required":
    case "no-touch-required":
      return { ...options, needsTouch: isPermitted };
    case "verify-required":
    case "no-verify-required":
      return { ...options, needsVerification: isPermitted };
    default:
      return `its option ${name} is unknown`;
  }
}

/** @returns `undefined` where the value is none, or one was there already that may not be again. */
function withSetting(options: KeyOptions, name: string, value: string): KeyOptions | undefined {
  const { permissions, expiresAt } = options;
  const permit = (change: Partial<KeyPermissions>): KeyOptions => ({
    ...options,
    permissions: { ...permissions, ...change },
  });
  switch (name) {
    case "command": {
      if (permissions.command !== undefined || !isCommand(value)) return undefined;
      return permit({ command: value });
    }
    case "from": {
      const from = value.split(",");
      if (options.from !== undefined || !from.every(isAddressPattern)) return undefined;
      return { ...options, from };
    }
    case "expiry-time": {
      const time = parseTime(value);
      if (time === undefined) return undefined;
      return { ...options, expiresAt: Math.min(time, expiresAt ?? Infinity) };
    }
    case "environment": {
      const [, variable, content] = /^(\w+)=(.*)$/s.exec(value) ?? [];
      const { environment } = permissions;
      if (variable === undefined || environment.length >= mostVariables) return undefined;
      if (environment.some(([known]) => known === variable)) return options; // The first one counts.
      return permit({ environment: [...environment, [variable, content!]] });
    }
    case "permitopen": {
      const places = withPlace(permissions.permittedOpens, parsePlace(value));
      return places && permit({ permittedOpens: places });
    }
    case "permitlisten": {
      const place = parsePlace(value.includes(":") ? value : `*:${value}`);
      const places = withPlace(permissions.permittedListens, place);
      return places && permit({ permittedListens: places });
    }
    default:
      return undefined;
  }
}

/** sshd runs its own server for files with these words, whose options cannot be passed on. */
function isCommand(value: string): boolean {
  if (value === sftpCommand) return true;
  return value.trim() !== "" && !value.includes("\0") && value.split(/[ \t]/)[0] !== sftpCommand;
}

function withPlace(
  places: readonly PermittedPlace[] | undefined,
  place: PermittedPlace | undefined,
): PermittedPlace[] | undefined {
  if (place === undefined || (places?.length ?? 0) >= mostPlaces) return undefined;
  return [...places ?? [], place];
}

/** `HOST:PORT`, where either may be `*`; a host with colons is in brackets. */
function parsePlace(text: string): PermittedPlace | undefined {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:/[\]]+)):(\d{1,5}|\*)$/.exec(text) ??
    [];
  const host = bracketed ?? plain;
  if (host === undefined || digits === undefined) return undefined;
  if (digits === "*") return { host, port: "*" };
  const port = Number(digits);
  return port >= 1 && port <= 65535 ? { host, port } : undefined;
}

/** `YYYYMMDD[HHMM[SS]]`, with a Z behind it in UTC, else in this machine's time. */
function parseTime(text: string): number | undefined {
  const [, digits, zone] = /^(\d{8}|\d{12}|\d{14})(Z|UTC)?$/i.exec(text) ?? [];
  if (digits === undefined) return undefined;
  const part = (at: number, length: number) => Number(digits.slice(at, at + length) || "0");
  const [year, month, day] = [part(0, 4), part(4, 2), part(6, 2)];
  const [hour, minute, second] = [part(8, 2), part(10, 2), part(12, 2)];
  const utc = Date.UTC(year, month - 1, day, hour, minute, second);
  // A date that there is not becomes another one.
  const isThere = new Date(utc).toISOString().replace(/\D/g, "").startsWith(digits);
  if (year < 1970 || !isThere) return undefined;
  if (zone !== undefined) return utc;
  return new Date(year, month - 1, day, hour, minute, second).getTime();
}
