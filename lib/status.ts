/**
 * What runs, as one plain object that can be written as JSON: the types of it, and hardly any code.
 *
 * Instants are texts of ISO 8601 in UTC, durations milliseconds, sizes bytes; `null` stands for what
 * is not known or not there. Texts that a peer may have chosen are cut and free of control
 * characters. `.github/status.schema.json` says the same to programs.
 */

/** Grows when something that is here gets another meaning or goes away, not when something is added. */
export const statusVersion = 1;

/** One host that is served. */
export interface ShimStatus {
  version: typeof statusVersion;
  /** When this was so. */
  time: string;
  process: ProcessStatus;
  /** As it was typed, without user and port. */
  name: string;
  host: HostStatus;
  local: LocalStatus;
  upstream: UpstreamStatus;
  overflow: OverflowStatus;
  clients: ClientStatus[];
  /** Channels of clients that have left, until the host has closed them, or that look for theirs. */
  channelsWithoutClient: ChannelStatus[];
  forwards: ForwardStatus[];
  /** Channels that the host has not opened yet. */
  waiting: Record<"upstream" | "session" | "answer", WaitingStatus>;
  totals: TotalsStatus;
}

/** The process, which may serve other hosts too. */
export interface ProcessStatus {
  pid: number;
  since: string;
  /** What it has in memory. */
  rssBytes: number;
}

/** The remote host. */
export interface HostStatus {
  hostName: string;
  port: number;
  user: string;
  /** Where it was reached last, where nothing is between. */
  address: string | null;
}

/** Where clients connect. */
export interface LocalStatus {
  address: string;
  port: number;
  /** The names by which ssh finds it. */
  sshNames: string[];
}

/** Where the connection stands. */
export type UpstreamStateName =
  | "idle"
  | "connecting"
  | "ready"
  | "waiting"
  | "asleep"
  | "stopped"
  | "closed";

/** The one connection to the host. */
export interface UpstreamStatus {
  state: UpstreamStateName;
  /** Since when it has been in this state. */
  since: string;
  /** Where it waits: when it is tried again, if nobody wants it before. */
  nextAttempt: string | null;
  /** Why it is not there. */
  reason: string | null;
  /** With `--resume`: the network is away, and what runs is kept; the state is `ready` then. */
  away: AwayStatus | null;
  exchange: ExchangeStatus | null;
  roundTrip: RoundTripStatus | null;
  sessions: SessionsStatus;
  /** The last times that it was lost, the newest last. */
  losses: LossStatus[];
}

/** A time without network that the connection outlives. */
export interface AwayStatus {
  since: string;
  reason: string;
}

/** What a key exchange has agreed on. */
export interface ExchangeStatus {
  keyExchange: string;
  isPostQuantum: boolean;
  hostKey: string;
  cipher: string;
  /** `null` where the cipher needs none. */
  mac: string | null;
}

/** How far the host is away: the time until it answers a keepalive. */
export interface RoundTripStatus {
  milliseconds: number;
  /** When it was measured. */
  time: string;
}

/** The sessions that the host allows on one connection. */
export interface SessionsStatus {
  /** Those of the one connection, asked for or open. */
  count: number;
  limit: number | null;
  /** `set` by an option, or `learned` from the host. */
  limitIs: "set" | "learned" | null;
}

/** A time without connection. */
export interface LossStatus {
  since: string;
  reason: string;
  endedBy: "server" | "network" | "us";
  /** Until it was back, or until now. */
  awayMs: number;
  /** How many times it was tried. */
  attempts: number;
  /** Who started the attempt that brought it back; `null` while it is away. */
  backBy: AttemptCause | null;
}

/** Why the host is tried: it was time, a client came, or a person or a wake-up of the machine. */
export type AttemptCause = "timer" | "client" | "person";

/** The further connections. */
export interface OverflowStatus {
  /** How many there may be. */
  maximum: number;
  connections: OverflowConnectionStatus[];
}

/** One further connection. */
export interface OverflowConnectionStatus {
  since: string;
  channels: number;
  exchange: ExchangeStatus | null;
  roundTrip: RoundTripStatus | null;
}

/** How a client comes: at the local port, through a socket of ours, or from a host behind this one. */
export type Carrier = "port" | "lane" | "proxy" | "host";

/** A client that is let in. */
export interface ClientStatus {
  id: number;
  carrier: Carrier;
  since: string;
  /** Its own end of the connection. */
  address: string | null;
  /** The user name that it gave. */
  user: string | null;
  /** The fingerprint of the key by which it was let in. */
  key: string | null;
  exchange: ExchangeStatus | null;
  program: ProgramStatus | null;
  channels: ChannelStatus[];
}

/** Whose process a client is. */
export interface ProgramStatus {
  uid: number;
  pid: number | null;
  /** The program's file, or where that is hidden its name */
  name: string | null;
}

/** A channel. */
export interface ChannelStatus {
  /** No other has it as long as the process lives. */
  number: number;
  type: string;
  openedBy: "client" | "host";
  since: string;
  ageMs: number;
  state: ChannelStateStatus;
  /** Whether a further connection carries it. */
  isOnOverflow: boolean;
  /** Of a session. */
  runs: RunsStatus | null;
  hasTerminal: boolean;
  /** Where a forwarded connection leads, or for one that the host opens, where it came in. */
  target: string | null;
  toHostBytes: number;
  toClientBytes: number;
  /** `null` in one status; two of them tell. */
  toHostBytesPerSecond: number | null;
  toClientBytesPerSecond: number | null;
}

/** What a session has asked for. */
export type RunsStatus =
  | { kind: "shell" }
  | { kind: "command" | "subsystem"; text: string };

/**
 * Where a channel stands:
 * - `waiting`: for upstream, for a free session there, for the host's answer or for the client's;
 * - `live`; `half-closed`: one end sends no more;
 * - `closing`: closed in one direction.
 */
export type ChannelStateStatus =
  | { kind: "waiting"; for: "upstream" | "session" | "answer" | "client" }
  | { kind: "live" }
  | { kind: "half-closed"; by: "client" | "host" | "both" }
  | { kind: "closing" };

/** A remote forward. */
export interface ForwardStatus {
  kind: "tcpip" | "streamlocal";
  /** The address and port, or the path. */
  place: string;
  /** `lost`: it went with a connection, and is being brought back. */
  state: "requested" | "listening" | "cancelling" | "lost";
  since: string;
  /** The client that has it; `null` once it has left. */
  client: number | null;
}

/** Channels that wait. */
export interface WaitingStatus {
  count: number;
  /** How long the one has waited that has waited longest. */
  longestMs: number;
}

/** What has been counted since the start. */
export interface TotalsStatus {
  /** Data of channels. */
  toHostBytes: number;
  toClientBytes: number;
  channels: ChannelTotalsStatus[];
  clients: { accepted: number; turnedAway: number };
  /** How many times a lost connection came back. */
  reconnections: number;
}

/** The channels of one type; the rare types are `other`. */
export interface ChannelTotalsStatus {
  type: string;
  opened: number;
  refused: number;
}
