/** What `ssh -O conninfo` and `ssh -O channels` show, in the manner of ssh. */

import { durationText, sizeText } from "./quantity_text.ts";
import type { ChannelStatus, ShimStatus } from "./status.ts";
import { channelsOf } from "./status_rates.ts";

/** @returns `undefined` where there is no such information. */
export function informationOf(name: string, status: ShimStatus): string | undefined {
  switch (name) {
    case "connection":
      return lines(connectionLines(status));
    case "channels":
      return lines(["The following connections are open:", ...channelsOf(status).map(channelLine)]);
    default:
      return undefined;
  }
}

function connectionLines({ host, upstream, process, totals, ...status }: ShimStatus): string[] {
  const { exchange, state, reason } = upstream;
  const since = durationText(Date.parse(status.time) - Date.parse(upstream.since));
  return [
    `Connection information for ${host.user}@${host.hostName} pid ${process.pid}`,
    ...host.address === null ? [] : [`  connected to ${host.address} port ${host.port}`],
    `  state ${state} for ${since}${reason === null ? "" : `: ${reason}`}`,
    ...exchange === null ? [] : [
      `  kexalgorithm ${exchange.keyExchange}`,
      `  hostkeyalgorithm ${exchange.hostKey}`,
      `  cipher ${exchange.cipher}`,
      ...exchange.mac === null ? [] : [`  mac ${exchange.mac}`],
      "  compression none",
    ],
    `  traffic in ${sizeText(totals.toClientBytes)} out ${sizeText(totals.toHostBytes)}`,
    `  clients ${status.clients.length}`,
  ];
}

function channelLine(channel: ChannelStatus): string {
  const { number, type, openedBy, state, toHostBytes, toClientBytes, runs, target } = channel;
  const isFor = runs === null ? target : runs.kind === "shell" ? "shell" : runs.text;
  return [
    `  #${number} ${openedBy === "client" ? "client" : "server"}-${type}`,
    ` (${state.kind} i${toClientBytes} o${toHostBytes}`,
    `${channel.hasTerminal ? " tty" : ""})${isFor === null ? "" : `: ${isFor}`}`,
  ].join("");
}

function lines(all: string[]): string {
  return all.map((line) => `${line}\n`).join("");
}
