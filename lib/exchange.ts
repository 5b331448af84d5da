/** What a key exchange has agreed on. */

import type { ExchangeStatus } from "./status.ts";

/** In words for the log. */
export function describeExchange(
  { keyExchange, isPostQuantum, hostKey, cipher }: ExchangeStatus,
): string {
  const warning = isPostQuantum ? "" : " (not post-quantum)";
  return `key exchange ${keyExchange}${warning}, host key ${hostKey}, cipher ${cipher}`;
}
