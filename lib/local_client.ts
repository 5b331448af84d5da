/**
 * One connection to the local endpoint, from its first byte to its last.
 *
 * Until it has authenticated it is a stranger: it has 20 seconds, or two minutes once it has named
 * a key that counts, and what it sends reaches neither upstream nor other clients.
 */

import type { Endpoints, SocketRecord } from "./access.ts";
import type { ClientFacts } from "./audit.ts";
import { describeProgram, type Identify } from "./client_program.ts";
import { ClientRules } from "./client_rules.ts";
import { describeExchange } from "./exchange.ts";
import { LocalUserAuth, type Login } from "./local_userauth.ts";
import { logger } from "./log.ts";
import type { LoginKeys } from "./login_keys.ts";
import type { Host } from "./places.ts";
import type { Reception } from "./reception.ts";
import type { Relay } from "./relay.ts";
import { shownText } from "./shown_text.ts";
import type { LoginSession, Ssh2ServerConnection } from "./ssh2_server.ts";
import type { ExchangeStatus, ProgramStatus } from "./status.ts";
import { unexplained } from "./timing.ts";
import type { Receiver, StartableTransport } from "./transport.ts";

const log = logger("endpoint");

const authenticationTimeoutMs = 20_000;

/** How long a person may take to unlock a key that counts; sshd's LoginGraceTime. */
const unlockTimeoutMs = 120_000;

/** What a client's connection is made of. */
export interface LocalClientOptions {
  /** Names the client in the log. */
  id: number;
  endpoints: Endpoints;
  /** Its own end, where the kernel was asked. */
  socket?: SocketRecord;
  relay: Relay;
  /** What it has to show; nothing where it is known already. */
  keys: LoginKeys | undefined;
  /** Decides about it once it is authenticated; without it, it is let in. */
  reception?: Reception;
  /** Finds out whose process it is, when somebody wants to know. */
  identify?: Identify;
  /** Called once it is authenticated. */
  onAuthenticated(): void;
  /** It has tried, and had nothing to show; `reason` is for the log, in brackets. */
  onFailedLogin(reason: string): void;
  /** The reception does not let it in. */
  onNotLetIn?(): void;
  /** Called when one that was authenticated leaves. */
  onLeft?(): void;
  /** Called once, when its connection is closed. */
  onGone(): void;
}

/** A client of the endpoint; it closes its connection itself. */
export class LocalClient implements Host {
  readonly #connection: Ssh2ServerConnection;
  readonly #options: LocalClientOptions;
  #timer: ReturnType<typeof setTimeout>;
  #hasMoreTime = false;
  #isLate = false;
  /** How its connection is encrypted; strangers make no log lines of their own. */
  #exchange: ExchangeStatus | undefined;
  #authentication: LocalUserAuth | undefined;
  #isAuthenticated = false;
  /** What the reception knows of it. */
  #facts: ClientFacts | undefined;
  #program: Promise<ProgramStatus | undefined> | undefined;
  readonly #left = new AbortController();
  /** Why we ended it. */
  #whyEnded: string | undefined;
  /** What it is to the relay, once it is let in. */
  #relayed: { receiver: Receiver; transport: StartableTransport } | undefined;

  constructor(connection: Ssh2ServerConnection, options: LocalClientOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#timer = setTimeout(() => this.#onTimeout(), authenticationTimeoutMs);
  }

  /** Begins to listen to it. Called once. */
  start(): void {
    const { id } = this.#options;
    this.#connection.start({
      onEncrypted: (exchange) => this.#exchange = exchange,
      onLogin: (session) => this.#onLogin(session),
      onLoginMessage: (payload) => this.#authentication!.receive(payload),
      onError: (error) => log.debug("client {id}: {error}", { id, error }),
      onClose: () => this.#onClose(),
    });
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
    this.#connection.destroy();
  }

  /** Ends the connection, with a word to the client if it understands SSH. May be called twice. */
  end(description: string): void {
    this.#connection.end(description);
  }

  #onLogin(session: LoginSession): void {
    const { id, endpoints, keys, reception } = this.#options;
    this.#authentication = new LocalUserAuth({
      ...{ session, keys, address: endpoints.remoteHost },
      admit: reception && ((login) => this.#admit(login, reception)),
      onLogin: (login) => this.#onLetIn(login, session),
      onKeyNamed: () => this.#onKeyNamed(),
      report: (text) => log.debug("client {id}: {text}", { id, text }),
    });
  }

  /** A person may have to type its passphrase, or to touch it. */
  #onKeyNamed(): void {
    if (this.#hasMoreTime) return;
    this.#hasMoreTime = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#onTimeout(), unlockTimeoutMs);
  }

  /** Whether it is let in; one that is not is told why. */
  async #admit({ username, fingerprint }: Login, reception: Reception): Promise<boolean> {
    const { id, endpoints, socket } = this.#options;
    this.#onAuthenticated();
    const { signal } = this.#left;
    const newcomer = { ...{ id, username, endpoints, socket }, key: fingerprint };
    const { facts, objection } = await reception.receive(newcomer, signal);
    if (signal.aborted) return false;
    this.#facts = facts;
    if (objection === undefined) return true;
    log.warn("client {id} from port {port} is not let in: {objection}", {
      id,
      port: endpoints.remotePort,
      objection,
    });
    this.#options.onNotLetIn?.();
    this.end(`not let in: ${objection}`);
    return false;
  }

  /** Its clock stops, and its place is free. */
  #onAuthenticated(): void {
    clearTimeout(this.#timer);
    if (!this.#isAuthenticated) this.#options.onAuthenticated();
    this.#isAuthenticated = true;
  }

  #onLetIn({ username, key, fingerprint, permissions }: Login, { transport }: LoginSession): void {
    const { id, endpoints, relay, reception } = this.#options;
    this.#onAuthenticated();
    if (this.#facts) reception?.onClient(transport, this.#facts);
    const rules = permissions && new ClientRules(
      permissions,
      (what) => log.info("client {id}: the options of its key do not allow {what}", { id, what }),
    );
    const { remoteHost, remotePort } = endpoints;
    const receiver = relay.addClient(transport, rules, {
      ...{ id, carrier: "port", since: new Date().toISOString() },
      address: remoteHost.includes(":")
        ? `[${remoteHost}]:${remotePort}`
        : `${remoteHost}:${remotePort}`,
      user: shownText(username),
      key: fingerprint ?? null,
      exchange: this.#exchange ?? null,
      findProgram: () => this.#findProgram(),
    });
    this.#relayed = { receiver, transport };
    transport.start({
      onPayload: receiver.receive,
      onDrain: receiver.drained,
      onDisconnect: (description) => {
        this.#whyEnded = description;
        log.info("client {id} is disconnected: {description}", { id, description });
      },
    });
    if (this.#exchange) {
      log.info("client {id}: {exchange}", { id, exchange: describeExchange(this.#exchange) });
    }
    log.info("client {id} connected from port {port} as {username}{proof}", {
      id,
      port: endpoints.remotePort,
      username,
      proof: key ? ` with ${key}` : "",
    });
  }

  /** Asks once, unless nothing was found. */
  async #findProgram(): Promise<ProgramStatus | undefined> {
    this.#program ??= this.#identify();
    const program = await this.#program;
    if (program === undefined) this.#program = undefined;
    return program;
  }

  async #identify(): Promise<ProgramStatus | undefined> {
    const { identify, endpoints, socket } = this.#options;
    return describeProgram(await identify?.({ endpoints, socket }));
  }

  #onTimeout(): void {
    this.#isLate = true;
    this.#connection.destroy();
  }

  #onClose(): void {
    clearTimeout(this.#timer);
    this.#left.abort(unexplained);
    this.#authentication?.close();
    const { id, reception, onLeft, onGone, onFailedLogin } = this.#options;
    if (this.#isAuthenticated) onLeft?.();
    if (this.#relayed) {
      this.#relayed.receiver.leave();
      reception?.onClientLeft(this.#relayed.transport, this.#whyEnded);
      log.info("client {id} left", { id });
    } else {
      log.debug("client {id} left without authenticating", { id });
      if (this.#isLate) onFailedLogin("(it did not log in in time)");
      else if (this.#authentication?.hasFailed) onFailedLogin("(none of its keys counts)");
    }
    onGone();
  }
}
