/** Lines of ours for the person at a session, on stderr. */

import type { Channel } from "./channel.ts";
import { shortened } from "./channel_reason.ts";
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

/**
 * Shows a dim line below the cursor of a session's terminal, if nothing is lost by that, and if there
 * is room for it.
 */
export function showLine(channel: Channel, words: string): void {
  const { downstream, upstream, screen } = channel;
  if (!screen?.takesLine || !downstream.listens || upstream.eofReceived) return;
  const text = `sshshim: ${shortened(words)}`.slice(0, screen.columns - 1);
  // A line below is there after the first two; the cursor and its colours are kept meanwhile.
  const line = `\x1bD\x1b[A\x1b7\r\n\x1b[m\x1b[2m${text}\x1b[m\x1b[K\x1b8`;
  screen.hasLine = sendText(channel, line, downstream.flow.freeBytes);
}

/** Takes the line back, unless something has been shown since. */
export function takeLineBack(channel: Channel): void {
  const { downstream, screen } = channel;
  if (!screen?.hasLine || !downstream.listens) return;
  screen.hasLine = false;
  sendText(channel, "\x1b7\r\n\x1b[m\x1b[2K\x1b8", downstream.flow.freeBytes);
}

function sendLine(to: Channel, words: string, windowBytes: number): void {
  sendText(to, `\r\nsshshim: ${shortened(words)}\r\n`, windowBytes);
}

/** No more than `windowBytes` may be sent. @returns whether it has been. */
function sendText(to: Channel, words: string, windowBytes: number): boolean {
  const { channel, flow, maximumPacketSize } = to.downstream;
  const text = utf8String(words);
  if (text.length > Math.min(windowBytes, maximumPacketSize)) return false;
  flow.adjust(-text.length); // The client gives them back like any others.
  const fields = [channel, extendedDataStderr, text] as const;
  to.send("downstream", buildMessage(MessageType.channelExtendedData, ...fields));
  return true;
}
