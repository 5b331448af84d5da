/** The one spelling under which a host is looked up and known. */

import { isIPv4, isIPv6 } from "node:net";
import { lowerCase } from "./ssh_config_line.ts";

/**
 * Brings an address into its usual form (`127.1` is `127.0.0.1`, `::0001` is `::1`), and a name
 * into lower case. An address that differs in letter case alone, or has a zone, stays as it is.
 */
export function canonicalHost(host: string): string {
  if (host.includes(":") || host.includes("%")) return canonicalIPv6(host) ?? host;
  return canonicalIPv4(host) ?? lowerCase(host);
}

function canonicalIPv6(host: string): string | null {
  if (!isIPv6(host) || host.includes("%")) return null;
  const address = new URL(`http://[${host}]`).hostname.slice(1, -1);
  const usual = address.replace(
    // Addresses that embed one of IPv4 are written with dots.
    /^(::(?:ffff:)?)([0-9a-f]{1,4}):([0-9a-f]{1,4})$/,
    (_, prefix: string, ...words: string[]) => prefix + words.slice(0, 2).map(twoBytes).join("."),
  );
  return usual === lowerCase(host) ? host : usual;
}

function twoBytes(word: string): string {
  const value = parseInt(word, 16);
  return `${value >> 8}.${value & 255}`;
}

function canonicalIPv4(host: string): string | null {
  // Fewer than four numbers, octal and hexadecimal ones are addresses as well.
  if (!/^[0-9a-fx]+(?:\.[0-9a-fx]+)*$/i.test(host) || !URL.canParse(`http://${host}`)) return null;
  const { hostname } = new URL(`http://${host}`);
  return isIPv4(hostname) ? hostname : null;
}
