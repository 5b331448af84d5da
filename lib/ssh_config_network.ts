/** `Match localnetwork` of ssh_config(5): whether an address of this machine is in a network. */

import { isIPv4, isIPv6 } from "node:net";
import { canonicalHost } from "./host_name.ts";

/** A network: an address whose bits after the first `length` are 0. */
export interface Network {
  bits: string;
  length: number;
}

/**
 * Whether an interface that is up has an address in one of the networks, such as
 * `10.0.0.0/8,2001:db8::/32`; `undefined` if one of them is malformed. An address with a zone
 * (`fe80::1%eth0`) is in none, as with ssh.
 */
export function isInNetworks(list: string): boolean | undefined {
  const networks = list.split(",").map(parseNetwork);
  if (!networks.every((network) => network !== undefined)) return undefined;
  return Deno.networkInterfaces().some(({ address, scopeid }) =>
    !scopeid && networks.some((network) => isInNetwork(address, network))
  );
}

/** Whether an address, IPv4 or IPv6, is in a network of its family. */
export function isInNetwork(address: string, network: Network): boolean {
  const bits = bitsOf(address);
  return bits?.length === network.bits.length &&
    bits.slice(0, network.length) === network.bits.slice(0, network.length);
}

/** Parses `10.0.0.0/8`, or an address alone; `undefined` where it is malformed. */
export function parseNetwork(text: string): Network | undefined {
  const [, address, digits] = /^([0-9a-f.:]+)(?:\/(\d+))?$/i.exec(text) ?? [];
  const bits = bitsOf(address ?? "");
  if (bits === undefined) return undefined;
  const length = Number(digits ?? bits.length);
  return length > bits.length || bits.slice(length).includes("1") ? undefined : { bits, length };
}

/** An address as 32 or 128 digits 0 and 1. */
function bitsOf(text: string): string | undefined {
  const address = canonicalHost(text);
  if (isIPv4(address)) return address.split(".").map((byte) => binary(Number(byte), 8)).join("");
  if (!isIPv6(address)) return undefined;
  // As a URL has it, without dots.
  const [head = "", tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split("::");
  const [first, last] = [head, tail ?? ""].map((part) => part === "" ? [] : part.split(":"));
  const zeros = Array(8 - first!.length - last!.length).fill("0");
  return [...first!, ...zeros, ...last!].map((word) => binary(parseInt(word, 16), 16)).join("");
}

function binary(value: number, digits: number): string {
  return value.toString(2).padStart(digits, "0");
}
