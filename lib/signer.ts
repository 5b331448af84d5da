/**
 * What signs for public-key authentication (RFC 4252, section 7), wherever the private key is.
 */

/** What a signature is for: the session, and the host as it has signed the first key exchange. */
export interface SessionBinding {
  /** The host's key or certificate. */
  hostKey: Uint8Array;
  /** The session identifier (RFC 4253, section 7.2). */
  sessionId: Uint8Array;
  /** The host's signature of the session identifier: string algorithm, string blob. */
  signature: Uint8Array;
}

/** A key or certificate that can sign. */
export interface Signer {
  /** For messages: the key's file, or its comment in the agent. */
  readonly name: string;
  /**
   * What a USERAUTH_REQUEST names: a plain key (RFC 4253, section 6.6) or a certificate (OpenSSH's
   * PROTOCOL.certkeys).
   */
  readonly publicKey: Uint8Array;
  /**
   * The algorithm names for a USERAUTH_REQUEST with this key, best first. For RSA the last is SHA-1
   * ("ssh-rsa"), which OpenSSH no longer uses unless its configuration says so.
   */
  readonly algorithms: readonly string[];
  /** Whether a signature waits for a person at a security key. */
  readonly needsTouch: boolean;
  /** Whether the private key is in this process: then nobody is asked for a signature. */
  readonly isOurs: boolean;
  /**
   * Signs `data` with one of `algorithms`.
   *
   * @returns the signature as USERAUTH_REQUEST carries it: string algorithm, string blob, and for
   *   security keys what OpenSSH's PROTOCOL.u2f adds.
   * @throws {AuthenticationError} where the key's holder refuses or cannot be reached.
   */
  sign(data: Uint8Array, algorithm: string): Promise<Uint8Array>;
}

/**
 * Refuses an algorithm that a key does not have.
 *
 * @throws {TypeError} for a mistake of the caller's.
 */
export function requireAlgorithm(signer: Signer, algorithm: string): void {
  if (!signer.algorithms.includes(algorithm)) {
    throw new TypeError(`${signer.name} does not sign with ${algorithm}`);
  }
}
