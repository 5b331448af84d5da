/** From the moment when the local port can be used to the end: who is told, and what ends it. */

import type { Options } from "./cli.ts";
import { Lifetime, type LifetimeEnd, type LifetimeOptions, type Presence } from "./lifetime.ts";
import { ReadyFile } from "./ready_file.ts";
import { ServiceManager } from "./service_manager.ts";

/** The life of all that one process serves. */
export class Life implements Presence {
  readonly #lifetime: Lifetime;
  readonly #readyFile: ReadyFile | undefined;
  readonly #manager: ServiceManager;

  /** @throws {UsageError} where the ready file cannot be ours. */
  constructor(
    { idleExitMs, maxLifeMs, readyFile, notifies }: Options,
    parts: Pick<LifetimeOptions, "isBusy" | "onLastMinute" | "schedule">,
  ) {
    this.#lifetime = new Lifetime({ idleExitMs, maxLifeMs, ...parts });
    this.#manager = notifies ? ServiceManager.fromEnvironment() : new ServiceManager();
    this.#readyFile = readyFile === undefined ? undefined : new ReadyFile(readyFile);
  }

  /** Resolves when the time is over. */
  get whenOver(): Promise<LifetimeEnd> {
    return this.#lifetime.whenOver;
  }

  /**
   * The port can be used, as `facts` tell.
   *
   * @throws {UsageError} where the ready file cannot be written.
   */
  begin(facts: Record<string, unknown>): void {
    this.#readyFile?.write(facts);
    this.#lifetime.begin();
    this.#manager.onReady();
  }

  enter(): void {
    this.#lifetime.enter();
  }

  leave(): void {
    this.#lifetime.leave();
  }

  /** How a connection is, in words for people. */
  onStatus(status: string): void {
    this.#manager.onStatus(status);
  }

  /** The end has begun. */
  end(): void {
    this.#manager.onStopping();
    this.#readyFile?.remove();
    this.#lifetime.close();
  }
}
