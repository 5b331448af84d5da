/** Which channels of a connection are in use, and which of them send so little that it never waits. */

/** A channel, as far as pacing asks. */
export interface PacedChannel {
  /** A terminal is in use as long as it is there: nobody knows when the next key is pressed. */
  readonly hasTerminal: boolean;
  readonly downstream: { readonly flow: { readonly creditBytes: number } };
  /** Grants upstream what it may be granted now. */
  refill(side: "downstream"): void;
}

/** For how long a channel counts after its last data, in milliseconds. */
const activeMs = 5000;

/** How often it is counted how many are in use, in milliseconds. */
const recountMs = 100;

/** What a channel may send before anything of it waits, in bytes, and how fast that comes back. */
const allowanceBytes = 16 * 1024;
const allowanceBytesPerMs = 16;

interface Activity {
  lastDataAt: number;
  spentBytes: number;
  spentAt: number;
}

/** The channels of one connection. */
export class PaceActivity<Channel extends PacedChannel> {
  readonly #channels: ReadonlySet<Channel>;
  readonly #isWaiting: (channel: Channel) => boolean;
  readonly #activities = new WeakMap<Channel, Activity>();
  #count = 0;
  #countedAt = -Infinity;

  /** @param isWaiting whether data of a channel waits here, which is in use as long. */
  constructor(channels: ReadonlySet<Channel>, isWaiting: (channel: Channel) => boolean) {
    this.#channels = channels;
    this.#isWaiting = isWaiting;
  }

  /** A channel has data. */
  note(channel: Channel, now: number): void {
    const activity = this.#of(channel);
    if (!this.#isActive(channel, now)) this.recount();
    activity.lastDataAt = now;
  }

  /** Something has changed beside data. */
  recount(): void {
    this.#countedAt = -Infinity;
  }

  /** How many channels were in use when they were counted. */
  get count(): number {
    return this.#count;
  }

  /** Whether more than one channel is in use. */
  isShared(now: number): boolean {
    return this.#countAt(now) > 1;
  }

  /** Whether others than `channel` are in use. */
  hasOthers(channel: Channel, now: number): boolean {
    return this.#countAt(now) > (this.#isActive(channel, now) ? 1 : 0);
  }

  /** Whether a message is so little that it goes at once, ahead of what waits on other channels. */
  takeAllowance(channel: Channel, bytes: number, now: number): boolean {
    const activity = this.#of(channel);
    const returnedBytes = (now - activity.spentAt) * allowanceBytesPerMs;
    const spentBytes = Math.max(0, activity.spentBytes - returnedBytes) + bytes;
    if (spentBytes > allowanceBytes) return false;
    Object.assign(activity, { spentBytes, spentAt: now });
    return true;
  }

  #countAt(now: number): number {
    if (now - this.#countedAt >= recountMs) {
      this.#count = 0;
      for (const it of this.#channels) if (this.#isActive(it, now)) this.#count++;
      this.#countedAt = now;
    }
    return this.#count;
  }

  #isActive(channel: Channel, now: number): boolean {
    return channel.hasTerminal || now - this.#of(channel).lastDataAt < activeMs ||
      this.#isWaiting(channel);
  }

  #of(channel: Channel): Activity {
    let activity = this.#activities.get(channel);
    if (activity === undefined) {
      activity = { lastDataAt: -Infinity, spentBytes: 0, spentAt: 0 };
      this.#activities.set(channel, activity);
    }
    return activity;
  }
}
