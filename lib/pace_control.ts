/**
 * How much may be under way on a connection, in both directions: decided by round trips, by what has
 * passed in them, and by whether more than one channel is in use.
 *
 * A direction is *open* while anything may be under way: so a channel alone has it, and everybody
 * where upstream is near, until a round trip shows a queue.
 */

import { RoundTripFloor } from "./pace_floor.ts";
import { type PaceDirection, PaceLook, type Seen } from "./pace_look.ts";
import type { PaceReply } from "./pace_marks.ts";
import {
  bulkBytes,
  initialBytes,
  isNear,
  type PacePath,
  type PaceRound,
  PaceWindow,
  queueMs,
} from "./pace_window.ts";

/** How much passes between two keepalives at most, and where a direction is open; in bytes. */
const largestSpacingBytes = 4 * 1024 * 1024;
const openSpacingBytes = 128 * 1024;

/** A round trip counts while so much more is under way than may be: a message too many. */
const toleratedPart = 0.25;
const toleratedBytes = 32 * 1024;

/** So little on a path leaves it as good as empty, in bytes: keys may be pressed at any time. */
const fewBytes = 2 * 1024;

/** So much of what may be under way has to come in a round trip where that is the limit. */
const fullPart = 0.4;

/** On how many queues a round trip waits where both directions are full: what arrives is in clumps. */
const bothQueues = 2.6;

/** How often it is looked which of two directions has the queue, in milliseconds. */
const bothLookMs = 6000;

/** How many times as much, or as little, may be under way after such a look. */
const largestCorrection = 2;

const directions: readonly PaceDirection[] = ["up", "down"];

/** Who uses the connection. */
export interface PaceUse {
  /** Whether clients have had to wait since the last decision about uploads. */
  hasWaited: boolean;
  isDownloading: boolean;
}

/** Both directions of one connection. */
export class PaceControl {
  readonly #floor = new RoundTripFloor();
  readonly #look = new PaceLook();
  readonly #windows = { up: new PaceWindow(), down: new PaceWindow() };
  #isShared = false;
  #lastReply: PaceReply | undefined;
  /** The most that has come in a round trip since the last decision about downloads, in bytes. */
  #cameBytes = 0;
  /** Which direction has passed all that it may, at the last decision. */
  readonly #limited = { up: false, down: false };
  /** When it was looked which of both has the queue, and in which less was sent for that. */
  #lookedAt = -Infinity;
  #lastCut: PaceDirection = "down";
  /** It has been looked for the shortest round trip because of what still holds: once is enough. */
  #hasLookedInVain = false;

  get path(): PacePath {
    return { floorMs: this.#floor.ms, isShared: this.#isShared };
  }

  /** Whether upstream is hardly farther away than the clients are. */
  get isNear(): boolean {
    return isNear(this.path);
  }

  /** How long a round trip should be at most, in milliseconds. */
  get goalMs(): number {
    return this.#floor.ms + queueMs(this.path);
  }

  isOpen(direction: PaceDirection): boolean {
    return this.#windows[direction].isOpen;
  }

  /** What may be under way now, in bytes. */
  bytesOf(direction: PaceDirection): number {
    const window = this.#windows[direction];
    return this.#look.cuts(direction) ? window.queuelessBytes(this.path) : window.bytes;
  }

  /** What will be allowed once more than one channel is in use, in bytes. */
  sharedBytesOf(direction: PaceDirection): number {
    return this.#knownBytes(direction) ?? initialBytes;
  }

  /** What passes in so many milliseconds, in bytes. */
  bytesIn(direction: PaceDirection, ms: number): number {
    return this.#windows[direction].bytesIn(ms, this.path);
  }

  /** How much passes between two keepalives, in bytes. */
  spacingBytes(direction: PaceDirection): number {
    const window = this.#windows[direction];
    if (window.isOpen) return openSpacingBytes;
    return Math.min(largestSpacingBytes, window.spacingBytes(this.path));
  }

  /** How much more may be under way for a round trip to count, in bytes. */
  toleratedBytes(direction: PaceDirection): number {
    const bytes = this.bytesOf(direction);
    return this.#look.cuts(direction)
      ? Math.max(fewBytes, Math.min(bytes, toleratedBytes))
      : bytes * toleratedPart + toleratedBytes;
  }

  /** Upstream has answered something else within so many milliseconds. */
  noteRoundTrip(tookMs: number, now: number): void {
    this.#floor.take(tookMs, now);
  }

  /** Takes whether more than one channel is in use. */
  share(isShared: boolean, now: number): void {
    if (isShared === this.#isShared) return;
    const { goalMs } = this;
    this.#isShared = isShared;
    for (const direction of directions) {
      const window = this.#windows[direction];
      if (!window.isOpen) window.scale(now, goalMs < Infinity ? this.goalMs / goalMs : 1);
      else if (isShared && !this.isNear) window.close(now, this.sharedBytesOf(direction));
    }
    this.#look.end();
    this.#limited.up = this.#limited.down = false;
  }

  /** A keepalive has waited for its answer for longer than it should, behind what has come since. */
  onOverdue({ ageMs, downBytes }: { ageMs: number; downBytes: number }, now: number): void {
    if (downBytes < bulkBytes) return;
    // What was fast before may only pause, for a key exchange say.
    const bytes = Math.max(downBytes * this.goalMs / ageMs, this.#lastReply?.downBytes ?? 0);
    this.#windows.down.close(now, bytes);
  }

  /** A keepalive is answered. @returns whether that has ended a decision about uploads. */
  onReply(reply: PaceReply, use: PaceUse): boolean {
    const { roundTripMs, isClean, now } = reply;
    this.#lastReply = reply;
    this.#floor.take(roundTripMs, now);
    if (roundTripMs > this.goalMs) this.#closeFull(now);
    if (this.#look.isUnderWay) this.#takeLook(reply);
    else if (this.#mustLook(now)) this.#look.begin("both", now);
    else if (isClean) return this.#adapt(reply, use);
    return false;
  }

  /** Upstream does not answer, or is gone. */
  stop(): void {
    this.#look.end();
  }

  /** What may be under way as far as the last round trip tells; `undefined` where it does not. */
  #knownBytes(direction: PaceDirection): number | undefined {
    const bytes = this.#passedBytes(direction);
    return bytes < bulkBytes ? undefined : bytes * this.goalMs / this.#lastReply!.roundTripMs;
  }

  /** What has passed in the last round trip, in bytes. */
  #passedBytes(direction: PaceDirection): number {
    return this.#lastReply?.[direction === "up" ? "upBytes" : "downBytes"] ?? 0;
  }

  /** What has filled a queue is held from now on, though it was not before. */
  #closeFull(now: number): void {
    for (const direction of directions) {
      const window = this.#windows[direction];
      const bytes = this.#passedBytes(direction);
      if (window.isOpen && bytes >= bulkBytes) window.close(now, bytes);
    }
  }

  #mustLook(now: number): boolean {
    const isHeld = directions.some((it) => !this.isOpen(it));
    return isHeld && this.#floor.isStale(now, this.#isShared);
  }

  #adapt(reply: PaceReply, { hasWaited, isDownloading }: PaceUse): boolean {
    const { up, down } = this.#windows;
    const isBoth = (hasWaited || this.#limited.up) && isDownloading;
    const round = { path: this.path, queues: isBoth ? bothQueues : 1, now: reply.now };
    const isUpDue = !up.isOpen && up.onRoundTrip(reply);
    if (isUpDue) {
      this.#decide("up", { ...round, isLimited: hasWaited, flightBytes: reply.upBytes });
    }
    if (down.isOpen) return isUpDue;
    this.#cameBytes = Math.max(this.#cameBytes, reply.downBytes);
    if (down.onRoundTrip(reply)) {
      const isLimited = isDownloading && this.#cameBytes >= fullPart * down.bytes;
      this.#decide("down", { ...round, isLimited, flightBytes: this.#cameBytes });
      this.#cameBytes = 0;
    }
    return isUpDue;
  }

  #decide(direction: PaceDirection, round: PaceRound): void {
    const window = this.#windows[direction];
    const outcome = window.decide(round);
    const { path, now } = round;
    this.#limited[direction] = outcome !== "unlimited";
    if (outcome === "unlimited" && (!path.isShared || isNear(path))) window.open();
    if (outcome === "fine") this.#hasLookedInVain = false;
    if (outcome === "vain" && !this.#hasLookedInVain) {
      this.#hasLookedInVain = true;
      this.#look.begin("both", now);
    } else if (this.#limited.up && this.#limited.down && now - this.#lookedAt > bothLookMs) {
      this.#lookedAt = now;
      this.#lastCut = this.#lastCut === "up" ? "down" : "up";
      this.#look.begin(this.#lastCut, now);
    }
  }

  #takeLook(reply: PaceReply): void {
    const isEmpty = directions.some((it) => this.#look.cuts(it) && this.bytesOf(it) === 0);
    const seen = this.#look.take(reply, isEmpty ? 1 : undefined);
    if (seen === undefined) return;
    this.#useLook(seen, reply.now);
    for (const direction of directions) this.#windows[direction].restart(reply.now);
  }

  #useLook({ cut, roundTripMs }: Seen, now: number): void {
    if (cut === "both") return this.#floor.reset(roundTripMs ?? this.#floor.ms, now);
    if (roundTripMs === undefined) return;
    // The queue that is left is that of the other direction, and tells how fast that one is.
    const goalMs = this.#floor.ms + bothQueues * queueMs(this.path);
    const factor = Math.max(1 / largestCorrection, goalMs / roundTripMs);
    const other = this.#windows[cut === "up" ? "down" : "up"];
    other.scale(now, Math.min(largestCorrection, factor));
  }
}
