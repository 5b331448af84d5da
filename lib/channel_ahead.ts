/** What upstream says on a channel whose data waits for the client: it waits behind that. */

import type { Waiting, WaitingData } from "./ahead.ts";
import type { Channel } from "./channel.ts";
import { buildMessage } from "./ssh_data.ts";
import { isKeepalive, type LiveMessage, MessageType } from "./wire.ts";

/** Whether a CLOSE of upstream waits that came before this message, which means nothing then. */
export function isBehindClose({ ahead, upstream }: Channel, message: LiveMessage): boolean {
  return ahead.hasClose && !(isKeepalive(message) && upstream.repliesOwed === 0);
}

/**
 * Whether a message of upstream, which is not data, has to wait behind data; it does from now on.
 *
 * @throws {ChannelProtocolError} where too much waits.
 */
export function waitsBehind(
  { ahead, upstream }: Channel,
  message: LiveMessage,
  payload: Uint8Array,
): boolean {
  const { channelData, channelExtendedData, channelWindowAdjust, channelEof, channelClose } =
    MessageType;
  if (ahead.isEmpty || upstream.state !== "live") return false;
  switch (message.type) {
    case channelData:
    case channelExtendedData:
    case channelWindowAdjust: // It is about the other direction.
      return false;
    case MessageType.channelRequest:
      // It asks for the whole connection; replies keep their order all the same.
      if (isKeepalive(message) && upstream.repliesOwed === 0 && !ahead.wantsReply) return false;
      ahead.wantsReply ||= message.wantReply;
  }
  ahead.push({ kind: "message", payload: payload.slice() });
  ahead.hasEof ||= message.type === channelEof;
  ahead.hasClose ||= message.type === channelClose;
  return true;
}

/** Sends on what waits as far as the client takes it, and yields what has to be looked at. */
export function* takeDue(channel: Channel): Generator<Exclude<Waiting, { kind: "data" }>> {
  const { ahead, downstream: { flow } } = channel;
  for (let first = ahead.first; first; first = ahead.first) {
    if (first.kind === "lost" && channel.takesData && flow.isNearlyShut) return;
    if (first.kind !== "data") {
      ahead.shift();
      yield first;
    } else if (!channel.takesData) {
      ahead.shift();
      ahead.drop(first.data.length);
    } else if (channel.isFull || !sendDue(channel, first.data)) {
      return;
    }
  }
}

/** Sends a message of what waits. @returns whether the window allows one. */
function sendDue(channel: Channel, data: WaitingData): boolean {
  const { ahead, downstream: { flow, channel: recipient, maximumPacketSize } } = channel;
  const { type, dataTypeCode, length } = data.first;
  const bytes = flow.takeWaiting(Math.min(length, maximumPacketSize));
  if (bytes === 0) return false;
  const code = type === MessageType.channelData ? [] : [dataTypeCode];
  const part = data.take(bytes);
  if (data.length === 0) ahead.shift();
  channel.screen?.onOutput(part);
  channel.send("downstream", buildMessage(type, recipient, ...code, part));
  return true;
}
