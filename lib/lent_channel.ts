/**
 * A channel through a host that is served as well: a client of its relay in this process, whose
 * messages go from hand to hand. So all that holds for clients holds for it: windows, limits, and
 * waiting until the connection is back.
 */

import { joinRelay } from "./hand.ts";
import { JumpChannel } from "./jump_channel.ts";
import type { Relay } from "./relay.ts";

/**
 * Opens a direct-tcpip channel through the relay of a host.
 *
 * @param id the client's number.
 * @param onEnd called once, when the client has left.
 */
export function lendChannel(
  relay: Relay,
  to: { host: string; port: number },
  { id, onEnd }: { id: number; onEnd(): void },
): JumpChannel {
  const hand = joinRelay(relay, {
    about: {
      ...{ id, carrier: "host", since: new Date().toISOString() },
      ...{ address: null, user: null, key: null, exchange: null },
    },
    onEnd(reason) {
      channel.onLost(new Error(reason));
      onEnd();
    },
  });
  const channel = new JumpChannel(hand, to);
  return channel;
}
