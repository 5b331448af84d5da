/** What the relay tells of itself: who is there, what is open, and what waits. */

import type { ChannelTotals } from "./channel_totals.ts";
import { DisconnectReason } from "./errors.ts";
import { describePlace, type Place } from "./forward_place.ts";
import { shownText } from "./shown_text.ts";
import type {
  ChannelStatus,
  ChannelTotalsStatus,
  ClientStatus,
  ForwardStatus,
  ProgramStatus,
  ShimStatus,
} from "./status.ts";
import type { Peer, Transport } from "./transport.ts";

/** What whoever adds a client knows of it, for those who ask what runs. */
export interface ClientAbout extends Omit<ClientStatus, "program" | "channels"> {
  /** Finds out whose process it is; `undefined` where the system does not tell. */
  findProgram?(): Promise<ProgramStatus | undefined>;
}

/** A client of which nothing is known. */
export const unknownClient: ClientAbout = {
  ...{ id: 0, carrier: "port", since: new Date(0).toISOString() },
  ...{ address: null, user: null, key: null, exchange: null },
};

/** What the relay knows. */
export interface RelayStatus extends Pick<ShimStatus, "channelsWithoutClient" | "forwards"> {
  /** In the order in which they came. */
  clients: {
    about: ClientAbout;
    channels: ChannelStatus[];
    /** Ends it with a word. */
    end(description: string): void;
  }[];
  /** The sessions of the one connection, and how many it allows; Infinity where nothing limits them. */
  sessions: { count: number; limit: number };
  totals: {
    toHostBytes: number;
    toClientBytes: number;
    channels: ChannelTotalsStatus[];
    clientsAccepted: number;
  };
}

/** The relay's parts, as far as they are asked here. */
export interface RelayParts {
  /** How many clients there have been. */
  accepted: number;
  channels: {
    describe(): { owner: Peer | undefined; status: ChannelStatus }[];
    readonly totals: ChannelTotals;
    readonly sessions: RelayStatus["sessions"];
  };
  forwards: {
    list(): { place: Place; state: ForwardStatus["state"]; since: number; owner?: Peer }[];
  };
}

/** A client, as far as it is asked here. */
interface DescribedClient {
  about: ClientAbout;
  transport: Pick<Transport, "disconnect">;
  leave(): void;
}

/** Puts the parts together. */
export function describeRelay(
  clients: ReadonlyMap<Peer, DescribedClient>,
  { accepted, channels, forwards }: RelayParts,
): RelayStatus {
  const channelsOf = new Map<Peer, ChannelStatus[]>();
  const channelsWithoutClient: ChannelStatus[] = [];
  for (const client of clients.keys()) channelsOf.set(client, []);
  for (const { owner, status } of channels.describe()) {
    const its = owner && channelsOf.get(owner);
    (its ?? channelsWithoutClient).push(status);
  }
  const { totals, sessions } = channels;
  return {
    clients: [...clients].map(([client, { about, transport, leave }]) => ({
      about,
      channels: channelsOf.get(client)!,
      end: (description) => {
        leave();
        transport.disconnect(DisconnectReason.byApplication, description);
      },
    })),
    channelsWithoutClient,
    forwards: forwards.list().map(({ place, state, since, owner }) => ({
      kind: place.kind,
      place: shownText(describePlace(place)),
      state,
      since: new Date(since).toISOString(),
      client: (owner && clients.get(owner)?.about.id) ?? null,
    })),
    sessions,
    totals: {
      toHostBytes: totals.bytes.downstream,
      toClientBytes: totals.bytes.upstream,
      channels: totals.describe(),
      clientsAccepted: accepted,
    },
  };
}

/** How many channels wait for what, and for how long the first of them. */
export function waitingOf(channels: readonly ChannelStatus[]): ShimStatus["waiting"] {
  const waiting = {
    upstream: { count: 0, longestMs: 0 },
    session: { count: 0, longestMs: 0 },
    answer: { count: 0, longestMs: 0 },
  };
  for (const { state, ageMs } of channels) {
    if (state.kind !== "waiting" || state.for === "client") continue;
    const sum = waiting[state.for];
    sum.count++;
    sum.longestMs = Math.max(sum.longestMs, ageMs);
  }
  return waiting;
}
