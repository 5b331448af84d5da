/** The answers to CHANNEL_OPEN, of either side. */

import type { Channel } from "./channel.ts";
import { opposite, type Side } from "./channel_end.ts";
import type { ChannelEndings } from "./channel_endings.ts";
import type { ClientOpens } from "./channel_opens.ts";
import type { FormerSlots } from "./channel_slots.ts";
import { ProtocolError } from "./errors.ts";
import { displayText } from "./ssh_data.ts";
import {
  type ChannelMessage,
  type ChannelOpen,
  type ChannelOpenConfirmation,
  type ChannelOpenFailure,
  MessageType,
  rewriteConfirmation,
  rewriteRecipient,
} from "./wire.ts";
import { heldWindowBytes, release } from "./x11_handover.ts";

type ChannelAnswer = ChannelOpenConfirmation | ChannelOpenFailure;

/** Takes the answers. */
export class ChannelAnswers {
  readonly #opens: ClientOpens;
  readonly #endings: ChannelEndings;
  readonly #aheadBytes: number;

  /** @param aheadBytes what upstream may send ahead from the beginning. */
  constructor(opens: ClientOpens, endings: ChannelEndings, aheadBytes: number) {
    this.#opens = opens;
    this.#endings = endings;
    this.#aheadBytes = aheadBytes;
  }

  /**
   * Takes the answer of one end, and tells the other; `payload` is the same message as bytes.
   *
   * @throws {ProtocolError} where that end owes none.
   */
  onAnswer(
    channel: Channel,
    from: Side,
    message: ChannelAnswer,
    payload: Uint8Array,
  ): void {
    if (channel[from].state !== "awaiting") throw new ProtocolError("an answer to no CHANNEL_OPEN");
    if (message.type === MessageType.channelOpenFailure) {
      this.#onFailure(channel, from, { message, payload });
    } else this.#onConfirmation(channel, from, message, payload);
  }

  #onConfirmation(
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
    if (from === "upstream") channel.noteRoundTrip();
    const wasExhausted = from === "upstream" && channel.link?.room.onConfirmation(channel) === true;
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
        channel.account.onOpened();
        if (channel.isWarm) channel.grantOpening();
        channel.ahead.begin(this.#aheadBytes);
        channel.refill("downstream");
        channel.refill("upstream"); // Less might be under way when its opening was sent.
        break;
      case "live":
      case "done":
        if (channel.held) {
          channel.account.onOpened();
          release(channel, message);
        } else channel.finish(from, "");
        break;
      case "unasked":
      case "awaiting":
        throw new Error("both ends of a channel were asked to open it");
    }
    if (from === "upstream") this.#opens.onConfirmed(channel, { wasExhausted });
  }

  #onFailure(
    channel: Channel,
    from: Side,
    { message, payload }: { message: ChannelOpenFailure; payload: Uint8Array },
  ): void {
    const { link, waiting, type } = channel;
    if (from === "upstream" && link) {
      // Whatever reason it gives: others can be open, so it has a limit.
      const mayBeCrowded = type === "session" && waiting !== undefined;
      const meaning = link.room.onRefusal(channel, { mayBeCrowded });
      const words = message.description;
      if (meaning !== "final") return this.#opens.onRefused(channel, link, { meaning, words });
      // What others were told meanwhile was as final.
      const others = mayBeCrowded ? this.#opens.takeRefused(link) : [];
      for (const other of others) this.#passRefusal(other, from, { message, payload });
    }
    this.#passRefusal(channel, from, { message, payload });
  }

  #passRefusal(
    channel: Channel,
    from: Side,
    { message, payload }: { message: ChannelOpenFailure; payload: Uint8Array },
  ): void {
    const by = from === "upstream" ? "host" : "client";
    channel.account.onRefused(by, displayText(message.description), message.reasonCode);
    const to = opposite(from);
    channel[from].state = "done";
    if (channel[to].state === "asking") {
      rewriteRecipient(payload, channel[to].channel);
      channel.send(to, payload);
      channel[to].state = "done";
    } else {
      channel.finish(to, "");
    }
    this.#endings.settle(channel);
  }
}

/** Whether a message answers a CHANNEL_OPEN. */
export function isAnswer(
  message: ChannelMessage,
): message is ChannelAnswer {
  const { type } = message;
  return type === MessageType.channelOpenConfirmation || type === MessageType.channelOpenFailure;
}

/**
 * Of a message about a channel that its sender does not have now.
 *
 * @throws {ProtocolError} where it never had it.
 */
export function expectLate(
  message: Exclude<ChannelMessage, ChannelOpen>,
  former: FormerSlots | undefined,
): void {
  const isLate = former?.has(message.recipientChannel) && !isAnswer(message);
  if (!isLate) throw new ProtocolError("no such channel");
}
