/** Key exchange, host key and authentication on a fresh connection to upstream. */

import type { OfferedAlgorithms } from "./ssh2_algorithms.ts";
import { HostKeyError, MalformedDataError, UpstreamLostError } from "./errors.ts";
import { describeExchange } from "./exchange.ts";
import { handshakeError, type HandshakePhase, lateError, lossOf } from "./handshake_end.ts";
import { logger } from "./log.ts";
import { rsaBits } from "./public_key.ts";
import { maximumRsaBits } from "./rsa_signature.ts";
import type { Ssh2Client, Ssh2End } from "./ssh2_client.ts";
import type { ExchangeStatus } from "./status.ts";
import type { ConnectionEnd, OnHostKeys, StartableTransport } from "./transport.ts";
import type { UpdatingConnection } from "./update_host_keys.ts";
import { type CredentialSource, UserAuth, type UserAuthOptions } from "./userauth.ts";

const log = logger("upstream");

/**
 * How long a server may take for an answer while nobody watches, a person's time not counted, in
 * milliseconds. To log in somebody may have to approve it elsewhere.
 */
const unattendedMs = { "key exchange": 30_000, "authentication": 600_000 };

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
  /** Words for the user, such as that a key wants to be touched. */
  notify(text: string): void;
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

/** A time without what carries a connection. */
export interface Away {
  /** In milliseconds since 1970. */
  since: number;
  reason: Error;
  /** Whether the host has let us in again, and is about to be joined. */
  isReached: boolean;
}

/** What carries a connection that outlives it. */
export interface Carried {
  /** `undefined` while it is there. */
  readonly away: Away | undefined;
  /** `onChange` is called when `away` is perhaps another; it must not throw. */
  watch(onChange: () => void): void;
  /** The machine has slept: asks for a sign of life, or tries now. */
  probe(): void;
  /** A person wants it there, and may be asked. */
  retry(): void;
}

/**
 * Resolves when upstream is authenticated.
 *
 * @throws {HostKeyError} what `trust` threw; no credential was sent.
 * @throws {AuthenticationError} where the server refuses the credential.
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

  constructor(client: Ssh2Client, options: HandshakeOptions) {
    this.#options = options;
    this.#client = client;
    const { name, isJump, username, methods, credentials, algorithms, notify } = options;
    client.start({
      username,
      algorithms,
      handlers: {
        verifyHostKey: (key) => this.#verifyHostKey(key),
        onIdentified: () => this.#enter("key exchange"),
        onEncrypted: (exchange) => {
          this.#exchange = exchange;
          log.info("{exchange}", { exchange: describeExchange(exchange) });
          this.#enter("authentication");
        },
        onService: () => void this.#authenticate(),
        onBanner: (text) => this.#onBanner(text),
        onExtensions: (payload) => this.#userAuth.receiveExtensions(payload),
        onAnswer: (payload) => this.#onAnswer(payload),
        onReady: () => this.#onReady(),
        onClose: (end) => void this.#onClose(end),
      },
    });
    const { transport } = client;
    this.#userAuth = new UserAuth({
      name,
      isJump,
      username,
      methods,
      source: credentials,
      send: (payload) => transport.send(payload),
      session: () => transport.session,
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
    const verdict = verifyHost(key, this.#options, this.#asking.signal);
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

  #enter(phase: HandshakePhase): void {
    this.#phase = phase;
    this.#expectAnswer();
  }

  /** The server's time begins. */
  #expectAnswer(): void {
    const { isAttended, identificationTimeoutMs } = this.#options;
    if (this.#phase === "identification") this.#deadline.start(identificationTimeoutMs);
    else this.#deadline.start(isAttended ? undefined : unattendedMs[this.#phase]);
  }

  #onBanner(text: string): void {
    const { name } = this.#options;
    if (this.#bannerCount++ < mostBanners) log.info("{name} says: {text}", { name, text });
  }

  async #authenticate(): Promise<void> {
    try {
      if (this.#accepted().verdict === "doubted") this.#userAuth.keepSecrets();
      await this.#userAuth.run();
    } catch (error) {
      this.#ourError ??= asOurs(error as Error, this.#options);
      this.#client.fail(this.#ourError);
    }
  }

  #onAnswer(payload: Uint8Array): void {
    if (this.#userAuth.receive(payload)) return;
    this.#client.transport.violate(`message ${payload[0]} answers no request of authentication`);
  }

  #onReady(): void {
    const { verdict, key: hostKey } = this.#accepted();
    this.#isReady = true;
    this.#deadline.end();
    this.#options.onReady(this.#client.transport, {
      verdict,
      hostKey,
      onHostKeys: this.#onHostKeys(),
      exchange: this.#exchange,
    });
    this.#ready.resolve();
  }

  /** What the server says of its keys counts once, and as long as it is there. */
  #onHostKeys(): OnHostKeys | undefined {
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
    // Whether it is the right host matters more than what it said.
    const hasSaidWhy = end.kind === "violation" || end.kind === "disconnected";
    const untrusted = hasSaidWhy ? await this.#hostKeyError() : undefined;
    const error = untrusted ?? this.#ourError ?? handshakeError(end, this.#options, this.#phase);
    log.debug("{name}: {error}", { name: this.#options.name, error });
    this.#ready.reject(error);
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

async function verifyHost(
  key: Uint8Array,
  { name, trust, requiredRsaSize }: HandshakeOptions,
  signal: AbortSignal,
): Promise<TrustVerdict> {
  const bits = rsaBits(key);
  if (bits !== undefined && bits < requiredRsaSize) {
    throw new HostKeyError(
      `Host key of ${name} has ${bits} bits, and RequiredRSASize is ${requiredRsaSize}. ` +
        `Ask the host's administrator for a longer key.`,
    );
  }
  if (bits !== undefined && bits > maximumRsaBits) {
    throw new HostKeyError(
      `Host key of ${name} has ${bits} bits, and SSH takes ${maximumRsaBits} at most. ` +
        `Ask the host's administrator for a shorter key.`,
    );
  }
  return await trust.verify(key, signal);
}

/** One timer for the phases of a handshake. */
class Deadline {
  readonly #onExpired: (timeoutMs: number) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;

  constructor(onExpired: (timeoutMs: number) => void) {
    this.#onExpired = onExpired;
  }

  /** @param timeoutMs `undefined` for no limit. */
  start(timeoutMs: number | undefined): void {
    this.stop();
    if (this.#isOver || timeoutMs === undefined) return;
    this.#timer = setTimeout(() => this.#onExpired(timeoutMs), timeoutMs);
  }

  /** No phase follows. */
  end(): void {
    this.stop();
    this.#isOver = true;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/** Of what authentication throws, a message of the server that makes no sense. */
function asOurs(error: Error, { name }: HandshakeOptions): Error {
  if (!(error instanceof MalformedDataError)) return error;
  return new UpstreamLostError(
    `${name} broke the protocol during authentication: ${error.message}. ` +
      `Look into the host's log.`,
    { cause: error },
  );
}
