/**
 * What the relay tells of what passes through it, for a record: who opened what, how large it was
 * and what became of it, and never what was in it. There is hardly any code here.
 */

import { displayText, Reader } from "./ssh_data.ts";
import type { ChannelOpen } from "./wire.ts";

/** Who did something: a client, the remote host, or we. */
export type Party = "client" | "host" | "sshshim";

/** What a channel is, as far as its opening says it. */
export interface ChannelFacts {
  type: string;
  openedBy: Party;
  /** Where a forwarded connection leads, or for one that upstream opens, where it came in. */
  target?: string;
  /** Where it came from, as its opener says. */
  origin?: string;
}

/** A number names a channel in all events about it; no other has it as long as the relay lives. */
export type RelayEvent =
  | { event: "channel-open"; channel: number } & ChannelFacts
  | { event: "channel-refused"; channel?: number; by: Party; code?: number; reason: string }
    & ChannelFacts
  | {
    event: "channel-request";
    channel: number;
    type: string;
    by: Party;
    /** Of a subsystem. */
    name?: string;
    /** Absent where no answer was wanted. */
    outcome?: "granted" | "refused" | "unanswered";
  }
  | { event: "channel-close"; channel: number } & ChannelSizes
  /** The answer to a request for a remote forward or for its end; with the port that was found. */
  | { event: "forward-open" | "forward-refused" | "forward-close"; request: string; place: string };

/** What has crossed a channel, and what has not been told of it. */
export interface ChannelSizes {
  /** Data, in bytes. */
  toHostBytes: number;
  toClientBytes: number;
  /** How many requests had no event of their own. */
  requestsNotListed: number;
}

/** Takes the events; `client` is whose they are, where that is known. */
export type Observe<Client> = (client: Client | undefined, event: RelayEvent) => void;

/** What CHANNEL_OPEN says of a channel. */
export function factsOf(
  { channelType, data }: Pick<ChannelOpen, "channelType" | "data">,
  openedBy: Party,
): ChannelFacts {
  const reader = new Reader(data);
  const text = () => displayText(reader.text());
  const address = () => `${text()}:${reader.uint32()}`;
  const facts = { type: displayText(channelType), openedBy };
  switch (channelType) {
    case "direct-tcpip":
    case "forwarded-tcpip":
      return { ...facts, target: address(), origin: address() };
    case "direct-streamlocal@openssh.com":
    case "forwarded-streamlocal@openssh.com":
      return { ...facts, target: text() };
    case "x11":
      return { ...facts, origin: address() };
    default:
      return facts;
  }
}
