/** Statuses as a page of metrics: OpenMetrics 1.0, which Prometheus and its like read. */

import { countedTypeOf } from "./channel_totals.ts";
import type { ShimStatus, UpstreamStateName } from "./status.ts";
import { channelsOf } from "./status_rates.ts";

/** What the page is, for HTTP. */
export const metricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Record<string, string>;

/** A value, with its labels beside `host`. */
type Sample = [labels: Labels, value: number];

/** A family of values; of a counter the name is without `_total`, of what has a unit it ends in it. */
interface Family {
  name: string;
  type: "counter" | "gauge";
  unit?: "bytes" | "seconds";
  help: string;
  samplesOf(status: ShimStatus): Sample[];
}

const states: readonly UpstreamStateName[] = [
  ...["idle", "connecting", "ready", "waiting", "asleep", "stopped", "closed"] as const,
];
const forwardStates = ["requested", "listening", "cancelling", "lost"] as const;
const carriers = ["port", "lane", "proxy", "host"] as const;

const families: readonly Family[] = [
  {
    name: "sshshim_upstream_state",
    type: "gauge",
    help: "Where the connection to the host stands: 1 for the state that it is in.",
    samplesOf: ({ upstream }) =>
      states.map((state) => [{ state }, Number(upstream.state === state)]),
  },
  {
    name: "sshshim_upstream_state_since_timestamp_seconds",
    type: "gauge",
    unit: "seconds",
    help: "When the connection came into this state, in seconds since 1970.",
    samplesOf: ({ upstream }) => [[{}, secondsOf(upstream.since)]],
  },
  {
    name: "sshshim_away",
    type: "gauge",
    help: "Whether the network is away and what runs is kept, with --resume; the state is ready.",
    samplesOf: ({ upstream: { away } }) => [[{}, Number(away !== null)]],
  },
  {
    name: "sshshim_away_since_timestamp_seconds",
    type: "gauge",
    unit: "seconds",
    help: "Since when, in seconds since 1970; absent while it is there.",
    samplesOf: ({ upstream: { away } }) => away === null ? [] : [[{}, secondsOf(away.since)]],
  },
  {
    name: "sshshim_round_trip_seconds",
    type: "gauge",
    unit: "seconds",
    help: "How long the host last took to answer a keepalive.",
    samplesOf: ({ upstream: { roundTrip } }) =>
      roundTrip === null ? [] : [[{}, roundTrip.milliseconds / 1000]],
  },
  {
    name: "sshshim_reconnections",
    type: "counter",
    help: "How many times a lost connection came back.",
    samplesOf: ({ totals }) => [[{}, totals.reconnections]],
  },
  {
    name: "sshshim_overflow_connections",
    type: "gauge",
    help: "Further connections to the host, for sessions.",
    samplesOf: ({ overflow }) => [[{}, overflow.connections.length]],
  },
  {
    name: "sshshim_session_limit",
    type: "gauge",
    help: "How many sessions the host allows on one connection, where that is known.",
    samplesOf: ({ upstream: { sessions } }) =>
      sessions.limit === null ? [] : [[{}, sessions.limit]],
  },
  {
    name: "sshshim_clients",
    type: "gauge",
    help: "Clients that are there, by how they come.",
    samplesOf: ({ clients }) =>
      carriers.map((carrier) => [
        { carrier },
        clients.filter((client) => client.carrier === carrier).length,
      ]),
  },
  {
    name: "sshshim_clients_accepted",
    type: "counter",
    help: "Clients that were let in.",
    samplesOf: ({ totals }) => [[{}, totals.clients.accepted]],
  },
  {
    name: "sshshim_clients_turned_away",
    type: "counter",
    help: "Connections that were not let in.",
    samplesOf: ({ totals }) => [[{}, totals.clients.turnedAway]],
  },
  {
    name: "sshshim_channels",
    type: "gauge",
    help: "Channels that are there, those that wait included.",
    samplesOf: (status) => {
      const types = Map.groupBy(channelsOf(status), ({ type }) => countedTypeOf(type));
      return status.totals.channels.map(({ type }) => [{ type }, types.get(type)?.length ?? 0]);
    },
  },
  {
    name: "sshshim_channels_opened",
    type: "counter",
    help: "Channels that were opened.",
    samplesOf: ({ totals }) => totals.channels.map(({ type, opened }) => [{ type }, opened]),
  },
  {
    name: "sshshim_channels_refused",
    type: "counter",
    help: "Channels that were asked for and not opened.",
    samplesOf: ({ totals }) => totals.channels.map(({ type, refused }) => [{ type }, refused]),
  },
  {
    name: "sshshim_channels_waiting",
    type: "gauge",
    help: "Channels that wait for the connection, for a free session, or for the host's answer.",
    samplesOf: ({ waiting }) =>
      Object.entries(waiting).map(([what, { count }]) => [{ for: what }, count]),
  },
  {
    name: "sshshim_longest_wait_seconds",
    type: "gauge",
    unit: "seconds",
    help: "How long the channel has waited that has waited longest.",
    samplesOf: ({ waiting }) =>
      Object.entries(waiting).map(([what, { longestMs }]) => [{ for: what }, longestMs / 1000]),
  },
  {
    name: "sshshim_forwards",
    type: "gauge",
    help: "Remote forwards.",
    samplesOf: ({ forwards }) =>
      forwardStates.map((state) => [
        { state },
        forwards.filter((forward) => forward.state === state).length,
      ]),
  },
  {
    name: "sshshim_relayed_bytes",
    type: "counter",
    unit: "bytes",
    help: "Data of channels.",
    samplesOf: ({ totals }) => [
      [{ direction: "to_host" }, totals.toHostBytes],
      [{ direction: "to_client" }, totals.toClientBytes],
    ],
  },
];

/** What is one process's, however many hosts it serves. */
const processFamilies: readonly Family[] = [
  {
    name: "sshshim_process_start_timestamp_seconds",
    type: "gauge",
    unit: "seconds",
    help: "When the process began, in seconds since 1970.",
    samplesOf: ({ process }) => [[{}, secondsOf(process.since)]],
  },
  {
    name: "sshshim_process_resident_memory_bytes",
    type: "gauge",
    unit: "bytes",
    help: "What the process has in memory.",
    samplesOf: ({ process }) => [[{}, process.rssBytes]],
  },
];

/** The page about all hosts of one process. */
export function metricsText(statuses: readonly ShimStatus[]): string {
  const [anyHost] = statuses;
  const lines = [
    ...processFamilies.flatMap((family) => [
      ...headOf(family),
      ...anyHost === undefined ? [] : linesOf(family, family.samplesOf(anyHost)),
    ]),
    ...families.flatMap((family) => [
      ...headOf(family),
      ...statuses.flatMap((status) =>
        linesOf(family, family.samplesOf(status), { host: status.name })
      ),
    ]),
    "# EOF",
  ];
  return `${lines.join("\n")}\n`;
}

function headOf({ name, type, unit, help }: Family): string[] {
  return [
    `# TYPE ${name} ${type}`,
    ...unit === undefined ? [] : [`# UNIT ${name} ${unit}`],
    `# HELP ${name} ${help}`,
  ];
}

function linesOf(
  { name, type }: Family,
  samples: readonly Sample[],
  common: Labels = {},
): string[] {
  const suffix = type === "counter" ? "_total" : "";
  return samples.map(([labels, value]) =>
    `${name}${suffix}${labelText({ ...common, ...labels })} ${value}`
  );
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function secondsOf(instant: string): number {
  return Date.parse(instant) / 1000;
}
