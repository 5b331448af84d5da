/**
 * Certificates of hosts in ssh2's key exchange, which knows none: one may be agreed on, and is taken
 * in the place of the plain key.
 *
 * Imported before ssh2 is, by `ssh2.ts`: ssh2 takes the names when it is loaded. For that reason
 * nothing may be awaited at this file's top level.
 */

import constants from "ssh2/lib/protocol/constants.js";
import {
  algorithmsFor,
  certificateTypes,
  isCertificateName,
  isSecurityKeyName,
  keyTypeFor,
  plainName,
} from "./public_key.ts";

const { SUPPORTED_SERVER_HOST_KEY: supported } = constants as {
  SUPPORTED_SERVER_HOST_KEY: string[];
};
supported.push(
  ...certificateTypes.filter((type) => !isSecurityKeyName(type)).flatMap(algorithmsFor),
);

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
