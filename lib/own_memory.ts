/**
 * The memory of this process: kept small where that costs nothing, and given back to the system when
 * work is over. V8 collects what is garbage when more is allocated, and the C library keeps what was
 * freed: without this, the memory of the busiest minute would be ours for hours.
 */

import process from "node:process";
import v8 from "node:v8";
import vm from "node:vm";
import { findLibc, type Libc, returnFreed, returnLargePieces } from "./libc.ts";
import { logger } from "./log.ts";
import { PacketMemory } from "./packet_memory.ts";

const log = logger("memory");

/** Buffers of this size are many when clients take nothing; in bytes. */
const largePieceBytes = 256 * 1024;

/** While less than this part of a CPU is used, there is little to do. */
const quietPart = 1 / 50;
/** Each host ticks once a second; in milliseconds. */
const smallestTickMs = 900;
/** What has to be used before anything is given back, in milliseconds of CPU time. */
const smallestWorkMs = 100;
/** Giving back costs no more than this part of the work before. */
const largestCostPart = 1 / 8;

/** What is used when; times are in milliseconds. */
export interface OwnMemoryOptions {
  now(): number;
  /** CPU time of the process so far. */
  usedMs(): number;
  giveBack(): void;
}

/** Gives memory back once a second has passed in which there was little to do, after some work. */
export class OwnMemory {
  readonly #options: OwnMemoryOptions;
  #since: number;
  #usedMs: number;
  #workMs: number;
  #costMs = 0;

  /** What was used up to now is work as well: the start. */
  constructor(options: OwnMemoryOptions) {
    this.#options = options;
    this.#since = options.now();
    this.#usedMs = this.#workMs = options.usedMs();
  }

  /** That of this process, which is kept small from now on. */
  static ofProcess(): OwnMemory {
    const libc = findLibc();
    keepMemorySmall(libc);
    return new OwnMemory({
      now: () => performance.now(),
      usedMs: () => {
        const { user, system } = process.cpuUsage();
        return (user + system) / 1000;
      },
      giveBack: () => giveMemoryBack(libc),
    });
  }

  /** Called about once a second, or more often. */
  onTick(): void {
    const { now, usedMs, giveBack } = this.#options;
    const tickMs = now() - this.#since;
    if (tickMs < smallestTickMs) return;
    const used = usedMs();
    const tickUsedMs = used - this.#usedMs;
    const isQuiet = tickUsedMs < tickMs * quietPart;
    // What is always to do, such as keepalives, is no work.
    if (!isQuiet) this.#workMs += tickUsedMs;
    else if (this.#workMs > Math.max(smallestWorkMs, this.#costMs / largestCostPart)) {
      giveBack();
      this.#costMs = usedMs() - used;
      this.#workMs = 0;
    }
    this.#usedMs = usedMs();
    this.#since = now();
  }
}

/**
 * V8's room for what is young grows with what passes by, up to 48 MB: what it has after the start is
 * enough. The buffers of clients that take nothing are not to leave holes that nobody can use.
 */
export function keepMemorySmall(libc: Libc | undefined): void {
  try {
    v8.setFlagsFromString("--semi-space-growth-factor=1");
  } catch {
    // It goes on without.
  }
  if (libc) returnLargePieces(libc, largePieceBytes);
}

/** Gives back what can be had; it takes some 20 to 40 milliseconds, in which nothing else is done. */
export function giveMemoryBack(libc: Libc | undefined): void {
  PacketMemory.forgetFree();
  collectGarbage ??= findCollector();
  collectGarbage();
  if (libc) returnFreed(libc);
  log.debug("memory given back: {megabytes} MB left", {
    megabytes: Math.round(Deno.memoryUsage().rss / 1e6),
  });
}

let collectGarbage: (() => void) | undefined;

/** V8's `gc()`, which it shows to new realms alone, and no longer than it takes to fetch it. */
function findCollector(): () => void {
  try {
    v8.setFlagsFromString("--expose-gc");
    const found: unknown = vm.runInNewContext("gc");
    v8.setFlagsFromString("--no-expose-gc");
    if (typeof found === "function") return () => void found();
  } catch {
    // V8 does it by itself, later.
  }
  return () => {};
}
