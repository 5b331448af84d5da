/** One remote host at one local port: the parts that make it so, put together. */

import type { Admit } from "./access.ts";
import type { Options } from "./cli.ts";
import { Connector, type Host } from "./connector.ts";
import type { HostConfig } from "./host_config.ts";
import type { LocalHostKey } from "./local_host_key.ts";
import { logger } from "./log.ts";
import { Overflow } from "./overflow.ts";
import { Relay } from "./relay.ts";
import { Endpoint } from "./server.ts";
import { schedule, within } from "./timing.ts";
import { Upstream } from "./upstream.ts";

const log = logger();

/** Where neither the command line nor ssh's configuration says it. */
const defaultKeepaliveIntervalSeconds = 5;

/** What sessions and clients are told at the end. */
const farewell = "sshshim has been stopped";

/** How long everything may take to close at the end, and channels alone, in milliseconds. */
const closingTimeoutMs = 2500;
const channelsTimeoutMs = 2000;

/** What a shim is made of. */
export interface ShimParts {
  config: HostConfig;
  /** Upstream and, before it, the jump hosts. */
  hosts: readonly Host[];
  /** Who may use the endpoint; `undefined` for everybody. */
  admit: Admit | undefined;
  /** Takes the clients; closed with the shim. */
  listener: Deno.TcpListener;
}

/** A remote host that is served at a local port. */
export class Shim {
  readonly #relay: Relay;
  readonly #endpoint: Endpoint;
  readonly #upstream: Upstream;
  readonly #overflow: Overflow;

  constructor(options: Options, { config, hosts, admit, listener }: ShimParts) {
    this.#relay = new Relay({
      limits: {
        openTimeoutMs: options.openTimeoutMs,
        sessions: options.maxSessions ?? Infinity,
        // Of one client, sessions that wait for their turn included.
        channels: Math.max(1000, options.maxChannels),
        allChannels: options.maxChannels,
      },
      schedule,
      onWanted: () => this.#upstream.hurry(),
      onCrowded: () => void this.#overflow.grow(),
      report: (text, level = "info") => log[level]("{text}", { text }),
    });
    const relay = this.#relay;
    this.#endpoint = new Endpoint({ listener, relay, admit });
    const connector = new Connector(hosts, (text) => log.warn("{text}", { text }));
    const keepalive = {
      intervalMs: (config.serverAliveIntervalSeconds ?? defaultKeepaliveIntervalSeconds) * 1000,
      count: config.serverAliveCountMax,
    };
    this.#upstream = new Upstream({
      connector,
      relay,
      reconnects: options.reconnects,
      maximumDelayMs: options.reconnectMaxDelayMs,
      keepalive,
    });
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
  }

  /** Logs in for the first time. @throws what {@link Upstream.start} throws. */
  async connect(): Promise<void> {
    await this.#upstream.start();
  }

  /**
   * Takes clients, and shows them these host keys, best first.
   *
   * @throws {EndpointError} where a key cannot be used.
   */
  serve(hostKeys: readonly LocalHostKey[]): void {
    this.#endpoint.showHostKeys(hostKeys);
    void this.#endpoint.serve();
  }

  /** A person wants tried at once what has failed. */
  retry(): void {
    this.#upstream.retry();
    this.#overflow.retry();
  }

  /** Ends the clients' channels, then the connections on both sides, in bounded time. */
  async close(): Promise<void> {
    await within(closingTimeoutMs, this.#close());
  }

  async #close(): Promise<void> {
    this.#endpoint.stopListening();
    await within(channelsTimeoutMs, this.#relay.closeAll(farewell));
    this.#upstream.close();
    this.#overflow.close();
    await this.#endpoint.close(farewell);
  }
}
