/**
 * Keepalives as a clock: when one is answered, all that was sent before it has arrived, and how long
 * that took is known.
 */

import type { Schedule } from "./transport.ts";

/** How many may be unanswered: more would tell nothing new. */
const mostMarks = 64;

/** How long an answer is waited for, before there was a first one and then, in milliseconds. */
const firstPatienceMs = 3000;
const patienceMs = 15_000;

/** So many may be sent without a pause where few are enough, and how fast they come back, in ms. */
const mostTokens = 16;
const tokenMs = 50;

/** A keepalive that has no answer. */
interface PaceMark {
  readonly sentAt: number;
  /** What was sent before it and after the one before, in bytes. */
  readonly bytes: number;
  /** What was under way to upstream then, in bytes. */
  readonly underWayBytes: number;
  /** What had come from upstream until then, in bytes. */
  readonly comeBytes: number;
  /** Whether no more was under way than may be. */
  readonly isClean: boolean;
}

/** What the answer to a keepalive tells. */
export interface PaceReply {
  sentAt: number;
  isClean: boolean;
  roundTripMs: number;
  now: number;
  /** What has passed meanwhile, in either direction; in bytes. */
  upBytes: number;
  downBytes: number;
}

/** What the clock is given. */
export interface PaceMarksOptions {
  /** Time that never jumps, in milliseconds. */
  clock(): number;
  schedule: Schedule;
  /** Sends a keepalive; `onReply` is called when it is answered. */
  ask(onReply: () => void): void;
  onReply(reply: PaceReply): void;
  /** Upstream does not answer. */
  onStall(): void;
  /** It does again; nothing is measured yet. */
  onRecovery(): void;
}

/** The keepalives of one connection. */
export class PaceMarks {
  readonly #options: PaceMarksOptions;
  /** Those without an answer; `undefined` while nothing is measured. */
  #marks: PaceMark[] | undefined;
  /** The first of them: what was sent before it may be anything. */
  #barrier: PaceMark | undefined;
  /** What has no keepalive behind it, and what was sent and has not arrived; in bytes. */
  #unmarkedBytes = 0;
  #underWayBytes = 0;
  /** What has come: in all, and until the last of them; in bytes. */
  #comeBytes = 0;
  #markedComeBytes = 0;
  #tokens = mostTokens;
  #tokensAt = -Infinity;
  #isProven = false;
  #isStalled = false;
  #isClosed = false;
  #cancelWatch: (() => void) | undefined;

  constructor(options: PaceMarksOptions) {
    this.#options = options;
  }

  /** Whether upstream does not answer now. */
  get isStalled(): boolean {
    return this.#isStalled || this.#isClosed;
  }

  /** Whether it is known what is under way. */
  get isRunning(): boolean {
    return this.#marks !== undefined;
  }

  /** Whether no answer is awaited. */
  get isQuiet(): boolean {
    return this.#marks === undefined || this.#marks.length === 0;
  }

  /** Whether there may be one more. */
  get hasRoom(): boolean {
    return (this.#marks?.length ?? 0) < mostMarks;
  }

  /** What was sent and has not arrived, in bytes. */
  get underWayBytes(): number {
    return this.#underWayBytes;
  }

  /** What was sent and has no keepalive behind it, in bytes. */
  get unmarkedBytes(): number {
    return this.#unmarkedBytes;
  }

  /** What has come since the last keepalive, in bytes. */
  get freshBytes(): number {
    return this.#comeBytes - this.#markedComeBytes;
  }

  noteSent(bytes: number): void {
    this.#underWayBytes += bytes;
    this.#unmarkedBytes += bytes;
  }

  noteCome(bytes: number): void {
    this.#comeBytes += bytes;
  }

  /** Takes one of those that may be sent where few are enough. */
  takeToken(now: number): boolean {
    this.#tokens = Math.min(mostTokens, this.#tokens + (now - this.#tokensAt) / tokenMs);
    this.#tokensAt = now;
    if (this.#tokens < 1 || !this.hasRoom) return false;
    this.#tokens--;
    return true;
  }

  /** Sends one. @param isClean whether no more is under way than may be, as far as that is known. */
  send(isClean: boolean): void {
    const now = this.#options.clock();
    const isFirst = this.#marks === undefined;
    if (isFirst) this.#underWayBytes = this.#unmarkedBytes;
    const marks = this.#marks ??= [];
    const mark = {
      sentAt: now,
      bytes: this.#unmarkedBytes,
      underWayBytes: this.#underWayBytes,
      comeBytes: this.#comeBytes,
      isClean: isClean && !isFirst && this.#barrier === undefined,
    };
    if (isFirst) this.#barrier = mark;
    marks.push(mark);
    this.#unmarkedBytes = 0;
    this.#markedComeBytes = this.#comeBytes;
    this.#options.ask(() => this.#onReply(marks, mark));
    this.#watch();
  }

  /** What has passed since the oldest was sent, which has waited longer than `limitMs`. */
  overdue(limitMs: number): { ageMs: number; downBytes: number } | undefined {
    const oldest = this.#marks?.[0];
    if (oldest === undefined) return undefined;
    const ageMs = this.#options.clock() - oldest.sentAt;
    return ageMs > limitMs ? { ageMs, downBytes: this.#comeBytes - oldest.comeBytes } : undefined;
  }

  /** The connection is gone: nothing is awaited any more. */
  close(): void {
    this.#isClosed = true;
    this.#stop();
  }

  #onReply(marks: PaceMark[], mark: PaceMark): void {
    this.#isProven = true;
    if (marks !== this.#marks) {
      if (this.#isStalled) this.#recover();
      return;
    }
    marks.shift();
    if (marks.length === 0) this.#unwatch();
    this.#underWayBytes -= mark.bytes;
    if (this.#barrier === mark) this.#barrier = undefined;
    const now = this.#options.clock();
    const { sentAt, isClean, underWayBytes, comeBytes } = mark;
    this.#options.onReply({
      ...{ sentAt, isClean, roundTripMs: now - sentAt, now },
      ...{ upBytes: underWayBytes, downBytes: this.#comeBytes - comeBytes },
    });
  }

  /** Sees to it that a keepalive without an answer holds nothing up for long. */
  #watch(): void {
    if (this.#cancelWatch || this.isQuiet) return;
    const ageMs = this.#options.clock() - this.#marks![0]!.sentAt;
    const waitMs = Math.max(0, this.#patienceMs - ageMs);
    this.#cancelWatch = this.#options.schedule(waitMs, () => {
      this.#cancelWatch = undefined;
      if (!this.overdue(this.#patienceMs - 1)) return this.#watch();
      this.#isStalled = true;
      this.#stop();
      this.#options.onStall();
    });
  }

  #recover(): void {
    this.#isStalled = false;
    if (!this.#isClosed) this.#options.onRecovery();
  }

  get #patienceMs(): number {
    return this.#isProven ? patienceMs : firstPatienceMs;
  }

  #stop(): void {
    this.#marks = undefined;
    this.#barrier = undefined;
    this.#underWayBytes = this.#unmarkedBytes = 0;
    this.#unwatch();
  }

  #unwatch(): void {
    this.#cancelWatch?.();
    this.#cancelWatch = undefined;
  }
}
