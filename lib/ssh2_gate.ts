/**
 * Which messages a server may send when, from its key to the end of authentication.
 *
 * ssh2 obeys each message as it comes, also those that come before the verdict about the host key,
 * and while our own direction is not encrypted yet. Here they are stopped before ssh2 sees them, and
 * so is what must not leave unencrypted.
 */

import { extInfoMessage } from "./ext_info.ts";
import {
  firstConnectionMessage,
  firstMethodMessage,
  serviceAccept,
  userauthBanner,
  userauthFailure,
  userauthSuccess,
} from "./userauth_messages.ts";

/** What came last decides what may come next. */
type Phase =
  /** Until a host key is accepted and both directions are encrypted. */
  | "keys"
  /** Until the server agrees to authentication (RFC 4253, section 10). */
  | "service"
  | "authentication"
  | "connection";

const messageNames: Readonly<Record<number, string>> = {
  5: "SERVICE_REQUEST",
  6: "SERVICE_ACCEPT",
  20: "KEXINIT",
  21: "NEWKEYS",
  50: "USERAUTH_REQUEST",
  51: "USERAUTH_FAILURE",
  52: "USERAUTH_SUCCESS",
  53: "USERAUTH_BANNER",
  80: "GLOBAL_REQUEST",
  90: "CHANNEL_OPEN",
  91: "CHANNEL_OPEN_CONFIRMATION",
  94: "CHANNEL_DATA",
};

const prematureBecause: Readonly<Record<Exclude<Phase, "connection">, string>> = {
  keys: "before the key exchange was over",
  service: "before authentication began",
  authentication: "during authentication",
};

/** What precedes the payload of a packet: its length, and the padding's (RFC 4253, section 6). */
const lengthFieldsBytes = 5;

/** The part of ssh2's `Protocol` that encrypts. */
interface SendingProtocol {
  _cipher: { encrypt(packet: Uint8Array): void };
}

const kexinit = 20;

/** The gate that a server's messages go through, by their numbers (RFC 4250, section 4.1). */
export class ServerGate {
  #phase: Phase = "keys";

  /** The first key exchange is over, which it is only with an accepted host key. */
  onKeysExchanged(): void {
    if (this.#phase === "keys") this.#phase = "service";
  }

  /** Whether nothing but the transport's own messages may come yet. */
  get isClosed(): boolean {
    return this.#phase === "keys";
  }

  /** Whether authentication is over. */
  get isPassed(): boolean {
    return this.#phase === "connection";
  }

  /** Whether a message may come now; if so, it has come. */
  admit(type: number): boolean {
    if (!this.#isLawful(type)) return false;
    if (type === serviceAccept) this.#phase = "authentication";
    if (type === userauthSuccess) this.#phase = "connection";
    return true;
  }

  /** What is wrong with a message that was not admitted. */
  complaintAbout(type: number): string {
    const name = messageNames[type] ?? `message ${type}`;
    return this.#phase === "connection"
      ? `${name} after authentication`
      : `${name} ${prematureBecause[this.#phase]}`;
  }

  #isLawful(type: number): boolean {
    // DISCONNECT, IGNORE, UNIMPLEMENTED and DEBUG; OpenSSH sends EXT_INFO behind NEWKEYS.
    if (type >= 1 && type <= 4 || type === extInfoMessage) return true;
    switch (this.#phase) {
      case "keys":
        return false;
      case "service":
        return [serviceAccept, userauthBanner, kexinit].includes(type);
      case "authentication":
        return type === kexinit || type >= userauthFailure && type <= userauthBanner ||
          type >= firstMethodMessage && type < firstConnectionMessage;
      case "connection":
        return type === kexinit || type >= firstConnectionMessage;
    }
  }
}

/** Whether a message is the transport protocol's (RFC 4250, section 4.1), services beside. */
export function isTransportMessage(type: number): boolean {
  return type >= 1 && type <= 4 || type >= 20 && type <= 49;
}

/** Until the first exchange is over, nothing but it and the transport's own messages may leave. */
export function sendNothingInTheClear(protocol: SendingProtocol): void {
  const cipher = protocol._cipher;
  const encrypt = cipher.encrypt.bind(cipher);
  cipher.encrypt = (packet) => {
    const type = packet[lengthFieldsBytes] ?? 0;
    if (!isTransportMessage(type)) throw new Error(`message ${type} must not leave unencrypted`);
    encrypt(packet);
  };
}
