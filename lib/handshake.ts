/** Key exchange, host key and authentication on a fresh connection to upstream. */

import type { Acquaintance, Foresight, KnownLogin } from "./acquaintance.ts";
import type { Carried } from "./carried.ts";
import type { OfferedAlgorithms } from "./ssh2_algorithms.ts";
import { EarlyMessagesError, NegotiationError, UpstreamLostError } from "./errors.ts";
import { describeExchange } from "./exchange.ts";
import { Deadline } from "./handshake_deadline.ts";
import {
  asOurs,
  handshakeError,
  type HandshakePhase,
  lateError,
  lossOf,
  refusalBy,
} from "./handshake_end.ts";
import { requireHostKeySize } from "./host_key_size.ts";
import { logger } from "./log.ts";
import { readsInOrder } from "./peer_version.ts";
import type { Ssh2Client, Ssh2End } from "./ssh2_client.ts";
import type { ExchangeStatus } from "./status.ts";
import type { ConnectionEnd, OnHostKeys, StartableTransport } from "./transport.ts";
import type { UpdatingConnection } from "./update_host_keys.ts";
import type { CredentialSource } from "./credential_source.ts";
import { UserAuth } from "./userauth.ts";
import type { UserAuthOptions } from "./userauth_options.ts";

const log = logger("upstream");

/**
 * How long a server may take for an answer while nobody watches, a person's time not counted, in
 * milliseconds. To log in somebody may have to approve it elsewhere.
 */
const unattendedMs = { "key exchange": 30_000, "authentication": 600_000 };

/** The same for what was sent ahead, which may be why no answer comes, and whoever watches. */
const aheadMs = 30_000;

/** How many messages of a server are logged before it lets us in. */
const mostBanners = 20;

/** `doubted`: the connection goes on, but nothing that helps an eavesdropper may be given away. */
export type TrustVerdict = "trusted" | "doubted";

/** Decides about the host key of upstream. */
export interface HostTrust {
  /** The key types known for the host: servers show a key of the first type that they have. */
  readonly keyTypes: readonly string[];
  /**
   * Resolves if the connection may go on.
   *
   * @param signal takes a question to a person back; the answer counts as no.
   * @throws {HostKeyError} where it may not, or nobody can tell.
   */
  verify(publicKey: Uint8Array, signal: AbortSignal): Promise<TrustVerdict>;
  /** Learns the server's further keys; absent where the one that was verified is no warrant. */
  readonly update?:
    | ((keys: Uint8Array, connection: UpdatingConnection) => Promise<void>)
    | undefined;
}

/** What a handshake needs, and whom it tells. */
export interface HandshakeOptions {
  /** For messages: `user@host:port`. */
  name: string;
  /** Whether it is on the way to another host. */
  isJump: boolean;
  /** Whether a person watches, who can give it up: as with ssh, it may take any time then. */
  isAttended: boolean;
  /** How long the server may take to identify itself; `undefined` for any time. */
  identificationTimeoutMs: number | undefined;
  username: string;
  /** In the order of preference; some are for after a partial success only. */
  methods: UserAuthOptions["methods"];
  credentials: CredentialSource;
  trust: HostTrust;
  /** The fewest bits of an RSA host key. */
  requiredRsaSize: number;
  algorithms: OfferedAlgorithms;
  /** How the host is known from former logins. */
  acquaintance: Acquaintance;
  /** Words for the user, such as that a key wants to be touched. */
  notify(text: string): void;
  /**
   * The server will let us in by all experience, and takes what is sent for after that; it says
   * nothing before. Called once at most, with what `onReady` is called with.
   */
  onPresumed?(transport: StartableTransport, session: Session): void;
  /** It has not: nothing of what was sent since `onPresumed` counts. */
  onRefuted?(): void;
  /** Called in the turn in which the server lets us in: its next message may be there already. */
  onReady(transport: StartableTransport, session: Session): void;
  /** Called once after `onReady`, when the connection is gone. */
  onLost(end: ConnectionEnd): void;
}

/** What else is known of a connection that is ready. */
export interface Session {
  verdict: TrustVerdict;
  /** Where known_hosts files are to follow what the server says of its keys. */
  onHostKeys?: OnHostKeys;
  /** How it is encrypted. */
  exchange?: ExchangeStatus;
  /** The host's own address, where nothing is between. */
  address?: string;
  /** The key that the host has shown. */
  hostKey?: Uint8Array;
  /** What carries the connection, where that may be away for a while. */
  carried?: Carried;
  /** The server asks for a sign of life. */
  onServerKeepalive?(): void;
}

/**
 * Resolves when upstream is authenticated.
 *
 * @throws {HostKeyError} what `trust` threw; no credential was sent.
 * @throws {AuthenticationError} where the server refuses the credential.
 * @throws {EarlyMessagesError} where the connection fails, perhaps by what was sent ahead: the next
 *   one may do better.
 * @throws {UpstreamLostError} where the connection fails otherwise.
 */
export function handshake(client: Ssh2Client, options: HandshakeOptions): Promise<void> {
  return new Handshake(client, options).whenReady;
}

/** What is known of the host key. */
type Trust =
  | { kind: "no key" }
  | { kind: "asked"; verdict: Promise<TrustVerdict> }
  | { kind: "accepted"; verdict: TrustVerdict; key: Uint8Array };

/** What was sent before the server had answered what precedes it, and whether it has, since. */
type Ahead = "nothing" | "sent" | "taken";

/** One handshake, step by step. Until there is a verdict, nothing that the server says counts. */
class Handshake {
  readonly #options: HandshakeOptions;
  readonly #client: Ssh2Client;
  readonly #userAuth: UserAuth;
  readonly #deadline: Deadline;
  readonly #ready = Promise.withResolvers<void>();
  /** Takes the question about the host key back. */
  readonly #asking = new AbortController();
  readonly #life = new AbortController();
  #trust: Trust = { kind: "no key" };
  /** What is known better than the end of the connection tells it. */
  #ourError: Error | undefined;
  #phase: HandshakePhase = "identification";
  #bannerCount = 0;
  #exchange: ExchangeStatus | undefined;
  #isReady = false;
  readonly #foresight: Foresight;
  #ahead: Ahead = "nothing";
  #isPresumed = false;
  #onHostKeys: OnHostKeys | undefined;

  constructor(client: Ssh2Client, options: HandshakeOptions) {
    this.#options = options;
    this.#client = client;
    const { name, isJump, username, methods, credentials, algorithms, notify } = options;
    this.#foresight = options.acquaintance.begin();
    const { keyExchange } = this.#foresight;
    const beginsEarly = client.start({
      username,
      algorithms,
      keyExchange,
      handlers: {
        verifyHostKey: (key) => this.#verifyHostKey(key),
        onIdentified: () => this.#enter("key exchange"),
        onEncrypted: (exchange) => {
          this.#exchange = exchange;
          log.info("{exchange}", { exchange: describeExchange(exchange) });
          this.#enter("authentication");
        },
        maySendAhead: () => this.#maySendAhead(),
        onService: () => void this.#authenticate(),
        onBanner: (text) => this.#onBanner(text),
        onExtensions: (payload) => this.#userAuth.receiveExtensions(payload),
        onAnswer: (payload) => this.#onAnswer(payload),
        onReady: () => this.#onReady(),
        onClose: (end) => void this.#onClose(end),
      },
    });
    if (beginsEarly) this.#ahead = "sent";
    const { transport } = client;
    this.#userAuth = new UserAuth({
      name,
      isJump,
      username,
      methods,
      source: credentials,
      send: (payload) => transport.send(payload),
      session: () => transport.session,
      known: () => this.#known,
      onPresumed: () => this.#presume(),
      serverVersion: () => transport.peerVersion,
      notify,
      onWait: (isWaiting) => {
        if (isWaiting) this.#expectAnswer();
        else this.#deadline.stop();
      },
    });
    this.#deadline = new Deadline((timeoutMs) => {
      this.#ourError ??= lateError(options, this.#phase, timeoutMs);
      this.#client.fail(this.#ourError);
    });
    this.#expectAnswer();
  }

  get whenReady(): Promise<void> {
    return this.#ready.promise;
  }

  async #verifyHostKey(key: Uint8Array): Promise<boolean> {
    // A person may take any time.
    this.#deadline.stop();
    const verdict = this.#verdictOn(key);
    this.#trust = { kind: "asked", verdict };
    try {
      this.#trust = { kind: "accepted", verdict: await verdict, key: key.slice() };
    } catch (error) {
      this.#ourError = error as Error;
      return false;
    }
    this.#expectAnswer();
    return true;
  }

  async #verdictOn(key: Uint8Array): Promise<TrustVerdict> {
    requireHostKeySize(key, this.#options);
    return await this.#options.trust.verify(key, this.#asking.signal);
  }

  #enter(phase: HandshakePhase): void {
    this.#phase = phase;
    this.#expectAnswer();
  }

  /** The server's time begins. */
  #expectAnswer(): void {
    const { isAttended, identificationTimeoutMs } = this.#options;
    if (this.#phase === "identification") this.#deadline.start(identificationTimeoutMs);
    else if (this.#ahead === "sent") this.#deadline.start(aheadMs);
    else this.#deadline.start(isAttended ? undefined : unattendedMs[this.#phase]);
  }

  #onBanner(text: string): void {
    const { name } = this.#options;
    if (this.#bannerCount++ < mostBanners) log.info("{name} says: {text}", { name, text });
  }

  async #authenticate(): Promise<void> {
    // The first request is ours, and an agent or a person may take any time for it.
    this.#deadline.stop();
    try {
      if (this.#accepted().verdict === "doubted") this.#userAuth.keepSecrets();
      await this.#userAuth.run();
    } catch (error) {
      this.#ourError ??= asOurs(error as Error, this.#options);
      this.#client.fail(this.#ourError);
    }
  }

  get #known(): KnownLogin | undefined {
    return this.#foresight.loginWith(this.#accepted().key);
  }

  /** Whether the first request of authentication need not wait for SERVICE_ACCEPT. */
  #maySendAhead(): boolean {
    const mayHurry = !this.#foresight.isCautious &&
      (this.#known !== undefined || readsInOrder(this.#client.transport.peerVersion));
    if (mayHurry) this.#ahead = "sent";
    return mayHurry;
  }

  /** Connection messages may follow the request that succeeds (RFC 4252, section 5.3). */
  #presume(): void {
    const { onPresumed } = this.#options;
    const { verdict } = this.#accepted();
    const { transport } = this.#client;
    if (verdict !== "trusted" || !readsInOrder(transport.peerVersion)) return;
    this.#isPresumed = true;
    onPresumed?.(transport, this.#session);
  }

  #refute(): void {
    if (!this.#isPresumed) return;
    this.#isPresumed = false;
    this.#options.acquaintance.onRefused("changed");
    this.#options.onRefuted?.();
  }

  #onAnswer(payload: Uint8Array): void {
    this.#onTaken();
    this.#refute();
    if (this.#userAuth.receive(payload)) return;
    this.#client.transport.violate(`message ${payload[0]} answers no request of authentication`);
  }

  /** It has answered what was sent ahead, in order. */
  #onTaken(): void {
    if (this.#ahead === "sent") this.#ahead = "taken";
  }

  #onReady(): void {
    this.#isReady = true;
    this.#onTaken();
    this.#learn();
    this.#deadline.end();
    this.#options.onReady(this.#client.transport, this.#session);
    this.#ready.resolve();
  }

  get #session(): Session {
    const { verdict, key: hostKey } = this.#accepted();
    this.#onHostKeys ??= this.#makeOnHostKeys();
    return { verdict, hostKey, onHostKeys: this.#onHostKeys, exchange: this.#exchange };
  }

  #learn(): void {
    const { key: hostKey } = this.#accepted();
    const keyExchange = this.#exchange?.keyExchange;
    const lesson = { keyExchange, hostKey, login: this.#userAuth.login };
    const isTaken = this.#ahead === "taken";
    const { name, acquaintance } = this.#options;
    if (isTaken) log.debug("{name} has taken what was sent ahead of its answers", { name });
    acquaintance.onReady(lesson, { isTaken });
  }

  /** What was sent ahead may be why the connection has ended, unless it was answered. */
  #asEarly(error: Error, end: Ssh2End): Error {
    const mayBe = error instanceof UpstreamLostError || error instanceof NegotiationError;
    if (this.#ahead !== "sent" || !mayBe) return error;
    const refusal = refusalBy(end, this.#phase);
    this.#options.acquaintance.onRefused(refusal);
    if (refusal === "unidentified") return error;
    return new EarlyMessagesError(error.message, { cause: error });
  }

  /** What the server says of its keys counts once, and as long as it is there. */
  #makeOnHostKeys(): OnHostKeys | undefined {
    let update = this.#options.trust.update;
    if (update === undefined) return undefined;
    const { sessionId } = this.#client.transport.session;
    const { signal } = this.#life;
    return (keys, prove) => {
      void update?.(keys.slice(), {
        sessionId,
        signal,
        prove: (asked) =>
          new Promise((resolve) => prove(asked, (signatures) => resolve(signatures?.slice()))),
      });
      update = undefined;
    };
  }

  async #onClose(end: Ssh2End): Promise<void> {
    this.#deadline.end();
    this.#life.abort();
    if (this.#isReady) return this.#options.onLost(lossOf(end, this.#options));
    this.#asking.abort();
    this.#refute();
    // Whether it is the right host matters more than what it said.
    const hasSaidWhy = end.kind === "violation" || end.kind === "disconnected";
    const untrusted = hasSaidWhy ? await this.#hostKeyError() : undefined;
    const error = untrusted ?? this.#ourError ?? handshakeError(end, this.#options, this.#phase);
    log.debug("{name}: {error}", { name: this.#options.name, error });
    this.#ready.reject(this.#asEarly(error, end));
  }

  /** Why the host key that was shown is not accepted, if it is not. */
  async #hostKeyError(): Promise<Error | undefined> {
    if (this.#trust.kind !== "asked") return undefined;
    try {
      await this.#trust.verdict;
      return undefined;
    } catch (error) {
      return error as Error;
    }
  }

  /** @throws {Error} where there is none: nothing gets that far. */
  #accepted(): Trust & { kind: "accepted" } {
    if (this.#trust.kind !== "accepted") throw new Error("the host key is not accepted");
    return this.#trust;
  }
}
