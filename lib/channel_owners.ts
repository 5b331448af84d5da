/** The channels that upstream opens, and whose they are. */

import { openFailure } from "./channel_reason.ts";
import type { ChannelLimits } from "./channel_limits.ts";
import type { Links } from "./channel_links.ts";
import type { ChannelTable } from "./channel_table.ts";
import { ChannelOpenFailureReason } from "./errors.ts";
import { objectionTo, type Usage } from "./share.ts";
import type { Peer } from "./transport.ts";
import type { ChannelOpen } from "./wire.ts";
import { hold } from "./x11_handover.ts";

/** Remote forwards: the client for a channel that upstream opens, and what listeners take there. */
export interface ForwardOwners {
  ownerOf(channelType: string, data: Uint8Array): Peer | undefined;
  /** Upstream's file descriptors that listeners take, and those of one client's. */
  readonly descriptorCount: number;
  descriptorCountOf(client: Peer): number;
}

/** What the openings of upstream are given. */
export interface UpstreamOpensOptions {
  table: ChannelTable;
  links: Links;
  owners: ForwardOwners;
  limits: ChannelLimits;
  /** What a client takes of what all share. */
  usageOf(client: Peer): Usage;
}

/** Opens the channels of upstream. */
export class UpstreamOpens {
  readonly #options: UpstreamOpensOptions;

  constructor(options: UpstreamOpensOptions) {
    this.#options = options;
  }

  /**
   * Upstream asks for a channel; `payload` is the same message as bytes, and is rewritten.
   *
   * @param obstacle why no channel can be opened now.
   * @returns the client that is asked, if there is one.
   */
  onOpen(
    upstream: Peer,
    { message, payload }: { message: ChannelOpen; payload: Uint8Array },
    obstacle: string | undefined,
  ): Peer | undefined {
    const { table, links, limits, usageOf } = this.#options;
    const owners = this.#ownersOf(message);
    const [owner] = owners;
    const refuse = (code: number, reason: string) => {
      upstream.send(openFailure(message.senderChannel, code, reason));
      table.onRefused(message, owner, { openedBy: "host", code, reason });
      return undefined;
    };
    const { administrativelyProhibited, resourceShortage } = ChannelOpenFailureReason;
    if (obstacle !== undefined) return refuse(administrativelyProhibited, obstacle);
    if (owner === undefined) {
      return refuse(administrativelyProhibited, "no client asked for this channel");
    }
    const own = table.client(owner)?.channels.size ?? 0;
    if (own >= limits.channels || table.ownerlessCount >= limits.channels) {
      return refuse(resourceShortage, "too many channels for this client");
    }
    if (message.channelType.startsWith("forwarded-")) {
      const objection = objectionTo(1, usageOf(owner));
      if (objection !== undefined) return refuse(resourceShortage, objection);
    }
    const isFound = owners.size === 1;
    const channel = table.add(message, isFound ? owner : undefined, {
      downstream: isFound ? "awaiting" : "done",
      upstream: isFound ? "asking" : "live",
    });
    channel.link = links.get(upstream);
    if (isFound) channel.send("downstream", channel.takeOpening("upstream", message, payload));
    else hold(channel, message);
    return isFound ? owner : undefined;
  }

  /** The clients for whom upstream may have opened this channel; several only for x11. */
  #ownersOf(message: ChannelOpen): Set<Peer> {
    const { table, links, owners } = this.#options;
    const found = new Set<Peer>();
    if (!links.allowsForwards) return found;
    if (message.channelType === "x11") {
      for (const session of table.live()) {
        if (session.x11Cookie) found.add(session.owner);
      }
    } else if (message.channelType === "auth-agent@openssh.com") {
      const asked = [...table.live()].findLast((session) => session.forwardsAgent);
      if (asked) found.add(asked.owner);
    } else {
      const owner = owners.ownerOf(message.channelType, message.data);
      if (owner && table.client(owner)) found.add(owner);
    }
    return found;
  }
}
