/** The status of one host that is served, put together from what its parts tell. */

import type { HostConfig } from "./host_config.ts";
import { type ClientAbout, type RelayStatus, waitingOf } from "./relay_status.ts";
import {
  type ClientStatus,
  type LocalStatus,
  type OverflowStatus,
  type ProgramStatus,
  type SessionsStatus,
  type ShimStatus,
  statusVersion,
} from "./status.ts";
import type { UpstreamOwnStatus } from "./upstream.ts";

/** When the process began. */
const processSince = new Date().toISOString();

/** What a status is made of. */
export interface StatusParts {
  config: HostConfig;
  local: LocalStatus;
  relay: RelayStatus;
  upstream: UpstreamOwnStatus;
  overflow: OverflowStatus;
  /** How many sessions the host allows, by an option. */
  maxSessions: number | undefined;
  turnedAwayCount: number;
  /** Whose processes the clients are, as far as it was asked. */
  programs: ReadonlyMap<ClientAbout, ProgramStatus | undefined>;
}

/** Puts the parts together. */
export function composeStatus(parts: StatusParts): ShimStatus {
  const { config, local, relay, overflow, maxSessions, turnedAwayCount, programs } = parts;
  const { address, reconnections, ...upstream } = parts.upstream;
  const { toHostBytes, toClientBytes, channels, clientsAccepted } = relay.totals;
  const clients = relay.clients.map(({ about, channels }): ClientStatus => {
    const { findProgram: _, ...facts } = about;
    return { ...facts, program: programs.get(about) ?? null, channels };
  });
  const all = [...clients.flatMap((it) => it.channels), ...relay.channelsWithoutClient];
  return {
    version: statusVersion,
    time: new Date().toISOString(),
    process: { pid: Deno.pid, since: processSince, rssBytes: Deno.memoryUsage().rss },
    name: config.alias,
    host: { hostName: config.hostName, port: config.port, user: config.user, address },
    local,
    upstream: { ...upstream, sessions: sessionsOf(relay.sessions, maxSessions) },
    overflow,
    clients,
    channelsWithoutClient: relay.channelsWithoutClient,
    forwards: relay.forwards,
    waiting: waitingOf(all),
    totals: {
      toHostBytes,
      toClientBytes,
      channels,
      clients: { accepted: clientsAccepted, turnedAway: turnedAwayCount },
      reconnections,
    },
  };
}

/** Asks whose processes clients are. */
export async function findPrograms(
  { clients }: RelayStatus,
): Promise<Map<ClientAbout, ProgramStatus | undefined>> {
  return new Map(
    await Promise.all(
      clients.map(async ({ about }) => [about, await about.findProgram?.()] as const),
    ),
  );
}

function sessionsOf(
  { count, limit }: RelayStatus["sessions"],
  maxSessions: number | undefined,
): SessionsStatus {
  if (limit === Infinity) return { count, limit: null, limitIs: null };
  return { count, limit, limitIs: limit === maxSessions ? "set" : "learned" };
}
