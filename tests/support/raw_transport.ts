/** Messages as bytes over a connection whose keys and authentication are ssh2's affair. */

import { connect, type Socket } from "node:net";
import { ssh2 } from "../../lib/ssh2.ts";
import constants from "ssh2/lib/protocol/constants.js";
import protocolUtils from "ssh2/lib/protocol/utils.js";
import { defaultTimeoutMs } from "./deadline.ts";

/** The private part of ssh2 1.17.0 that is used here. */
interface Protocol {
  _onPayload(payload: Uint8Array): unknown;
  _onPacket(): void;
  _cipher?: { _cipherInstance?: { final(): unknown } };
  _decipher?: { _decipherInstance?: { final(): unknown } };
  _packetRW: {
    write: {
      allocStart: number;
      alloc(payloadLength: number): Uint8Array;
      finalize(packet: Uint8Array): Uint8Array;
    };
  };
}

const { sendPacket } = protocolUtils as {
  sendPacket(protocol: Protocol, packet: Uint8Array): boolean;
};

/** Messages of the connection protocol begin here (RFC 4250, section 4.1.1). */
const firstConnectionMessage = 80;

/** A connection that authenticates by the method `none` or, if that is not enough, by its key. */
export class RawTransport {
  /** Resolves when keys are exchanged: from then on messages can be sent. */
  readonly encrypted: Promise<void>;
  /** Resolves when the server has let us in; rejects when the connection ends before. */
  readonly authenticated: Promise<void>;
  /** Resolves with the server's last words, or with "" when it just closes the connection. */
  readonly ended: Promise<string>;
  /** Takes what the server sends once it has let us in. */
  onPayload: (payload: Uint8Array) => void = () => {};
  readonly #socket: Socket;
  readonly #protocol: Protocol;

  /** Connects to a port of 127.0.0.1; with `authenticates` false it never tries to get in. */
  constructor(
    { port, username, keyFile }: { port: number; username: string; keyFile?: string },
    { authenticates = true }: { authenticates?: boolean } = {},
  ) {
    const client = new ssh2.Client();
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    const encrypted = Promise.withResolvers<void>();
    const authenticated = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<string>();
    let words = "";
    client.on("error", (error) => words ||= error.message);
    client.on("handshake", () => encrypted.resolve());
    client.on("ready", () => authenticated.resolve());
    client.on("close", () => {
      const error = new Error(`The connection ended: ${words}`);
      encrypted.reject(error);
      authenticated.reject(error);
      ended.resolve(words);
    });
    client.connect({
      sock: socket,
      username,
      ...(keyFile === undefined ? {} : { privateKey: Deno.readTextFileSync(keyFile) }),
      authHandler: authenticates ? ["none", "publickey"] : () => {},
      algorithms: { cipher: preferredCiphers() },
      readyTimeout: defaultTimeoutMs,
    });
    const { _protocol: protocol } = client as unknown as { _protocol: Protocol };
    const onPayload = protocol._onPayload;
    protocol._onPayload = (payload) => {
      if (payload[0]! < firstConnectionMessage) return onPayload(payload);
      protocol._onPacket();
      this.onPayload(payload);
    };
    this.encrypted = encrypted.promise;
    this.authenticated = authenticated.promise;
    this.ended = ended.promise;
    // Whoever waits for one of them gets the error; nobody has to wait for both.
    this.encrypted.catch(() => {});
    this.authenticated.catch(() => {});
    this.#socket = socket;
    this.#protocol = protocol;
  }

  /** Sends one message. */
  send(payload: Uint8Array): void {
    const { write } = this.#protocol._packetRW;
    const packet = write.alloc(payload.length);
    packet.set(payload, write.allocStart);
    sendPacket(this.#protocol, write.finalize(packet));
  }

  /** Reads no more: whatever the server sends has to wait. */
  stall(): void {
    this.#socket.pause();
  }

  /** Closes the connection without a word. */
  async close(): Promise<void> {
    this.#socket.destroy();
    await this.ended;
    // Older runtimes count a cipher that is not finished as a leak, and ssh2 finishes none.
    this.#protocol._cipher?._cipherInstance?.final();
    this.#protocol._decipher?._decipherInstance?.final();
  }
}

/** OpenSSH's own first choice, where this runtime has it. */
function preferredCiphers(): ssh2.CipherAlgorithm[] {
  const { SUPPORTED_CIPHER } = constants as { SUPPORTED_CIPHER: string[] };
  return (["chacha20-poly1305@openssh.com", "aes128-ctr"] as const).filter((name) =>
    SUPPORTED_CIPHER.includes(name)
  );
}
