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
  #limitBytes: () => number = () => Infinity;

  /** The credit counts in a pool from now on; `undefined` takes it out. */
  joinPool(pool: CreditPool | undefined): void {
    this.#pool?.add(-this.#creditBytes);
    this.#pool = pool;
    pool?.add(this.#creditBytes);
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

  /** What the receiver accepts and the sender does not know of, in bytes. */
  get freeBytes(): number {
    return this.#windowBytes - this.#creditBytes;
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
  }

  /** Takes what may be announced to the sender now, at once after the receiver has adjusted. */
  takeGrant(): number {
    const reserveBytes = this.#windowBytes < smallestCreditBytes ? 0 : this.#reserveBytes;
    const bytes = Math.min(this.#windowBytes - reserveBytes, this.#maximumBytes) -
      this.#creditBytes;
    if (bytes <= 0) return 0;
    this.#addCredit(bytes);
    return bytes;
  }

  /** Takes what may be announced as withheld bytes become due; 0 while the sender has plenty. */
  takeRefill(): number {
    const part = this.#limitBytes() < Infinity ? limitedPart : 1 / 2;
    return this.#creditBytes < this.#maximumBytes * part ? this.takeGrant() : 0;
  }

  /**
   * The sender has sent `bytes`.
   *
   * @throws {ChannelProtocolError} where it was not granted so many.
   */
  consume(bytes: number): void {
    if (bytes > this.#creditBytes) {
      throw new ChannelProtocolError("more data than the window allows");
    }
    this.#addCredit(-bytes);
    this.#windowBytes -= bytes;
  }

  /** The sender has sent `bytes` that nobody takes: the receiver accepts as many as before. */
  giveBack(bytes: number): void {
    if (bytes <= this.#creditBytes) this.#addCredit(-bytes);
  }

  get #maximumBytes(): number {
    return Math.min(this.#pool?.shareBytes ?? maximumCreditBytes, Math.floor(this.#limitBytes()));
  }

  #addCredit(bytes: number): void {
    this.#creditBytes += bytes;
    this.#pool?.add(bytes);
  }
}
