/** From the moment when the local port can be used to the end: who is told, and what ends it. */

import type { Options } from "./cli.ts";
import { Lifetime, type LifetimeEnd, type LifetimeOptions, type Presence } from "./lifetime.ts";
import { ReadyFile } from "./ready_file.ts";
import { ServiceManager } from "./service_manager.ts";

/** Shows what runs; it must not throw. */
export interface Display {
  /** A client has come or gone, or a connection is in another state. */
  onChange(): void;
  /** Called once a second for each host. */
  onTick(): void;
}

/** The life of all that one process serves. */
export class Life implements Presence {
  readonly #lifetime: Lifetime;
  readonly #readyFile: ReadyFile | undefined;
  readonly #manager: ServiceManager;
  readonly #hostCount: number;
  readonly #display: Display | undefined;
  /** The hosts that can be used, or have failed. */
  readonly #settled = new Set<string>();
  /** What is told of those that can be used, by their names. */
  readonly #facts = new Map<string, Record<string, unknown>>();
  readonly #statuses = new Map<string, string>();
  #hasBegun = false;
  #isReady = false;

  /** @throws {UsageError} where the ready file cannot be ours. */
  constructor(
    { destinations, idleExitMs, maxLifeMs, readyFile, notifies }: Options,
    { display, ...parts }:
      & Pick<LifetimeOptions, "isBusy" | "onLastMinute" | "schedule">
      & { display?: Display },
  ) {
    this.#hostCount = destinations.length;
    this.#display = display;
    this.#lifetime = new Lifetime({ idleExitMs, maxLifeMs, ...parts });
    this.#manager = notifies ? ServiceManager.fromEnvironment() : new ServiceManager();
    this.#readyFile = readyFile === undefined ? undefined : new ReadyFile(readyFile);
  }

  /** Resolves when the time is over. */
  get whenOver(): Promise<LifetimeEnd> {
    return this.#lifetime.whenOver;
  }

  /**
   * A host can be used, as `facts` tell. Once that is so for all that do not fail, others are told:
   * the ready file has the facts of the one host, or of several as `hosts`.
   *
   * @throws {UsageError} where the ready file cannot be written.
   */
  onListening(name: string, facts: Record<string, unknown>): void {
    if (!this.#hasBegun) this.#lifetime.begin();
    this.#hasBegun = true;
    this.#facts.set(name, facts);
    this.#onSettled(name);
  }

  /** A host cannot be used, or not any more. */
  onFailure(name: string): void {
    this.#facts.delete(name);
    this.#onSettled(name);
  }

  #onSettled(name: string): void {
    this.#settled.add(name);
    if (this.#isReady || this.#facts.size === 0 || this.#settled.size < this.#hostCount) return;
    this.#isReady = true;
    const hosts = [...this.#facts.values()];
    this.#readyFile?.write(this.#hostCount === 1 ? hosts[0]! : { hosts });
    this.#manager.onReady();
  }

  enter(): void {
    this.#lifetime.enter();
    this.#display?.onChange();
  }

  leave(): void {
    this.#lifetime.leave();
    this.#display?.onChange();
  }

  /** The connection to a host is in another state. */
  onState(): void {
    this.#display?.onChange();
  }

  /** A second has passed. */
  onTick(): void {
    this.#display?.onTick();
  }

  /** How the connection to a host is, in words for people. */
  onStatus(host: string, status: string): void {
    this.#statuses.set(host, status);
    const all = this.#statuses.entries().map(([name, its]) => `${name}: ${its}`);
    this.#manager.onStatus([...all].join("; "));
  }

  /** The end has begun. */
  end(): void {
    this.#manager.onStopping();
    this.#readyFile?.remove();
    this.#lifetime.close();
  }
}
