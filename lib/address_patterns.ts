/** Patterns of addresses, as `from` of sshd's authorized keys has them: wildcards and networks. */

import { matchesPattern } from "./pattern.ts";
import { isInNetwork, parseNetwork } from "./ssh_config_network.ts";

/** Whether a pattern, perhaps with `!` before it, can be used. */
export function isAddressPattern(pattern: string): boolean {
  const text = withoutMark(pattern);
  return text !== "" && (!text.includes("/") || parseNetwork(text) !== undefined);
}

/** Whether an address is meant: one of the patterns fits, and none with a `!` before it. */
export function isFrom(address: string, patterns: readonly string[]): boolean {
  const plain = address.toLowerCase().replace(/^::ffff:(?=[0-9.]+$)/, "");
  const fits = (pattern: string) => {
    const text = withoutMark(pattern);
    const network = parseNetwork(text);
    return network ? isInNetwork(plain, network) : matchesPattern(plain, text.toLowerCase());
  };
  const isExcluded = patterns.some((it) => it.startsWith("!") && fits(it));
  return !isExcluded && patterns.some((it) => !it.startsWith("!") && fits(it));
}

function withoutMark(pattern: string): string {
  return pattern.replace(/^!/, "");
}
