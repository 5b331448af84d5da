/** Why a channel is not opened, or ends, as peers and the people behind them are told. */

import { buildMessage, utf8String } from "./ssh_data.ts";
import { MessageType } from "./wire.ts";

/** How much of a reason is told, in characters: a peer's words may be among it, of any length. */
const longestReason = 1000;

/** A reason as it is told. */
export function shortened(reason: string): string {
  return reason.length <= longestReason ? reason : `${reason.slice(0, longestReason)}…`;
}

/** SSH_MSG_CHANNEL_OPEN_FAILURE; `text` is for people. */
export function openFailure(
  recipientChannel: number,
  reasonCode: number,
  text: string,
): Uint8Array {
  const { channelOpenFailure } = MessageType;
  const description = utf8String(shortened(text));
  return buildMessage(channelOpenFailure, recipientChannel, reasonCode, description, "");
}
