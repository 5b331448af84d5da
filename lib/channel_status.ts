/** How one channel is shown to people and programs. */

import type { Channel, Link } from "./channel.ts";
import type { End } from "./channel_end.ts";
import { shownText } from "./shown_text.ts";
import { displayText } from "./ssh_data.ts";
import type { ChannelStateStatus, ChannelStatus } from "./status.ts";

/** What is around a channel. */
export interface ChannelSurroundings {
  /** The time, in milliseconds since 1970. */
  now: number;
  /** The one connection upstream, while it is there. */
  first: Link | undefined;
}

/** The channel as it is now. */
export function describeChannel(
  channel: Channel,
  { now, first }: ChannelSurroundings,
): ChannelStatus {
  const { account, link } = channel;
  return {
    number: channel.order,
    type: shownText(displayText(channel.type)),
    openedBy: account.openedBy,
    since: new Date(account.openedAt).toISOString(),
    ageMs: Math.max(0, now - account.openedAt),
    state: stateOf(channel, first !== undefined),
    isOnOverflow: link !== undefined && link !== first,
    runs: account.runs ?? null,
    hasTerminal: channel.hasTerminal,
    target: account.target ?? null,
    toHostBytes: account.bytes.downstream,
    toClientBytes: account.bytes.upstream,
    toHostBytesPerSecond: null,
    toClientBytesPerSecond: null,
  };
}

function stateOf(
  { downstream, upstream, held }: Channel,
  hasUpstream: boolean,
): ChannelStateStatus {
  if (upstream.state === "unasked") {
    return { kind: "waiting", for: hasUpstream ? "session" : "upstream" };
  }
  const isClosing = [downstream, upstream].some(isEnding);
  if (upstream.state === "awaiting" && !isClosing) return { kind: "waiting", for: "answer" };
  if (held || (downstream.state === "awaiting" && !isClosing)) {
    return { kind: "waiting", for: "client" };
  }
  if (isClosing) return { kind: "closing" };
  const [byClient, byHost] = [downstream.eofReceived, upstream.eofReceived];
  if (byClient && byHost) return { kind: "half-closed", by: "both" };
  if (byClient || byHost) return { kind: "half-closed", by: byClient ? "client" : "host" };
  return { kind: "live" };
}

function isEnding({ state, closeReceived, closeSent }: End): boolean {
  return state === "done" || closeReceived || closeSent;
}
