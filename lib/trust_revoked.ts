/** RevokedHostKeys: host keys that are not taken, whatever else speaks for them. */

import { HostKeyError, reasonOf } from "./errors.ts";
import type { HostTrust, TrustVerdict } from "./handshake.ts";
import type { HostConfig } from "./host_config.ts";
import { plainKeyOf } from "./key_certificate.ts";
import { hostKeyType } from "./known_hosts.ts";
import { fingerprint } from "./public_key.ts";
import { isRevoked } from "./revoked_keys.ts";

/** Trust in what somebody else trusts, unless a file of RevokedHostKeys has it. */
export class UnrevokedTrust implements HostTrust {
  readonly #trust: HostTrust;
  readonly #config: Pick<HostConfig, "hostName" | "revokedHostKeys">;

  constructor(trust: HostTrust, config: Pick<HostConfig, "hostName" | "revokedHostKeys">) {
    this.#trust = trust;
    this.#config = config;
  }

  get keyTypes(): readonly string[] {
    return this.#trust.keyTypes;
  }

  get update(): HostTrust["update"] {
    return this.#trust.update;
  }

  async verify(publicKey: Uint8Array, signal: AbortSignal): Promise<TrustVerdict> {
    for (const file of this.#config.revokedHostKeys) await this.#check(file, publicKey);
    return await this.#trust.verify(publicKey, signal);
  }

  async #check(file: string, publicKey: Uint8Array): Promise<void> {
    const { hostName } = this.#config;
    let isFound: boolean;
    try {
      isFound = isRevoked(await Deno.readFile(file), publicKey);
    } catch (error) {
      throw new HostKeyError(
        `Host key of "${hostName}" is not accepted: the file ${file} of RevokedHostKeys cannot be ` +
          `used: ${reasonOf(error)}. Check the path, its permissions and what is in it.`,
        { cause: error },
      );
    }
    if (!isFound) return;
    const key = plainKeyOf(publicKey);
    throw new HostKeyError(
      `Host key of "${hostName}" is revoked: ${file} has ${hostKeyType(key)} ${
        fingerprint(key)
      }, ` +
        `its certificate or its authority. Do not connect; ask the host's administrator for its ` +
        `new key.`,
    );
  }
}
