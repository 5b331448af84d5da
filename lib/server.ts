/**
 * The local endpoint: an SSH server that accepts this user's clients and hands each to the relay.
 */

import type { Admit, SocketRecord } from "./access.ts";
import type { Identify } from "./client_program.ts";
import { Door, endpointsOf } from "./door.ts";
import { EndpointError, messageOf } from "./errors.ts";
import type { Presence } from "./lifetime.ts";
import type { LocalHostKey } from "./local_host_key.ts";
import { LocalClient } from "./local_client.ts";
import { logger } from "./log.ts";
import type { LoginKeys } from "./login_keys.ts";
import { Places } from "./places.ts";
import type { Reception } from "./reception.ts";
import type { Relay } from "./relay.ts";
import { Ssh2Server } from "./ssh2_server.ts";

const log = logger("endpoint");

/** How long the listener rests when the system has no more file descriptors, in milliseconds. */
const acceptRetryMs = 100;

/** What the endpoint is made of. */
export interface EndpointOptions {
  /** Takes the clients; whoever is let in uses the remote account. The endpoint closes it. */
  listener: Deno.TcpListener;
  relay: Relay;
  access: EndpointAccess;
  /** Told of clients that come and go. */
  presence?: Presence;
  /** Decides about clients that have authenticated; without it all are let in. */
  reception?: Reception;
  /** Finds out whose process a client is, when somebody wants to know. */
  identify?: Identify;
  /** The number of the next client; by default they are counted here. */
  nextClientId?(): number;
  /** Told of connections that were turned away, whose or why in words, and how many. */
  onTurnedAway?(phrase: string, count: number): void;
}

/**
 * Who may use the endpoint:
 * - `anybody`;
 * - `user`: whoever `admit` names as our user's, which it is asked about each connection; where it
 *   does not tell, or is not there, whoever has one of the keys;
 * - `keys`: whoever has one of the keys. Our user's others are then not held up by a crowd of
 *   strangers, where `admit` names them.
 */
export type EndpointAccess =
  | { kind: "anybody" }
  | { kind: "user" | "keys"; admit: Admit | undefined; keys: LoginKeys };

/** The listening endpoint. Clients are taken from `serve` on; `close` ends all of them. */
export class Endpoint {
  readonly #listener: Deno.TcpListener;
  readonly #options: EndpointOptions;
  #server: Ssh2Server | undefined;
  readonly #door: Door;
  readonly #places = new Places();
  readonly #clients = new Set<LocalClient>();
  #lastClientId = 0;
  #notLetInCount = 0;
  #isListening = true;
  #onClientGone: (() => void) | undefined;

  constructor(options: EndpointOptions) {
    const { access } = options;
    this.#options = options;
    this.#door = new Door({
      admit: access.kind === "anybody" ? undefined : access.admit,
      refusesOthers: access.kind === "user",
      countUnauthenticated: () => this.#places.size,
      onEnter: (connection, own) => this.#onEnter(connection, own),
      onTurnedAway: options.onTurnedAway,
    });
    this.#listener = options.listener;
  }

  /** The address that clients connect to. */
  get address(): { hostname: string; port: number } {
    const { hostname, port } = this.#listener.addr;
    return { hostname, port };
  }

  /** How many connections were turned away: at the door, at the login, or by a person. */
  get turnedAwayCount(): number {
    return this.#door.turnedAwayCount + this.#notLetInCount;
  }

  /**
   * Shows these host keys to clients, best first; before `serve`.
   *
   * @throws {EndpointError} where one cannot be used.
   */
  showHostKeys(hostKeys: readonly LocalHostKey[]): void {
    this.#server = createServer(hostKeys, this.#options.relay);
  }

  /** Accepts connections until `stopListening`. */
  async serve(): Promise<void> {
    while (this.#isListening) {
      try {
        await this.#door.receive(await this.#listener.accept());
      } catch (error) {
        if (!this.#isListening) return;
        log.warn("cannot accept a connection, trying again: {error}", { error });
        await new Promise((resolve) => setTimeout(resolve, acceptRetryMs));
      }
    }
  }

  /** Takes no more connections. May be called twice. */
  stopListening(): void {
    if (!this.#isListening) return;
    this.#isListening = false;
    this.#listener.close();
  }

  /** Stops listening and ends every client; resolves when their connections are closed. */
  async close(description: string): Promise<void> {
    this.stopListening();
    await this.#door.close();
    for (const client of this.#clients) client.end(description);
    while (this.#clients.size > 0) {
      await new Promise<void>((resolve) => this.#onClientGone = resolve);
    }
  }

  #onEnter(
    connection: Deno.TcpConn,
    { isOwn, socket }: { isOwn: boolean; socket?: SocketRecord },
  ): boolean {
    const guest = this.#places.enter(connection);
    if (!guest) return false;
    const { relay, access, presence, reception } = this.#options;
    const isTrusted = access.kind === "anybody" || (access.kind === "user" && isOwn);
    const served = this.#server!.receive(guest, connection.remoteAddr);
    const client = new LocalClient(served, {
      id: this.#options.nextClientId?.() ?? ++this.#lastClientId,
      endpoints: endpointsOf(connection),
      socket,
      relay,
      identify: this.#options.identify,
      keys: isTrusted ? undefined : access.keys,
      reception,
      onAuthenticated: () => {
        guest.leave();
        presence?.enter();
      },
      onFailedLogin: (reason) => this.#door.onFailedLogin(reason),
      onNotLetIn: () => this.#notLetInCount++,
      onLeft: () => presence?.leave(),
      onGone: () => {
        this.#clients.delete(client);
        this.#onClientGone?.();
      },
    });
    guest.host = client;
    this.#clients.add(client);
    client.start();
    return true;
  }
}

function createServer(hostKeys: readonly LocalHostKey[], relay: Relay): Ssh2Server {
  try {
    return new Ssh2Server({
      hostKeys: hostKeys.map(({ privateKey }) => privateKey),
      answersPings: () => relay.answersPings,
    });
  } catch (cause) {
    const files = hostKeys.flatMap(({ file }) => file ?? []).join(", ");
    throw new EndpointError(
      `A local host key cannot be used (${files}): ${messageOf(cause)}. ` +
        `Name another one with --local-ed25519-key FILE.`,
      { cause },
    );
  }
}
