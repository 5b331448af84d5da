/**
 * What the endpoint tells clients about itself (SSH_MSG_EXT_INFO, RFC 8308), in the place of ssh2,
 * which announces signature algorithms alone and forgets a comma between two of them.
 *
 * Like `ssh2_transport.ts` this builds on private fields of ssh2 1.17.0.
 */

// @ts-types="@types/ssh2"
import type ssh2 from "ssh2";
import { MalformedDataError } from "./errors.ts";
import { buildExtInfo, readExtInfo } from "./ext_info.ts";
import { loginAlgorithms } from "./key_signature.ts";
import type { Peer } from "./transport.ts";

const pingExtension = "ping@openssh.com";

interface KeyExchange {
  /** Whether the client wants to hear of extensions; ssh2 asks once, after the first exchange. */
  remoteExtInfoEnabled: boolean;
}

/** The part of ssh2's `Protocol` that is used here. */
interface ExtensionProtocol {
  _kex: KeyExchange | undefined;
}

/**
 * Sends a client EXT_INFO after its first key exchange, if it asked for that; called before it.
 *
 * @param answersPings asked at that moment.
 */
export function announceExtensions(
  connection: ssh2.Connection,
  { transport, answersPings }: { transport: Pick<Peer, "send">; answersPings(): boolean },
): void {
  const { _protocol: protocol } = connection as unknown as { _protocol: ExtensionProtocol };
  const isWanted = silence(protocol);
  connection.once("handshake", () => {
    if (isWanted()) transport.send(announcement({ answersPings: answersPings() }));
  });
}

/**
 * Keeps ssh2 from sending its own.
 *
 * @returns whether the client asked for one; known once keys have been exchanged.
 */
function silence(protocol: ExtensionProtocol): () => boolean {
  let isWanted = false;
  const property = Object.getOwnPropertyDescriptor(protocol, "_kex")!;
  let own = protocol._kex;
  Object.defineProperty(protocol, "_kex", {
    configurable: true,
    enumerable: true,
    get: () => property.get ? property.get.call(protocol) : own,
    set: (kex: KeyExchange | undefined) => {
      if (kex) {
        isWanted ||= kex.remoteExtInfoEnabled === true;
        Object.defineProperty(kex, "remoteExtInfoEnabled", {
          configurable: true,
          get: () => false,
          set: (value: boolean) => isWanted ||= value,
        });
      }
      if (property.set) property.set.call(protocol, kex);
      else own = kex;
    },
  });
  return () => isWanted;
}

function announcement({ answersPings }: { answersPings: boolean }): Uint8Array {
  const extensions = new Map([
    ["server-sig-algs", loginAlgorithms.join(",")],
    ["publickey-hostbound@openssh.com", "0"],
  ]);
  if (answersPings) extensions.set(pingExtension, "0");
  return buildExtInfo(extensions);
}

/** Whether a server's EXT_INFO says that it answers pings. */
export function announcesPing(payload: Uint8Array): boolean {
  try {
    const value = readExtInfo(payload).get(pingExtension);
    return value?.length === 1 && value[0] === 0x30;
  } catch (error) {
    if (!(error instanceof MalformedDataError)) throw error;
    // Authentication reads it too, and the connection ends for it.
    return false;
  }
}
