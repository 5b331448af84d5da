/** What upstream says on a channel whose data waits for the client: it waits behind that. */

import type { Waiting, WaitingData } from "./ahead.ts";
import { type Channel, isKeepalive, type LiveMessage } from "./channel.ts";
import { buildMessage } from "./ssh_data.ts";
import { MessageType } from "./wire.ts";

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
export function* takeDue(channel: Channel): Generator<Exclude<Waiting, WaitingData>> {
  const { ahead } = channel;
  for (let first = ahead.first; first; first = ahead.first) {
    if (first.kind === "lost" && channel.takesData && channel.downstream.flow.isNearlyShut) return;
    if (first.kind !== "data") {
      ahead.shift();
      yield first;
    } else if (!sendDue(channel, first)) {
      return;
    }
  }
}

/** @returns whether all of it is gone. */
function sendDue(channel: Channel, waiting: WaitingData): boolean {
  const { ahead, downstream: { flow, channel: recipient, maximumPacketSize } } = channel;
  const { payload, message: { type, dataTypeCode, data }, sentBytes } = waiting;
  const restBytes = data.length - sentBytes;
  if (!channel.takesData) {
    ahead.shift();
    ahead.drop(restBytes);
    return true;
  }
  if (channel.isFull) return false;
  const bytes = flow.takeWaiting(Math.min(restBytes, maximumPacketSize));
  waiting.sentBytes += bytes;
  if (bytes === restBytes) ahead.shift();
  if (bytes === data.length) {
    channel.forward("upstream", payload);
  } else if (bytes > 0) {
    const code = type === MessageType.channelData ? [] : [dataTypeCode];
    const part = data.subarray(sentBytes, sentBytes + bytes);
    channel.send("downstream", buildMessage(type, recipient, ...code, part));
  }
  return bytes === restBytes;
}
