/** Channels that upstream opens, and whose they are: because of forwards, displays and agents. */

import { openFailure } from "./channel.ts";
import type { Links } from "./channel_links.ts";
import type { ChannelTable } from "./channel_table.ts";
import { ChannelOpenFailureReason } from "./errors.ts";
import { objectionTo, type Usage } from "./share.ts";
import type { Peer } from "./transport.ts";
import type { ChannelOpen } from "./wire.ts";
import { hold } from "./x11_handover.ts";

/** What is given to `ChannelArrivals`. */
export interface ChannelArrivalsOptions {
  table: ChannelTable;
  links: Links;
  /** How many channels one client may have. */
  maximum: number;
  /** The client whose remote forward a channel belongs to. */
  ownerOf(channelType: string, data: Uint8Array): Peer | undefined;
  /** What a client takes of what all share. */
  usageOf(client: Peer): Usage;
}

/** Finds the clients for the channels that upstream opens. */
export class ChannelArrivals {
  readonly #options: ChannelArrivalsOptions;

  constructor(options: ChannelArrivalsOptions) {
    this.#options = options;
  }

  /**
   * Upstream sends CHANNEL_OPEN; `payload` is the same message as bytes.
   *
   * @returns the client that it concerns, if that is known.
   */
  open(upstream: Peer, message: ChannelOpen, payload: Uint8Array): Peer | undefined {
    const refuse = (reasonCode: number, description: string) => {
      upstream.send(openFailure(message.senderChannel, reasonCode, description));
      return undefined;
    };
    const { table, links, maximum, usageOf } = this.#options;
    const { administrativelyProhibited, resourceShortage } = ChannelOpenFailureReason;
    const { availability } = links;
    if (availability.kind !== "open") {
      return refuse(administrativelyProhibited, availability.reason);
    }
    const owners = this.#ownersOf(message);
    const [owner] = owners;
    if (owner === undefined) {
      return refuse(administrativelyProhibited, "no client asked for this channel");
    }
    const own = table.client(owner)?.channels.size ?? 0;
    if (own >= maximum || table.ownerlessCount >= maximum) {
      return refuse(resourceShortage, "too many channels for this client");
    }
    const objection = objectionTo(1, usageOf(owner));
    if (message.channelType.startsWith("forwarded-") && objection !== undefined) {
      return refuse(resourceShortage, objection);
    }
    const isFound = owners.size === 1;
    const channel = table.add(message.channelType, isFound ? owner : undefined, {
      downstream: isFound ? "awaiting" : "done",
      upstream: isFound ? "asking" : "live",
    });
    channel.link = links.of(upstream);
    if (isFound) channel.send("downstream", channel.takeOpening("upstream", message, payload));
    else hold(channel, message);
    return isFound ? owner : undefined;
  }

  /** The clients for whom upstream may have opened this channel; several only for x11. */
  #ownersOf({ channelType, data }: ChannelOpen): Set<Peer> {
    const { table, links, ownerOf } = this.#options;
    const owners = new Set<Peer>();
    if (!links.allowsForwards) return owners;
    if (channelType === "x11") {
      for (const session of table.live()) {
        if (session.x11Cookie) owners.add(session.owner);
      }
    } else if (channelType === "auth-agent@openssh.com") {
      const asked = [...table.live()].findLast((session) => session.forwardsAgent);
      if (asked) owners.add(asked.owner);
    } else {
      const owner = ownerOf(channelType, data);
      if (owner && table.client(owner)) owners.add(owner);
    }
    return owners;
  }
}
