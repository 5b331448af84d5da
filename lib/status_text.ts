/** A status as text for people, in ASCII but for what others have chosen. */

import { clip, fold, widthOf } from "./fold.ts";
import { durationText, roundTripText, sizeText } from "./quantity_text.ts";
import { channelsOf } from "./status_rates.ts";
import type {
  ChannelStatus,
  ClientStatus,
  LossStatus,
  ShimStatus,
  UpstreamStateName,
  UpstreamStatus,
} from "./status.ts";

/** From this width on, in columns, channels stand in a table. */
const fewestTableColumns = 60;

/** How much of a channel's purpose a table shows at least, in columns. */
const fewestPurposeColumns = 20;

const indentation = "  ";

/** All of a status, in lines of at most so many columns; ends with a newline. */
export function statusText(status: ShimStatus, { columns = 80 } = {}): string {
  const { clients, channelsWithoutClient, forwards } = status;
  const layout = layoutFor(status, columns);
  const now = Date.parse(status.time);
  return [
    ...hang(headOf(status), columns),
    ...upstreamLines(status).flatMap((line) => hang(line, columns, indentation)),
    ...clients.length === 0 ? hang("no clients", columns, indentation) : layout.head,
    ...clients.flatMap((client) => [
      ...hang(clientText(client, now), columns),
      ...client.channels.flatMap(layout.lines),
    ]),
    ...channelsWithoutClient.length > 0 ? hang("of clients that have left", columns) : [],
    ...channelsWithoutClient.flatMap(layout.lines),
    ...forwards.length > 0 ? hang("remote forwards", columns) : [],
    ...forwards.flatMap(({ place, state, client }) => {
      const whose = client === null ? "a client that has left" : `client ${client}`;
      const words = state === "listening" ? "" : state === "lost" ? ", lost" : `, ${state}`;
      return hang(`${place} of ${whose}${words}`, columns, indentation);
    }),
    "",
  ].join("\n");
}

/** A line for each host that is served, under a line of names; ends with a newline. */
export function listText(statuses: readonly ShimStatus[]): string {
  const rows = statuses.map((status) => [
    status.local.sshNames[0] ?? status.name,
    hostOf(status),
    addressOf(status),
    status.upstream.away === null ? shortStates[status.upstream.state] : "away",
    String(status.clients.length),
    durationText(Date.parse(status.time) - Date.parse(status.process.since)),
  ]);
  return table([["NAME", "HOST", "ADDRESS", "STATE", "CLIENTS", "UP FOR"], ...rows])
    .map((line) => `${line}\n`).join("");
}

const shortStates: Record<UpstreamStateName, string> = {
  idle: "starting",
  connecting: "connecting",
  ready: "connected",
  waiting: "lost",
  asleep: "asleep",
  stopped: "stopped",
  closed: "closed",
};

function headOf(status: ShimStatus): string {
  const names = status.local.sshNames.map((name) => `, ssh ${name}`).join("");
  return `${status.name}: ${hostOf(status)} at ${addressOf(status)}${names}`;
}

function hostOf({ host: { user, hostName, port } }: ShimStatus): string {
  return `${user}@${bracketed(hostName)}:${port}`;
}

function addressOf({ local: { address, port } }: ShimStatus): string {
  return `${bracketed(address)}:${port}`;
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

function upstreamLines(status: ShimStatus): string[] {
  const { upstream, overflow, waiting, process } = status;
  const now = Date.parse(status.time);
  const { exchange, sessions, reason } = upstream;
  const waits = [
    count(waiting.upstream, "for the connection"),
    count(waiting.session, "for a free session"),
    count(waiting.answer, "for the host's answer"),
  ].filter((text) => text !== undefined);
  const limit = sessions.limit === null ? "" : ` of ${sessions.limit}`;
  const limitIs = sessions.limitIs === null ? "" : ` (${sessions.limitIs})`;
  const { maximum, connections } = overflow;
  const further = maximum === 0 ? "" : `, ${connections.length} of ${maximum} further connections`;
  return [
    `${stateText(upstream, now)}${reason === null ? "" : `: ${reason}`}`,
    ...exchange === null ? [] : [
      `${exchange.keyExchange}${exchange.isPostQuantum ? "" : " (not post-quantum)"}, ` +
      `${exchange.hostKey}, ${exchange.cipher}${exchange.mac === null ? "" : `, ${exchange.mac}`}`,
    ],
    `${sessions.count}${limit} sessions${limitIs}${further}`,
    ...waits.length === 0 ? [] : [`waiting: ${waits.join(", ")}`],
    ...lossText(upstream.losses, now),
    `process ${process.pid} for ${duration(now - Date.parse(process.since))}, ` +
    `${glued(sizeText(process.rssBytes))} of memory`,
  ];
}

function stateText(
  { state, since, nextAttempt, roundTrip, away }: UpstreamStatus,
  now: number,
): string {
  if (away !== null) {
    const time = duration(now - Date.parse(away.since));
    return `the connection is away for ${time}, sessions are kept: ${away.reason}`;
  }
  const time = duration(now - Date.parse(since));
  switch (state) {
    case "ready": {
      const ms = roundTrip?.milliseconds;
      const distance = ms === undefined ? "" : `, round trip ${glued(roundTripText(ms))}`;
      return `connected for ${time}${distance}`;
    }
    case "waiting": {
      const left = Math.max(0, Date.parse(nextAttempt ?? since) - now);
      return `lost, tried again in ${duration(left)}`;
    }
    case "asleep":
      return `asleep for ${time} until a client comes`;
    case "stopped":
      return `stopped for ${time}, and not tried again before SIGUSR2`;
    case "idle":
    case "connecting":
    case "closed":
      return `${shortStates[state]} for ${time}`;
    default:
      return state satisfies never;
  }
}

const causes = { timer: "by itself", client: "for a client", person: "on demand" };

function lossText(losses: readonly LossStatus[], now: number): string[] {
  const last = losses.at(-1);
  if (last === undefined) return [];
  const { since, awayMs, backBy, reason } = last;
  const times = losses.length === 1 ? "once" : `${losses.length} times`;
  const ago = `${duration(now - Date.parse(since))} ago`;
  // While it is away the state says the rest.
  if (backBy === null) return [`lost ${times}, last ${ago}`];
  return [
    `lost ${times}, last ${ago} for ${duration(awayMs)}, back ${causes[backBy]}: ${reason}`,
  ];
}

function count(
  { count, longestMs }: { count: number; longestMs: number },
  words: string,
): string | undefined {
  return count === 0 ? undefined : `${count} ${words} (${duration(longestMs)})`;
}

const carriers = {
  port: "",
  lane: ", by the control socket",
  proxy: ", by the control socket",
  host: ", a host behind this one",
};

function clientText(
  { id, carrier, program, address, user, since }: ClientStatus,
  now: number,
): string {
  const name = program?.name ?? (program === null ? undefined : `user ${program.uid}`);
  const its = program?.pid ?? undefined;
  return [
    `client ${id}${carriers[carrier]}`,
    ...name === undefined ? [] : [its === undefined ? name : `${name} (pid ${its})`],
    ...address === null ? [] : [`from ${address}`],
    ...user === null ? [] : [`as ${user}`],
    `for ${duration(now - Date.parse(since))}`,
  ].join(", ");
}

/** How channels are shown: the lines before all of them, and those of one. */
interface Layout {
  head: string[];
  lines(channel: ChannelStatus): string[];
}

function layoutFor(status: ShimStatus, columns: number): Layout {
  const sentences: Layout = {
    head: [],
    lines: (channel) => hang(sentence(channel, columns), columns, indentation),
  };
  const channels = channelsOf(status);
  if (columns < fewestTableColumns || channels.length === 0) return sentences;
  const names = ["TO HOST", "FROM HOST", "FOR"];
  const rows = channels.map(quantitiesOf);
  const widths = names.map((name, at) =>
    Math.max(name.length, ...rows.map((row) => row[at]!.length))
  );
  const numberWidth = Math.max(...channels.map(({ number }) => String(number).length));
  const taken = indentation.length + numberWidth + 1 +
    widths.reduce((sum, width) => sum + indentation.length + width, 0);
  const room = columns - taken;
  if (room < fewestPurposeColumns) return sentences;
  const line = (number: string, purpose: string, quantities: readonly string[]) =>
    [
      `${indentation}${number.padStart(numberWidth)} ${padded(purpose, room)}`,
      ...quantities.map((text, at) => text.padStart(widths[at]!)),
    ].join(indentation);
  return {
    head: [line("", "", names)],
    lines: (channel) => [
      line(String(channel.number), purposeOf(channel, room), quantitiesOf(channel)),
    ],
  };
}

function quantitiesOf(channel: ChannelStatus): string[] {
  const { toHostBytes, toClientBytes, ageMs } = channel;
  return [
    sizeText(toHostBytes) + rateText(channel.toHostBytesPerSecond),
    sizeText(toClientBytes) + rateText(channel.toClientBytesPerSecond),
    durationText(ageMs),
  ];
}

function sentence(channel: ChannelStatus, columns: number): string {
  const [toHost, fromHost, age] = quantitiesOf(channel).map(glued);
  const purpose = purposeOf(channel, columns);
  return `${channel.number} ${purpose}: ${toHost} to the host, ${fromHost} from it, ${age}`;
}

function rateText(rate: number | null): string {
  return rate === null || rate === 0 ? "" : `, ${sizeText(rate)}/s`;
}

/** What a channel is for, which is cut where it has to be, and where it stands. */
function purposeOf(channel: ChannelStatus, columns: number): string {
  const { hasTerminal, isOnOverflow } = channel;
  const rest = [
    hasTerminal ? " (terminal)" : "",
    ...isOnOverflow ? ["further connection"] : [],
    ...stateOf(channel),
  ].join(", ");
  return clip(clip(whatOf(channel), Math.max(8, columns - rest.length)) + rest, columns);
}

function whatOf({ type, runs, target, openedBy }: ChannelStatus): string {
  if (runs?.kind === "shell") return "shell";
  if (runs) return runs.kind === "command" ? runs.text : `${runs.text} (subsystem)`;
  if (target !== null) return openedBy === "client" ? `to ${target}` : `from ${target}`;
  return type;
}

const waits = {
  upstream: "waits for the connection",
  session: "waits for a free session",
  answer: "waits for the host",
  client: "waits for the client",
};

function stateOf({ state }: ChannelStatus): string[] {
  switch (state.kind) {
    case "live":
      return [];
    case "waiting":
      return [waits[state.for]];
    case "half-closed":
      return ["half closed"];
    case "closing":
      return ["closing"];
    default:
      return state satisfies never;
  }
}

/** Lines of a text; those after the first stand further in. */
function hang(text: string, columns: number, before = ""): string[] {
  const inner = `${before}${indentation}`;
  const [first, ...others] = fold(text, columns - inner.length);
  return [`${before}${first}`, ...others.map((line) => `${inner}${line}`)]
    .map((line) => line.replaceAll(glue, " "));
}

/** Stands for a space at which no line ends; no text of others has one. */
const glue = "\x1f";

function glued(text: string): string {
  return text.replaceAll(" ", glue);
}

function duration(ms: number): string {
  return glued(durationText(ms));
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, at) => Math.max(...rows.map((row) => widthOf(row[at]!))));
  return rows.map((row) =>
    row.map((cell, at) => padded(cell, widths[at]!)).join(indentation).trimEnd()
  );
}

function padded(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - widthOf(text)));
}
