/**
 * Pacing: while a channel fills the path to upstream, the others do not wait behind it.
 *
 * What the windows of the channels allow is far more than a path carries in a round trip; the rest
 * would wait in the path's queues, and every keystroke behind it. So as long as more than one channel
 * of a connection is in use, both directions are held to what `pace_window.ts` finds: data of clients
 * waits here, in a line for each channel, and upstream is granted less. Keepalives behind the data
 * tell when it has arrived, and how long a keystroke takes. A server that does not answer them is
 * sent everything, as without pacing.
 */

import { PaceActivity, type PacedChannel } from "./pace_activity.ts";
import { PaceDownloads } from "./pace_downloads.ts";
import { PaceQueue } from "./pace_queue.ts";
import { type PaceRound, PaceWindow, RoundTripFloor } from "./pace_window.ts";
import type { Peer, Schedule } from "./transport.ts";
import { MessageType } from "./wire.ts";

/** What pacing is given. */
export interface PacingOptions {
  /** Time that never jumps, in milliseconds. */
  clock(): number;
  schedule: Schedule;
}

/** The connection that is paced. */
export interface PacedConnection<Channel> {
  peer: Peer;
  /** The channels that it carries. */
  channels: ReadonlySet<Channel>;
  /** Sends a keepalive; `onReply` is called when it is answered. */
  ask(onReply: () => void): void;
  /** Less waits for upstream than before. */
  onDrain(): void;
}

/** How much is sent or comes between two keepalives, in bytes. */
const smallestSpacingBytes = 16 * 1024;
const largestSpacingBytes = 512 * 1024;

/** How many keepalives may be unanswered: more would tell nothing new. */
const mostMarks = 64;

/** A round trip counts while so much more is under way than may be: a message too many. */
const toleratedPart = 0.25;
const toleratedBytes = 32 * 1024;

/** So little on a path leaves it as good as empty, in bytes: keys may be pressed at any time. */
const fewBytes = 2 * 1024;

/** How long an answer is waited for, before there was a first one and then, in milliseconds. */
const firstPatienceMs = 3000;
const patienceMs = 15_000;

/** How many round trips are enough to know the shortest, and how long they are waited for, in ms. */
const lookingSamples = 3;
const lookingMs = 1000;

/** What a client may have waiting here and be granted beside, on one channel, in bytes. */
const mostHeldBytes = 2 * 1024 * 1024;

/**
 * `onDrain` is called once what waits, or what waits of one channel, having been over the first, is
 * under the second; in bytes.
 */
const highBacklogBytes = 1024 * 1024;
const lowBacklogBytes = 512 * 1024;

/** A keepalive that has no answer. */
interface Mark {
  sentAt: number;
  /** What was sent before it and after the one before, in bytes. */
  bytes: number;
  /** Whether no more was under way than may be. */
  isClean: boolean;
}

/** Paces one connection upstream. */
export class Pacing<Channel extends PacedChannel> {
  readonly #options: PacingOptions;
  readonly #connection: PacedConnection<Channel>;
  readonly #activity: PaceActivity<Channel>;
  readonly #queue = new PaceQueue<Channel>();
  readonly #floor = new RoundTripFloor();
  readonly #up = new PaceWindow();
  readonly #down = new PaceWindow();
  readonly #downloads: PaceDownloads<Channel>;
  /** The keepalives that tell of what is under way; `undefined` while nothing is measured. */
  #marks: Mark[] | undefined;
  /** The first of them: what was sent before it may be anything. */
  #barrier: Mark | undefined;
  /** What was sent since the first of them and has not arrived, and what has none behind it. */
  #underWayBytes = 0;
  #unmarkedBytes = 0;
  /** What has come since the last of them, in bytes. */
  #arrivedBytes = 0;
  /** Whether something has waited since the last decision about uploads. */
  #hasWaited = false;
  /** While the shortest round trip is looked for: since when, and those that were found. */
  #looking: { since: number; roundTripsMs: number[] } | undefined;
  /** It has been looked for because of what still holds: once is enough. */
  #hasLookedInVain = false;
  /** Whether upstream has ever answered; whether it does not now. */
  #isProven = false;
  #isStalled = false;
  #cancelWatch: (() => void) | undefined;
  #isPumping = false;
  #owesDrain = false;
  readonly #owedChannels = new Set<Channel>();

  constructor(options: PacingOptions, connection: PacedConnection<Channel>) {
    this.#options = options;
    this.#connection = connection;
    this.#activity = new PaceActivity(connection.channels, (it) => this.#queue.has(it));
    this.#downloads = new PaceDownloads(connection.channels);
  }

  /** What waits here, in bytes. */
  get heldBytes(): number {
    return this.#queue.bytes;
  }

  /** Sends a message of a channel upstream, in its order; it is kept where it has to wait. */
  send(channel: Channel, payload: Uint8Array): void {
    const type = payload[0];
    if (type === MessageType.channelRequest) this.#activity.recount(); // It may be for a terminal.
    // A window is about the other direction.
    const waits = this.#queue.has(channel)
      ? type !== MessageType.channelWindowAdjust
      : isData(type) && this.#mustWait(channel, payload.length);
    if (!waits) return this.#pass(payload);
    if (this.#queue.bytes === 0 && this.#marks && this.#hasRoom) return this.#passMarked(payload);
    this.#queue.add(channel, payload);
    if (this.#queue.bytesOf(channel) > highBacklogBytes) this.#owedChannels.add(channel);
    this.#pump();
  }

  /** What waits of a channel is not wanted any more. @returns whether something has waited. */
  discard(channel: Channel): boolean {
    if (!this.#queue.has(channel)) return false;
    this.#queue.discard(channel);
    this.#pump();
    return true;
  }

  /** Data has come on a channel, from either end. */
  onData(channel: Channel, from: "downstream" | "upstream", bytes: number): void {
    const now = this.#options.clock();
    this.#activity.note(channel, now);
    if (from === "downstream" || !this.#isPaced(channel)) return;
    this.#downloads.onData(channel, bytes, now);
    this.#arrivedBytes += bytes;
    if (this.#arrivedBytes < this.#spacingBytes(this.#down)) return;
    if ((this.#marks?.length ?? 0) < mostMarks) this.#mark();
  }

  /** What a client may have under way on a channel, in bytes. */
  uploadBytes(channel: Channel): number {
    const heldBytes = this.#queue.bytesOf(channel);
    return heldBytes === 0 ? Infinity : Math.max(0, mostHeldBytes - heldBytes);
  }

  /** What upstream may have under way on a channel, in bytes. */
  downloadBytes(channel: Channel): number {
    if (!this.#isPaced(channel)) return Infinity;
    return this.#downloads.creditBytes(channel, this.#bytesOf(this.#down));
  }

  /** The connection is gone: nothing is waited for any more. */
  close(): void {
    this.#stopMeasuring();
    this.#isStalled = true;
  }

  /** Whether a channel shares the connection with others that are in use. */
  #isPaced(channel?: Channel): boolean {
    return !this.#isStalled && this.#activity.hasOthers(channel, this.#options.clock());
  }

  #mustWait(channel: Channel, bytes: number): boolean {
    return this.#isPaced(channel) &&
      !this.#activity.takeAllowance(channel, bytes, this.#options.clock());
  }

  #pass(payload: Uint8Array): void {
    this.#connection.peer.send(payload);
    if (this.#marks === undefined) return;
    this.#underWayBytes += payload.length;
    this.#unmarkedBytes += payload.length;
  }

  /** Whether more may be under way. */
  get #hasRoom(): boolean {
    return this.#underWayBytes < this.#bytesOf(this.#up);
  }

  /** Sends data of which is to be known when it arrives. */
  #passMarked(payload: Uint8Array): void {
    // Not behind the message: how long the message itself takes is no queue.
    if (this.#unmarkedBytes >= this.#spacingBytes(this.#up)) this.#mark();
    this.#pass(payload);
  }

  /** Sends what waits, as far as it may be under way. */
  #pump(): void {
    if (this.#isPumping) return; // Whoever hears that less waits may send at once.
    this.#isPumping = true;
    if (!this.#isPaced()) this.#flush();
    if (this.#queue.bytes > 0 && this.#marks === undefined) this.#mark();
    while (this.#queue.bytes > 0 && this.#hasRoom) this.#passMarked(this.#queue.take()!);
    if (this.#queue.bytes > 0) {
      this.#hasWaited = true;
      if (this.#marks!.length === 0) this.#mark();
    }
    this.#isPumping = false;
    this.#noteBacklog();
  }

  /** Sends all that waits, and measures no more. */
  #flush(): void {
    for (let payload = this.#queue.take(); payload; payload = this.#queue.take()) {
      this.#pass(payload);
    }
    this.#stopMeasuring();
  }

  #stopMeasuring(): void {
    this.#marks = undefined;
    this.#barrier = undefined;
    this.#looking = undefined;
    this.#unwatch();
  }

  #noteBacklog(): void {
    const { bytes } = this.#queue;
    let isDue = this.#owesDrain && bytes < lowBacklogBytes;
    if (bytes > highBacklogBytes) this.#owesDrain = true;
    else if (isDue) this.#owesDrain = false;
    for (const channel of this.#owedChannels) {
      if (this.#queue.bytesOf(channel) >= lowBacklogBytes) continue;
      this.#owedChannels.delete(channel);
      isDue = true;
    }
    if (isDue) this.#connection.onDrain();
  }

  #mark(): void {
    const now = this.#options.clock();
    const isFirst = this.#marks === undefined;
    if (isFirst) this.#underWayBytes = this.#unmarkedBytes = 0;
    const marks = this.#marks ??= [];
    const mark = {
      sentAt: now,
      bytes: this.#unmarkedBytes,
      isClean: !isFirst && this.#isClean(now),
    };
    if (isFirst) this.#barrier = mark;
    marks.push(mark);
    this.#unmarkedBytes = this.#arrivedBytes = 0;
    this.#connection.ask(() => this.#onReply(marks, mark));
    this.#watch();
  }

  #isClean(now: number): boolean {
    if (this.#barrier !== undefined) return false;
    const [up, down] = [this.#bytesOf(this.#up), this.#bytesOf(this.#down)];
    const tolerated = (bytes: number) =>
      this.#looking
        ? Math.max(fewBytes, Math.min(bytes, toleratedBytes))
        : bytes * toleratedPart + toleratedBytes;
    return this.#underWayBytes - up <= tolerated(up) &&
      this.#downloads.excessBytes(down, now) <= tolerated(down);
  }

  #onReply(marks: Mark[], mark: Mark): void {
    this.#isProven = true;
    if (marks !== this.#marks) {
      if (this.#marks === undefined) this.#isStalled = false;
      return;
    }
    const now = this.#options.clock();
    marks.shift();
    this.#underWayBytes -= mark.bytes;
    if (this.#barrier === mark) this.#barrier = undefined;
    this.#unwatch();
    if (marks.length > 0) this.#watch();
    const roundTripMs = now - mark.sentAt;
    this.#floor.take(roundTripMs, now);
    this.#downloads.classify(now);
    if (this.#looking) this.#look(mark, { roundTripMs, now });
    else if (this.#floor.isStale(now)) this.#looking = { since: now, roundTripsMs: [] };
    else if (mark.isClean) this.#adapt(mark, { roundTripMs, now });
    this.#pump();
  }

  #adapt({ sentAt }: Mark, { roundTripMs, now }: { roundTripMs: number; now: number }): void {
    const floorMs = this.#floor.ms;
    const queues = this.#hasWaited && this.#downloads.isBusy ? 2 : 1;
    if (this.#up.onRoundTrip(roundTripMs, { sentAt, now })) {
      const isLimited = this.#hasWaited;
      this.#decide(this.#up, { floorMs, isLimited, queues, now });
      this.#hasWaited = false;
    }
    if (sentAt >= this.#down.decidedAt) this.#downloads.beginRound(now);
    if (this.#down.onRoundTrip(roundTripMs, { sentAt, now })) {
      const isLimited = this.#downloads.endRound(this.#down, now);
      this.#decide(this.#down, { floorMs, isLimited, queues, now });
    }
  }

  #decide(window: PaceWindow, round: PaceRound): void {
    const outcome = window.decide(round);
    if (outcome === "fine") this.#hasLookedInVain = false;
    if (outcome === "vain" && !this.#hasLookedInVain) {
      this.#hasLookedInVain = true;
      this.#looking = { since: round.now, roundTripsMs: [] };
    }
  }

  /** Takes a round trip that was looked for: the shortest one with a path that is not full. */
  #look(mark: Mark, { roundTripMs, now }: { roundTripMs: number; now: number }): void {
    const { since, roundTripsMs } = this.#looking!;
    if (mark.sentAt >= since && mark.isClean) roundTripsMs.push(roundTripMs);
    const isEmpty = this.#bytesOf(this.#up) === 0 || this.#bytesOf(this.#down) === 0;
    const isOver = roundTripsMs.length >= (isEmpty ? 1 : lookingSamples);
    if (!isOver && now - since < lookingMs) return;
    this.#looking = undefined;
    this.#floor.reset(isOver ? Math.min(...roundTripsMs) : this.#floor.ms, now);
    for (const window of [this.#up, this.#down]) window.restart(now);
  }

  #bytesOf(window: PaceWindow): number {
    return this.#looking ? window.queuelessBytes(this.#floor.ms) : window.bytes;
  }

  #spacingBytes(window: PaceWindow): number {
    const bytes = window.spacingBytes(this.#floor.ms);
    return Math.min(largestSpacingBytes, Math.max(smallestSpacingBytes, bytes));
  }

  /** Sees to it that a keepalive without an answer holds nothing up for long. */
  #watch(): void {
    const oldest = this.#marks![0]!;
    const ageMs = this.#options.clock() - oldest.sentAt;
    const waitMs = (this.#isProven ? patienceMs : firstPatienceMs) - ageMs;
    this.#cancelWatch ??= this.#options.schedule(Math.max(0, waitMs), () => {
      this.#cancelWatch = undefined;
      this.#isStalled = true;
      this.#flush();
      this.#noteBacklog();
    });
  }

  #unwatch(): void {
    this.#cancelWatch?.();
    this.#cancelWatch = undefined;
  }
}

function isData(type: number | undefined): boolean {
  return type === MessageType.channelData || type === MessageType.channelExtendedData;
}
