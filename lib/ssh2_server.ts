/**
 * ssh2 in the role of the server, up to the end of authentication: what happens on a client's
 * connection, in the order in which it happens. What to make of that is `local_client.ts`'s affair.
 */

// @ts-types="@types/ssh2"
import type { AuthContext, Connection, Server } from "ssh2";
import type { ByteConnection } from "./byte_connection.ts";
import { DisconnectReason } from "./errors.ts";
import { ssh2 } from "./ssh2.ts";
import { serverAlgorithms } from "./ssh2_algorithms.ts";
import { announceExtensions } from "./ssh2_extensions.ts";
import { ByteSocket } from "./ssh2_socket.ts";
import { describeExchange, identification, Ssh2Transport } from "./ssh2_transport.ts";
import type { StartableTransport } from "./transport.ts";

const algorithms = serverAlgorithms();

// ssh2's server sends keepalives of its own, whose replies it would miss; 0 turns them off.
(ssh2.Server as unknown as { KEEPALIVE_CLIENT_INTERVAL: number }).KEEPALIVE_CLIENT_INTERVAL = 0;

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
  onEncrypted(exchange: string): void;
  /**
   * It has authenticated: whether it is let in. One that is not is ended by whoever says so. Without
   * this all are.
   */
  admit?(username: string): Promise<boolean>;
  /** It is let in, by whatever it tried first: `transport` is to be started in this turn. */
  onAuthenticated(username: string, transport: StartableTransport): void;
  /** The network or the client broke the connection, which ends. */
  onError(error: Error): void;
  /** A request of authentication makes no sense, is out of order, or its client has left. */
  onUnanswerable(error: unknown): void;
  /** Called once, as the last. */
  onClose(): void;
}

/** Serves connections that somebody else accepts. */
export class Ssh2Server {
  readonly #server: Server;
  readonly #connections = new WeakMap<ByteSocket, Ssh2ServerConnection>();

  /** @throws {Error} where a host key cannot be used. */
  constructor({ hostKeys, answersPings }: Ssh2ServerOptions) {
    this.#server = new ssh2.Server({
      hostKeys,
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
 * - `authenticating`: its SSH version came, keys are exchanged, it tries to authenticate;
 * - `waiting`: it is authenticated, and not let in yet;
 * - `relayed`: it is let in, whoever was told has its messages;
 * - `gone`: its socket is closed.
 */
type State =
  | { kind: "stranger" }
  | { kind: "authenticating"; transport: Ssh2Transport }
  | { kind: "waiting"; transport: Ssh2Transport }
  | { kind: "relayed"; transport: Ssh2Transport }
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
    if ("transport" in this.#state) {
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
    this.#state = { kind: "authenticating", transport };
    connection.on("error", (error: Error) => {
      handlers.onError(error);
      this.#socket.end();
    });
    connection.once("handshake", (exchange) => handlers.onEncrypted(describeExchange(exchange)));
    connection.on("authentication", (context) => {
      this.#onAttempt(context).catch((error) => {
        handlers.onUnanswerable(error);
        this.#socket.destroy();
      });
    });
  }

  /** @throws what ssh2 throws where the request cannot be answered. */
  async #onAttempt(context: AuthContext): Promise<void> {
    if (this.#state.kind !== "authenticating") return;
    const { transport } = this.#state;
    const handlers = this.#handlers!;
    const asksAboutKey = context.method === "publickey" && context.signature === undefined;
    if (!asksAboutKey) {
      if (handlers.admit) {
        const waiting: State = this.#state = { kind: "waiting", transport };
        const isAdmitted = await handlers.admit(context.username);
        if (!isAdmitted || this.#state !== waiting) return;
      }
      this.#state = { kind: "relayed", transport };
      handlers.onAuthenticated(context.username, transport);
    }
    context.accept();
  }
}
