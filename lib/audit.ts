/**
 * The audit of one host's clients: who came, what they opened and asked for, how much crossed and
 * what was refused, each as one JSON object; never what was in it.
 */

import { jsonLine } from "./log.ts";
import type { Observe, RelayEvent } from "./relay_events.ts";
import type { Peer } from "./transport.ts";

/** Longer texts are cut: a peer may have chosen them. In characters. */
const longestText = 512;

/** What is known of a client. */
export interface ClientFacts {
  /** Its number, by which all that it does is told. */
  client: number;
  /** Its port on loopback; absent where it came by the control socket. */
  port: number | undefined;
  /** The user name that it gave. */
  username: string;
  /** Whose process it is, and which. */
  uid?: number;
  pid?: number;
  program?: string;
  /** The programs that started it, the next one first. */
  parents?: string[];
  /** The key by which it was let in. */
  key?: string;
}

/** A client that is there. */
interface ClientRecord {
  client: number;
  since: number;
  /** When its open channels were opened, by their numbers. */
  channels: Map<number, number>;
  toHostBytes: number;
  toClientBytes: number;
}

/** Writes the lines. */
export class Audit {
  readonly #write: (line: string) => void;
  readonly #host: string;
  readonly #clients = new Map<Peer, ClientRecord>();
  #isStarted = false;

  /** @param host the remote host, which each line names. */
  constructor(write: (line: string) => void, host: string) {
    this.#write = write;
    this.#host = host;
  }

  /** Clients are taken at a local port. */
  onStart(localPort: number): void {
    this.#isStarted = true;
    this.#tell({ event: "start", pid: Deno.pid, localPort });
  }

  /** All clients have been ended. */
  onEnd(reason: string): void {
    if (this.#isStarted) this.#tell({ event: "end", reason });
  }

  /** A client is let in. */
  onClient(client: Peer, facts: ClientFacts): void {
    this.#clients.set(client, {
      client: facts.client,
      since: performance.now(),
      channels: new Map(),
      toHostBytes: 0,
      toClientBytes: 0,
    });
    this.#tell({ event: "client-open", ...facts });
  }

  /** A client that has authenticated is not let in. */
  onClientRefused(facts: ClientFacts, reason: string): void {
    this.#tell({ event: "client-refused", ...facts, reason });
  }

  /** Connections that were turned away before they said anything; `phrase` says whose or why. */
  onTurnedAway(phrase: string, count: number): void {
    this.#tell({ event: "connections-refused", count, reason: phrase });
  }

  /**
   * A client has left, and all of its channels are closed.
   *
   * @param reason why we ended it, if we did.
   */
  onClientLeft(client: Peer, reason: string | undefined): void {
    const record = this.#clients.get(client);
    if (record === undefined) return;
    this.#clients.delete(client);
    const { since, channels: _, ...facts } = record;
    this.#tell({ event: "client-close", ...facts, durationMs: durationSince(since), reason });
  }

  /** Takes what the relay tells. */
  readonly observe: Observe<Peer> = (client, event) => {
    const record = client && this.#clients.get(client);
    this.#tell({ client: record?.client, ...event, ...record && this.#note(record, event) });
  };

  /** Keeps what the ends of a channel and of its client tell; returns what only time tells. */
  #note(record: ClientRecord, event: RelayEvent): { durationMs?: number } {
    if (event.event === "channel-open") {
      record.channels.set(event.channel, performance.now());
    } else if (event.event === "channel-close") {
      const since = record.channels.get(event.channel);
      record.channels.delete(event.channel);
      record.toHostBytes += event.toHostBytes;
      record.toClientBytes += event.toClientBytes;
      if (since !== undefined) return { durationMs: durationSince(since) };
    }
    return {};
  }

  #tell({ event, ...facts }: { event: string } & Record<string, unknown>): void {
    this.#write(auditLine({ event, host: this.#host, ...facts }));
  }
}

/** A line, with the time before all else. */
function auditLine(facts: Record<string, unknown>): string {
  return jsonLine(shortened({ time: new Date().toISOString(), ...facts }) as object);
}

/** The line that tells how many others are missing. */
export function lostLine(count: number): string {
  return auditLine({ event: "lines-lost", count });
}

function shortened(value: unknown): unknown {
  if (typeof value === "string") {
    return value.length <= longestText ? value : `${value.slice(0, longestText)}…`;
  }
  if (Array.isArray(value)) return value.map(shortened);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, it]) => [key, shortened(it)]));
}

function durationSince(since: number): number {
  return Math.round(performance.now() - since);
}
