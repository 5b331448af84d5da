/**
 * What comes on a channel that is there: whether its state allows the message, and what that does.
 * Whoever breaks the protocol in a way that concerns nobody else loses the channel, and nothing else.
 */

import type { Channel } from "./channel.ts";
import { isBehindClose, takeDue, waitsBehind } from "./channel_ahead.ts";
import { type ChannelAnswers, expectLate, isAnswer } from "./channel_answers.ts";
import { opposite, type Side } from "./channel_end.ts";
import type { ChannelEndings } from "./channel_endings.ts";
import type { FormerSlots } from "./channel_slots.ts";
import type { ChannelTable } from "./channel_table.ts";
import { ChannelProtocolError, ProtocolError } from "./errors.ts";
import {
  type ChannelMessage,
  type ChannelOpen,
  describeMessage,
  dropped,
  isKeepalive,
  type LiveMessage,
  MessageType,
  parseMessage,
} from "./wire.ts";
import { findOwner, offerHeld } from "./x11_handover.ts";

/** What the messages are given. */
export interface ChannelMessagesOptions {
  table: ChannelTable;
  endings: ChannelEndings;
  answers: ChannelAnswers;
  /** Words for the log. */
  report(text: string, level: "debug" | "info"): void;
}

/** Why a message is dropped that comes after its sender's CLOSE, or after both. */
const afterClose = "CHANNEL_CLOSE has been sent";
const closed = "the channel is closed";

/** Takes the messages of channels. */
export class ChannelMessages {
  readonly #table: ChannelTable;
  readonly #endings: ChannelEndings;
  readonly #answers: ChannelAnswers;
  readonly #report: ChannelMessagesOptions["report"];

  constructor({ table, endings, answers, report }: ChannelMessagesOptions) {
    this.#table = table;
    this.#endings = endings;
    this.#answers = answers;
    this.#report = report;
  }

  /** Takes a message about a channel that its sender has. */
  onMessage(
    channel: Channel,
    from: Side,
    message: Exclude<ChannelMessage, ChannelOpen>,
    payload: Uint8Array,
  ): void {
    if (isAnswer(message)) return this.#answers.onAnswer(channel, from, message, payload);
    this.#guard(channel, from, payload, () => {
      if (from === "upstream") {
        if (isBehindClose(channel, message)) return afterClose;
        if (waitsBehind(channel, message, payload)) return;
      }
      return this.#onLiveMessage(channel, from, message, payload);
    });
  }

  /**
   * Takes a message about a channel that its sender does not have now, and perhaps had.
   *
   * @throws {ProtocolError} where it never had it.
   */
  onLate(
    former: FormerSlots | undefined,
    from: Side,
    message: Exclude<ChannelMessage, ChannelOpen>,
    payload: Uint8Array,
  ): void {
    expectLate(message, former);
    this.#report(dropped(from, payload, closed), "debug");
  }

  /** Sends on what has waited for the client, as far as it has room now. */
  passOn(channel: Channel): void {
    if (channel.ahead.isEmpty) return;
    for (const waiting of takeDue(channel)) {
      if (waiting.kind === "lost") this.#endings.lose(channel, waiting.reason);
      else this.#takeUp(channel, waiting.payload);
    }
  }

  /** Ends a channel in both directions; what waits of it is not wanted any more. */
  giveUp(channel: Channel, reason: string): void {
    this.#endings.end(channel, reason);
    this.passOn(channel);
  }

  #takeUp(channel: Channel, payload: Uint8Array): void {
    const message = parseMessage(payload) as LiveMessage;
    const handle = () => this.#onLiveMessage(channel, "upstream", message, payload);
    this.#guard(channel, "upstream", payload, handle);
  }

  /** @param handle returns why the message is dropped, if it is. */
  #guard(channel: Channel, from: Side, payload: Uint8Array, handle: () => string | void): void {
    try {
      const reason = handle();
      if (reason) this.#report(dropped(from, payload, reason), "debug");
    } catch (error) {
      if (!(error instanceof ChannelProtocolError)) throw error;
      const violation = `${describeMessage(payload)}: ${error.message}`;
      this.#report(`${from}: the channel is ended: ${violation}`, "info");
      const offender = from === "upstream" ? "the remote host" : "the client";
      this.giveUp(channel, `${offender} broke the protocol with ${violation}`);
    }
  }

  /** @returns why the message is dropped, if it is. */
  #onLiveMessage(
    channel: Channel,
    from: Side,
    message: LiveMessage,
    payload: Uint8Array,
  ): string | undefined {
    const end = channel[from];
    if (end.state === "done") return closed;
    if (end.state === "awaiting") throw new ChannelProtocolError("its opening has no answer yet");
    if (end.state !== "live") throw new ProtocolError("the channel is not open");
    if (isKeepalive(message) && from === "upstream" && end.repliesOwed === 0) {
      channel.answerKeepalive(message);
      return undefined;
    }
    if (end.closeReceived) return afterClose;
    if (message.type === MessageType.channelClose) {
      this.#endings.onClose(channel, from);
      return undefined;
    }
    const other = channel[opposite(from)];
    if (end.closeSent && !other.listens) return undefined; // Nobody is there.
    // Dropbear's server would run the command on a channel that it has closed, and dies of it.
    const isInVain = message.type === MessageType.channelRequest &&
      (other.closeReceived || channel.ahead.hasClose);
    if (isInVain && from === "downstream") return "upstream has closed the channel";
    const reason = channel.receive(from, message, payload);
    const isHeld = channel.held !== undefined && from === "upstream" && reason === undefined;
    if (isHeld) this.#findX11Owner(channel, message);
    return reason;
  }

  /** Looks for the owner of a held x11 channel after each message of it. */
  #findX11Owner(channel: Channel, message: LiveMessage): void {
    const owner = findOwner(channel, message, this.#table.live());
    if (owner === undefined) return;
    this.#table.adopt(channel, owner);
    offerHeld(channel);
  }
}
