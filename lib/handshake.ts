/**
 * Key exchange, host key and authentication on a fresh connection to upstream, and what ssh2's
 * errors mean.
 */

import { ssh2 } from "./ssh2.ts";
import type { OfferedAlgorithms } from "./ssh2_algorithms.ts";
import {
  AuthenticationError,
  HostKeyError,
  MalformedDataError,
  NegotiationError,
  UpstreamLostError,
} from "./errors.ts";
import { logger } from "./log.ts";
import { isSameKey, rsaBits } from "./signer.ts";
import type { ByteSocket } from "./ssh2_socket.ts";
import { describeExchange, identification, Ssh2Transport } from "./ssh2_transport.ts";
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
   * @throws {HostKeyError} where it is not, or nobody can tell.
   */
  verify(publicKey: Uint8Array): Promise<TrustVerdict>;
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
  onReady(transport: Ssh2Transport, { client, verdict }: Session): void;
  /** Called once after `onReady`, when the connection is gone. */
  onLost(reason: Error): void;
}

/** What else is known of a connection that is ready. */
export interface Session {
  client: ssh2.Client;
  verdict: TrustVerdict;
}

/** ssh2's errors: what failed is in `level`, or in the reason code of a DISCONNECT. */
type Ssh2Error = Error & { level?: string; code?: string | number };

/**
 * Resolves when upstream is authenticated.
 *
 * @throws {HostKeyError} what `trust` threw; no credential was sent.
 * @throws {AuthenticationError} where the server refuses the credential.
 * @throws {UpstreamLostError} where the connection fails otherwise.
 */
export function handshake(socket: ByteSocket, options: HandshakeOptions): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const client = new ssh2.Client();
  let firstError: Ssh2Error | undefined;
  /** What is known better than ssh2 tells it: about trust, or authentication. */
  let ourError: Error | undefined;
  let isReady = false;
  const fail = (error: Ssh2Error) => {
    firstError ??= error;
    socket.end();
  };
  const failWith = (error: Error) => {
    ourError ??= error;
    socket.end();
  };
  const deadline = new Deadline((phase) => fail(new Error(`no answer during ${phase}`)));

  client.on("error", fail);
  client.on("banner", (text) => log.info("{name} says: {text}", { name: options.name, text }));
  client.once("handshake", (negotiated) => {
    log.info("{exchange}", { exchange: describeExchange(negotiated) });
    deadline.start("authentication", authenticationTimeoutMs);
  });
  client.on("close", () => {
    deadline.stop();
    const error = classify(firstError, options);
    if (isReady) options.onLost(error);
    else reject(ourError ?? withAdvice(error));
  });
  client.on("ready", () => {
    isReady = true;
    deadline.stop();
    options.onReady(transport, { client, verdict: trusted });
    resolve();
  });

  let acceptedKey: Uint8Array | undefined;
  let trusted: TrustVerdict = "trusted";
  const hostVerifier = (key: Uint8Array, accept: (isAccepted: boolean) => void) => {
    if (acceptedKey !== undefined) {
      // A rekey: ssh2 loses packets if it has to wait now, so the answer must be known.
      accept(isSameKey(acceptedKey, key));
      return;
    }
    deadline.stop();
    verifyHost(key, options).then((verdict) => {
      acceptedKey = key;
      trusted = verdict;
      if (verdict === "doubted") userAuth.keepSecrets();
      deadline.start("key exchange", handshakeTimeoutMs);
      accept(true);
    }).catch((error) => {
      ourError ??= error;
      accept(false);
    });
  };

  client.connect({
    sock: socket as never,
    username: options.username,
    ident: identification,
    // Returns nothing, which tells ssh2 to wait: authentication is ours.
    authHandler: () => void userAuth.run().catch((error) => failWith(asOurs(error, options))),
    hostVerifier,
    algorithms: options.algorithms.forSsh2,
    readyTimeout: 0,
    keepaliveInterval: 0,
  });
  const transport = new Ssh2Transport(client, options.algorithms);
  const userAuth = new UserAuth({
    name: options.name,
    username: options.username,
    methods: options.methods,
    source: options.credentials,
    send: (payload) => transport.send(payload),
    sessionId: () => transport.sessionId,
    notify: options.notify,
    onWait: (isWaiting) => {
      if (isWaiting) deadline.start("authentication", authenticationTimeoutMs);
      else deadline.stop();
    },
  });
  transport.authenticate({
    onExtensions: (payload) => userAuth.receiveExtensions(payload),
    onAnswer: (payload) => userAuth.receive(payload),
  });
  deadline.start("key exchange", handshakeTimeoutMs);
  return promise;
}

async function verifyHost(
  key: Uint8Array,
  { name, trust, requiredRsaSize }: HandshakeOptions,
): Promise<TrustVerdict> {
  const bits = rsaBits(key);
  if (bits !== undefined && bits < requiredRsaSize) {
    throw new HostKeyError(
      `Host key of ${name} has ${bits} bits, and RequiredRSASize is ${requiredRsaSize}. ` +
        `Ask the host's administrator for a longer key.`,
    );
  }
  return await trust.verify(key);
}

/** One timer for the phases of a handshake. */
class Deadline {
  readonly #onExpired: (phase: string) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(onExpired: (phase: string) => void) {
    this.#onExpired = onExpired;
  }

  start(phase: string, timeoutMs: number): void {
    this.stop();
    this.#timer = setTimeout(() => this.#onExpired(phase), timeoutMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/**
 * The reason codes of a DISCONNECT that the next attempt would meet again: key exchange failed, no
 * such service, protocol version, host key not verifiable, no more methods, illegal user name.
 */
const lastingReasons: unknown[] = [3, 7, 8, 9, 14, 15];

/** Adds to the reason why a handshake failed what may help against it. */
function withAdvice(error: Error): Error {
  if (!(error instanceof UpstreamLostError)) return error;
  const { message, cause } = error;
  const advice = message.endsWith("does not speak SSH")
    ? "Check the port: something other than an SSH server answers there."
    : "It may be busy or limit connections: try again, and look into the host's log.";
  return new UpstreamLostError(`${message}. ${advice}`, { cause });
}

/** The one place that reads ssh2's errors. */
function classify(error: Ssh2Error | undefined, { name }: HandshakeOptions): Error {
  const cause = error;
  if (error === undefined) return new UpstreamLostError(`${name} closed the connection`);
  if (error.code === 14 || /too many authentication failures/i.test(error.message)) {
    return new AuthenticationError(
      `${name} ended authentication: ${error.message}. If an agent has many keys, name the right ` +
        `one with -i FILE and -o IdentitiesOnly=yes.`,
      { cause },
    );
  }
  if (/no matching/.test(error.message) || lastingReasons.includes(error.code)) {
    return new NegotiationError(
      `${name} and sshshim have no common way to talk: ${error.message}. ` +
        `See which algorithms the server has with "ssh -vv".`,
      { cause },
    );
  }
  return new UpstreamLostError(`${name}: ${error.message}`, { cause });
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
