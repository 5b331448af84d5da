/** One of the two ends of a channel: where it stands, and what it accepts. */

import { Flow } from "./flow.ts";
import type { ChannelOpen, ChannelOpenConfirmation } from "./wire.ts";

/** What OpenSSH's own packets carry, and the most that sshshim lets either end announce. */
export const maximumPacketSize = 32768;

/**
 * Where one end of a channel stands:
 * - `unasked`: it will be sent CHANNEL_OPEN when it can take it;
 * - `asking`: it sent CHANNEL_OPEN and waits for the answer;
 * - `awaiting`: it was sent CHANNEL_OPEN and owes the answer;
 * - `live`: opened, and not closed in both directions;
 * - `done`: closed in both directions, refused, gone, or never told of the channel.
 */
export type EndState = "unasked" | "asking" | "awaiting" | "live" | "done";

/** One end of a channel. */
export class End {
  #state!: EndState;
  #knowsSlot = false;
  /** The peer's own number for the channel: the recipient channel of what is sent to it. */
  channel = 0;
  /** Bytes that this end accepts. */
  readonly flow = new Flow();
  /** The largest data message that this end accepts, in bytes. */
  maximumPacketSize = 0;
  eofReceived = false;
  closeReceived = false;
  closeSent = false;
  /** Channel requests of this end that the other one has still to answer. */
  repliesOwed = 0;

  constructor(state: EndState) {
    this.state = state;
  }

  get state(): EndState {
    return this.#state;
  }

  set state(state: EndState) {
    this.#state = state;
    if (state === "awaiting" || state === "live") this.#knowsSlot = true;
  }

  /** Whether the peer was ever told the relay's number of the channel. */
  get knowsSlot(): boolean {
    return this.#knowsSlot;
  }

  /** Whether messages other than those of the opening may be sent to this end. */
  get listens(): boolean {
    return this.state === "live" && !this.closeSent;
  }

  /**
   * Takes the numbers that this end announces for itself. Its initial window holds the
   * `grantedBytes` that the relay has granted in its name before.
   */
  announce(message: ChannelOpen | ChannelOpenConfirmation, grantedBytes = 0): void {
    this.channel = message.senderChannel;
    this.flow.adjust(message.initialWindowSize - grantedBytes);
    this.maximumPacketSize = Math.min(message.maximumPacketSize, maximumPacketSize);
  }
}

/** Which end of a channel. */
export type Side = "downstream" | "upstream";

/** The other side of a channel. */
export function opposite(side: Side): Side {
  return side === "downstream" ? "upstream" : "downstream";
}
