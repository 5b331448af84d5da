/**
 * One connection to the local endpoint, from its first byte to its last.
 *
 * The door has let it in, so any way to authenticate will do. Until it has, it is a stranger: it has
 * 20 seconds, and what it sends reaches neither upstream nor other clients.
 */

// @ts-types="@types/ssh2"
import type ssh2 from "ssh2";
import type { Endpoints } from "./access.ts";
import { DisconnectReason } from "./errors.ts";
import { logger } from "./log.ts";
import type { Host } from "./places.ts";
import type { Receiver, Relay } from "./relay.ts";
import type { ByteSocket } from "./ssh2_socket.ts";
import { describeExchange, type Ssh2Transport } from "./ssh2_transport.ts";

const log = logger("endpoint");

const authenticationTimeoutMs = 20_000;

/** What a client's connection is made of. */
export interface LocalClientOptions {
  /** Names the client in the log. */
  id: number;
  endpoints: Endpoints;
  relay: Relay;
  /** Called once it is authenticated. */
  onAuthenticated(): void;
}

/**
 * - `stranger`: it connected; nothing is known of it;
 * - `authenticating`: its SSH version came, keys are exchanged, it tries to authenticate;
 * - `relayed`: it is authenticated, the relay has its messages;
 * - `gone`: its socket is closed.
 */
type State =
  | { kind: "stranger" }
  | { kind: "authenticating"; transport: Ssh2Transport }
  | { kind: "relayed"; transport: Ssh2Transport; receiver: Receiver; username: string }
  | { kind: "gone" };

/** A client of the endpoint; it closes its socket itself, and the socket's `close` is its end. */
export class LocalClient implements Host {
  readonly #socket: ByteSocket;
  readonly #options: LocalClientOptions;
  #timer: ReturnType<typeof setTimeout>;
  #state: State = { kind: "stranger" };

  constructor(socket: ByteSocket, options: LocalClientOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#timer = setTimeout(() => this.#onTimeout(), authenticationTimeoutMs);
    socket.once("close", () => this.#onClose());
  }

  /** It waits for a place to log in, which is not its fault: its clock stands still. */
  onWait(): void {
    clearTimeout(this.#timer);
  }

  /** Its login begins. */
  onPlace(): void {
    this.#timer = setTimeout(() => this.#onTimeout(), authenticationTimeoutMs);
  }

  /** Others need its room more. */
  onUnwanted(): void {
    log.debug("client {id} said nothing, and made room", { id: this.#options.id });
    this.#socket.destroy();
  }

  /** Its identification line has come. */
  onIdentified(connection: ssh2.Connection, transport: Ssh2Transport): void {
    this.#state = { kind: "authenticating", transport };
    connection.on("error", (error: Error) => {
      log.debug("client {id}: {error}", { id: this.#options.id, error });
      this.#socket.end();
    });
    connection.once("handshake", (negotiated) => {
      log.info("client {id}: {exchange}", {
        id: this.#options.id,
        exchange: describeExchange(negotiated),
      });
    });
    connection.on("authentication", (context) => {
      try {
        this.#onAttempt(context);
      } catch (error) {
        // ssh2 throws where a request makes no sense, is out of order, or its client has left.
        log.info("client {id} cannot be answered: {error}", { id: this.#options.id, error });
        this.#socket.destroy();
      }
    });
  }

  /** Ends the connection, with a word to the client if it understands SSH. May be called twice. */
  end(description: string): void {
    if (this.#state.kind === "authenticating" || this.#state.kind === "relayed") {
      this.#state.transport.disconnect(DisconnectReason.byApplication, description);
    } else {
      this.#socket.destroy();
    }
  }

  #onAttempt(context: ssh2.AuthContext): void {
    const state = this.#state;
    if (state.kind !== "authenticating") return;
    const asksAboutKey = context.method === "publickey" && context.signature === undefined;
    if (!asksAboutKey) this.#onAuthenticated(context.username, state.transport);
    context.accept();
  }

  #onAuthenticated(username: string, transport: Ssh2Transport): void {
    const { id, endpoints, relay, onAuthenticated } = this.#options;
    clearTimeout(this.#timer);
    onAuthenticated();
    const receiver = relay.addClient(transport);
    this.#state = { kind: "relayed", transport, receiver, username };
    transport.start({
      onPayload: receiver.receive,
      onDrain: receiver.drained,
      onDisconnect: (description) => {
        log.info("client {id} is disconnected: {description}", { id, description });
      },
    });
    log.info("client {id} connected from port {port} as {username}", {
      id,
      port: endpoints.remotePort,
      username,
    });
  }

  #onTimeout(): void {
    log.info("client {id} from port {port} did not authenticate in time", {
      id: this.#options.id,
      port: this.#options.endpoints.remotePort,
    });
    this.#socket.destroy();
  }

  #onClose(): void {
    clearTimeout(this.#timer);
    const { id } = this.#options;
    if (this.#state.kind === "relayed") {
      this.#state.receiver.leave();
      log.info("client {id} left", { id });
    } else {
      log.debug("client {id} left without authenticating", { id });
    }
    this.#state = { kind: "gone" };
  }
}
