/**
 * How long sshshim runs: until nobody has used it for a while, or until its time is over.
 *
 * Time in which the machine sleeps counts: whoever leaves a closed computer lying about for a night
 * should not find the port open.
 */

import { logger } from "./log.ts";
import type { Schedule } from "./transport.ts";

const log = logger();

/** How long before the end sessions are told. */
const noticeMs = 60_000;

/** Timers stand still while the machine sleeps, so none is longer than this. */
const longestTimerMs = 30_000;

/** What a lifetime is made of; times in milliseconds. */
export interface LifetimeOptions {
  /** The end comes when no client was there for so long. */
  idleExitMs: number | undefined;
  /** The end comes after so long in any case. */
  maxLifeMs: number | undefined;
  /** Whether something goes on without a client. */
  isBusy(): boolean;
  /** The end comes soon: `text` is for the people at the sessions. */
  onLastMinute(text: string): void;
  schedule: Schedule;
  /** How much time has passed since some moment, sleep included. */
  now?(): number;
}

/** Why the time is over, for people. */
export class LifetimeEnd {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

/** Who is told of clients that come and go. */
export interface Presence {
  enter(): void;
  leave(): void;
}

/** The time from the moment at which clients may come. */
export class Lifetime implements Presence {
  readonly #options: LifetimeOptions;
  readonly #now: () => number;
  readonly #over = Promise.withResolvers<LifetimeEnd>();
  #start = 0;
  #clients = 0;
  /** Since when nobody is there. */
  #idleSince: number | undefined;
  #isTold = false;
  #cancelTimer: (() => void) | undefined;

  constructor(options: LifetimeOptions) {
    this.#options = options;
    this.#now = options.now ?? clock();
  }

  /** Resolves at the end; never where there is no limit. */
  get whenOver(): Promise<LifetimeEnd> {
    return this.#over.promise;
  }

  /** Clients may come: time counts from now on. */
  begin(): void {
    this.#start = this.#now();
    this.#idleSince = this.#clients === 0 ? this.#start : undefined;
    this.#check();
  }

  enter(): void {
    this.#clients++;
    this.#idleSince = undefined;
  }

  leave(): void {
    if (--this.#clients > 0) return;
    this.#idleSince = this.#now();
    if (this.#cancelTimer) this.#check();
  }

  /** No timer is left. May be called twice. */
  close(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #check(): void {
    this.close();
    const now = this.#now();
    const { idleExitMs, maxLifeMs, isBusy, schedule } = this.#options;
    const dueMs = [longestTimerMs];
    if (maxLifeMs !== undefined) {
      const leftMs = maxLifeMs - (now - this.#start);
      if (leftMs <= 0) return this.#end(`--max-life: ${describe(maxLifeMs)} have passed`);
      if (leftMs <= noticeMs) this.#tell(leftMs);
      else dueMs.push(leftMs - noticeMs);
      dueMs.push(leftMs);
    }
    if (idleExitMs !== undefined && this.#idleSince !== undefined) {
      let leftMs = idleExitMs - (now - this.#idleSince);
      if (leftMs <= 0 && !isBusy()) {
        return this.#end(`--idle-exit: no client for ${describe(idleExitMs)}`);
      }
      if (leftMs <= 0) {
        this.#idleSince = now;
        leftMs = idleExitMs;
      }
      dueMs.push(leftMs);
    }
    if (idleExitMs === undefined && maxLifeMs === undefined) return;
    this.#cancelTimer = schedule(Math.min(...dueMs), () => this.#check());
  }

  #end(reason: string): void {
    this.#over.resolve(new LifetimeEnd(reason));
  }

  #tell(leftMs: number): void {
    if (this.#isTold) return;
    this.#isTold = true;
    const seconds = Math.ceil(leftMs / 1000);
    log.info("--max-life: everything ends in {seconds} s", { seconds });
    this.#options.onLastMinute(`--max-life: this session ends in ${seconds} seconds`);
  }
}

/** The clock that is further on: the one stands still in a sleep, the other can be set back. */
function clock(): () => number {
  const [monotonic, wall] = [performance.now(), Date.now()];
  return () => Math.max(performance.now() - monotonic, Date.now() - wall);
}

/** A time as it may be typed: `1h30m`. */
function describe(ms: number): string {
  let seconds = Math.round(ms / 1000);
  let text = "";
  for (const [unit, size] of [["d", 86_400], ["h", 3600], ["m", 60], ["s", 1]] as const) {
    const count = Math.floor(seconds / size);
    seconds -= count * size;
    if (count > 0) text += `${count}${unit}`;
  }
  return text;
}
