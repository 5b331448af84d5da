/**
 * ssh2 in the role of the server, up to authentication: what happens on a client's connection, in
 * the order in which it happens. What to make of that is `local_client.ts`'s affair.
 */

import { Buffer } from "node:buffer";
import { createPrivateKey, sign } from "node:crypto";
// @ts-types="@types/ssh2"
import type { Connection, ParsedKey, Server } from "ssh2";
import type { ByteConnection } from "./byte_connection.ts";
import { DisconnectReason } from "./errors.ts";
import { ssh2 } from "./ssh2.ts";
import { serverAlgorithms } from "./ssh2_algorithms.ts";
import { announceExtensions } from "./ssh2_extensions.ts";
import { ByteSocket } from "./ssh2_socket.ts";
import { exchangeOf, identification, Ssh2Transport } from "./ssh2_transport.ts";
import type { ExchangeStatus } from "./status.ts";
import type { StartableTransport } from "./transport.ts";

const algorithms = serverAlgorithms();

// ssh2's server sends keepalives of its own, whose replies it would miss; 0 turns them off.
(ssh2.Server as unknown as { KEEPALIVE_CLIENT_INTERVAL: number }).KEEPALIVE_CLIENT_INTERVAL = 0;

/** As ssh2 keeps a host key. */
interface HostKey {
  getPublicSSH(): Uint8Array;
}

/** What a server is made of. */
export interface Ssh2ServerOptions {
  /** The private host keys as text, best first. */
  hostKeys: string[];
  /** Whether clients are told that `ping@openssh.com` is answered; asked for each. */
  answersPings(): boolean;
}

/** Who is told of what happens on a client's connection. */
export interface Ssh2ServerHandlers {
  /** Both directions are encrypted for the first time. */
  onEncrypted(exchange: ExchangeStatus): void;
  /** Its login begins; what it says comes by `onLoginMessage`, until its transport is started. */
  onLogin(session: LoginSession): void;
  /** A message that is not the transport protocol's own. */
  onLoginMessage(payload: Uint8Array): void;
  /** The network or the client broke the connection, which ends. */
  onError(error: Error): void;
  /** Called once, as the last. */
  onClose(): void;
}

/** What a login is bound to, and where its answers go. */
export interface LoginSession {
  /** The session identifier (RFC 4253, section 7.2). */
  readonly sessionId: Uint8Array;
  /** The host key that was shown in the first key exchange (RFC 4253, section 6.6). */
  readonly hostKey: Uint8Array;
  /** To be started in the turn in which the login succeeds. */
  readonly transport: StartableTransport;
  /** Hands over a message that came behind a request which has succeeded since. */
  pass(payload: Uint8Array): void;
}

/** Serves connections that somebody else accepts. */
export class Ssh2Server {
  readonly #server: Server;
  readonly #connections = new WeakMap<ByteSocket, Ssh2ServerConnection>();

  /** @throws {Error} where a host key cannot be used. */
  constructor({ hostKeys, answersPings }: Ssh2ServerOptions) {
    this.#server = new ssh2.Server({
      hostKeys: hostKeys.map((text) => ({ key: readHostKey(text) })),
      ident: identification,
      algorithms: algorithms.forSsh2,
    });
    this.#server.on("connection", (connection) => {
      const transport = new Ssh2Transport(connection, algorithms);
      announceExtensions(connection, { transport, answersPings });
      this.#connections.get(transport.socket)?.onIdentified(connection, transport);
    });
  }

  /** A connection that was accepted; nothing happens on it before it is started. */
  receive(
    connection: ByteConnection,
    remote?: { hostname: string; port: number },
  ): Ssh2ServerConnection {
    const socket = new ByteSocket(connection, { role: "server", remote });
    const served = new Ssh2ServerConnection(socket, () => {
      this.#connections.set(socket, served);
      this.#server.injectSocket(socket as never);
    });
    return served;
  }
}

/**
 * - `stranger`: it connected; nothing is known of it;
 * - `identified`: its SSH version came; keys are exchanged, it logs in, it is relayed;
 * - `gone`: its socket is closed.
 */
type State =
  | { kind: "stranger" }
  | { kind: "identified"; transport: Ssh2Transport }
  | { kind: "gone" };

/** One client's connection. */
export class Ssh2ServerConnection {
  readonly #socket: ByteSocket;
  readonly #serve: () => void;
  #handlers: Ssh2ServerHandlers | undefined;
  #state: State = { kind: "stranger" };

  /** @param serve gives the socket to ssh2. */
  constructor(socket: ByteSocket, serve: () => void) {
    this.#socket = socket;
    this.#serve = serve;
  }

  /** Begins to read. Called once. */
  start(handlers: Ssh2ServerHandlers): void {
    this.#handlers = handlers;
    this.#socket.once("close", () => {
      this.#state = { kind: "gone" };
      handlers.onClose();
    });
    this.#serve();
  }

  /** Ends it, with a word to the client if it understands SSH. May be called twice. */
  end(description: string): void {
    if (this.#state.kind === "identified") {
      this.#state.transport.disconnect(DisconnectReason.byApplication, description);
    } else {
      this.#socket.destroy();
    }
  }

  /** Closes it at once. May be called twice. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** For the server: ssh2 has read the identification line. */
  onIdentified(connection: Connection, transport: Ssh2Transport): void {
    const handlers = this.#handlers!;
    this.#state = { kind: "identified", transport };
    transport.takeLogin((payload) => handlers.onLoginMessage(payload));
    connection.on("error", (error: Error) => {
      handlers.onError(error);
      this.#socket.end();
    });
    connection.once("handshake", (exchange) => {
      handlers.onEncrypted(exchangeOf(exchange));
      handlers.onLogin({
        sessionId: Uint8Array.from(transport.sessionId),
        hostKey: hostKeyOf(connection, exchange.serverHostKey),
        transport,
        pass: (payload) => transport.deliver(payload),
      });
    });
  }
}

/**
 * Reads a private key. ssh2 has the text read anew for each signature, which takes longer than an
 * Ed25519 signature itself.
 *
 * @throws {Error} where it cannot be read.
 */
function readHostKey(text: string): ParsedKey {
  const key = ssh2.utils.parseKey(text);
  if (key instanceof Error) throw key;
  if (key.type !== "ssh-ed25519") return key;
  const privateKey = createPrivateKey(key.getPrivatePEM());
  key.sign = (data) => sign(null, Buffer.from(data), privateKey);
  return key;
}

/** The public half of a host key, by the algorithm that was agreed on. */
function hostKeyOf(connection: Connection, algorithm: string): Uint8Array {
  const { _protocol: { _hostKeys: hostKeys } } = connection as unknown as {
    _protocol: { _hostKeys: Record<string, HostKey | HostKey[]> };
  };
  const [hostKey] = [hostKeys[algorithm]!].flat();
  return Uint8Array.from(hostKey!.getPublicSSH());
}
