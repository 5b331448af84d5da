/**
 * Key exchange, host key and authentication on a fresh connection to upstream, and what its end
 * means.
 */

import type { OfferedAlgorithms } from "./ssh2_algorithms.ts";
import {
  AuthenticationError,
  HostKeyError,
  MalformedDataError,
  NegotiationError,
  UpstreamLostError,
} from "./errors.ts";
import { logger } from "./log.ts";
import { rsaBits } from "./public_key.ts";
import { maximumRsaBits } from "./rsa_signature.ts";
import type { Ssh2Client, Ssh2End } from "./ssh2_client.ts";
import type { ConnectionEnd, StartableTransport } from "./transport.ts";
import { type CredentialSource, UserAuth, type UserAuthOptions } from "./userauth.ts";

const log = logger("upstream");

/** How long the server may take, a person's time to answer not counted, in milliseconds. */
const handshakeTimeoutMs = 30_000;
const authenticationTimeoutMs = 60_000;

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
}

/** What a handshake needs, and whom it tells. */
export interface HandshakeOptions {
  /** For messages: `user@host:port`. */
  name: string;
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
  | { kind: "accepted"; verdict: TrustVerdict };

/** One handshake, step by step. Until there is a verdict, nothing that the server says counts. */
class Handshake {
  readonly #options: HandshakeOptions;
  readonly #client: Ssh2Client;
  readonly #userAuth: UserAuth;
  readonly #deadline: Deadline;
  readonly #ready = Promise.withResolvers<void>();
  /** Takes the question about the host key back. */
  readonly #asking = new AbortController();
  #trust: Trust = { kind: "no key" };
  /** What is known better than the end of the connection tells it. */
  #ourError: Error | undefined;
  #isEncrypted = false;
  #isReady = false;

  constructor(client: Ssh2Client, options: HandshakeOptions) {
    this.#options = options;
    this.#client = client;
    const { name, username, methods, credentials, algorithms, notify } = options;
    client.start({
      username,
      algorithms,
      handlers: {
        verifyHostKey: (key) => this.#verifyHostKey(key),
        onEncrypted: (exchange) => this.#onEncrypted(exchange),
        onService: () => void this.#authenticate(),
        onBanner: (text) => log.info("{name} says: {text}", { name, text }),
        onExtensions: (payload) => this.#userAuth.receiveExtensions(payload),
        onAnswer: (payload) => this.#onAnswer(payload),
        onReady: () => this.#onReady(),
        onClose: (end) => void this.#onClose(end),
      },
    });
    const { transport } = client;
    this.#userAuth = new UserAuth({
      name,
      username,
      methods,
      source: credentials,
      send: (payload) => transport.send(payload),
      session: () => transport.session,
      serverVersion: () => transport.peerVersion,
      notify,
      onWait: (isWaiting) => {
        if (isWaiting) this.#deadline.start("authentication", authenticationTimeoutMs);
        else this.#deadline.stop();
      },
    });
    this.#deadline = new Deadline((phase) =>
      this.#client.fail(new Error(`no answer during ${phase}`))
    );
    this.#deadline.start("key exchange", handshakeTimeoutMs);
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
      this.#trust = { kind: "accepted", verdict: await verdict };
    } catch (error) {
      this.#ourError = error as Error;
      return false;
    }
    this.#deadline.start("key exchange", handshakeTimeoutMs);
    return true;
  }

  #onEncrypted(exchange: string): void {
    this.#isEncrypted = true;
    log.info("{exchange}", { exchange });
    this.#deadline.start("authentication", authenticationTimeoutMs);
  }

  async #authenticate(): Promise<void> {
    try {
      if (this.#acceptedVerdict() === "doubted") this.#userAuth.keepSecrets();
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
    const verdict = this.#acceptedVerdict();
    this.#isReady = true;
    this.#deadline.end();
    this.#options.onReady(this.#client.transport, { verdict });
    this.#ready.resolve();
  }

  async #onClose(end: Ssh2End): Promise<void> {
    this.#deadline.end();
    if (this.#isReady) return this.#options.onLost(lost(end, this.#options));
    this.#asking.abort();
    // Whether it is the right host matters more than what it said.
    const hasSaidWhy = end.kind === "violation" || end.kind === "disconnected";
    const untrusted = hasSaidWhy ? await this.#hostKeyError() : undefined;
    this.#ready.reject(untrusted ?? this.#ourError ?? this.#failure(end));
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

  #failure(end: Ssh2End): Error {
    const { name } = this.#options;
    // In the clear anybody may have said it: worth another try.
    return end.kind === "disconnected" && !this.#isEncrypted
      ? new UpstreamLostError(`${name}: ${end.description}`, { cause: end.error })
      : withAdvice(classify(end, name));
  }

  /** @throws {Error} where there is none: nothing gets that far. */
  #acceptedVerdict(): TrustVerdict {
    if (this.#trust.kind !== "accepted") throw new Error("the host key is not accepted");
    return this.#trust.verdict;
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
  readonly #onExpired: (phase: string) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;

  constructor(onExpired: (phase: string) => void) {
    this.#onExpired = onExpired;
  }

  start(phase: string, timeoutMs: number): void {
    this.stop();
    if (!this.#isOver) this.#timer = setTimeout(() => this.#onExpired(phase), timeoutMs);
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

/**
 * The reason codes of a DISCONNECT that the next attempt would meet again: key exchange failed, no
 * such service, protocol version, host key not verifiable, no more methods, illegal user name.
 */
const lastingReasons: readonly number[] = [3, 7, 8, 9, 14, 15];

/** Adds to the reason why a handshake failed what may help against it. */
function withAdvice(error: Error): Error {
  if (!(error instanceof UpstreamLostError)) return error;
  const { message, cause } = error;
  const advice = message.endsWith("does not speak SSH")
    ? "Check the port: something other than an SSH server answers there."
    : "It may be busy or limit connections: try again, and look into the host's log.";
  return new UpstreamLostError(`${message}. ${advice}`, { cause });
}

/** What the end of a connection means, as an error. */
function classify(end: Ssh2End, name: string): Error {
  switch (end.kind) {
    case "closed":
      return new UpstreamLostError(`${name} closed the connection`);
    case "violation":
      return new UpstreamLostError(`${name} broke the protocol: ${end.description}`);
    case "key-changed":
      return new HostKeyError(
        `Host key of ${name} changed within a connection. Somebody may be listening in: do not ` +
          `connect before the host's administrator has explained it.`,
      );
    case "disconnected":
      return classifyDisconnect(end, name);
    case "failed": {
      const { error: cause } = end;
      return /no matching/.test(cause.message)
        ? noCommonWay(name, cause)
        : new UpstreamLostError(`${name}: ${cause.message}`, { cause });
    }
  }
}

function classifyDisconnect(
  { reasonCode, description, error: cause }: Ssh2End & { kind: "disconnected" },
  name: string,
): Error {
  if (reasonCode === 14 || /too many authentication failures/i.test(description)) {
    return new AuthenticationError(
      `${name} ended authentication: ${description}. If an agent has many keys, name the right ` +
        `one with -i FILE and -o IdentitiesOnly=yes.`,
      { cause },
    );
  }
  return lastingReasons.includes(reasonCode)
    ? noCommonWay(name, cause)
    : new UpstreamLostError(`${name}: ${description}`, { cause });
}

function noCommonWay(name: string, cause: Error): NegotiationError {
  return new NegotiationError(
    `${name} and sshshim have no common way to talk: ${cause.message}. ` +
      `See which algorithms the server has with "ssh -vv".`,
    { cause },
  );
}

/** The end of a connection that was ready. */
function lost(end: Ssh2End, { name }: HandshakeOptions): ConnectionEnd {
  if (end.kind !== "disconnected") {
    return { reason: classify(end, name), endedBy: end.kind === "closed" ? "server" : "network" };
  }
  // Whatever its code is: it has let us in before, and may do so again.
  const { description, error: cause } = end;
  const reason = new UpstreamLostError(`${name}: ${description}`, { cause });
  return { reason, endedBy: "server" };
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
