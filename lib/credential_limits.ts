/** What the configuration allows of users' keys: PubkeyAcceptedAlgorithms and RequiredRSASize. */

import type { HostConfig } from "./host_config.ts";
import { logger } from "./log.ts";
import { rsaBits } from "./public_key.ts";
import type { Signer } from "./signer.ts";
import { acceptedKeyAlgorithms } from "./ssh2_algorithms.ts";
import type { KeyCandidate } from "./credential_source.ts";

const log = logger("authentication");

/** The settings that count here. */
export type KeyLimits = Pick<HostConfig, "pubkeyAcceptedAlgorithms" | "requiredRsaSize">;

/** The keys that are allowed, with the algorithms that are; also those that show themselves late. */
export async function* permitted(
  candidates: AsyncIterable<KeyCandidate>,
  limits: KeyLimits,
): AsyncGenerator<KeyCandidate> {
  const accepted = (algorithms: readonly string[]) =>
    acceptedKeyAlgorithms(algorithms, limits.pubkeyAcceptedAlgorithms);
  for await (const candidate of candidates) {
    const { name, publicKey, algorithms } = candidate;
    if (publicKey && !isLongEnough(name, publicKey, limits)) continue;
    yield {
      ...candidate,
      algorithms: accepted(algorithms),
      unlock: async () => {
        const signer = await candidate.unlock();
        if (signer === undefined) return undefined;
        if (!publicKey && !isLongEnough(name, signer.publicKey, limits)) return undefined;
        return withAlgorithms(signer, accepted(signer.algorithms));
      },
    };
  }
}

function isLongEnough(
  name: string,
  publicKey: Uint8Array,
  { requiredRsaSize }: KeyLimits,
): boolean {
  const bits = rsaBits(publicKey);
  if (bits === undefined || bits >= requiredRsaSize) return true;
  log.warn("the key {name} has {bits} bits, and RequiredRSASize is {requiredRsaSize}", {
    name,
    bits,
    requiredRsaSize,
  });
  return false;
}

function withAlgorithms(signer: Signer, algorithms: readonly string[]): Signer {
  const { name, publicKey, needsTouch, isOurs } = signer;
  const sign: Signer["sign"] = (data, algorithm) => signer.sign(data, algorithm);
  return { name, publicKey, algorithms, needsTouch, isOurs, sign };
}
