/**
 * The local endpoint: an SSH server on loopback that accepts this user's clients and hands each to
 * the relay.
 */

import type { Admit } from "./access.ts";
import { Door, endpointsOf } from "./door.ts";
import { EndpointError, messageOf } from "./errors.ts";
import type { LocalHostKey } from "./local_host_key.ts";
import { LocalClient } from "./local_client.ts";
import { logger } from "./log.ts";
import { Places } from "./places.ts";
import type { Relay } from "./relay.ts";
import { Ssh2Server } from "./ssh2_server.ts";

const log = logger("endpoint");

/** How long the listener rests when the system has no more file descriptors, in milliseconds. */
const acceptRetryMs = 100;

/** What the endpoint is made of. */
export interface EndpointOptions {
  /** On loopback; the endpoint closes it. */
  listener: Deno.TcpListener;
  relay: Relay;
  /** Decides who may use the endpoint; asked about each connection. Without it all may. */
  admit: Admit | undefined;
}

/** The listening endpoint. Clients are taken from `serve` on; `close` ends all of them. */
export class Endpoint {
  readonly #listener: Deno.TcpListener;
  readonly #options: EndpointOptions;
  #server: Ssh2Server | undefined;
  readonly #door: Door;
  readonly #places = new Places();
  readonly #clients = new Set<LocalClient>();
  #lastClientId = 0;
  #isListening = true;
  #onClientGone: (() => void) | undefined;

  constructor(options: EndpointOptions) {
    this.#options = options;
    this.#door = new Door({
      admit: options.admit,
      countUnauthenticated: () => this.#places.size,
      onEnter: (connection) => this.#onEnter(connection),
    });
    this.#listener = options.listener;
  }

  /** The address that clients connect to. */
  get address(): { hostname: string; port: number } {
    const { hostname, port } = this.#listener.addr;
    return { hostname, port };
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

  #onEnter(connection: Deno.TcpConn): boolean {
    const guest = this.#places.enter(connection);
    if (!guest) return false;
    const served = this.#server!.receive(guest, connection.remoteAddr);
    const client = new LocalClient(served, {
      id: ++this.#lastClientId,
      endpoints: endpointsOf(connection),
      relay: this.#options.relay,
      onAuthenticated: () => guest.leave(),
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
