/** CHANNEL_OPEN_CONFIRMATION: both ends of a channel know each other from then on. */

import { type Channel, opposite, type Side } from "./channel.ts";
import { ProtocolError } from "./errors.ts";
import { type ChannelOpenConfirmation, rewriteConfirmation } from "./wire.ts";
import { heldWindowBytes, release } from "./x11_handover.ts";

/**
 * One end agrees to open the channel; `payload` is the same message as bytes.
 *
 * @throws {ProtocolError} where it says more than it may.
 */
export function confirm(
  channel: Channel,
  from: Side,
  message: ChannelOpenConfirmation,
  payload: Uint8Array,
): void {
  const end = channel[from];
  const other = channel[opposite(from)];
  if (from === "downstream" && message.data.length > 0) {
    // No type of channel that upstream opens has any, and sshd ends the whole connection for it.
    throw new ProtocolError("bytes after the end");
  }
  end.announce(message, channel.held ? heldWindowBytes : 0);
  end.state = "live";
  if (from === "upstream") channel.link?.room.onConfirmation(channel);
  channel.stopWaiting();
  switch (other.state) {
    case "asking":
      other.state = "live";
      rewriteConfirmation(payload, {
        recipientChannel: other.channel,
        senderChannel: channel.slot,
        initialWindowSize: end.flow.takeGrant(),
        maximumPacketSize: end.maximumPacketSize,
      });
      channel.send(opposite(from), payload);
      break;
    case "live":
    case "done":
      if (channel.held) release(channel, message);
      else channel.finish(from, "");
      break;
    case "unasked":
    case "awaiting":
      throw new Error("both ends of a channel were asked to open it");
  }
}
