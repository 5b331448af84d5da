/** Trust in the key that a host has shown on another connection, whatever else is known of it. */

import { HostKeyError } from "./errors.ts";
import type { HostTrust, TrustVerdict } from "./handshake.ts";
import { plainKeyOf } from "./key_certificate.ts";
import { hostKeyType } from "./known_hosts.ts";
import { fingerprint, isSameKey } from "./public_key.ts";

/** A key that was believed, and how far. */
export class SameKeyTrust implements HostTrust {
  readonly keyTypes: readonly string[];
  readonly #name: string;
  readonly #key: Uint8Array;
  readonly #verdict: TrustVerdict;

  constructor(name: string, { key, verdict }: { key: Uint8Array; verdict: TrustVerdict }) {
    this.#name = name;
    this.#key = plainKeyOf(key);
    this.#verdict = verdict;
    this.keyTypes = [hostKeyType(this.#key)];
  }

  // deno-lint-ignore require-await
  async verify(publicKey: Uint8Array): Promise<TrustVerdict> {
    const key = plainKeyOf(publicKey);
    if (isSameKey(this.#key, key)) return this.#verdict;
    throw new HostKeyError(
      `Host key of ${this.#name} is another one at the address at which the host reaches itself: ` +
        `${fingerprint(this.#key)} is expected, and ${fingerprint(key)} is there. Ask the host's ` +
        `administrator which server answers there.`,
    );
  }
}
