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

/**
 * What a refusal means:
 *
 * - `crowded`: upstream allows no more at a time, as far as is known: the session waits for its turn;
 * - `exhausted`: it has allowed sessions before and has none now: the session waits for a connection
 *   that allows one, or for `tryAgain`;
 * - `final`: it is about this session, or upstream allows none at all.
 */
export type Refusal = "crowded" | "exhausted" | "final";

/** The room for sessions on one connection; `Channel` is whatever stands for one. */
export class SessionRoom<Channel> {
  /** The limit where it is known beforehand, else Infinity. */
  readonly #knownLimit: number;
  #limit: number;
  /** After it was exhausted: how many sessions are tried until one is allowed. */
  #trials: 0 | 1 | undefined;
  /** Channels of any type that upstream was asked for and has not answered. */
  readonly #asked = new Map<Channel, Snapshot>();
  /** Sessions that upstream was asked for and that have not ended: servers count these. */
  readonly #taken = new Set<Channel>();
  /** Those of them that upstream has confirmed. */
  readonly #open = new Set<Channel>();
  #mostOpen = 0;
  #ended = 0;
  #hasServed = false;
  /** How many of the ended sessions upstream has certainly taken note of. */
  #freed = 0;

  /** @param limit where it is known beforehand, else Infinity. */
  constructor(limit: number) {
    this.#knownLimit = limit;
    this.#limit = limit;
  }

  /** How many sessions upstream has shown to allow. */
  get limit(): number {
    return this.#trials === undefined ? this.#limit : 0;
  }

  /** How many sessions there are, those included that upstream has not answered. */
  get takenCount(): number {
    return this.#taken.size;
  }

  get isFull(): boolean {
    return this.#taken.size >= (this.#trials ?? this.#limit);
  }

  /** Whether upstream has answered all that it was asked for of sessions. */
  get isSettled(): boolean {
    return this.#taken.size === this.#open.size;
  }

  /** The most sessions that there have been at a time. */
  get mostOpen(): number {
    return this.#mostOpen;
  }

  /** Whether a session has come and gone. */
  get hasServed(): boolean {
    return this.#hasServed;
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

  /**
   * Upstream agrees.
   *
   * @returns whether it was exhausted until now, so that others may have a turn.
   */
  onConfirmation(channel: Channel): boolean {
    this.#takeNote(channel);
    if (!this.#taken.has(channel)) return false;
    const wasExhausted = this.#trials !== undefined;
    this.#trials = undefined;
    this.#open.add(channel);
    this.#mostOpen = Math.max(this.#mostOpen, this.#open.size);
    return wasExhausted;
  }

  /**
   * Upstream refuses.
   *
   * @param mayBeCrowded whether its reason could be that it allows no more sessions.
   */
  onRefusal(channel: Channel, { mayBeCrowded }: { mayBeCrowded: boolean }): Refusal {
    const { ended, freed } = this.#takeNote(channel);
    this.#taken.delete(channel);
    if (!mayBeCrowded) return "final";
    // OpenSSH's sshd frees a session a moment after its last CLOSE, and refuses an open that comes
    // in the same breath; by its answer it has freed what had ended before.
    if (freed < ended) return "crowded";
    // Of those that have no answer yet each may be the one that is allowed.
    const live = this.#open.size > 0 ? this.#open.size : this.#taken.size;
    this.#limit = live > 0 ? live : this.#knownLimit;
    if (live > 0) return "crowded";
    if (this.#mostOpen === 0) return "final";
    this.#trials = 0;
    return "exhausted";
  }

  /** One session may be asked for though upstream was exhausted. */
  tryAgain(): void {
    if (this.#trials === 0) this.#trials = 1;
  }

  /** A session has been closed in both directions. */
  onClosed(session: Channel): void {
    if (!this.#taken.delete(session)) return;
    this.#open.delete(session);
    this.#ended++;
    this.#hasServed = true;
  }

  /** A session stands for another one from now on, which is asked for or open. */
  replace(session: Channel, by: Channel): void {
    const snapshot = this.#asked.get(session);
    if (this.#asked.delete(session)) this.#asked.set(by, snapshot!);
    for (const set of [this.#taken, this.#open]) if (set.delete(session)) set.add(by);
  }

  /** A session that nobody had is refused, or closed in both directions: that says no more. */
  drop(session: Channel): void {
    this.#takeNote(session);
    this.#taken.delete(session);
    if (this.#open.delete(session)) this.#ended++;
  }

  #takeNote(channel: Channel): Snapshot {
    const snapshot = this.#asked.get(channel) ?? { ended: 0, freed: 0 };
    this.#asked.delete(channel);
    this.#freed = Math.max(this.#freed, snapshot.ended);
    return snapshot;
  }
}
