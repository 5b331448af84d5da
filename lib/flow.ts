/**
 * Flow control of one direction of one channel (RFC 4254, section 5.2).
 *
 * The receiver's window is relayed to the sender, end to end; only what one sender may have under
 * way at once is limited, so that a receiver that announces gigabytes and reads nothing cannot make
 * the relay hold them.
 */

import { ChannelProtocolError } from "./errors.ts";

/** The most that a sender is granted in advance, in bytes; what OpenSSH grants too. */
export const maximumCreditBytes = 2 * 1024 * 1024;

/**
 * What may be under way to one receiver on all its channels together, smallest credits beside; in
 * bytes.
 */
const poolBytes = 32 * 1024 * 1024;

/** A channel gets this part of what is left of the pool, but never less than that, in bytes. */
const poolShare = 1 / 8;
const smallestCreditBytes = 32 * 1024;

/** Room for a line of ours, in bytes. */
const lineBytes = 2048;
/** A sender that is held to less than the rest allows is told of more when this part is left. */
const limitedPart = 7 / 8;

const maximumWindowBytes = 2 ** 32 - 1;

/**
 * What the senders to one receiver may have under way, so that many channels to a receiver that
 * takes nothing cannot fill the memory. The credit of a channel shrinks as there are more of them.
 */
export class CreditPool {
  #creditBytes = 0;
  readonly #backlogBytes: () => number;

  /** @param backlogBytes what has come and waits for the receiver. */
  constructor(backlogBytes: () => number) {
    this.#backlogBytes = backlogBytes;
  }

  /** The credit that one channel may have now, in bytes. */
  get shareBytes(): number {
    const left = poolBytes - this.#creditBytes - this.#backlogBytes();
    const share = Math.floor(left * poolShare);
    return Math.min(maximumCreditBytes, Math.max(smallestCreditBytes, share));
  }

  /** The most that may be under way on so many channels together, in bytes. */
  maximumBytes(channels: number): number {
    return poolBytes + channels * smallestCreditBytes;
  }

  /** A channel's credit grows by `bytes`, or shrinks. */
  add(bytes: number): void {
    this.#creditBytes += bytes;
  }
}

/** The bytes that may still flow towards one end of a channel. */
export class Flow {
  /** What the receiver still accepts. */
  #windowBytes = 0;
  /** How much of that the sender knows of; never more than the window. */
  #creditBytes = 0;
  #pool: CreditPool | undefined;
  /** What the sender is not granted, so that something else can be sent at any time. */
  #reserveBytes = 0;
  #largestWindowBytes = 0;
  /** What the sender may send beyond the window, and what of that waits. */
  #aheadBytes = 0;
  #waitingBytes = 0;
  /** What counts in the pool. */
  #pooledBytes = 0;
  #limitBytes: () => number = () => Infinity;

  /** The credit counts in a pool from now on; `undefined` takes it out. */
  joinPool(pool: CreditPool | undefined): void {
    this.#pool?.add(-this.#pooledBytes);
    this.#pool = pool;
    pool?.add(this.#pooledBytes);
  }

  /** Keeps so many bytes of the window from the sender, unless the window is small; before grants. */
  reserve(bytes: number): void {
    this.#reserveBytes = bytes;
  }

  /** The sender is held to what the function returns, in bytes, or to less. */
  limitBy(limitBytes: () => number): void {
    this.#limitBytes = limitBytes;
  }

  /** What the sender knows of and has not used, in bytes. */
  get creditBytes(): number {
    return this.#creditBytes;
  }

  /** What can be sent to the receiver beside what the sender sends, in bytes. */
  get freeBytes(): number {
    return this.#isAhead ? this.#windowBytes : this.#windowBytes - this.#creditBytes;
  }

  /** Whether a receiver that reads on will soon accept more than it does: a line of ours, say. */
  get isNearlyShut(): boolean {
    return this.#windowBytes < lineBytes && this.#largestWindowBytes >= smallestCreditBytes;
  }

  /** What was sent beyond the window and waits, in bytes. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** The most that the sender may have under way, what waits included, in bytes. */
  get mostCreditBytes(): number {
    return this.#maximumBytes + this.#aheadBytes;
  }

  /** What the sender may send beyond the window, in bytes; it has to wait for the window then. */
  get aheadBytes(): number {
    return this.#aheadBytes;
  }

  set aheadBytes(bytes: number) {
    this.#aheadBytes = bytes;
    this.#addCredit(0);
  }

  /** What waits or may come beyond the window, in bytes. */
  get excessBytes(): number {
    const window = Math.min(this.#windowBytes, maximumCreditBytes);
    return Math.max(0, this.#creditBytes + this.#waitingBytes - window);
  }

  /** What the receiver still accepts, granted to the sender or not. */
  get windowBytes(): number {
    return this.#windowBytes;
  }

  /**
   * The receiver accepts `bytes` more.
   *
   * @throws {ChannelProtocolError} where the window would pass 2^32 - 1.
   */
  adjust(bytes: number): void {
    if (this.#windowBytes + bytes > maximumWindowBytes) {
      throw new ChannelProtocolError("the window overflows");
    }
    this.#windowBytes += bytes;
    this.#largestWindowBytes = Math.max(this.#largestWindowBytes, this.#windowBytes);
  }

  /** Takes what may be announced to the sender now, at once after the receiver has adjusted. */
  takeGrant(): number {
    const reserveBytes = this.#windowBytes < smallestCreditBytes ? 0 : this.#reserveBytes;
    const allowedBytes = Math.min(this.#windowBytes - reserveBytes, this.#maximumBytes) +
      this.#aheadBytes - this.#waitingBytes;
    const bytes = Math.min(allowedBytes, Math.floor(this.#limitBytes())) - this.#creditBytes;
    if (bytes <= 0) return 0;
    this.#addCredit(bytes);
    return bytes;
  }

  /** Takes what may be announced as withheld bytes become due; 0 while the sender has plenty. */
  takeRefill(): number {
    const limitBytes = this.#limitBytes();
    const part = limitBytes < Infinity ? limitedPart : 1 / 2;
    const mostBytes = Math.min(this.mostCreditBytes, limitBytes);
    return this.#creditBytes < mostBytes * part ? this.takeGrant() : 0;
  }

  /**
   * The sender has sent `bytes`.
   *
   * @throws {ChannelProtocolError} where it was not granted so many.
   */
  consume(bytes: number): void {
    this.#use(bytes);
    this.#windowBytes -= bytes;
  }

  /**
   * As `consume`, but what is beyond the window waits.
   *
   * @param isFirst whether nothing waits before it.
   * @param isFull whether the receiver has enough to take already; of no account while nothing is
   *   sent beyond the window.
   * @returns whether it goes on at once.
   */
  consumeAhead(bytes: number, { isFirst, isFull }: { isFirst: boolean; isFull: boolean }): boolean {
    const mayPass = this.#isAhead
      ? !isFull && bytes <= this.#passableBytes
      : bytes <= this.#windowBytes;
    this.#use(bytes);
    if (isFirst && mayPass) this.#windowBytes -= bytes;
    else this.#waitingBytes += bytes;
    this.#addCredit(0);
    return isFirst && mayPass;
  }

  /** Takes so much of what waits as the window allows. @returns how much goes on now, in bytes. */
  takeWaiting(mostBytes: number): number {
    const bytes = Math.min(mostBytes, Math.max(0, this.#passableBytes));
    this.#windowBytes -= bytes;
    this.dropWaiting(bytes);
    return bytes;
  }

  /** So much of what waits will not go on. */
  dropWaiting(bytes: number): void {
    this.#waitingBytes -= bytes;
    this.#addCredit(0);
  }

  /** The sender has sent `bytes` that nobody takes: the receiver accepts as many as before. */
  giveBack(bytes: number): void {
    if (bytes <= this.#creditBytes) this.#addCredit(-bytes);
  }

  get #maximumBytes(): number {
    return this.#pool?.shareBytes ?? maximumCreditBytes;
  }

  #use(bytes: number): void {
    if (bytes > this.#creditBytes) {
      throw new ChannelProtocolError("more data than the window allows");
    }
    this.#addCredit(-bytes);
  }

  get #isAhead(): boolean {
    return this.#aheadBytes > 0 || this.#waitingBytes > 0;
  }

  /** What may go on while the sender is ahead; the reserve stays where windows are not small. */
  get #passableBytes(): number {
    const isSmall = this.#largestWindowBytes < smallestCreditBytes;
    return this.#windowBytes - (isSmall ? 0 : this.#reserveBytes);
  }

  /** What is ahead counts in a pool of its own. */
  #addCredit(bytes: number): void {
    this.#creditBytes += bytes;
    const pooled = Math.max(0, this.#creditBytes + this.#waitingBytes - this.#aheadBytes);
    this.#pool?.add(pooled - this.#pooledBytes);
    this.#pooledBytes = pooled;
  }
}
