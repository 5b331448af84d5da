/**
 * Certificates of hosts for ssh2, which knows none: a key exchange takes one in the place of the
 * plain key, and verifies the host's signature by the key in it. What the certificate is worth is
 * not asked here.
 *
 * Imported before ssh2 is, by `ssh2.ts`: ssh2 takes the function when it is loaded. For that
 * reason nothing may be awaited at this file's top level.
 */

import { Buffer } from "node:buffer";
import constants from "ssh2/lib/protocol/constants.js";
import keyParser from "ssh2/lib/protocol/keyParser.js";
import { parseCertificate } from "./key_certificate.ts";
import {
  algorithmsFor,
  certificateTypes,
  isCertificateName,
  isSecurityKeyName,
  keyTypeFor,
  keyTypeOf,
  plainName,
} from "./public_key.ts";
import { encodeFields } from "./ssh_data.ts";

const { SUPPORTED_SERVER_HOST_KEY: supported } = constants as {
  SUPPORTED_SERVER_HOST_KEY: string[];
};
supported.push(
  ...certificateTypes.filter((type) => !isSecurityKeyName(type)).flatMap(algorithmsFor),
);

/** The function of ssh2's module that is replaced. */
interface KeyParser {
  /** Reads what follows a public key's type. */
  parseDERKey(data: Uint8Array, type: string): unknown;
}

const target = keyParser as KeyParser;
const { parseDERKey } = target;
target.parseDERKey = (data, type) => {
  if (!isCertificateName(type)) return parseDERKey(data, type);
  try {
    const key = parseCertificate(encodeFields(type, { raw: data }), type)!.subjectKey;
    const plainType = keyTypeOf(key);
    return target.parseDERKey(Buffer.from(key).subarray(4 + plainType.length), plainType);
  } catch (error) {
    return error as Error;
  }
};

/** What was agreed on, as ssh2 has it, and the algorithm where it is a certificate's. */
export interface NegotiatedHostKey {
  serverHostKey: string;
  certificate?: string;
}

/** The part of ssh2's `KeyExchange` that is used here. */
export interface CertificateExchange {
  negotiated: NegotiatedHostKey;
  finish(isServerToClientAlone?: boolean): unknown;
}

/**
 * Has a client's exchange take a certificate where that was agreed on. ssh2 compares one name with
 * the type that the host's key states and with the algorithm that its signature states: with a
 * certificate these are two names.
 */
export function takeCertificate(kex: CertificateExchange): void {
  const { negotiated } = kex;
  const algorithm = negotiated.serverHostKey;
  if (!isCertificateName(algorithm)) return;
  negotiated.certificate = algorithm;
  negotiated.serverHostKey = keyTypeFor(algorithm);
  const finish = kex.finish.bind(kex);
  kex.finish = (isServerToClientAlone) => {
    negotiated.serverHostKey = plainName(algorithm);
    return finish(isServerToClientAlone);
  };
}
