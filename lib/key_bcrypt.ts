/**
 * bcrypt_pbkdf, OpenBSD's slow key derivation, with which OpenSSH's key format turns a passphrase
 * into a key. ssh2 uses the same library.
 */

import bcrypt from "bcrypt-pbkdf";

/** The library's one function that is used here; it fills `key` and returns 0, or fails. */
type Pbkdf = (
  passphrase: Uint8Array,
  passphraseLength: number,
  salt: Uint8Array,
  saltLength: number,
  key: Uint8Array,
  keyLength: number,
  rounds: number,
) => number;

const { pbkdf } = bcrypt as { pbkdf: Pbkdf };

/**
 * Derives `length` bytes from a passphrase; 16 rounds take some tenths of a second, during which
 * nothing else goes on.
 *
 * @throws {RangeError} for parameters that OpenSSH does not take either.
 */
export async function bcryptPbkdf(
  passphrase: Uint8Array,
  { salt, rounds, length }: { salt: Uint8Array; rounds: number; length: number },
): Promise<Uint8Array> {
  await Promise.resolve(); // What was to be done before goes first.
  const key = new Uint8Array(Math.max(0, length));
  const hasFailed = rounds < 1 || length < 1 || length > 1024 ||
    pbkdf(passphrase, passphrase.length, salt, salt.length, key, length, rounds) !== 0;
  if (hasFailed) throw new RangeError("bcrypt_pbkdf does not take these parameters");
  return key;
}
