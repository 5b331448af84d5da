/**
 * An ssh2 connection in the role of the client, up to the end of authentication: what happens on
 * it, in the order in which it happens. What to make of that is `handshake.ts`'s affair.
 */

import type { ByteConnection } from "./byte_connection.ts";
import { DisconnectReason } from "./errors.ts";
import { plainKeyOf } from "./key_certificate.ts";
import { isSameKey } from "./public_key.ts";
import { ssh2 } from "./ssh2.ts";
import type { OfferedAlgorithms } from "./ssh2_algorithms.ts";
import { canBeginEarly, EarlyExchange } from "./ssh2_early_exchange.ts";
import { ByteSocket } from "./ssh2_socket.ts";
import { exchangeOf, identification, Ssh2Transport } from "./ssh2_transport.ts";
import type { ExchangeStatus } from "./status.ts";

/** Who decides, and is told. */
export interface Ssh2ClientHandlers {
  /**
   * The server's host key, once; nothing goes on before this resolves, and nothing but a rejection
   * ends it. The exchange may go on if it is true.
   */
  verifyHostKey(key: Uint8Array): Promise<boolean>;
  /** The server's identification line has come (RFC 4253, section 4.2). */
  onIdentified(): void;
  /** The host key is accepted, and both directions are encrypted for the first time. */
  onEncrypted(exchange: ExchangeStatus): void;
  /** Whether requests of authentication may follow SERVICE_REQUEST at once; asked after that. */
  maySendAhead(): boolean;
  /** Requests of authentication may be sent; called once. */
  onService(): void;
  /** Words of the server (SSH_MSG_USERAUTH_BANNER). */
  onBanner(text: string): void;
  /** SSH_MSG_EXT_INFO. */
  onExtensions(payload: Uint8Array): void;
  /** An answer to a request of authentication: message 51, or one of 60 to 79. */
  onAnswer(payload: Uint8Array): void;
  /** The server has let us in: its next message may be there already. */
  onReady(): void;
  /** Called once, as the last. */
  onClose(end: Ssh2End): void;
}

/** How a connection ended. */
export type Ssh2End =
  /** Without a word. */
  | { kind: "closed" }
  /** By SSH_MSG_DISCONNECT. */
  | { kind: "disconnected"; reasonCode: number; description: string; error: Error }
  /** By what the peer did, such as a message in the wrong place. */
  | { kind: "violation"; description: string }
  /** It does not agree on the key exchange that was foreseen. */
  | { kind: "unforeseen" }
  /** A key exchange showed another host key than the first one. */
  | { kind: "key-changed" }
  /** By what ssh2 can make nothing of; `words` are its own, where it has noticed it itself. */
  | { kind: "faulty"; words: string | undefined; error: Error }
  /** By the network, or because we gave it up. */
  | { kind: "failed"; error: Error };

/**
 * ssh2's errors: a DISCONNECT has its reason code, one of the network the level `client-socket`. One
 * without either was thrown within ssh2, by what it did not expect.
 */
type Ssh2Error = Error & { code?: string | number; level?: string };

/** One connection to one server. */
export class Ssh2Client {
  readonly #client = new ssh2.Client();
  readonly #socket: ByteSocket;
  #transport: Ssh2Transport | undefined;
  /** Without a certificate around it: another exchange may show it with one, or another one. */
  #acceptedKey: Uint8Array | undefined;
  /** The first thing that went wrong. */
  #end: Ssh2End | undefined;
  #isInService = false;

  /** @param connection is closed with it. */
  constructor(connection: ByteConnection) {
    this.#socket = new ByteSocket(connection, { role: "client" });
  }

  /**
   * Begins the key exchange. Called once.
   *
   * @param keyExchange the one that will be agreed on, where it is known.
   * @returns whether that begins before the server has said anything.
   */
  start({ username, algorithms, keyExchange, handlers }: {
    username: string;
    algorithms: OfferedAlgorithms;
    keyExchange: string | undefined;
    handlers: Ssh2ClientHandlers;
  }): boolean {
    this.#listen(handlers);
    this.#client.connect({
      sock: this.#socket as never,
      username,
      ident: identification,
      // Returns nothing, which tells ssh2 to wait: authentication is ours.
      authHandler: () => this.#onServiceAccepted(handlers),
      hostVerifier: (key: Uint8Array, accept: (isAccepted: boolean) => void) =>
        this.#onHostKey(key, accept, handlers),
      algorithms: algorithms.forSsh2,
      readyTimeout: 0,
      keepaliveInterval: 0,
    });
    const early = keyExchange !== undefined && canBeginEarly(keyExchange)
      ? new EarlyExchange(keyExchange, () => this.#onUnforeseen())
      : undefined;
    this.#transport = new Ssh2Transport(this.#client, { ...algorithms, early });
    this.#transport.authenticate({
      onExtensions: (payload) => this.#onExtensions(payload, handlers),
      onAnswer: (payload) => handlers.onAnswer(payload),
      onViolation: (description) => this.#end ??= { kind: "violation", description },
    });
    return early !== undefined;
  }

  /** Its messages, from `start` on. */
  get transport(): Ssh2Transport {
    return this.#transport!;
  }

  /** Gives the connection up: it will not get anywhere. */
  fail(error: Error): void {
    this.#end ??= { kind: "failed", error };
    this.#socket.end();
  }

  /** Closes the connection at once. May be called twice. */
  destroy(): void {
    this.#socket.destroy();
  }

  #listen(handlers: Ssh2ClientHandlers): void {
    const client = this.#client;
    client.on("error", (error: Ssh2Error) => {
      this.#end ??= endOf(error);
      this.#socket.end();
    });
    // The first bytes that ssh2 is given have the whole line.
    this.#socket.once("data", () => handlers.onIdentified());
    client.on("banner", (text) => handlers.onBanner(text));
    client.once("handshake", (negotiated) => {
      handlers.onEncrypted(exchangeOf(negotiated));
      // Now ssh2 sends SERVICE_REQUEST.
      queueMicrotask(() => {
        if (this.#socket.writable && handlers.maySendAhead()) this.#beginService(handlers);
      });
    });
    client.on("ready", () => handlers.onReady());
    client.on("close", () => handlers.onClose(this.#end ?? { kind: "closed" }));
  }

  #onExtensions(payload: Uint8Array, handlers: Ssh2ClientHandlers): void {
    this.#acknowledge();
    handlers.onExtensions(payload);
  }

  #onServiceAccepted(handlers: Ssh2ClientHandlers): void {
    this.#acknowledge();
    if (!this.#isInService) this.#beginService(handlers);
  }

  /** The answer to what was sent ahead waits behind this one, perhaps. */
  #acknowledge(): void {
    if (this.#isInService) this.transport.acknowledge();
  }

  #beginService(handlers: Ssh2ClientHandlers): void {
    this.#isInService = true;
    handlers.onService();
  }

  #onUnforeseen(): void {
    this.#end ??= { kind: "unforeseen" };
    const { keyExchangeFailed } = DisconnectReason;
    this.transport.disconnect(keyExchangeFailed, "unforeseen algorithms");
  }

  #onHostKey(
    key: Uint8Array,
    accept: (isAccepted: boolean) => void,
    handlers: Ssh2ClientHandlers,
  ): void {
    if (this.#acceptedKey !== undefined) {
      // A rekey: ssh2 loses packets if it has to wait now, so the answer must be known.
      const isSame = isSameKey(this.#acceptedKey, plainKeyOf(key));
      if (!isSame) this.#end ??= { kind: "key-changed" };
      return accept(isSame);
    }
    this.transport.keepSignature();
    void handlers.verifyHostKey(key).then((isAccepted) => {
      if (!this.#socket.writable) return; // The server has left, and ssh2 fails if it is told.
      if (isAccepted) this.#acceptedKey = plainKeyOf(key);
      accept(isAccepted);
    });
  }
}

function endOf(error: Ssh2Error): Ssh2End {
  const { code, level, message } = error;
  if (typeof code === "number") {
    return { kind: "disconnected", reasonCode: code, description: message, error };
  }
  if (level === "client-socket") return { kind: "failed", error };
  if (message === "Connection lost before handshake") return { kind: "closed" };
  // What it has caught itself, of node's for instance, is no line for people.
  const isItsOwn = level !== undefined && !message.includes("\n");
  const words = isItsOwn ? message.replace(/^Handshake failed: /, "") : undefined;
  return { kind: "faulty", words, error };
}
