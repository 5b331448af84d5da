/** How fast channels are: what two statuses of one host tell together. */

import type { ChannelStatus, ShimStatus } from "./status.ts";

/** The later status with the rates since the earlier one; a new channel has none yet. */
export function withRates(earlier: ShimStatus, later: ShimStatus): ShimStatus {
  const seconds = (Date.parse(later.time) - Date.parse(earlier.time)) / 1000;
  // Another process counts channels anew.
  const isSame = earlier.process.pid === later.process.pid &&
    earlier.process.since === later.process.since;
  if (!isSame || seconds <= 0) return later;
  const before = new Map(channelsOf(earlier).map((channel) => [channel.number, channel]));
  const rated = (channel: ChannelStatus): ChannelStatus => {
    const its = before.get(channel.number);
    return its === undefined ? channel : {
      ...channel,
      toHostBytesPerSecond: (channel.toHostBytes - its.toHostBytes) / seconds,
      toClientBytesPerSecond: (channel.toClientBytes - its.toClientBytes) / seconds,
    };
  };
  return {
    ...later,
    clients: later.clients.map((it) => ({ ...it, channels: it.channels.map(rated) })),
    channelsWithoutClient: later.channelsWithoutClient.map(rated),
  };
}

/** All channels of a status. */
export function channelsOf({ clients, channelsWithoutClient }: ShimStatus): ChannelStatus[] {
  return [...clients.flatMap(({ channels }) => channels), ...channelsWithoutClient];
}
