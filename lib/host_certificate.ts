/** Certificates that hosts show in the place of their keys: which are good for a host. */

import { applyList } from "./algorithm_list.ts";
import { HostKeyError, MalformedDataError } from "./errors.ts";
import { type Certificate, parseCertificate } from "./key_certificate.ts";
import { signatureAlgorithm, verifySignature } from "./key_signature.ts";
import { matchesPattern } from "./pattern.ts";
import { isCertificateName, keyTypeOf } from "./public_key.ts";

/** What authorities sign with, in OpenSSH's order; with SHA-1 only where that is named. */
const usualAlgorithms = [
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "sk-ssh-ed25519@openssh.com",
  "sk-ecdsa-sha2-nistp256@openssh.com",
  "rsa-sha2-512",
  "rsa-sha2-256",
];
const algorithms = { usual: usualAlgorithms, all: [...usualAlgorithms, "ssh-rsa"] };

/**
 * Reads the certificate that a host shows; `undefined` for a plain key.
 *
 * @throws {HostKeyError} where it is damaged, or its authority has not signed it.
 */
export function readHostCertificate(publicKey: Uint8Array, host: string): Certificate | undefined {
  try {
    if (!isCertificateName(keyTypeOf(publicKey))) return undefined;
    const certificate = parseCertificate(publicKey, `the certificate of "${host}"`);
    const isSigned = certificate &&
      verifySignature(certificate.authorityKey, certificate.signedPart, certificate.signature);
    if (isSigned) return certificate;
  } catch (error) {
    if (!(error instanceof MalformedDataError)) throw error;
  }
  throw new HostKeyError(
    `Host certificate of "${host}" is damaged or not signed by its authority. Do not connect; ask ` +
      `the host's administrator for a new one.`,
  );
}

/**
 * Why a certificate is not good for a host, if it is not; in ssh's order.
 *
 * @param host its name without a port, or its alias.
 * @param caSignatureAlgorithms a list as of CASignatureAlgorithms.
 */
export function complaintAbout(
  certificate: Certificate,
  { host, caSignatureAlgorithms, now = Date.now() }: {
    host: string;
    caSignatureAlgorithms: string | undefined;
    now?: number;
  },
): string | undefined {
  const { kind, validAfter, validBefore, principals, hasCriticalOptions, signature } = certificate;
  const seconds = BigInt(Math.floor(now / 1000));
  if (kind !== "host") return "it is not a host's";
  if (seconds < validAfter) return `it is not valid before ${timeOf(validAfter)}`;
  if (seconds >= validBefore) return `it was valid until ${timeOf(validBefore)}`;
  if (!principals.some((pattern) => matchesPattern(host, pattern))) {
    return `it is for ${principals.join(", ") || "nobody"}`;
  }
  if (hasCriticalOptions) return "it has critical options that are not known";
  const algorithm = signatureAlgorithm(signature);
  if (applyList(caSignatureAlgorithms, algorithms).includes(algorithm)) return undefined;
  return `its authority signs with ${algorithm}, which CASignatureAlgorithms does not have`;
}

function timeOf(seconds: bigint): string {
  // The last one that a Date can have.
  const isDate = seconds <= 8_640_000_000_000n;
  return isDate ? new Date(Number(seconds) * 1000).toISOString() : `second ${seconds}`;
}
