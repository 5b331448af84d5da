/** The hosts that are served, in one line of a terminal for the person who has started them. */

import { clip, widthOf } from "./fold.ts";
import { durationText, roundTripText, sizeText } from "./quantity_text.ts";
import { shownText } from "./shown_text.ts";
import type { ShimStatus } from "./status.ts";
import { channelsOf } from "./status_rates.ts";

/** Data per second, of all hosts. */
export interface Rates {
  toHostBytes: number;
  toClientBytes: number;
}

/** Nothing crosses. */
export const noRates: Rates = { toHostBytes: 0, toClientBytes: 0 };

/** Below this, in bytes per second, keystrokes would come and go in the line. */
const fewestShownBytes = 1000;

/** How much of a name is shown where there is little room, in columns. */
const shortNameColumns = 12;

const separator = " · ";

/** Of so many columns at most: what matters least is left out first, and nothing is wrapped. */
export function statusLineText(
  statuses: readonly ShimStatus[],
  { columns, rates }: { columns: number; rates: Rates },
): string {
  const shortNames = (status: ShimStatus) => clip(nameOf(status), shortNameColumns);
  const hosts = statuses.map((it) => `${nameOf(it)} ${stateOf(it)}`);
  const shortHosts = statuses.map((it) => `${shortNames(it)} ${stateOf(it)}`);
  const barestHosts = statuses.map((it) => `${shortNames(it)} ${shortStateOf(it)}`);
  const summary = summaryOf(statuses);
  const clients = count(statuses.reduce((sum, it) => sum + it.clients.length, 0), "client");
  const channels = statuses.reduce((sum, it) => sum + channelsOf(it).length, 0);
  const both = rateText(rates.toHostBytes + rates.toClientBytes);
  // The fullest first.
  const candidates = [
    [
      ...hosts,
      clients,
      ...channels === 0 ? [] : [count(channels, "channel")],
      ...rateText(rates.toHostBytes, "up "),
      ...rateText(rates.toClientBytes, "down "),
    ],
    [...hosts, clients, ...both],
    [...hosts, clients],
    [...shortHosts, clients, ...both],
    [...shortHosts, clients],
    shortHosts,
    barestHosts,
    [summary, clients, ...both],
    [summary, clients],
  ].map((parts) => parts.join(separator));
  return candidates.find((text) => widthOf(text) <= columns) ?? clip(summary, columns);
}

/** What has crossed per second between two statuses of the same hosts. */
export function ratesBetween(
  earlier: readonly ShimStatus[],
  later: readonly ShimStatus[],
): Rates {
  const [before, now] = [sumOf(earlier), sumOf(later)];
  const seconds = (now.time - before.time) / 1000;
  if (seconds <= 0) return noRates;
  return {
    toHostBytes: (now.toHostBytes - before.toHostBytes) / seconds,
    toClientBytes: (now.toClientBytes - before.toClientBytes) / seconds,
  };
}

function sumOf(statuses: readonly ShimStatus[]): Rates & { time: number } {
  const sum = { time: 0, toHostBytes: 0, toClientBytes: 0 };
  for (const { time, totals } of statuses) {
    sum.time = Date.parse(time);
    sum.toHostBytes += totals.toHostBytes;
    sum.toClientBytes += totals.toClientBytes;
  }
  return sum;
}

function nameOf({ name }: ShimStatus): string {
  return shownText(name);
}

/** Where the connection stands; while it is away, when it is tried again. */
function stateOf(status: ShimStatus): string {
  const { roundTrip, nextAttempt } = status.upstream;
  const state = shortStateOf(status);
  if (status.upstream.away !== null) return state;
  if (roundTrip !== null) return `${state} ${roundTripText(roundTrip.milliseconds)}`;
  const leftMs = nextAttempt === null ? 0 : Date.parse(nextAttempt) - Date.parse(status.time);
  if (leftMs <= 0) return state;
  const seconds = Math.ceil(leftMs / 1000);
  return `${state} ${seconds < 60 ? `${seconds} s` : durationText(leftMs)}`;
}

function shortStateOf({ upstream: { state, away } }: ShimStatus): string {
  if (away !== null) return "away";
  return state === "idle" ? "starting" : state;
}

function summaryOf(statuses: readonly ShimStatus[]): string {
  if (statuses.length === 1) return stateOf(statuses[0]!);
  const ready = statuses.filter(({ upstream }) =>
    upstream.state === "ready" && upstream.away === null
  );
  return `${ready.length} of ${statuses.length} ready`;
}

function count(number: number, noun: string): string {
  return `${number === 0 ? "no" : number} ${noun}${number === 1 ? "" : "s"}`;
}

/** One part of the line, or none. */
function rateText(bytesPerSecond: number, direction = ""): string[] {
  return bytesPerSecond < fewestShownBytes ? [] : [`${direction}${sizeText(bytesPerSecond)}/s`];
}
