/** One remote host at one local port: the parts that make it so, put together. */

import { Audit } from "./audit.ts";
import { showAway } from "./away_notice.ts";
import type { Options } from "./cli.ts";
import { programFinder } from "./client_program.ts";
import { Confirmation } from "./confirm.ts";
import { inform, onControlRequest, type SteeredHost } from "./control_requests.ts";
import { type OpenControl, openControl } from "./control_service.ts";
import { Connector, type Lender, type Route } from "./connector.ts";
import type { Prompter } from "./credential_questions.ts";
import { ControlForwards } from "./control_forwards.ts";
import type { HostConfig } from "./host_config.ts";
import type { LocalHostKey } from "./local_host_key.ts";
import type { Presence } from "./lifetime.ts";
import { messageOf, UpstreamLostError } from "./errors.ts";
import { lendChannel } from "./lent_channel.ts";
import { logger } from "./log.ts";
import { Overflow } from "./overflow.ts";
import { Reception } from "./reception.ts";
import { Relay } from "./relay.ts";
import { ResumingConnector } from "./resuming_connector.ts";
import { RelayClient, type RelayClientOptions } from "./relay_client.ts";
import { Endpoint, type EndpointAccess } from "./server.ts";
import { composeStatus, findPrograms } from "./shim_status.ts";
import { StateWatch } from "./state_watch.ts";
import type { RoundTripStatus, ShimStatus } from "./status.ts";
import { Timers, within } from "./timing.ts";
import { Upstream } from "./upstream.ts";
import type { UpstreamState } from "./upstream_state.ts";

const log = logger();

/** Where neither the command line nor ssh's configuration says it. */
const defaultKeepaliveIntervalSeconds = 5;

/** What sessions and clients are told at the end, where there is no other reason. */
const usualFarewell = "sshshim has been stopped";

/** Room for the lines by which sessions are told of the end, or of a loss, in bytes. */
const noticeBytes = 512;

/** How long everything may take to close at the end, and channels alone, in milliseconds. */
const closingTimeoutMs = 2500;
const channelsTimeoutMs = 2000;

/** How long channels may go on when nothing new is to come, in milliseconds. */
const drainTimeoutMs = 2000;

/** What a shim is made of. */
export interface ShimParts {
  config: HostConfig;
  /** How it is reached. */
  route: Route;
  /** Who may use the endpoint. */
  access: EndpointAccess;
  /** Takes the clients; closed with the shim. */
  listener: Deno.TcpListener;
  /**
   * Told of clients that come and go, and how the connection is; `onStatus` in words for people,
   * `onTick` once a second.
   */
  life: Presence & {
    onStatus(host: string, status: string): void;
    onState?(state: UpstreamState): void;
    onTick?(): void;
  };
  /** Asks a person, about log-ins and about clients. */
  prompter: Prompter;
  /** Takes the lines of the audit, if there is to be one. */
  writeAudit?(line: string): void;
}

/** How a connection is, by its state; of others nothing is said. */
const statuses: Partial<Record<UpstreamState["kind"], string>> = {
  waiting: "the connection is lost, and tried again",
  asleep: "not connected until the next client comes",
  stopped: "not connected, and not tried again before SIGUSR2",
};

/** How a connection is, for people; nothing of one that is not settled. */
function statusText(state: UpstreamState): string | undefined {
  if (state.kind !== "ready") return statuses[state.kind];
  if (state.away === undefined) return "connected";
  const { since, reason } = state.away;
  return `away since ${new Date(since).toISOString()}, sessions are kept: ${reason.message}`;
}

/** A remote host that is served at a local port. */
export class Shim {
  readonly #relay: Relay;
  readonly #resuming: ResumingConnector | undefined;
  readonly #endpoint: Endpoint;
  readonly #upstream: Upstream;
  readonly #forwards: ControlForwards;
  readonly #overflow: Overflow;
  readonly #audit: Audit | undefined;
  readonly #reception: Reception | undefined;
  /** Tells whose process a client is. */
  readonly #identify = programFinder();
  readonly #presence: Presence;
  /** Why the control socket is not for the use of the host. */
  readonly #objection: string | undefined;
  #control: OpenControl | undefined;
  readonly #states = new StateWatch();
  readonly #config: HostConfig;
  readonly #maxSessions: number | undefined;
  /** The names by which ssh finds the port. */
  #sshNames: string[] = [];
  #lastClientId = 0;
  readonly #timers = new Timers();
  readonly #wasConnected = Promise.withResolvers<void>();
  /** Channels that lead to other hosts that are served. */
  #lentCount = 0;

  constructor(options: Options, parts: ShimParts) {
    // Only hosts behind it wait for it.
    this.#wasConnected.promise.catch(() => {});
    const { config, route, access, listener, life, prompter, writeAudit } = parts;
    const keepalive = {
      intervalMs: (config.serverAliveIntervalSeconds ?? defaultKeepaliveIntervalSeconds) * 1000,
      count: config.serverAliveCountMax,
    };
    const { resumeForMs, reconnectMaxDelayMs: maximumDelayMs } = options;
    const { schedule } = this.#timers;
    const direct = new Connector(route, (text) => log.warn("{text}", { text }));
    this.#resuming = resumeForMs === undefined ? undefined : new ResumingConnector(direct, {
      ...{ resumeForMs, maximumDelayMs, keepalive },
      onCarried: (carried, upstream) => {
        if (!options.showsAway) return;
        const show = (text?: string) => this.#relay.showLine(upstream, text);
        showAway(carried, { schedule, show, takeBack: show });
      },
    });
    const connector = this.#resuming ?? direct;
    const { name } = connector;
    const audit = writeAudit && new Audit(writeAudit, name);
    this.#audit = audit;
    this.#config = config;
    this.#maxSessions = options.maxSessions;
    const identify = this.#identify;
    const confirmation = options.confirms
      ? new Confirmation({ host: name, prompter, schedule })
      : undefined;
    // It needs keepalives, and some servers are not to be sent any.
    const isPaced = options.paces && keepalive.intervalMs > 0;
    this.#relay = new Relay({
      limits: {
        openTimeoutMs: options.openTimeoutMs,
        sessions: options.maxSessions ?? Infinity,
        warm: options.keepsWarm,
        // Of one client, sessions that wait for their turn included.
        channels: Math.max(1000, options.maxChannels),
        allChannels: options.maxChannels,
        noticeBytes: options.maxLifeMs === undefined && resumeForMs === undefined ? 0 : noticeBytes,
      },
      schedule,
      pacing: isPaced ? { clock: () => performance.now(), schedule } : undefined,
      now: Date.now,
      onWanted: () => this.#upstream.hurry(),
      isPatient: () => this.#upstream.isFirstLogin,
      onCrowded: () => void this.#overflow.grow(),
      report: (text, level = "info") => log[level]("{text}", { text }),
      observe: audit?.observe,
    });
    const relay = this.#relay;
    this.#presence = life;
    this.#objection = options.localAuth === "publickey"
      ? "keys alone decide who may use the host: go to the port"
      : undefined;
    this.#reception = audit || confirmation
      ? new Reception({ identify, confirmation, audit })
      : undefined;
    this.#endpoint = new Endpoint({
      listener,
      relay,
      access,
      presence: life,
      reception: this.#reception,
      identify,
      nextClientId: () => ++this.#lastClientId,
      onTurnedAway: (phrase, count) => audit?.onTurnedAway(phrase, count),
    });
    this.#upstream = new Upstream({
      connector,
      relay,
      reconnects: options.reconnects,
      maximumDelayMs,
      keepalive,
      onState: (state) => {
        this.#states.onState();
        life.onState?.(state);
        const status = statusText(state);
        if (status !== undefined) life.onStatus(name, status);
      },
      onTick: () => life.onTick?.(),
    });
    this.#forwards = new ControlForwards({ makeClient: (options) => this.#makeClient(options) });
    const maximum = options.overflow;
    this.#overflow = new Overflow({ connector, relay, maximum, keepalive, schedule });
  }

  /** The address that clients connect to. */
  get address(): { hostname: string; port: number } {
    return this.#endpoint.address;
  }

  /** Resolves with the reason when upstream is gone and is not to come back. */
  get whenLost(): Promise<Error> {
    return this.#upstream.whenLost;
  }

  /** Logs in when the first client comes. */
  awaitClient(): void {
    this.#upstream.awaitClient();
    this.#wasConnected.resolve();
  }

  /** Logs in for the first time. @throws what {@link Upstream.start} throws. */
  async connect(): Promise<void> {
    try {
      await this.#upstream.start();
      this.#wasConnected.resolve();
    } catch (error) {
      const { name } = this.#upstream;
      this.#wasConnected.reject(new UpstreamLostError(`${name}: ${messageOf(error)}`));
      throw error;
    }
  }

  /**
   * Takes clients, and shows them these host keys, best first.
   *
   * @throws {EndpointError} where a key cannot be used.
   */
  serve(hostKeys: readonly LocalHostKey[]): void {
    this.#endpoint.showHostKeys(hostKeys);
    void this.#endpoint.serve();
    this.#audit?.onStart(this.address.port);
  }

  /**
   * Opens its control socket, if there can be one.
   *
   * @param home the folder of the user's account.
   * @param onTerminate called when a client of it wants all to end.
   * @returns where it is, if clients can pass their streams by it.
   */
  async openControl(
    { name, home, onTerminate }: { name: string; home: string; onTerminate(): void },
  ): Promise<string | undefined> {
    const steered = this.#steered(onTerminate);
    this.#control = await openControl({ name, home }, {
      relay: this.#relay,
      alias: this.#config.alias,
      objection: this.#objection,
      reception: this.#reception,
      identify: this.#identify,
      presence: this.#presence,
      nextClientId: () => ++this.#lastClientId,
      agentSocket: Deno.env.get("SSH_AUTH_SOCK"),
      forwards: this.#forwards,
      inform: (name) => inform(steered, name),
      onOwnRequest: (text, answer, signal) => onControlRequest(steered, text, { answer, signal }),
      onTerminate,
    });
    return this.#control?.takesStreams ? this.#control.path : undefined;
  }

  /** What clients of the control socket may do beside using the host. */
  #steered(stop: () => void): SteeredHost {
    return {
      name: this.#config.alias,
      status: (options) => this.status(options),
      measureRoundTrip: () => this.measureRoundTrip(),
      upstream: this.#upstream,
      states: this.#states,
      reconnect: () => {
        this.#upstream.reconnect();
        this.#overflow.retry();
      },
      stop,
      clients: () => this.#relay.describe().clients,
      forwards: () => this.#forwards.list(),
    };
  }

  /** A person wants tried at once what has failed. */
  retry(): void {
    this.#upstream.retry();
    this.#overflow.retry();
  }

  /** How many channels clients have open, those that have left included. */
  get channelCount(): number {
    return this.#relay.channelCount - this.#lentCount;
  }

  /** Channels from its host, for hosts behind it; once it has been connected to. */
  get lender(): Lender {
    return {
      name: this.#upstream.name,
      openChannel: async (to) => {
        await this.#wasConnected.promise;
        this.#lentCount++;
        const [id, onEnd] = [++this.#lastClientId, () => void this.#lentCount--];
        return lendChannel(this.#relay, to, { id, onEnd });
      },
    };
  }

  /** By which names ssh finds the port from now on. */
  onPublished(sshNames: string[]): void {
    this.#sshNames = sshNames;
  }

  /**
   * What runs at this moment.
   *
   * @param findsPrograms whether it is looked up whose processes the clients are, which takes longer
   */
  async status({ findsPrograms = true } = {}): Promise<ShimStatus> {
    const programs = findsPrograms ? await findPrograms(this.#relay.describe()) : new Map();
    const { hostname, port } = this.address;
    return composeStatus({
      config: this.#config,
      local: { address: hostname, port, sshNames: this.#sshNames },
      relay: this.#relay.describe(),
      upstream: this.#upstream.describe(),
      overflow: this.#overflow.describe(),
      maxSessions: this.#maxSessions,
      turnedAwayCount: this.#endpoint.turnedAwayCount,
      programs,
    });
  }

  /** Measures how far the host is away; `undefined` where it is not there, or does not answer. */
  async measureRoundTrip(): Promise<RoundTripStatus | undefined> {
    return await this.#upstream.measureRoundTrip();
  }

  /** Tells the people at terminals something; their sessions go on. */
  tell(text: string): void {
    this.#relay.tell(text);
  }

  /** Takes no more clients, and waits for channels that are open, but not for long. */
  async drain(): Promise<void> {
    this.#stopListening();
    this.#forwards.stopListening();
    if (this.channelCount > 0) await within(drainTimeoutMs, this.#relay.whenEmpty());
  }

  /** Ends the clients' channels, then the connections on both sides, in bounded time. */
  async close(farewell = usualFarewell): Promise<void> {
    await within(closingTimeoutMs, this.#close(farewell));
    this.#timers.close();
    this.#audit?.onEnd(farewell);
  }

  /** The client whose the forwards are; it counts as one for as long as there are any. */
  #makeClient({ onOpen, onEnd }: Pick<RelayClientOptions, "onOpen" | "onEnd">): RelayClient {
    this.#presence.enter();
    const id = ++this.#lastClientId;
    const client = new RelayClient(this.#relay, {
      about: {
        ...{ id, carrier: "lane", since: new Date().toISOString() },
        ...{ address: null, user: null, key: null, exchange: null },
      },
      onOpen,
      onEnd: (reason) => {
        this.#presence.leave();
        this.#audit?.onClientLeft(client.peer, undefined);
        onEnd(reason);
      },
    });
    // Whoever has asked for a forward may be gone: what it does is done by sshshim itself.
    const process = { uid: Deno.uid() ?? undefined, pid: Deno.pid };
    this.#audit?.onClient(client.peer, { client: id, port: undefined, username: "", ...process });
    return client;
  }

  #stopListening(): void {
    this.#endpoint.stopListening();
    this.#control?.stopListening();
  }

  async #close(farewell: string): Promise<void> {
    this.#stopListening();
    await within(channelsTimeoutMs, this.#relay.closeAll(farewell));
    await this.#forwards.closeAll();
    this.#upstream.close();
    this.#overflow.close();
    await this.#endpoint.close(farewell);
    this.#control?.close();
    await this.#resuming?.whenClosed();
  }
}
