/** Those who wait for their turn, the first to come first. */

/** What waits. */
export interface Waiting {
  /** Grows with each that comes. */
  readonly order: number;
}

/** A line in which nobody's place costs time, however many wait. */
export class WaitingLine<Member extends Waiting> {
  /** Those who had their turn in vain, and stand before all others; in order. */
  readonly #returned: Member[] = [];
  readonly #arrived = new Set<Member>();

  get size(): number {
    return this.#returned.length + this.#arrived.size;
  }

  get first(): Member | undefined {
    return this.#returned[0] ?? this.#arrived.values().next().value;
  }

  /** A new one comes. */
  add(member: Member): void {
    this.#arrived.add(member);
  }

  /** One who has left the line comes back, to where it stood. */
  putBack(member: Member): void {
    const behind = this.#returned.findLastIndex(({ order }) => order < member.order);
    this.#returned.splice(behind + 1, 0, member);
  }

  /** One does not wait any more. May be called for one who does not wait. */
  delete(member: Member): void {
    if (this.#arrived.delete(member)) return;
    const at = this.#returned.indexOf(member);
    if (at !== -1) this.#returned.splice(at, 1);
  }

  *[Symbol.iterator](): Generator<Member> {
    yield* [...this.#returned, ...this.#arrived];
  }
}
