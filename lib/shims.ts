/** The hosts that are served, one at a local port each: one of them, or several side by side. */

import type { Options } from "./cli.ts";
import type { Host } from "./connector.ts";
import type { Prompter } from "./credential_questions.ts";
import { UsageError } from "./errors.ts";
import type { HostConfig } from "./host_config.ts";
import { findHosts, readUpstreamConfig } from "./hosts.ts";
import type { LocalHostKey } from "./local_host_key.ts";
import { localFacts } from "./local_facts.ts";
import { aboutHost } from "./log.ts";
import { nameFor } from "./published_config.ts";
import { type LocalPlace, publish, type SshName, takePlace } from "./publishing.ts";
import { Shim, type ShimParts } from "./shim.ts";
import type { ShimStatus } from "./status.ts";

/** A host that is served. */
export interface ServedHost {
  /** As it was typed, without user and port: by this name the log and ssh's configuration call it. */
  readonly name: string;
  readonly config: HostConfig;
  readonly place: LocalPlace;
  readonly shim: Shim;
  /** Whether it is reached through the connection to another one. */
  readonly isBehindOther: boolean;
}

/** A host that is to be served. */
interface FoundHost {
  name: string;
  config: HostConfig;
  /** Upstream and, before it, the jump hosts. */
  hosts: readonly Host[];
}

/** What is told about the hosts. */
export interface ShimsEvents {
  /** Clients of this one are taken from now on. */
  onListening(
    host: ServedHost,
    shown: {
      hostKeys: readonly LocalHostKey[];
      /** The control socket by which clients can come as well. */
      controlPath: string | undefined;
      sshName: SshName | undefined;
    },
  ): void;
  /** This one is not served, or not any more; the others are. */
  onFailure(host: ServedHost, error: Error): void;
}

/** All that are served. */
export class Shims {
  readonly #options: Options;
  readonly #hosts: readonly ServedHost[];
  /** The folder of the user's account. */
  readonly #home: string;
  readonly #hasControl: boolean;
  readonly #allListening = Promise.withResolvers<void>();
  #listeningCount = 0;
  readonly #terminated = Promise.withResolvers<string>();
  readonly #closing = new Map<ServedHost, Promise<void>>();

  private constructor(
    options: Options,
    hosts: readonly ServedHost[],
    { home, hasControl }: { home: string; hasControl: boolean },
  ) {
    this.#options = options;
    this.#hosts = hosts;
    this.#home = home;
    this.#hasControl = hasControl;
  }

  /**
   * From here on the local ports are taken.
   *
   * @throws {UsageError} where a configuration is not understood, or two hosts have one name.
   * @throws {AuthenticationError} where the key or password that was named cannot be used.
   * @throws {EndpointError} where a port cannot be used, or a name that was given.
   */
  static async open(
    options: Options,
    given: {
      prompter: Prompter;
      environmentPassword: string | undefined;
      /** Whether each host has a control socket, where there can be one. */
      hasControl: boolean;
    } & Pick<ShimParts, "access" | "life" | "writeAudit">,
  ): Promise<Shims> {
    const { destinations } = options;
    if (destinations.length > 1 && given.environmentPassword !== undefined) {
      throw new UsageError("SSHSHIM_PASSWORD is for one host, and several are given. Unset it.");
    }
    const found: FoundHost[] = [];
    for (const destination of destinations) {
      const config = await readUpstreamConfig(options, destination);
      const name = config.alias;
      if (found.some((other) => other.name === name)) {
        throw new UsageError(
          `Two of the hosts are ${name}. Give one of them another name in ssh's configuration.`,
        );
      }
      found.push({ name, config, hosts: await findHosts(options, { config, ...given }) });
    }
    const { prompter, access, life, writeAudit } = given;
    const parts = { prompter, access, life, writeAudit };
    const { home } = localFacts({});
    const served = new Map<FoundHost, ServedHost>();
    // Those that others are behind come first.
    for (const host of found.toSorted((a, b) => a.hosts.length - b.hosts.length)) {
      const { name, config } = host;
      const before = hostBefore(host, found);
      const route = before === undefined ? { hosts: host.hosts } : {
        hosts: host.hosts.slice(before.hosts.length),
        lender: served.get(before)!.shim.lender,
      };
      const make = async (): Promise<ServedHost> => {
        const place = await takePlace(options, { alias: name, home });
        const shim = new Shim(options, { config, route, listener: place.listener, ...parts });
        return { name, config, place, shim, isBehindOther: before !== undefined };
      };
      served.set(host, await (found.length === 1 ? make() : aboutHost(name, make)));
    }
    return new Shims(options, found.map((host) => served.get(host)!), {
      home,
      hasControl: given.hasControl,
    });
  }

  /** Resolves when clients of every host are taken. */
  get whenListening(): Promise<void> {
    return this.#allListening.promise;
  }

  /** In the order in which they were given. */
  get hosts(): readonly ServedHost[] {
    return this.#hosts;
  }

  /**
   * Logs in to each, or waits for its first client, and serves it.
   *
   * @returns the first failure, once none is left.
   */
  async serve(hostKeys: Promise<readonly LocalHostKey[]>, events: ShimsEvents): Promise<Error> {
    const failures: Error[] = [];
    await Promise.all(this.#hosts.map((host) =>
      this.#about(host, async () => {
        const error = await this.#serve(host, hostKeys, events);
        failures.push(error);
        const isStopping = this.#closing.has(host);
        await this.#close(host);
        if (!isStopping) events.onFailure(host, error);
      })
    ));
    return failures[0]!;
  }

  /** Resolves with the reason when clients have asked for the end of the last of them. */
  get whenTerminated(): Promise<string> {
    return this.#terminated.promise;
  }

  /** How many channels are open, those of clients that have left included. */
  get channelCount(): number {
    return this.#hosts.reduce((sum, { shim }) => sum + shim.channelCount, 0);
  }

  /** What runs at this moment, by host; as {@link Shim.status}. */
  status(options?: Parameters<Shim["status"]>[0]): Promise<ShimStatus[]> {
    return Promise.all(this.#hosts.map(({ shim }) => shim.status(options)));
  }

  /** Tells the people at terminals something; their sessions go on. */
  tell(text: string): void {
    for (const { shim } of this.#hosts) shim.tell(text);
  }

  /** A person wants tried at once what has failed. */
  retry(): void {
    for (const host of this.#hosts) this.#about(host, () => host.shim.retry());
  }

  /** Takes no more clients, and waits for channels that are open, but not for long. */
  async drain(): Promise<void> {
    await Promise.all(this.#hosts.map((host) => this.#about(host, () => host.shim.drain())));
  }

  /** Ends all clients' channels, then all connections, in bounded time; clients are told why. */
  async close(farewell?: string): Promise<void> {
    const close = (hosts: readonly ServedHost[]) =>
      Promise.all(hosts.map((host) => this.#about(host, () => this.#close(host, farewell))));
    await close(this.#hosts.filter(({ isBehindOther }) => isBehindOther));
    await close(this.#hosts);
  }

  /** @returns why it is served no more. */
  async #serve(
    host: ServedHost,
    hostKeys: Promise<readonly LocalHostKey[]>,
    { onListening }: ShimsEvents,
  ): Promise<Error> {
    const { shim } = host;
    try {
      if (this.#options.isLazy) shim.awaitClient();
      else await shim.connect();
      const shown = await hostKeys;
      if (this.#closing.has(host)) return new Error("sshshim is stopping");
      shim.serve(shown);
      const controlPath = this.#hasControl
        ? await shim.openControl({
          name: host.place.name?.name ?? nameFor(host.name),
          home: this.#home,
          onTerminate: () => this.#terminate(host),
        })
        : undefined;
      // A command shares our terminal: who reads there for it is stopped.
      const isForSsh = this.#options.usesLane && this.#options.command === undefined;
      const sshName = await publish(host.place, {
        home: this.#home,
        ...isForSsh && { controlPath },
        address: shim.address.hostname,
        user: host.config.user,
        hostKeys: shown,
        isPrinted: this.#options.sshConfig === "printed",
      });
      if (sshName) shim.onPublished([sshName.host, ...sshName.as ? [sshName.as] : []]);
      const facts = { hostKeys: shown, controlPath, sshName };
      if (!this.#closing.has(host)) onListening(host, facts);
      if (++this.#listeningCount === this.#hosts.length) this.#allListening.resolve();
    } catch (error) {
      return error as Error;
    }
    return await shim.whenLost;
  }

  #close(host: ServedHost, farewell?: string): Promise<void> {
    // First: whoever asks for the name from now on is to hear at once that there is none.
    host.place.name?.remove();
    const closing = this.#closing.get(host) ?? host.shim.close(farewell);
    this.#closing.set(host, closing);
    return closing;
  }

  /** A client wants this one to end. */
  #terminate(host: ServedHost): void {
    this.#about(host, () => {
      const isLast = this.#hosts.every((other) => other === host || this.#closing.has(other));
      if (isLast) this.#terminated.resolve("a client's request for the end");
      else void this.#close(host);
    });
  }

  /** What is logged is about this host, which is said where there are others. */
  #about<T>(host: ServedHost, action: () => T): T {
    return this.#hosts.length === 1 ? action() : aboutHost(host.name, action);
  }
}

/** The host through whose connection another one is reached: the nearest of those on its way. */
function hostBefore({ hosts }: FoundHost, found: readonly FoundHost[]): FoundHost | undefined {
  const isOnTheWay = ({ hosts: way }: FoundHost) =>
    way.length < hosts.length && way.every((host, index) => isSame(host, hosts[index]!));
  return found.filter(isOnTheWay).toSorted((a, b) => b.hosts.length - a.hosts.length)[0];
}

function isSame({ config: a }: Host, { config: b }: Host): boolean {
  return a.user === b.user && a.hostName === b.hostName && a.port === b.port;
}
