/** Private keys as text: one block between two lines, in OpenSSH's own format or in PEM. */

import { Buffer } from "node:buffer";
import { damagedKey, type StoredKey, UnusableKey } from "./key_object.ts";
import { openSshLabel, openSshPublicKey, parseOpenSshKey } from "./key_openssh.ts";
import { parsePemKey } from "./key_pem.ts";

/**
 * Parses a private key of any type, which may be encrypted. `file` is named in advice only.
 *
 * @throws {UnusableKey} when it is something else, damaged, or of a type that cannot sign here.
 */
export function parseStoredKey(text: string, { file }: { file: string }): StoredKey {
  const [label, body] = findPrivateKey(text, file);
  if (label === openSshLabel) return parseOpenSshKey(Buffer.from(body, "base64"));
  return parsePemKey(label, body);
}

/**
 * The public key that a private key's file shows without a passphrase, if it does; also of keys
 * that cannot sign here, such as those of security keys.
 */
export function publicKeyInside(text: string): Uint8Array | undefined {
  try {
    const [label, body] = findPrivateKey(text, "");
    if (label === openSshLabel) return openSshPublicKey(Buffer.from(body, "base64"));
    return parsePemKey(label, body).publicKey;
  } catch (error) {
    if (error instanceof UnusableKey) return undefined;
    throw error;
  }
}

/** Whether a text holds a private key, whether or not it can be used. */
export function isPrivateText(text: string): boolean {
  return beginning.test(text);
}

const beginning = /^-----BEGIN ([A-Z ]*PRIVATE KEY)-----/m;

/** The first private key's label, and the lines between its first and its last. */
function findPrivateKey(text: string, file: string): [label: string, body: string] {
  const [, label] = beginning.exec(text) ?? [];
  if (label === undefined) throw notAPrivateKey(text, file);
  const [, body] = /^-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END/ms.exec(text) ?? [];
  if (body === undefined) throw damagedKey();
  return [label, body];
}

function notAPrivateKey(text: string, file: string): UnusableKey {
  if (text.startsWith("PuTTY-User-Key-File-")) {
    const advice = `Convert it: puttygen "${file}" -O private-openssh -o NEW_FILE`;
    return new UnusableKey("it has PuTTY's format", advice);
  }
  if (/^(ssh|ecdsa|sk)-\S+ AAAA/.test(text)) {
    return new UnusableKey("it is a public key", "Pass the private one, without .pub.");
  }
  return new UnusableKey("it is not a private key");
}
