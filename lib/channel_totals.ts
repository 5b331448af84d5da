/** What has crossed all channels, and how many there were, since the start. */

import type { Side } from "./channel_end.ts";
import type { ChannelTotalsStatus } from "./status.ts";

/** The types that are counted by themselves; a peer can make up any number of others. */
const countedTypes = [
  "session",
  "direct-tcpip",
  "direct-streamlocal@openssh.com",
  "forwarded-tcpip",
  "forwarded-streamlocal@openssh.com",
  "x11",
  "auth-agent@openssh.com",
];

/** The numbers of one relay. */
export class ChannelTotals {
  /** Data that has come from either side, in bytes. */
  readonly bytes: Record<Side, number> = { downstream: 0, upstream: 0 };
  readonly #byType = new Map<string, { opened: number; refused: number }>();

  /** Both ends have a channel of this type. */
  onOpened(type: string): void {
    this.#of(type).opened++;
  }

  /** One was asked for and will not be opened. */
  onRefused(type: string): void {
    this.#of(type).refused++;
  }

  /** The types of which there was a channel, in their order. */
  describe(): ChannelTotalsStatus[] {
    return [...countedTypes, "other"].flatMap((type) => {
      const counts = this.#byType.get(type);
      return counts ? [{ type, ...counts }] : [];
    });
  }

  #of(type: string): { opened: number; refused: number } {
    const counted = countedTypeOf(type);
    const counts = this.#byType.get(counted) ?? { opened: 0, refused: 0 };
    this.#byType.set(counted, counts);
    return counts;
  }
}

/** The type by which channels are counted: itself or `other`. */
export function countedTypeOf(type: string): string {
  return countedTypes.includes(type) ? type : "other";
}
