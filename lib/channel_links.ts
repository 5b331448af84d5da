/** The connections upstream that carry channels: the one, and further ones for sessions. */

import type { Channel, Link } from "./channel.ts";
import { FormerSlots } from "./channel_slots.ts";
import { SessionRoom } from "./session_room.ts";
import type { Peer } from "./transport.ts";

/** All connections that are there. */
export class Links {
  readonly #further = new Map<Peer, Link>();
  #first: Link | undefined;
  /** Whether upstream's host key was trusted, so that anything but sessions may pass. */
  allowsForwards = true;

  /** How many sessions a connection allows, where it is known beforehand. */
  sessions: number;

  constructor(sessions: number) {
    this.sessions = sessions;
  }

  /** The one connection upstream, while it is there. */
  get first(): Link | undefined {
    return this.#first;
  }

  /** The connection that can take a session now; forwards are not counted by servers. */
  get withRoom(): Link | undefined {
    return [this.#first, ...this.#further.values()].find((link) => link && !link.room.isFull);
  }

  get(peer: Peer): Link | undefined {
    return this.#first?.peer === peer ? this.#first : this.#further.get(peer);
  }

  setFirst(peer: Peer): void {
    this.#first = this.#newLink(peer);
  }

  addFurther(peer: Peer): void {
    this.#further.set(peer, this.#newLink(peer));
  }

  /** @returns the one connection, which is gone. */
  removeFirst(): Link | undefined {
    const link = this.#first;
    this.#first = undefined;
    return link;
  }

  /** @returns a further connection, which is gone. */
  removeFurther(peer: Peer): Link | undefined {
    const link = this.#further.get(peer);
    this.#further.delete(peer);
    return link;
  }

  #newLink(peer: Peer): Link {
    const room = new SessionRoom<Channel>(this.sessions);
    return { peer, channels: new Set(), former: new FormerSlots(), room };
  }
}
