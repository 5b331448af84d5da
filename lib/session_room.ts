/**
 * How many sessions a connection upstream allows at a time, which sshd does not announce: it is
 * learned from its refusals.
 *
 * Each event costs the same however many sessions there are, or wait.
 */

/** What had ended, and what upstream had taken note of, when a channel was asked for. */
interface Snapshot {
  ended: number;
  freed: number;
}

/** The room for sessions on one connection; `Channel` is whatever stands for one. */
export class SessionRoom<Channel> {
  #limit: number;
  /** Channels of any type that upstream was asked for and has not answered. */
  readonly #asked = new Map<Channel, Snapshot>();
  /** Sessions that upstream was asked for and that have not ended: servers count these. */
  readonly #taken = new Set<Channel>();
  /** Those of them that upstream has confirmed. */
  readonly #open = new Set<Channel>();
  #ended = 0;
  /** How many of the ended sessions upstream has certainly taken note of. */
  #freed = 0;

  /** @param limit where it is known beforehand, else Infinity. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many sessions upstream has shown to allow. */
  get limit(): number {
    return this.#limit;
  }

  get isFull(): boolean {
    return this.#taken.size >= this.#limit;
  }

  /**
   * How many sessions upstream allows if it has ended the connection because of one more that it was
   * asked for; `undefined` where that cannot be the reason.
   */
  get limitIfEnded(): number | undefined {
    return this.#open.size > 0 && this.#taken.size > this.#open.size ? this.#open.size : undefined;
  }

  /** Upstream is asked for a channel; those that are no sessions take no room. */
  ask(channel: Channel, { isSession }: { isSession: boolean }): void {
    this.#asked.set(channel, { ended: this.#ended, freed: this.#freed });
    if (isSession) this.#taken.add(channel);
  }

  /** Upstream agrees. */
  onConfirmation(channel: Channel): void {
    this.#takeNote(channel);
    if (this.#taken.has(channel)) this.#open.add(channel);
  }

  /**
   * Upstream refuses.
   *
   * @param mayBeCrowded whether its reason could be that it allows no more sessions.
   * @returns whether that is the reason, so that the session may wait for its turn.
   */
  onRefusal(channel: Channel, { mayBeCrowded }: { mayBeCrowded: boolean }): boolean {
    const { ended, freed } = this.#takeNote(channel);
    this.#taken.delete(channel);
    // OpenSSH's sshd frees a session a moment after its last CLOSE, and refuses an open that comes
    // in the same breath; by its answer it has freed what had ended before.
    const isTooSoon = freed < ended;
    if (!mayBeCrowded || (this.#open.size === 0 && !isTooSoon)) return false;
    if (!isTooSoon) this.#limit = this.#open.size;
    return true;
  }

  /** A session has been closed in both directions. */
  onClosed(session: Channel): void {
    if (!this.#taken.delete(session)) return;
    this.#open.delete(session);
    this.#ended++;
  }

  #takeNote(channel: Channel): Snapshot {
    const snapshot = this.#asked.get(channel) ?? { ended: 0, freed: 0 };
    this.#asked.delete(channel);
    this.#freed = Math.max(this.#freed, snapshot.ended);
    return snapshot;
  }
}
