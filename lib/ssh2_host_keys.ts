/**
 * Host keys for ssh2 that it does not read: certificates, of which the key in them counts, and RSA
 * keys of more than 4,096 bits, whose signatures Deno does not verify. What a certificate is worth
 * is not asked here.
 *
 * Imported before ssh2 is, by `ssh2.ts`: ssh2 takes the function when it is loaded. For that
 * reason nothing may be awaited at this file's top level.
 */

import { Buffer } from "node:buffer";
import keyParser from "ssh2/lib/protocol/keyParser.js";
import { parseCertificate } from "./key_certificate.ts";
import { isCertificateName, keyTypeOf, rsaBits } from "./public_key.ts";
import { RsaPublicKey } from "./rsa_signature.ts";
import { encodeFields } from "./ssh_data.ts";

/** What ssh2 uses of a host key that it has read. */
interface VerifyingKey {
  /** @param hash undefined stands for the type's own, of `ssh-rsa` SHA-1. */
  verify(data: Uint8Array, signature: Uint8Array, hash?: string): boolean | Error;
}

/** The function of ssh2's module that is replaced. */
interface KeyParser {
  /** Reads what follows a public key's type. */
  parseDERKey(data: Uint8Array, type: string): VerifyingKey | Error;
}

/** The longest that Deno takes. */
const runtimeLimitBits = 4096;

const target = keyParser as KeyParser;
const { parseDERKey } = target;
target.parseDERKey = (data, type) => {
  try {
    return parse(data, type);
  } catch (error) {
    return error as Error;
  }
};

function parse(data: Uint8Array, type: string): VerifyingKey | Error {
  if (isCertificateName(type)) {
    const key = parseCertificate(encodeFields(type, { raw: data }), type)!.subjectKey;
    const plainType = keyTypeOf(key);
    return parse(Buffer.from(key).subarray(4 + plainType.length), plainType);
  }
  const isLong = type === "ssh-rsa" &&
    rsaBits(encodeFields(type, { raw: data }))! > runtimeLimitBits;
  return isLong ? longKey(data) : parseDERKey(data, type);
}

function longKey(data: Uint8Array): VerifyingKey {
  const key = new RsaPublicKey(data);
  return { verify: (signed, signature, hash = "sha1") => key.verifies(signature, signed, hash) };
}
