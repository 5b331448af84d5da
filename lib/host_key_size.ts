/** How long an RSA host key may be. */

import { HostKeyError } from "./errors.ts";
import { rsaBits } from "./public_key.ts";
import { maximumRsaBits } from "./rsa_signature.ts";

/** @throws {HostKeyError} where it is too short to be trusted, or longer than SSH takes. */
export function requireHostKeySize(
  key: Uint8Array,
  { name, requiredRsaSize }: { name: string; requiredRsaSize: number },
): void {
  const bits = rsaBits(key);
  if (bits !== undefined && bits < requiredRsaSize) {
    throw new HostKeyError(
      `Host key of ${name} has ${bits} bits, and RequiredRSASize is ${requiredRsaSize}. ` +
        `Ask the host's administrator for a longer key.`,
    );
  }
  if (bits !== undefined && bits > maximumRsaBits) {
    throw new HostKeyError(
      `Host key of ${name} has ${bits} bits, and SSH takes ${maximumRsaBits} at most. ` +
        `Ask the host's administrator for a shorter key.`,
    );
  }
}
