/** By which algorithm a user's key signs (RFC 8332), chosen as ssh chooses it. */

import { isCertificateName, plainName } from "./public_key.ts";

/** What is known of the server. */
export interface SigningServer {
  /** What it says it is, such as `OpenSSH_9.2`. */
  version: string;
  /** `server-sig-algs` of its SSH_MSG_EXT_INFO; `undefined` where it lists nothing. */
  listed: readonly string[] | undefined;
}

/** Servers that know RSA certificates by the name with SHA-1 alone. */
const oldCertificates = /^(OpenSSH_([2-5]|6\.[56]|7\.[0-7])|Sun_SSH_1\.0)/;

/**
 * As ssh does: what the server lists counts for RSA alone, since other keys sign in one way only;
 * OpenSSH 7.4 knows SHA-2 and does not list it. A server that lists nothing is of the time of SHA-1;
 * if that is not allowed, ssh goes without the key, and here the best algorithm is tried.
 *
 * @param algorithms those that are allowed, best first
 * @returns `undefined` where the server takes none of them
 */
export function chooseAlgorithm(
  keyType: string,
  algorithms: readonly string[],
  { version, listed }: SigningServer,
): string | undefined {
  if (plainName(keyType) !== "ssh-rsa") return algorithms[0];
  const withSha1 = algorithms.find((name) => name === keyType);
  const isCertificate = isCertificateName(keyType);
  if (isCertificate && oldCertificates.test(version)) return withSha1;
  const isForgetful = !isCertificate && /^OpenSSH_7\.4/.test(version);
  const known = isForgetful ? ["rsa-sha2-256", "rsa-sha2-512"] : listed;
  if (known === undefined) return withSha1 ?? algorithms[0];
  // A certificate signs by its key's name.
  return algorithms.find((name) => known.includes(name) || known.includes(plainName(name)));
}
