/**
 * X11 channels when several clients have displays: sshd does not say whose display a channel is
 * for, but the first bytes on it do.
 *
 * The relay accepts such a channel itself and holds what comes, until the cookie in it tells the
 * owner; then it opens the channel there, and passes on what was held.
 */

import { timingSafeEqual } from "node:crypto";
import type { Channel } from "./channel.ts";
import type { Peer } from "./transport.ts";
import { buildMessage, concatenate } from "./ssh_data.ts";
import {
  type ChannelOpen,
  type ChannelOpenConfirmation,
  type LiveMessage,
  MessageType,
} from "./wire.ts";
import { readCookie } from "./x11.ts";

/** What upstream may send before the owner is known, in bytes. */
export const heldWindowBytes = 4096;

/** The most that is held with everything around the data, in bytes. */
const heldBytesLimit = 2 * heldWindowBytes;

/** The smallest maximum packet size among the usual clients (PuTTY's and OpenSSH's for X11). */
const maximumPacketSize = 16384;

/** Accepts a channel that upstream opens, in the name of an owner who is not known yet. */
export function hold(channel: Channel, message: ChannelOpen): void {
  const { downstream, upstream } = channel;
  channel.held = { opening: message.data, firstBytes: new Uint8Array(), payloads: [] };
  upstream.announce(message);
  downstream.flow.adjust(heldWindowBytes);
  downstream.maximumPacketSize = maximumPacketSize;
  channel.send(
    "upstream",
    buildMessage(
      MessageType.channelOpenConfirmation,
      upstream.channel,
      channel.slot,
      downstream.flow.takeGrant(),
      maximumPacketSize,
    ),
  );
}

/**
 * Looks for the owner after each message that had to be held; a channel whose owner cannot be found
 * is closed.
 */
export function findOwner(
  channel: Channel,
  message: LiveMessage,
  sessions: Iterable<Channel & { owner: Peer }>,
): Peer | undefined {
  const held = channel.held!;
  if (message.type === MessageType.channelData) {
    held.firstBytes = concatenate([held.firstBytes, message.data]);
  }
  const heldBytes = held.payloads.reduce((sum, payload) => sum + payload.length, 0);
  if (heldBytes > heldBytesLimit) {
    held.payloads = [];
    channel.finish("upstream", "");
  }
  if (channel.owner !== undefined || !channel.upstream.listens) return undefined;

  const cookie = readCookie(held.firstBytes);
  const isMissing = cookie === undefined && !channel.upstream.eofReceived;
  if (isMissing) return undefined;
  const session = [...sessions].find(({ x11Cookie }) =>
    cookie && x11Cookie?.length === cookie.length && timingSafeEqual(x11Cookie, cookie)
  );
  if (session === undefined) channel.finish("upstream", "");
  return session?.owner;
}

/** Opens the channel to the owner that was found. */
export function offerHeld(channel: Channel): void {
  const { flow, maximumPacketSize } = channel.upstream;
  channel.downstream.state = "awaiting";
  channel.send(
    "downstream",
    buildMessage(
      MessageType.channelOpen,
      "x11",
      channel.slot,
      flow.takeGrant(),
      maximumPacketSize,
      { raw: channel.held!.opening },
    ),
  );
}

/** The owner has answered: it gets what was held, and CLOSE if upstream is done by now. */
export function release(channel: Channel, answer: ChannelOpenConfirmation): void {
  const { payloads } = channel.held!;
  channel.held = undefined;
  const isTooSmall = answer.initialWindowSize < heldWindowBytes ||
    answer.maximumPacketSize < maximumPacketSize;
  if (!isTooSmall) {
    for (const payload of payloads) channel.forward("upstream", payload);
  }
  if (isTooSmall || !channel.upstream.listens) {
    channel.finish("downstream", "");
    channel.finish("upstream", "");
    return;
  }
  channel.grant("downstream");
  channel.grant("upstream");
}
