/** What the relay keeps of a client, and what it does for a connection upstream. */

import type { Backpressure, PendingRequests } from "./backpressure.ts";
import type { LinkOptions } from "./channel_links.ts";
import type { Channels } from "./channels.ts";
import type { ClientRules } from "./client_rules.ts";
import type { ReplyQueue, RequestQueue } from "./global_requests.ts";
import type { ClientAbout } from "./relay_status.ts";
import type { Transport } from "./transport.ts";
import { MessageType } from "./wire.ts";

/** One client, as the relay keeps it until it has left. */
export interface ClientConnection {
  transport: Transport;
  /** What it may do; everything where there are none. */
  rules: ClientRules | undefined;
  about: ClientAbout;
  replies: ReplyQueue;
  pending: PendingRequests;
  leave(): void;
}

/** What a connection upstream does for the pacing of its channels. */
export function linkOptions(
  upstream: Transport,
  { requests, channels, backpressure }: {
    requests: RequestQueue;
    channels: Channels;
    backpressure: Backpressure;
  },
): LinkOptions {
  return {
    ask: (onReply) => requests.sendKeepalive(onReply),
    onDrain: () => {
      channels.onUpstreamDrain(upstream);
      backpressure.relax();
    },
  };
}

/** Whether a message answers a global request. */
export function isGlobalReply([type]: Uint8Array): boolean {
  return type === MessageType.requestSuccess || type === MessageType.requestFailure;
}
