/**
 * One attempt to reach upstream: the way there, directly, through a command or through jump hosts,
 * and the handshake at its end.
 */

import { Acquaintance } from "./acquaintance.ts";
import { clientAlgorithms } from "./ssh2_algorithms.ts";
import type { AttemptOptions, Inquiry } from "./credential_questions.ts";
import {
  ChannelOpenFailureReason,
  EarlyMessagesError,
  messageOf,
  UpstreamLostError,
} from "./errors.ts";
import { handshake, type HandshakeOptions, type HostTrust, type Session } from "./handshake.ts";
import type { HostConfig } from "./host_config.ts";
import { logger } from "./log.ts";
import { startProxyCommand } from "./proxy_command.ts";
import type { ByteConnection } from "./byte_connection.ts";
import { expandProxyCommand } from "./ssh_config_proxy.ts";
import { connectTcp } from "./tcp.ts";
import { ChannelRefusedError, JumpChannel } from "./jump_channel.ts";
import { loadNistp521 } from "./nistp521_kex.ts";
import { Ssh2Client } from "./ssh2_client.ts";
import type { ConnectionEnd, StartableTransport } from "./transport.ts";
import type { CredentialSource } from "./credential_source.ts";
import { defaultMethods, type Method } from "./userauth_options.ts";

const log = logger("upstream");

/** A host that is logged in to: upstream, or a jump host on the way. */
export interface Host {
  config: HostConfig;
  credentials: {
    /** What one attempt may use; closed after it. */
    forAttempt(attempt: AttemptOptions): CredentialSource & { close(): void };
  };
  /** The methods for a first try; `undefined` for those of the configuration. */
  firstMethods?: readonly Method[];
  /** Reads known_hosts anew: it may have changed since the last attempt. */
  loadTrust(
    attempt: {
      mayAsk: boolean;
      signal: AbortSignal;
      /** The host's own, where it is reached directly. */
      address: string | undefined;
    },
  ): Promise<HostTrust>;
}

/** What an attempt may do, and whom it tells of its success and of the end after it. */
export interface ConnectionHandlers {
  signal: AbortSignal;
  /** Whether a person may be asked. */
  mayAsk: boolean;
  /** Why, where that is not plain. */
  inquiry?: Inquiry | undefined;
  /** Whether a person watches, who can give it up; false by default. */
  isAttended?: boolean;
  /**
   * The host will let us in by all experience, and takes what is sent for after that; it says nothing
   * before. Called with what `onReady` is called with.
   */
  onPresumed?(transport: StartableTransport, session: Session): void;
  /** It has not: nothing of what was sent since `onPresumed` counts. */
  onRefuted?(): void;
  onReady(transport: StartableTransport, session: Session): void;
  onLost(end: ConnectionEnd): void;
}

/** Makes connections to one host. */
export interface Connects {
  /** `user@host:port`, for people. */
  readonly name: string;
  /** Resolves when the connection is ready, after `onReady`. */
  connect(handlers: ConnectionHandlers): Promise<void>;
}

/** Somebody else's connection to a host, which the next one is reached through. */
export interface Lender {
  /** `user@host:port` of that host. */
  readonly name: string;
  /** Opens a channel from there. @throws {UpstreamLostError} where there is no connection. */
  openChannel(to: { host: string; port: number }): Promise<JumpChannel>;
}

/** How a host is reached. */
export interface Route {
  /** Upstream is the last one; those before it are gone through, in order. */
  hosts: readonly Host[];
  /** What leads to the first one; without it, the network or a command does. */
  lender?: Lender;
}

/** Makes connections to a host through others. */
export class Connector implements Connects {
  readonly #hosts: readonly Host[];
  readonly #lender: Lender | undefined;
  readonly #notify: (text: string) => void;
  readonly #acquaintances: readonly Acquaintance[];
  /** Upstream as it is to a connection within another one: perhaps not the same server. */
  readonly #within = new Acquaintance();

  constructor({ hosts, lender }: Route, notify: (text: string) => void) {
    this.#hosts = hosts;
    this.#acquaintances = hosts.map(() => new Acquaintance());
    this.#lender = lender;
    this.#notify = notify;
  }

  /** `user@host:port` of upstream, for people. */
  get name(): string {
    return nameOf(this.#hosts.at(-1)!.config);
  }

  /**
   * Connects, verifies each host and authenticates to it.
   *
   * @throws {UpstreamLostError} where a host cannot be reached.
   * @throws {NegotiationError} where no algorithm is common.
   * @throws {HostKeyError} where a host's key is not trusted; no credential was sent to it.
   * @throws {AuthenticationError} where a host refuses the credentials.
   * @throws {NobodyToAskError} where a person would have to be asked.
   */
  async connect(handlers: ConnectionHandlers): Promise<void> {
    // Each host may have what it was sent ahead be the end of one attempt.
    for (let left = this.#hosts.length;; left--) {
      try {
        return await this.#connect(handlers);
      } catch (error) {
        const isOver = handlers.signal.aborted || left === 0;
        if (isOver || !(error instanceof EarlyMessagesError)) throw error;
        log.debug("{reason}; once more, waiting for each answer", { reason: error.message });
      }
    }
  }

  async #connect(handlers: ConnectionHandlers): Promise<void> {
    const [first] = this.#hosts;
    // Loading takes no longer than the network does.
    let [way] = await Promise.all([
      this.#openFirst(first!.config, handlers.signal),
      loadNistp521(),
    ]);
    for (const [index, host] of this.#hosts.entries()) {
      const next = this.#hosts[index + 1];
      const acquaintance = this.#acquaintances[index]!;
      if (next === undefined) {
        await this.#logIn(host, way, { ...handlers, isJump: false, acquaintance });
      } else {
        const leap = { next: next.config, acquaintance, handlers };
        way = { connection: await this.#jump(host, way, leap) };
      }
    }
  }

  /**
   * Logs in to upstream over a connection that leads there already.
   *
   * @param trust what the host's key is held against.
   * @throws as `connect` does.
   */
  async connectOver(
    connection: ByteConnection,
    { trust, ...handlers }: ConnectionHandlers & { trust: HostTrust },
  ): Promise<void> {
    const host = { ...this.#hosts.at(-1)!, loadTrust: () => Promise.resolve(trust) };
    this.#within.introduce(this.#acquaintances.at(-1)!);
    const more = { isJump: false, acquaintance: this.#within };
    await this.#logIn(host, { connection }, { ...handlers, ...more });
  }

  async #openFirst(config: HostConfig, signal: AbortSignal): Promise<Way> {
    const lender = this.#lender;
    if (lender === undefined) return await openFirst(config, signal);
    const channel = await lender.openChannel({ host: config.hostName, port: config.port });
    log.info("going through the connection to {name}", { name: lender.name });
    return { connection: await opened(channel, { from: lender.name, to: config, signal }) };
  }

  /** Logs in to a jump host and opens a channel from there to the next one. */
  async #jump(
    host: Host,
    way: Way,
    { next, acquaintance, handlers }: {
      next: HostConfig;
      acquaintance: Acquaintance;
      handlers: ConnectionHandlers;
    },
  ): Promise<ByteConnection> {
    const ready = Promise.withResolvers<JumpChannel>();
    let channel: JumpChannel | undefined;
    await this.#logIn(host, way, {
      ...handlers,
      isJump: true,
      onPresumed: undefined,
      acquaintance,
      onReady: (transport, { onHostKeys }) => {
        channel = new JumpChannel(transport, { host: next.hostName, port: next.port, onHostKeys });
        ready.resolve(channel);
      },
      onLost: ({ reason }) => {
        log.debug("jump host: {reason}", { reason });
        channel?.onLost(reason);
      },
    });
    log.info("going through {name}", { name: nameOf(host.config) });
    return await opened(await ready.promise, {
      from: nameOf(host.config),
      to: next,
      signal: handlers.signal,
    });
  }

  async #logIn(
    host: Host,
    { connection, address }: Way,
    handlers:
      & Omit<ConnectionHandlers, "onReady" | "onPresumed">
      & Pick<HandshakeOptions, "onReady" | "isJump" | "acquaintance">
      & { onPresumed?: HandshakeOptions["onPresumed"] | undefined },
  ): Promise<void> {
    const { signal, mayAsk, inquiry, isAttended = false } = handlers;
    const { isJump, acquaintance, onPresumed, onRefuted, onReady, onLost } = handlers;
    const { config, credentials, firstMethods } = host;
    const client = new Ssh2Client(connection);
    const abort = () => client.destroy();
    signal.addEventListener("abort", abort);
    // Then a question that is still open is taken back: nobody would use the answer.
    const end = new AbortController();
    const asking = { mayAsk, signal: AbortSignal.any([signal, end.signal]) };
    const attempt = credentials.forAttempt({ ...asking, inquiry });
    try {
      signal.throwIfAborted();
      const trust = await host.loadTrust({ ...asking, address });
      const methods = methodsOf(config);
      await handshake(client, {
        name: nameOf(config),
        isJump,
        isAttended,
        identificationTimeoutMs: identificationTimeoutMs(config, { isAttended }),
        username: config.user,
        methods: { first: firstMethods ?? methods, afterwards: methods },
        credentials: attempt,
        trust,
        requiredRsaSize: config.requiredRsaSize,
        algorithms: clientAlgorithms(config, trust.keyTypes),
        acquaintance,
        notify: this.#notify,
        onPresumed: (transport, session) => onPresumed?.(transport, { ...session, address }),
        onRefuted: () => onRefuted?.(),
        onReady: (transport, session) => onReady(transport, { ...session, address }),
        onLost,
      });
    } catch (error) {
      client.destroy();
      // Whoever gave the attempt up knows better than what came of it.
      throw signal.reason instanceof UpstreamLostError ? signal.reason : error;
    } finally {
      end.abort();
      attempt.close();
      signal.removeEventListener("abort", abort);
    }
  }
}

/**
 * How long a server may take to identify itself while nobody watches, by itself and behind a command
 * that may have to start a machine first; in milliseconds.
 */
const unattendedIdentificationMs = { direct: 30_000, proxied: 600_000 };

/** As with ssh, ConnectTimeout counts, and else nothing while somebody watches. */
function identificationTimeoutMs(
  config: HostConfig,
  { isAttended }: { isAttended: boolean },
): number | undefined {
  if (config.connectTimeoutSeconds) return config.connectTimeoutSeconds * 1000;
  if (isAttended) return undefined;
  const { direct, proxied } = unattendedIdentificationMs;
  return config.proxyCommand === undefined ? direct : proxied;
}

/** What leads to a host, whose address is known where nothing is between. */
interface Way {
  connection: ByteConnection;
  address?: string;
}

async function openFirst(config: HostConfig, signal: AbortSignal): Promise<Way> {
  const command = expandProxyCommand(config);
  if (command === undefined) return await connectTcp(config, signal);
  log.debug("ProxyCommand: {command}", { command });
  return { connection: startProxyCommand(command) };
}

/** How long the jump host may take to reach the next one unless ConnectTimeout says so. */
const defaultOpenTimeoutMs = 30_000;

/** @throws {UpstreamLostError} where the channel does not open. */
async function opened(
  channel: JumpChannel,
  { from, to, signal }: { from: string; to: HostConfig; signal: AbortSignal },
): Promise<JumpChannel> {
  const givenUp = Promise.withResolvers<never>();
  const timeoutMs = to.connectTimeoutSeconds
    ? to.connectTimeoutSeconds * 1000
    : defaultOpenTimeoutMs;
  const timer = setTimeout(
    () => givenUp.reject(new Error(`no answer within ${timeoutMs / 1000} s`)),
    timeoutMs,
  );
  const abort = () => givenUp.reject(new Error("sshshim is stopping"));
  signal.addEventListener("abort", abort);
  try {
    await Promise.race([channel.whenOpen, givenUp.promise]);
    return channel;
  } catch (error) {
    channel.close();
    throw new UpstreamLostError(refusal(error, { from, to: `${to.hostName}:${to.port}` }), {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
}

/** Why there is no channel, and what may help; the reason codes are of RFC 4254, section 5.1. */
function refusal(error: unknown, { from, to }: { from: string; to: string }): string {
  const words = messageOf(error);
  const address = "Check the address as the jump host sees it.";
  switch (error instanceof ChannelRefusedError ? error.reasonCode : undefined) {
    case ChannelOpenFailureReason.administrativelyProhibited:
      return `The jump host ${from} does not allow a connection to ${to} (${words}). ` +
        `Its administrator decides about that: AllowTcpForwarding and PermitOpen of sshd.`;
    case ChannelOpenFailureReason.connectFailed:
      return `The jump host ${from} cannot connect to ${to}: nobody answers there (${words}). ` +
        address;
    case ChannelOpenFailureReason.unknownChannelType:
      return `The jump host ${from} forwards no connections (${words}). Use another one.`;
    case ChannelOpenFailureReason.resourceShortage:
      return `The jump host ${from} is short of resources for a connection to ${to} (${words}). ` +
        `Try again later.`;
    default:
      return `The jump host ${from} has not connected to ${to}: ${words}. ${address}`;
  }
}

/** The methods that are configured, in the configured order. */
function methodsOf(config: HostConfig): Method[] {
  const isEnabled: Record<Method, boolean> = {
    "publickey": config.pubkeyAuthentication !== "no",
    "keyboard-interactive": config.kbdInteractiveAuthentication,
    "password": config.passwordAuthentication,
  };
  const preferred = config.preferredAuthentications ?? defaultMethods;
  return preferred.filter((name): name is Method => Object.hasOwn(isEnabled, name))
    .filter((name) => isEnabled[name]);
}

function nameOf({ user, hostName, port }: HostConfig): string {
  return `${user}@${hostName.includes(":") ? `[${hostName}]` : hostName}:${port}`;
}
