/**
 * Keys and certificates in files, as OpenSSH keeps them: FILE with the private key, FILE.pub with
 * the public one, FILE-cert.pub with a certificate.
 */

import { Buffer } from "node:buffer";
import type { KeyObject } from "node:crypto";
import { AuthenticationError, MalformedDataError, reasonOf } from "./errors.ts";
import { readJudged } from "./judged_file.ts";
import { type Certificate, parseCertificate } from "./key_certificate.ts";
import { signWith, type StoredKey, UnusableKey } from "./key_object.ts";
import { isPrivateText, parseStoredKey, publicKeyInside } from "./key_text.ts";
import { algorithmsFor, isSameKey, keyTypeOf } from "./public_key.ts";
import { requireAlgorithm, type Signer } from "./signer.ts";
import type { LocalSystem } from "./state_folder.ts";

/** A private key's file that was read; an encrypted one is still locked. */
export interface KeyFile {
  readonly file: string;
  /**
   * The public key. It is missing where the file is encrypted and does not show it (PEM), and there
   * is no FILE.pub.
   */
  readonly publicKey?: Uint8Array;
  /** Whether `unlock` needs a passphrase. */
  readonly encrypted: boolean;
  /**
   * Gives what signs. Every call decrypts anew, and nothing keeps the passphrase.
   *
   * @throws {WrongPassphraseError} when the passphrase is not the file's.
   * @throws {AuthenticationError} when it is missing, or the key cannot be used.
   */
  unlock(passphrase?: string): Promise<Signer>;
}

/** The passphrase does not open the key file; another one may. */
export class WrongPassphraseError extends AuthenticationError {
  override name = "WrongPassphraseError";
}

/** OpenSSH's own limit. */
const fileLimitBytes = 2 ** 20;

/**
 * Reads a private key: OpenSSH's format, PEM or PKCS#8; RSA, Ed25519 or ECDSA.
 *
 * @throws {AuthenticationError} where the file cannot be read, others can read it, or it holds no
 *   key that can sign here, such as one of a security key.
 */
export async function readKeyFile(file: string): Promise<KeyFile> {
  const stored = await readStoredKey(file);
  if (!stored.isEncrypted) {
    const { key, publicKey } = stored;
    const signer = keySigner(file, key, publicKey);
    return { file, publicKey, encrypted: false, unlock: () => Promise.resolve(signer) };
  }
  const publicKey = stored.publicKey ?? await readPublicText(`${file}.pub`);
  return {
    ...{ file, publicKey, encrypted: true },
    unlock: (passphrase) => unlock(file, { ...stored, publicKey }, passphrase),
  };
}

/**
 * Finds the public key of an identity without its passphrase, as ssh does: in FILE itself, which
 * may also be a public key or certificate, else in FILE.pub. With it a key can be found in an
 * agent, whether or not the private file is there and can be used.
 *
 * @returns `undefined` where neither shows one.
 */
export async function readPublicKey(file: string): Promise<Uint8Array | undefined> {
  const text = await readIfPossible(file);
  const publicKey = text && (parsePublicText(text) ?? publicKeyInside(text));
  return publicKey || await readPublicText(`${file}.pub`);
}

/**
 * The public key of a private key's file that is the user's own, and that nobody else can read: in
 * the file itself or, where it does not show it, in FILE.pub.
 *
 * @returns `undefined` where the file holds no private key, or neither shows one.
 * @throws {AuthenticationError} where the file cannot be read, or is not the user's alone.
 */
export async function publicKeyOfPrivateFile(
  file: string,
  system: Pick<LocalSystem, "os" | "uid">,
): Promise<Uint8Array | undefined> {
  const text = await readText(file, {
    what: "key",
    check: (file, { uid, mode }) => {
      if (system.os === "windows") return;
      if (uid === system.uid && ((mode ?? 0o777) & 0o077) === 0) return;
      throw new AuthenticationError(`The key ${file} is not yours alone. Run: chmod 600 "${file}"`);
    },
  });
  if (!isPrivateText(text)) return undefined;
  return publicKeyInside(text) ?? await readPublicText(`${file}.pub`);
}

/**
 * Reads the certificate that stands beside a private key, in FILE-cert.pub.
 *
 * @returns `undefined` where there is no such file.
 * @throws {AuthenticationError} where it holds something else.
 */
export async function certificateFor(file: string): Promise<Certificate | undefined> {
  const certificateFile = `${file}-cert.pub`;
  try {
    await Deno.stat(certificateFile);
  } catch {
    // Whatever the reason, ssh goes on without one, too.
    return undefined;
  }
  return await readCertificate(certificateFile);
}

/**
 * Reads a certificate by the name of its own file, as CertificateFile has it.
 *
 * @throws {AuthenticationError} where the file cannot be read or holds something else.
 */
export async function readCertificate(file: string): Promise<Certificate> {
  const blob = parsePublicText(await readText(file, { what: "certificate" }));
  try {
    const certificate = blob && parseCertificate(blob, file);
    if (certificate !== undefined) return certificate;
  } catch (cause) {
    if (!(cause instanceof MalformedDataError)) throw cause;
    throw new AuthenticationError(
      `The certificate ${file} is damaged. Ask for a new one, or remove the file.`,
      { cause },
    );
  }
  throw new AuthenticationError(
    `The file ${file} holds no certificate. Name the one that the authority gave, "…-cert.pub".`,
  );
}

async function readStoredKey(file: string): Promise<StoredKey> {
  const text = await readText(file, { what: "key", check: requirePrivate });
  try {
    return parseStoredKey(text, { file });
  } catch (error) {
    throw unusable(file, error);
  }
}

async function unlock(
  file: string,
  stored: StoredKey & { isEncrypted: true },
  passphrase: string | undefined,
): Promise<Signer> {
  if (passphrase === undefined) {
    throw new AuthenticationError(
      `The key ${file} has a passphrase, and none was given. ` +
        `Run sshshim in a terminal, or add the key to an SSH agent: ssh-add "${file}"`,
    );
  }
  const opened = await stored.decrypt(passphrase).catch((error) => {
    throw unusable(file, error);
  });
  if (opened === undefined) {
    throw new WrongPassphraseError(
      `The passphrase for the key ${file} is wrong. Check it with: ssh-keygen -y -f "${file}"`,
    );
  }
  const { key, publicKey } = opened;
  if (stored.publicKey !== undefined && !isSameKey(stored.publicKey, publicKey)) {
    throw new AuthenticationError(
      `The key ${file} is not the one in ${file}.pub. ` +
        `Remove the latter, or make it anew: ssh-keygen -y -f "${file}"`,
    );
  }
  return keySigner(file, key, publicKey);
}

function keySigner(name: string, key: KeyObject, publicKey: Uint8Array): Signer {
  const signer: Signer = {
    ...{ name, publicKey, algorithms: algorithmsFor(keyTypeOf(publicKey)) },
    ...{ needsTouch: false, isOurs: true },
    sign: (data, algorithm) =>
      new Promise((resolve) => {
        requireAlgorithm(signer, algorithm);
        resolve(signWith(key, data, algorithm));
      }),
  };
  return signer;
}

/** The rule of ssh: who reads somebody else's key file is that person's business. */
function requirePrivate(file: string, { uid, mode }: Deno.FileInfo): void {
  if (Deno.build.os === "windows" || mode === null || uid !== Deno.uid()) return;
  if ((mode & 0o077) === 0) return;
  const octal = (mode & 0o777).toString(8).padStart(4, "0");
  throw new AuthenticationError(
    `UNPROTECTED PRIVATE KEY FILE: with permissions ${octal}, others can read ${file}, ` +
      `so it is not used. Run: chmod 600 "${file}"`,
  );
}

/** The blob of the first line with a public key or certificate, if there is one. */
function parsePublicText(text: string): Uint8Array | undefined {
  for (const line of text.split("\n")) {
    const [, type, base64] = /^\s*([a-z][\w.@-]*)[ \t]+([A-Za-z0-9+/]+={0,2})(\s|$)/.exec(line) ??
      [];
    if (type === undefined || base64 === undefined) continue;
    const blob = new Uint8Array(Buffer.from(base64, "base64"));
    try {
      if (keyTypeOf(blob) === type) return blob;
    } catch (error) {
      // Too short for a key: two words of something else.
      if (!(error instanceof MalformedDataError)) throw error;
    }
  }
  return undefined;
}

async function readPublicText(file: string): Promise<Uint8Array | undefined> {
  const text = await readIfPossible(file);
  return text === undefined ? undefined : parsePublicText(text);
}

async function readIfPossible(file: string): Promise<string | undefined> {
  try {
    return await readText(file, { what: "key" });
  } catch (error) {
    // It is one of several places to look at.
    if (error instanceof AuthenticationError) return undefined;
    throw error;
  }
}

async function readText(
  file: string,
  { what, check }: { what: string; check?: (file: string, info: Deno.FileInfo) => void },
): Promise<string> {
  try {
    const bytes = await readJudged(file, (info) => {
      const { isFile, isDirectory, size } = info;
      if (isDirectory) throw new UnusableKey("it is a folder");
      if (!isFile) throw new UnusableKey("it is not a regular file");
      check?.(file, info);
      if (size > fileLimitBytes) throw new UnusableKey(`it is too long for a ${what}`);
    });
    return new TextDecoder().decode(bytes);
  } catch (cause) {
    if (cause instanceof AuthenticationError) throw cause;
    const reason = cause instanceof Deno.errors.NotFound
      ? "there is no such file"
      : reasonOf(cause);
    throw new AuthenticationError(
      `The ${what} ${file} cannot be read: ${reason}. Check the path and its permissions.`,
      { cause },
    );
  }
}

function unusable(file: string, error: unknown): unknown {
  if (!(error instanceof UnusableKey)) return error;
  const advice = error.advice ?? "Use another key.";
  return new AuthenticationError(`The key ${file} cannot be used: ${error.message}. ${advice}`, {
    cause: error,
  });
}
