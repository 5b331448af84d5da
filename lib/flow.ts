/**
 * Flow control of one direction of one channel (RFC 4254, section 5.2).
 *
 * The receiver's window is relayed to the sender, end to end; only what one sender may have under
 * way at once is limited, so that a receiver that announces gigabytes and reads nothing cannot make
 * the relay hold them.
 */

import { ProtocolError } from "./errors.ts";

/** The most that a sender is granted in advance, in bytes; what OpenSSH grants too. */
export const maximumCreditBytes = 2 * 1024 * 1024;

/** Below this, what was withheld is granted again, in bytes. */
const refillBytes = maximumCreditBytes / 2;

const maximumWindowBytes = 2 ** 32 - 1;

/** The bytes that may still flow towards one end of a channel. */
export class Flow {
  /** What the receiver still accepts. */
  #windowBytes = 0;
  /** How much of that the sender knows of; never more than the window. */
  #creditBytes = 0;

  /** What the receiver still accepts, granted to the sender or not. */
  get windowBytes(): number {
    return this.#windowBytes;
  }

  /**
   * The receiver accepts `bytes` more.
   *
   * @throws {ProtocolError} where the window would pass 2^32 - 1.
   */
  adjust(bytes: number): void {
    if (this.#windowBytes + bytes > maximumWindowBytes) {
      throw new ProtocolError("the window overflows");
    }
    this.#windowBytes += bytes;
  }

  /** Takes what may be announced to the sender now, at once after the receiver has adjusted. */
  takeGrant(): number {
    const bytes = Math.min(this.#windowBytes, maximumCreditBytes) - this.#creditBytes;
    if (bytes <= 0) return 0;
    this.#creditBytes += bytes;
    return bytes;
  }

  /** Takes what may be announced as withheld bytes become due; 0 while the sender has plenty. */
  takeRefill(): number {
    return this.#creditBytes < refillBytes ? this.takeGrant() : 0;
  }

  /**
   * The sender has sent `bytes`.
   *
   * @throws {ProtocolError} where it was not granted so many.
   */
  consume(bytes: number): void {
    if (bytes > this.#creditBytes) throw new ProtocolError("more data than the window allows");
    this.#creditBytes -= bytes;
    this.#windowBytes -= bytes;
  }
}
