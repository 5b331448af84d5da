/** How channels end: each end is told, and the slot is free once both are done. */

import type { Channel } from "./channel.ts";
import { sendNotice } from "./channel_notice.ts";
import { opposite, type Side } from "./channel_end.ts";
import type { ChannelTable } from "./channel_table.ts";
import { buildMessage } from "./ssh_data.ts";
import { MessageType } from "./wire.ts";

/** Ends channels. */
export class ChannelEndings {
  readonly #table: ChannelTable;
  readonly #onFreed: (channel: Channel) => void;

  /** @param onFreed called when a channel's slot is free. */
  constructor(table: ChannelTable, onFreed: (channel: Channel) => void) {
    this.#table = table;
    this.#onFreed = onFreed;
  }

  /** An end has sent CLOSE. */
  onClose(channel: Channel, from: Side): void {
    const to = opposite(from);
    channel[from].closeReceived = true;
    if (from === "upstream") hastenClose(channel);
    if (channel[to].state === "live") channel.finish(to, "");
    else channel.finish(from, "");
    this.settle(channel);
  }

  /** The connection of one end is gone, or will never be. */
  leave(channel: Channel, side: Side, reason: string): void {
    if (side === "downstream") {
      channel.stopWaiting();
      channel.account.onLeft();
    }
    channel[side].state = "done";
    channel.finish(opposite(side), reason);
    this.settle(channel);
  }

  /** The connection upstream that carried it is gone: the client gets first what came before. */
  lose(channel: Channel, reason: string): void {
    channel.link = undefined;
    if (channel.ahead.isEmpty || !channel.takesData) {
      sendNotice(channel, reason);
      this.leave(channel, "upstream", reason);
    } else if (!channel.ahead.hasClose) {
      channel.ahead.push({ kind: "lost", reason });
    }
  }

  /** Tells both ends that the channel ends, and the person at a session why. */
  end(channel: Channel, reason: string): void {
    sendNotice(channel, reason);
    channel.finish("downstream", reason);
    channel.finish("upstream", reason);
    this.settle(channel);
  }

  /** Frees the slot once both ends are done. */
  settle(channel: Channel): void {
    for (const end of [channel.downstream, channel.upstream]) {
      if (end.state !== "live" || !end.closeSent || !end.closeReceived) continue;
      end.state = "done";
      if (end === channel.upstream) channel.link?.room.onClosed(channel);
    }
    if (channel.downstream.state !== "done" || channel.upstream.state !== "done") return;
    if (!this.#table.remove(channel)) return;
    channel.stopWaiting();
    channel.account.onClosed();
    this.#onFreed(channel);
  }
}

/** Upstream has closed it: a CLOSE of ours does not wait behind what goes nowhere any more. */
function hastenClose(channel: Channel): void {
  const { upstream, link } = channel;
  if (!upstream.closeSent || !link?.pacing?.discard(channel)) return;
  channel.send("upstream", buildMessage(MessageType.channelClose, upstream.channel));
}
