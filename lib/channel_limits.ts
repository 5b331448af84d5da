/** How many channels there may be, and why one more may not. */

import type { Channel, EndState, Side } from "./channel.ts";

/** How many channels one client may have, and how many of them unanswered. */
export interface ChannelLimits {
  channels: number;
  /**
   * How many channels there may be in all before nothing but sessions is opened, those of clients
   * that have left included: sshd usually has 1,024 file descriptors for one connection, and a
   * forwarded connection takes one, a session with a terminal, a display and an agent six.
   */
  allChannels: number;
  pendingOpens: number;
  /** How long a CHANNEL_OPEN waits for upstream, or for a free session there, in milliseconds. */
  openTimeoutMs: number;
  /** How many sessions upstream allows at a time, where it is known beforehand. */
  sessions: number;
}

/** What holds where nothing else is said. */
export const usualLimits: ChannelLimits = {
  channels: 1000,
  allChannels: 950,
  pendingOpens: 256,
  openTimeoutMs: 30_000,
  sessions: Infinity,
};

/**
 * A client may have this many times the channels that are left, or the smallest share: one client
 * three quarters of all, the next ones less, so that none takes sshd's file descriptors from all.
 */
const shareOfRest = 3;
const smallestShare = 32;

/** Whether a client has as many channels as it may, or so many that wait for one side's answer. */
export function hasTooMany(
  channels: ReadonlySet<Channel>,
  limits: ChannelLimits,
  pending: { side: Side; state: EndState },
): boolean {
  if (channels.size >= limits.channels) return true;
  let count = 0;
  for (const channel of channels) if (channel[pending.side].state === pending.state) count++;
  return count >= limits.pendingOpens;
}

/** Why a client with `own` of `all` channels may have no more, sessions beside. */
export function whyNoMore(
  { own, all }: { own: number; all: number },
  { allChannels }: ChannelLimits,
): string | undefined {
  const share = Math.max(smallestShare, shareOfRest * (allChannels - all));
  if (own < share && all < allChannels) return undefined;
  return `${all} channels are open in all, ${own} of them this client's: too many for one more`;
}
