/**
 * Key exchange, host key and authentication on a fresh connection to upstream, and what ssh2's
 * errors mean.
 */

// @ts-types="@types/ssh2"
import ssh2 from "ssh2";
import type { Authentication } from "./authentication.ts";
import { AuthenticationError, NegotiationError, UpstreamLostError } from "./errors.ts";
import { logger } from "./log.ts";
import type { ByteSocket } from "./socket.ts";
import { describeExchange, identification, offeredAlgorithms, Ssh2Transport } from "./transport.ts";

const log = logger("upstream");

/** How long the server may take, a person's time to answer not counted, in milliseconds. */
const handshakeTimeoutMs = 30_000;
const authenticationTimeoutMs = 60_000;

/** Decides about the host key of upstream. */
export interface HostTrust {
  /** The key types known for the host: servers show a key of the first type that they have. */
  readonly keyTypes: readonly string[];
  /**
   * Resolves if the key is the host's own.
   *
   * @throws {HostKeyError} where it is not, or nobody can tell.
   */
  verify(publicKey: Uint8Array): Promise<void>;
}

/** What a handshake needs, and whom it tells. */
export interface HandshakeOptions {
  /** For messages: `user@host:port`. */
  name: string;
  username: string;
  authentication: Authentication;
  trust: HostTrust;
  /** Called in the turn in which the server lets us in: its next message may be there already. */
  onReady(transport: Ssh2Transport): void;
  /** Called once after `onReady`, when the connection is gone. */
  onLost(reason: Error): void;
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
  let trustError: Error | undefined;
  let isReady = false;
  const fail = (error: Ssh2Error) => {
    firstError ??= error;
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
    else reject(trustError ?? error);
  });
  client.on("ready", () => {
    isReady = true;
    deadline.stop();
    options.onReady(transport);
    resolve();
  });

  let acceptedKey: Uint8Array | undefined;
  const hostVerifier = (key: Uint8Array, accept: (isAccepted: boolean) => void) => {
    if (acceptedKey !== undefined) {
      // A rekey: ssh2 loses packets if it has to wait now, so the answer must be known.
      accept(isEqual(acceptedKey, key));
      return;
    }
    deadline.stop();
    options.trust.verify(key).then(() => {
      acceptedKey = key;
      deadline.start("key exchange", handshakeTimeoutMs);
      accept(true);
    }).catch((error) => {
      trustError = error;
      accept(false);
    });
  };

  client.connect({
    sock: socket as never,
    username: options.username,
    ident: identification,
    authHandler: (accepted, isPartial, next) => {
      next(options.authentication.next(accepted, isPartial) as ssh2.AnyAuthMethod);
    },
    hostVerifier,
    algorithms: {
      ...offeredAlgorithms("client"),
      serverHostKey: hostKeyAlgorithms(options.trust.keyTypes),
    },
    readyTimeout: 0,
    keepaliveInterval: 0,
  });
  const transport = new Ssh2Transport(client);
  deadline.start("key exchange", handshakeTimeoutMs);
  return promise;
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

/** The one place that reads ssh2's errors. */
function classify(error: Ssh2Error | undefined, { name, authentication }: HandshakeOptions): Error {
  const cause = error;
  if (error === undefined) return new UpstreamLostError(`${name} closed the connection`);
  if (error.level === "client-authentication" || error.code === 14) {
    return new AuthenticationError(authentication.refusal(name), { cause });
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

const defaultHostKeyAlgorithms = [
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "rsa-sha2-512",
  "rsa-sha2-256",
] as const satisfies readonly ssh2.ServerHostKeyAlgorithm[];

/** The algorithms of known key types come first, or a known host would look unknown. */
function hostKeyAlgorithms(keyTypes: readonly string[]): ssh2.ServerHostKeyAlgorithm[] {
  const isKnown = (algorithm: string) =>
    keyTypes.includes(algorithm.startsWith("rsa-") ? "ssh-rsa" : algorithm);
  return [
    ...defaultHostKeyAlgorithms.filter(isKnown),
    ...defaultHostKeyAlgorithms.filter((algorithm) => !isKnown(algorithm)),
  ];
}

function isEqual(one: Uint8Array, two: Uint8Array): boolean {
  return one.length === two.length && one.every((byte, at) => byte === two[at]);
}
