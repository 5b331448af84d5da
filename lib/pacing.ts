/**
 * Pacing: while a channel fills the path to upstream, the others do not wait behind it.
 *
 * What the windows of the channels allow is far more than a path carries in a round trip; the rest
 * would wait in the path's queues, and every keystroke behind it. So both directions are held to what
 * `pace_window.ts` finds: data of clients waits here, in a line for each channel, and upstream is
 * granted less. Keepalives behind the data tell when it has arrived, and how long a keystroke takes.
 *
 * A channel alone may fill a queue that is a little longer, so that there is little before whoever
 * comes. Until a round trip shows a longer one, it is not held at all, and neither is anybody where
 * upstream is near. A server that does not answer is sent everything, as without pacing.
 */

import { PaceActivity, type PacedChannel } from "./pace_activity.ts";
import { PaceControl } from "./pace_control.ts";
import { PaceDownloads } from "./pace_downloads.ts";
import type { PaceDirection } from "./pace_look.ts";
import { PaceMarks, type PaceReply } from "./pace_marks.ts";
import { PaceQueue } from "./pace_queue.ts";
import { leastNearBytes } from "./pace_window.ts";
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

/** How long a message may occupy the link, in milliseconds, and what is not cut; in bytes. */
const messageMs = 5;
const smallestMessageBytes = 3 * 1024;

/** How much upstream is granted at once, in milliseconds, and after how many it is more. */
const lumpMs = 20;
const grantMs = 10;

/** What a client may have waiting here and be granted beside, on one channel, in bytes. */
const leastHeldBytes = 256 * 1024;
const mostHeldBytes = 2 * 1024 * 1024;

/** Paces one connection upstream. */
export class Pacing<Channel extends PacedChannel> {
  readonly #options: PacingOptions;
  readonly #connection: PacedConnection<Channel>;
  readonly #activity: PaceActivity<Channel>;
  readonly #queue = new PaceQueue<Channel>();
  readonly #control = new PaceControl();
  readonly #marks: PaceMarks;
  readonly #downloads: PaceDownloads<Channel>;
  /** Whether clients have had to wait since the last decision about uploads. */
  #hasWaited = false;
  #isPumping = false;
  /** Channels on which upstream is to be granted more in a while. */
  readonly #dueChannels = new Set<Channel>();
  #cancelGrants: (() => void) | undefined;
  /** Channels of which so much waits that their clients may send no more. */
  readonly #owedChannels = new Set<Channel>();

  constructor(options: PacingOptions, connection: PacedConnection<Channel>) {
    this.#options = options;
    this.#connection = connection;
    this.#activity = new PaceActivity(connection.channels, (it) => this.#queue.has(it));
    this.#downloads = new PaceDownloads(connection.channels);
    this.#marks = new PaceMarks({
      clock: () => options.clock(),
      schedule: options.schedule,
      ask: (onReply) => connection.ask(onReply),
      onReply: (reply) => this.#onReply(reply),
      onStall: () => this.#onStall(),
      onRecovery: () => this.#onRecovery(),
    });
  }

  /** What waits here, in bytes. */
  get heldBytes(): number {
    return this.#queue.bytes;
  }

  /** Upstream has answered something else within so many milliseconds. */
  noteRoundTrip(tookMs: number): void {
    this.#control.noteRoundTrip(tookMs, this.#options.clock());
  }

  /** Sends a message of a channel upstream, in its order; it is kept where it has to wait. */
  send(channel: Channel, payload: Uint8Array): void {
    const type = payload[0];
    if (type === MessageType.channelRequest) this.#activity.recount(); // It may be for a terminal.
    // A window is about the other direction.
    const waits = this.#queue.has(channel)
      ? type !== MessageType.channelWindowAdjust
      : isData(type) && this.#mustWait(channel, payload.length);
    if (!waits) return this.#passUnheld(payload);
    const isNext = this.#queue.bytes === 0 && this.#marks.isRunning && this.#hasRoom;
    if (isNext && payload.length <= this.#messageBytes) return this.#passMarked(payload);
    this.#queue.add(channel, payload);
    if (this.#queue.bytesOf(channel) > this.#channelBytes / 2) this.#owedChannels.add(channel);
    this.#pump();
  }

  /** What waits of a channel is not wanted any more. @returns whether something has waited. */
  discard(channel: Channel): boolean {
    if (!this.#queue.has(channel)) return false;
    this.#queue.discard(channel);
    this.#pump();
    return true;
  }

  /** A channel is gone: it is owed nothing any more. */
  forget(channel: Channel): void {
    this.#owedChannels.delete(channel);
    this.#dueChannels.delete(channel);
    if (this.#dueChannels.size === 0) this.#cancelDue();
  }

  /** Data has come on a channel, from either end. */
  onData(channel: Channel, from: "downstream" | "upstream", bytes: number): void {
    const now = this.#options.clock();
    this.#activity.note(channel, now);
    this.#settle(now);
    if (from === "downstream" || this.#marks.isStalled) return;
    this.#downloads.onData(channel, bytes, now);
    this.#marks.noteCome(bytes);
    if (this.#control.isOpen("down")) this.#noteOverdue(now);
    if (this.#marks.freshBytes < this.#control.spacingBytes("down")) return;
    if (this.#marks.hasRoom && this.#mayMark("down", now)) this.#mark(now);
  }

  /** What a client may have under way on a channel, in bytes. */
  uploadBytes(channel: Channel): number {
    if (!this.#isHeld("up")) return Infinity;
    if (this.#control.isNear) return this.#nearBytes;
    const [mostBytes, heldBytes] = [this.#channelBytes, this.#queue.bytesOf(channel)];
    if (heldBytes === 0 && mostBytes === mostHeldBytes) return Infinity;
    return Math.max(0, mostBytes - heldBytes);
  }

  /**
   * The same where upstream is near: nothing waits here, which costs as much as to send it, but at
   * the clients.
   */
  get #nearBytes(): number {
    const roomBytes = this.#control.bytesOf("up") - this.#marks.underWayBytes;
    if (roomBytes <= 0) return 0;
    return Math.max(leastNearBytes, roomBytes / Math.max(1, this.#activity.count));
  }

  /** What upstream may have under way on a channel, in bytes. */
  downloadBytes(channel: Channel): number {
    const isHeld = this.#isHeld("down");
    if (!isHeld && (this.#marks.isStalled || !this.#isExpected(channel))) return Infinity;
    const bytes = isHeld ? this.#control.bytesOf("down") : this.#control.sharedBytesOf("down");
    return this.#inLumps(channel, this.#downloads.creditBytes(channel, bytes));
  }

  /** The connection is gone: nothing is waited for any more. */
  close(): void {
    this.#cancelDue();
    this.#marks.close();
    this.#control.stop();
  }

  #isHeld(direction: PaceDirection): boolean {
    return !this.#control.isOpen(direction) && !this.#marks.isStalled;
  }

  /** Whether what is too much for upstream waits at the clients. */
  get #isHeldNear(): boolean {
    return this.#isHeld("up") && this.#control.isNear;
  }

  /**
   * Upstream answers a large grant by a large message: what it may have beyond a lump is granted a
   * little later, or once it has opened the channel.
   */
  #inLumps(channel: Channel, bytes: number): number {
    if (!this.#control.path.isShared || this.#control.isOpen("down") || this.#control.isNear) {
      return bytes;
    }
    const { creditBytes } = channel.downstream.flow;
    const lumpBytes = Math.max(this.#control.bytesIn("down", lumpMs), bytes / 6);
    if (bytes - creditBytes <= lumpBytes) return bytes;
    // Nobody tells us when one is gone that this connection does not carry yet.
    if (this.#connection.channels.has(channel)) this.#grantLater(channel);
    return creditBytes + lumpBytes;
  }

  #grantLater(channel: Channel): void {
    this.#dueChannels.add(channel);
    this.#cancelGrants ??= this.#options.schedule(grantMs, () => this.#grantDue());
  }

  #cancelDue(): void {
    this.#cancelGrants?.();
    this.#cancelGrants = undefined;
  }

  #grantDue(): void {
    this.#cancelGrants = undefined;
    const channels = [...this.#dueChannels];
    this.#dueChannels.clear();
    for (const channel of channels) channel.refill("downstream");
  }

  /** Whether more than one channel will be in use as soon as this one is. */
  #isExpected(channel: Channel): boolean {
    return !this.#control.isNear && this.#activity.hasOthers(channel, this.#options.clock());
  }

  #mustWait(channel: Channel, bytes: number): boolean {
    return this.#isHeld("up") && !this.#control.isNear &&
      !this.#activity.takeAllowance(channel, bytes, this.#options.clock());
  }

  /** Notices whether more than one channel is in use. */
  #settle(now: number): void {
    this.#control.share(this.#activity.isShared(now), now);
  }

  #passUnheld(payload: Uint8Array): void {
    const now = this.#options.clock();
    const isBulk = this.#control.isOpen("up") || this.#control.isNear;
    const isDue = isBulk && this.#marks.unmarkedBytes >= this.#control.spacingBytes("up");
    if (isDue && !this.#marks.isStalled && this.#mayMark("up", now)) this.#mark(now);
    this.#pass(payload);
    if (this.#hasRoom) return;
    this.#hasWaited = true;
    if (this.#marks.isQuiet && !this.#marks.isStalled) this.#mark(now);
  }

  #pass(payload: Uint8Array): void {
    this.#connection.peer.send(payload);
    this.#marks.noteSent(payload.length);
  }

  /** Whether more may be under way. */
  get #hasRoom(): boolean {
    return this.#marks.underWayBytes < this.#control.bytesOf("up");
  }

  /** Sends data of which is to be known when it arrives. */
  #passMarked(payload: Uint8Array): void {
    // Not behind the message: how long the message itself takes is no queue.
    if (this.#marks.unmarkedBytes >= this.#control.spacingBytes("up")) this.#mark();
    this.#pass(payload);
  }

  /** Sends what waits, as far as it may be under way. */
  #pump(): void {
    if (this.#isPumping) return; // Whoever hears that less waits may send at once.
    this.#isPumping = true;
    this.#settle(this.#options.clock());
    if (!this.#isHeld("up")) this.#flush();
    if (this.#queue.bytes > 0 && !this.#marks.isRunning) this.#mark();
    const messageBytes = this.#messageBytes;
    while (this.#queue.bytes > 0 && this.#hasRoom) {
      this.#passMarked(this.#queue.take(messageBytes)!);
    }
    if (this.#queue.bytes > 0) {
      this.#hasWaited = true;
      if (this.#marks.isQuiet) this.#mark();
    }
    this.#isPumping = false;
    this.#noteBacklog();
  }

  /** Sends all that waits. */
  #flush(): void {
    while (this.#queue.bytes > 0) this.#pass(this.#queue.take(Infinity)!);
  }

  #onStall(): void {
    this.#control.stop();
    this.#flush();
    this.#owedChannels.clear();
    this.#connection.onDrain();
  }

  /** Clients that wait near may have nothing that a keepalive could follow. */
  #onRecovery(): void {
    if (this.#isHeldNear) this.#mark();
  }

  /** What a client may have under way on each channel while it is held, in bytes. */
  get #channelBytes(): number {
    const share = this.#control.bytesOf("up") / Math.max(1, this.#queue.lines);
    return Math.min(mostHeldBytes, Math.max(leastHeldBytes, share));
  }

  /** What is sent at once at most, in bytes. */
  get #messageBytes(): number {
    const { isShared, floorMs } = this.#control.path;
    if (!isShared || floorMs === Infinity) return Infinity;
    return Math.max(smallestMessageBytes, Math.floor(this.#control.bytesIn("up", messageMs)));
  }

  #noteBacklog(): void {
    let isDue = false;
    for (const channel of this.#owedChannels) {
      if (this.#queue.bytesOf(channel) > this.#channelBytes / 4) continue;
      this.#owedChannels.delete(channel);
      isDue = true;
    }
    if (isDue) this.#connection.onDrain();
  }

  /** Whether a keepalive may follow what passes in a direction: few are enough where all may pass. */
  #mayMark(direction: PaceDirection, now: number): boolean {
    return !this.#control.isOpen(direction) || this.#marks.takeToken(now);
  }

  /** The answer to a keepalive may wait behind downloads. */
  #noteOverdue(now: number): void {
    const overdue = this.#marks.overdue(this.#control.goalMs);
    if (overdue) this.#control.onOverdue(overdue, now);
  }

  #mark(now = this.#options.clock()): void {
    this.#marks.send(this.#isClean(now));
  }

  #isClean(now: number): boolean {
    const control = this.#control;
    const upBytes = this.#marks.underWayBytes - control.bytesOf("up");
    if (!control.isOpen("up") && upBytes > control.toleratedBytes("up")) return false;
    if (control.isOpen("down")) return true;
    const downBytes = this.#downloads.excessBytes(control.bytesOf("down"), now);
    return downBytes <= control.toleratedBytes("down");
  }

  #onReply(reply: PaceReply): void {
    this.#downloads.classify(reply.now);
    const use = { hasWaited: this.#hasWaited, isDownloading: this.#downloads.isBusy };
    const wasNear = this.#isHeldNear;
    if (this.#control.onReply(reply, use)) this.#hasWaited = false;
    this.#pump();
    // Clients that wait send nothing that a keepalive could follow, and nobody else lets them go on.
    if (this.#isHeldNear ? this.#hasRoom : wasNear) this.#connection.onDrain();
    else if (this.#isHeldNear && this.#marks.isQuiet) this.#mark();
  }
}

function isData(type: number | undefined): boolean {
  return type === MessageType.channelData || type === MessageType.channelExtendedData;
}
