/** Statuses as nothing has made them, for what shows them. */

import type { ChannelStatus, ExchangeStatus, ShimStatus } from "../../lib/status.ts";

/** In milliseconds. */
export const [minute, hour]: [number, number] = [60_000, 3_600_000];
const now = Date.parse("2026-11-27T16:12:00.000Z");
/** An instant so many milliseconds ago. */
export function ago(ms: number): string {
  return new Date(now - ms).toISOString();
}

/** What a key exchange has agreed on. */
export const exchange: ExchangeStatus = {
  keyExchange: "curve25519-sha256",
  isPostQuantum: false,
  hostKey: "ssh-ed25519",
  cipher: "aes128-ctr",
  mac: "hmac-sha2-256",
};

/** A session that is open. */
export function channel(number: number, facts: Partial<ChannelStatus> = {}): ChannelStatus {
  return {
    number,
    type: "session",
    openedBy: "client",
    since: ago(12 * minute),
    ageMs: 12 * minute,
    state: { kind: "live" },
    isOnOverflow: false,
    runs: null,
    hasTerminal: false,
    target: null,
    toHostBytes: 1234,
    toClientBytes: 30_400_000,
    toHostBytesPerSecond: null,
    toClientBytesPerSecond: null,
    ...facts,
  };
}

const nothing = { count: 0, longestMs: 0 };

/** A host that nobody uses. */
export const idle: ShimStatus = {
  version: 1,
  time: ago(0),
  process: { pid: 4000, since: ago(3 * hour), rssBytes: 88_123_456 },
  name: "prod",
  host: { hostName: "prod.example.com", port: 22, user: "deploy", address: "203.0.113.5" },
  local: { address: "127.0.0.1", port: 2222, sshNames: [] },
  upstream: {
    state: "asleep",
    since: ago(5000),
    nextAttempt: null,
    reason: "no client has come yet",
    away: null,
    exchange: null,
    roundTrip: null,
    sessions: { count: 0, limit: null, limitIs: null },
    losses: [],
  },
  overflow: { maximum: 0, connections: [] },
  clients: [],
  channelsWithoutClient: [],
  forwards: [],
  waiting: { upstream: nothing, session: nothing, answer: nothing },
  totals: {
    toHostBytes: 0,
    toClientBytes: 0,
    channels: [],
    clients: { accepted: 0, turnedAway: 0 },
    reconnections: 0,
  },
};
