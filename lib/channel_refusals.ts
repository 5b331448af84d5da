/**
 * Requests on a channel that are refused here while upstream still owes replies to those before
 * them: replies carry no number, and leave in the order of the requests (RFC 4254, section 5.4).
 */

import { ProtocolError } from "./errors.ts";

/** How many may wait for the replies before them. */
const mostWaiting = 1000;

/** The refusals of one channel that wait for their turn. */
export class Refusals {
  /** For each, in order: how many replies of upstream come before it. */
  #before: number[] = [];

  /** @throws {ProtocolError} where the client asks on and on without waiting. */
  add(repliesOwed: number): void {
    if (this.#before.length >= mostWaiting) throw new ProtocolError("too many requests");
    this.#before.push(repliesOwed);
  }

  /**
   * A reply of upstream has passed.
   *
   * @returns how many refusals are due behind it.
   */
  onReply(): number {
    if (this.#before.length === 0) return 0;
    const waiting = this.#before.map((count) => count - 1);
    this.#before = waiting.filter((count) => count > 0);
    return waiting.length - this.#before.length;
  }
}
