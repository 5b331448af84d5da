/** The connections upstream that carry channels: the one, and further ones for sessions. */

import type { Channel, Link } from "./channel.ts";
import { FormerSlots } from "./channel_slots.ts";
import { Pacing, type PacingOptions } from "./pacing.ts";
import { SessionRoom } from "./session_room.ts";
import type { Peer } from "./transport.ts";

/** What a connection upstream does for the pacing of its channels. */
export interface LinkOptions {
  /** Sends a keepalive; `onReply` is called when it is answered. */
  ask(onReply: () => void): void;
  /** Less waits for upstream than before. */
  onDrain(): void;
}

/** All connections that are there. */
export class Links {
  readonly #further = new Map<Peer, Link>();
  #first: Link | undefined;
  /** At how many sessions upstream ended a connection instead of an answer to one more. */
  #suspectedLimit = Infinity;
  /** Whether upstream's host key was trusted, so that anything but sessions may pass. */
  allowsForwards = true;

  /** How many sessions a connection allows, where it is known beforehand. */
  sessions: number;

  readonly #pacing: PacingOptions | undefined;

  /** Without `pacing` everything is sent at once. */
  constructor(sessions: number, pacing: PacingOptions | undefined) {
    this.sessions = sessions;
    this.#pacing = pacing;
  }

  /** The one connection upstream, while it is there. */
  get first(): Link | undefined {
    return this.#first;
  }

  /** The connection that can take a session now; forwards are not counted by servers. */
  get withRoom(): Link | undefined {
    return this.#all().find(({ room }) => !room.isFull);
  }

  /** Whether there are connections beside the one. */
  get hasFurther(): boolean {
    return this.#further.size > 0;
  }

  get(peer: Peer): Link | undefined {
    return this.#first?.peer === peer ? this.#first : this.#further.get(peer);
  }

  setFirst(peer: Peer, options: LinkOptions): void {
    this.#first = this.#newLink(peer, options);
  }

  addFurther(peer: Peer, options: LinkOptions): void {
    this.#further.set(peer, this.#newLink(peer, options));
  }

  /** @returns the one connection, which is gone. */
  removeFirst(): Link | undefined {
    const link = this.#first;
    this.#first = undefined;
    link?.pacing?.close();
    if (link && link.room.mostOpen > this.#suspectedLimit) this.#suspectedLimit = Infinity;
    return link;
  }

  /**
   * Upstream ended a connection instead of an answer to one more session.
   *
   * @returns whether these are all from now on: once it may have been chance, as when a host is shut
   *   down, twice at the same number it was not.
   */
  suspect(sessions: number): boolean {
    const isCertain = sessions === this.#suspectedLimit;
    this.#suspectedLimit = sessions;
    if (isCertain) this.sessions = sessions;
    return isCertain;
  }

  /** Connections that had no session left may have one again. */
  tryAgain(): void {
    for (const { room } of this.#all()) room.tryAgain();
  }

  /** @returns a further connection, which is gone. */
  removeFurther(peer: Peer): Link | undefined {
    const link = this.#further.get(peer);
    this.#further.delete(peer);
    link?.pacing?.close();
    return link;
  }

  #all(): Link[] {
    return [...(this.#first ? [this.#first] : []), ...this.#further.values()];
  }

  #newLink(peer: Peer, options: LinkOptions): Link {
    const room = new SessionRoom<object>(this.sessions);
    const channels = new Set<Channel>();
    const pacing = this.#pacing && new Pacing(this.#pacing, { peer, channels, ...options });
    return { peer, channels, former: new FormerSlots(), room, pacing };
  }
}
