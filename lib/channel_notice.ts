/** Lines of ours for the person at a session, on stderr. */

import { type Channel, shortened } from "./channel.ts";
import { buildMessage, utf8String } from "./ssh_data.ts";
import { extendedDataStderr, MessageType } from "./wire.ts";

/** What ssh exits with when its connection is lost. */
const lostExitStatus = 255;

/**
 * Tells why a session ends, if the client still takes it. sshd tells the exit status before the last
 * of the output; as that is missing, the status is taken back.
 */
export function sendNotice(channel: Channel, reason: string): void {
  const { downstream, upstream } = channel;
  if (channel.type !== "session" || !downstream.listens || upstream.eofReceived) return;
  if (channel.hasExitStatus) {
    const fields = [downstream.channel, "exit-status", false, lostExitStatus] as const;
    channel.send("downstream", buildMessage(MessageType.channelRequest, ...fields));
  }
  sendLine(channel, reason, downstream.flow.windowBytes);
}

/** Tells something while the session goes on, if it has a terminal and there is room for it. */
export function tell(channel: Channel, text: string): void {
  const { downstream, upstream } = channel;
  if (!channel.hasTerminal || !downstream.listens || upstream.eofReceived) return;
  sendLine(channel, text, downstream.flow.freeBytes);
}

/** No more than `windowBytes` may be sent. */
function sendLine(to: Channel, words: string, windowBytes: number): void {
  const { channel, flow, maximumPacketSize } = to.downstream;
  const text = utf8String(`\r\nsshshim: ${shortened(words)}\r\n`);
  if (text.length > Math.min(windowBytes, maximumPacketSize)) return;
  flow.adjust(-text.length); // The client gives them back like any others.
  const fields = [channel, extendedDataStderr, text] as const;
  to.send("downstream", buildMessage(MessageType.channelExtendedData, ...fields));
}
