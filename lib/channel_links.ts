/** The connections upstream that carry channels, and whether channels can be opened on them. */

import type { Link } from "./channel.ts";
import { SessionRoom } from "./session_room.ts";
import type { Peer } from "./transport.ts";

/**
 * Whether channels can be opened: `open`; `away`, upstream will come back; `refused`, it will not,
 * or not by itself.
 */
type Availability = { kind: "open" } | { kind: "away" | "refused"; reason: string };

/** The one connection upstream, and further ones for sessions. */
export class Links {
  readonly #sessions: number;
  #upstream: Link | undefined;
  /** For sessions that the one does not allow. */
  readonly #overflow = new Map<Peer, Link>();
  #allowsForwards = true;
  #availability: Availability = { kind: "away", reason: "not connected to the remote host yet" };

  /** @param sessions how many the server allows at a time on one of them, if that is known. */
  constructor(sessions: number) {
    this.#sessions = sessions;
  }

  get upstream(): Link | undefined {
    return this.#upstream;
  }

  get availability(): Availability {
    return this.#availability;
  }

  /** Whether upstream's host key was trusted, so that anything but sessions may pass. */
  get allowsForwards(): boolean {
    return this.#allowsForwards;
  }

  attachUpstream(upstream: Peer, { allowsForwards }: { allowsForwards: boolean }): void {
    this.#upstream = this.#newLink(upstream);
    this.#allowsForwards = allowsForwards;
    this.#availability = { kind: "open" };
  }

  attachOverflow(peer: Peer): void {
    this.#overflow.set(peer, this.#newLink(peer));
  }

  /** The one is gone, but will come back; returns it. */
  detachUpstream(reason: string): Link | undefined {
    const link = this.#upstream;
    this.#availability = { kind: "away", reason };
    this.#upstream = undefined;
    return link;
  }

  /** A further one is gone; returns it. */
  detachOverflow(peer: Peer): Link | undefined {
    const link = this.#overflow.get(peer);
    this.#overflow.delete(peer);
    return link;
  }

  /** Upstream will not come back by itself. */
  refuse(reason: string): void {
    this.#availability = { kind: "refused", reason };
  }

  /** Upstream may come back after all. */
  await(): void {
    if (this.#availability.kind !== "refused") return;
    this.#availability = { kind: "away", reason: this.#availability.reason };
  }

  of(peer: Peer): Link | undefined {
    return this.#upstream?.peer === peer ? this.#upstream : this.#overflow.get(peer);
  }

  /** The one that can take a session now. */
  withRoom(): Link | undefined {
    return [this.#upstream, ...this.#overflow.values()].find((link) => link && !link.room.isFull);
  }

  #newLink(peer: Peer): Link {
    return { peer, channels: new Set(), room: new SessionRoom(this.#sessions) };
  }
}
