/**
 * Who is not read while too much waits for somebody else. Windows bound the data that is under way;
 * requests, replies and openings are bounded here, by not reading whoever sends them.
 */

import type { Schedule, Transport } from "./transport.ts";

/**
 * Upstream is not read while it has not taken this many answers to what it says, and this much waits
 * for it, in bytes. What clients have sent it does not count: two relays that wait for each other's
 * data would wait for ever.
 */
const untakenAnswers = 32_768;
const untakenAnswersBytes = 1024 * 1024;

/** While this much waits for a client, or for upstream, clients that send are not read; in bytes. */
const clientBacklogBytes = 8 * 1024 * 1024;
const upstreamBacklogBytes = 32 * 1024 * 1024;

/** While this much more waits for one client than its windows allow, upstream is not read. */
const fullClientBytes = 8 * 1024 * 1024;

/** How long a client may take nothing while everybody waits for it, in milliseconds. */
const patienceMs = 10_000;

/** What the requests of one client may hold that nobody has answered: how many, and their bytes. */
const pendingRequests = 256;
const pendingRequestBytes = 1024 * 1024;

/** A client's requests that wait for an answer. */
export class PendingRequests {
  #count = 0;
  #bytes = 0;

  get isTooMuch(): boolean {
    return this.#count >= pendingRequests || this.#bytes >= pendingRequestBytes;
  }

  /** A request waits; the returned function is called when it does not any more. */
  add(bytes: number): () => void {
    this.#count++;
    this.#bytes += bytes;
    return () => {
      this.#count--;
      this.#bytes -= bytes;
    };
  }
}

/** What is given to `Backpressure`. */
export interface BackpressureOptions {
  schedule: Schedule;
  /** The most data that upstream may have under way to a client, in bytes. */
  windowBytesOf(client: Transport): number;
  /** What waits for an upstream and was not sent to it yet, in bytes. */
  heldBytesOf(upstream: Transport): number;
  /** A client takes nothing while everybody waits for it. */
  onStuck(client: Transport): void;
}

/** Pauses and resumes the peers of one relay. */
export class Backpressure {
  /** Each with the number of our answers since it has taken what waited for it. */
  readonly #upstreams = new Map<Transport, number>();
  readonly #clients = new Map<Transport, PendingRequests>();
  readonly #paused = new Set<Transport>();
  /** Clients that upstream waits for, and what ends the watch over each. */
  readonly #full = new Map<Transport, () => void>();
  readonly #options: BackpressureOptions;

  constructor(options: BackpressureOptions) {
    this.#options = options;
  }

  addUpstream(upstream: Transport): void {
    this.#upstreams.set(upstream, 0);
  }

  removeUpstream(upstream: Transport): void {
    this.#upstreams.delete(upstream);
    this.#paused.delete(upstream);
    this.relax();
  }

  /** @returns where the client's requests that wait are counted. */
  addClient(client: Transport): PendingRequests {
    const pending = new PendingRequests();
    this.#clients.set(client, pending);
    return pending;
  }

  removeClient(client: Transport): void {
    this.#clients.delete(client);
    this.#paused.delete(client);
    this.#release(client);
    this.relax();
  }

  /** Whether a peer is not read for the sake of others. */
  isPaused(peer: Transport): boolean {
    return this.#paused.has(peer);
  }

  /** Upstream has taken what waited for it. */
  onUpstreamDrain(upstream: Transport): void {
    if (this.#upstreams.has(upstream)) this.#upstreams.set(upstream, 0);
    this.relax();
  }

  /** A client has sent a message, which was handled. */
  onClientMessage(client: Transport): void {
    if (this.#clients.has(client) && this.#mustWait(client)) this.#pause(client);
  }

  /** Upstream has sent a message, which was handled; `client` is whom it concerned. */
  onUpstreamMessage(
    upstream: Transport,
    { client, isAnswered }: { client: Transport | undefined; isAnswered: boolean },
  ): void {
    const answers = this.#upstreams.get(upstream);
    if (isAnswered && answers !== undefined) this.#upstreams.set(upstream, answers + 1);
    if (client && !this.#full.has(client) && client.backlogBytes > this.#fullBytes(client)) {
      this.#watch(client);
    }
    if (this.#upstreams.has(upstream) && this.#mustWait(upstream)) this.#pause(upstream);
  }

  /** Less waits for somebody than before. */
  relax(): void {
    for (const client of this.#full.keys()) {
      if (client.backlogBytes <= this.#fullBytes(client) / 2) this.#release(client);
    }
    for (const peer of this.#paused) {
      if (this.#mustWait(peer)) continue;
      this.#paused.delete(peer);
      peer.resume();
    }
  }

  #mustWait(peer: Transport): boolean {
    const answers = this.#upstreams.get(peer);
    if (answers !== undefined) {
      return this.#full.size > 0 ||
        (answers > untakenAnswers && peer.backlogBytes > untakenAnswersBytes);
    }
    return peer.backlogBytes > clientBacklogBytes || this.#clients.get(peer)?.isTooMuch === true ||
      this.#upstreams.keys().some((it) => this.#waitingBytes(it) > upstreamBacklogBytes);
  }

  #waitingBytes(upstream: Transport): number {
    return upstream.backlogBytes + this.#options.heldBytesOf(upstream);
  }

  #fullBytes(client: Transport): number {
    return this.#options.windowBytesOf(client) + fullClientBytes;
  }

  #pause(peer: Transport): void {
    this.#paused.add(peer);
    peer.pause();
  }

  #watch(client: Transport): void {
    const { backlogBytes } = client;
    const cancel = this.#options.schedule(patienceMs, () => {
      this.#full.delete(client);
      if (client.backlogBytes >= backlogBytes) this.#options.onStuck(client);
      else this.#watch(client);
    });
    this.#full.set(client, cancel);
  }

  #release(client: Transport): void {
    this.#full.get(client)?.();
    this.#full.delete(client);
  }
}
