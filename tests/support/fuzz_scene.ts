/** A relay between peers that behave, for one case of the fuzzer, and what must hold in it. */

import assert from "node:assert/strict";
import { FuzzClient, FuzzUpstream } from "./fuzz_peers.ts";
import type { Trace } from "./fuzz_trace.ts";
import { maximumAheadBytes } from "../../lib/ahead.ts";
import { type MemoryPeer, World } from "./memory.ts";
import type { Line, Model, Pairs, Random } from "./models.ts";

/** Keys name channels at both ends; no number that a mutation makes should be one by chance. */
const firstKey = 1_000_000_000;

/** More rounds than anything that ends needs. */
const longestSweep = 2000;

/** Sessions that were all refused are tried again, one after this time, until upstream takes it. */
const retryMs = 1000;
const mostRetries = 1000;

/** What a client may have at most, so that the limits are met. */
const limits = { channels: 20 };

/** What a bystander forwards. */
const forward = { bindAddress: "", port: 7000 };

/** The two ends of a channel. */
export interface Ends {
  client: Line;
  upstream: Line;
}

/** Every model of one case. */
export class Scene {
  readonly random: Random;
  readonly trace: Trace;
  readonly world: World;
  upstream: FuzzUpstream;
  readonly #pairs: Pairs = new Map();
  readonly #clients = new Set<FuzzClient>();
  readonly #said = new Map<Model, Uint8Array[]>();
  #lastKey = firstKey;
  readonly #nextKey = () => ++this.#lastKey;

  /** @param sessions how many upstream allows at a time. */
  constructor(random: Random, trace: Trace, { sessions = Infinity } = {}) {
    this.random = random;
    this.trace = trace;
    this.world = new World(
      {
        ...limits,
        sessions,
        warm: random.chance(0.5),
        aheadBytes: random.pick([0, 5000, maximumAheadBytes]),
      },
      { answersPings: random.chance(0.8) },
      { isPaced: random.chance(0.5) },
    );
    this.upstream = this.#newUpstream(this.world.upstream);
  }

  /** A client that behaves. */
  join(name: string): FuzzClient {
    const shared = { pairs: this.#pairs, nextKey: this.#nextKey };
    const peer = this.world.client(name);
    const said = this.trace.watch(peer);
    const client = new FuzzClient(peer, this.random, shared);
    this.#said.set(client, said);
    this.#clients.add(client);
    return client;
  }

  /** A client is gone; may be said twice of one. */
  leave(client: FuzzClient): void {
    client.peer.leave();
    this.trace.note(`${client.peer.name} leaves`);
    this.#clients.delete(client);
  }

  /** Everything that a peer has said, and will say. */
  said(model: Model): Uint8Array[] {
    return this.#said.get(model)!;
  }

  /** Upstream is gone; until `connect` it must not be used. */
  loseUpstream(): void {
    this.trace.note("upstream is lost");
    for (const client of this.#clients) client.onLost([...this.upstream.lines.values()]);
    const { relay } = this.world;
    relay.detachUpstream("lost");
    if (this.random.chance(0.8)) return;
    relay.refuseOpens("stopped");
    if (this.random.chance(0.5)) relay.awaitUpstream();
  }

  /** Another upstream is there. */
  connect(): void {
    this.trace.note("another upstream");
    const answersPings = this.random.chance(0.8);
    const { refusalChance } = this.upstream;
    this.upstream = this.#newUpstream(this.world.attach(undefined, { answersPings }));
    this.upstream.refusalChance = refusalChance;
  }

  /** A further upstream is there, for sessions. */
  attachOverflow(): FuzzUpstream {
    this.trace.note("a further upstream");
    for (const client of this.#clients) client.hasOneUpstream = false;
    const answersPings = this.random.chance(0.8);
    return this.#newUpstream(this.world.attachOverflow({ answersPings }), { isOverflow: true });
  }

  /** A further upstream is gone. */
  loseOverflow(overflow: FuzzUpstream): void {
    this.trace.note("the further upstream is lost");
    for (const client of this.#clients) client.onLost([...overflow.lines.values()]);
    this.world.relay.detachOverflow(overflow.peer, "lost");
  }

  #newUpstream(peer: MemoryPeer, { isOverflow = false } = {}): FuzzUpstream {
    const said = this.trace.watch(peer);
    const shared = { pairs: this.#pairs, nextKey: this.#nextKey, isOverflow };
    const upstream = new FuzzUpstream(peer, this.random, shared);
    this.#said.set(upstream, said);
    return upstream;
  }

  /** A client turns: what it sends on its channels need not be what it would have sent. */
  doubtChannelsOf(client: FuzzClient): void {
    for (const [key, pair] of this.#pairs) {
      if (!pair.client || !client.made.has(pair.client)) continue;
      if (pair.upstream) pair.upstream.isCut = true;
      this.#pairs.delete(key);
    }
  }

  /** Somebody who behaves does something. */
  step(...models: Model[]): void {
    const model = this.random.pick(models);
    if (this.random.chance(0.01)) this.#congest(model.peer);
    if (this.random.chance(0.5)) model.hear();
    else model.act();
    this.check(...models);
  }

  /** Much waits for a peer, or no more. */
  #congest(peer: MemoryPeer): void {
    this.trace.note(`${peer.name} is slow, or fast again`);
    if (peer.backlogBytes > 0) peer.drain();
    else peer.backlogBytes = this.random.pick([2 ** 20, 2 ** 20 + 1, 9 * 2 ** 20, 40 * 2 ** 20]);
  }

  /** Nobody who behaves was ended, or told anything that is not allowed. */
  check(...models: Model[]): void {
    for (const { peer } of models) {
      if (peer.fault) throw peer.fault;
      assert.equal(peer.ending, undefined, peer.name);
      assert.equal(peer.unimplementedCount, 0, peer.name);
    }
  }

  /** A peer that does not behave is well, or was ended for what it did; its ears are in order. */
  checkHostile({ peer }: Model): void {
    if (peer.fault) throw peer.fault;
    if (peer.ending === undefined) return;
    assert.equal(peer.ending.reasonCode, 2);
    assert.doesNotMatch(peer.ending.description, /internal error/);
  }

  /** These models do all that is due, until nothing moves. */
  sweep(...models: Model[]): void {
    for (const { peer } of models) peer.drain();
    for (let count = 0, isMoving = true; isMoving; count++) {
      assert(count < longestSweep, "no end in sight");
      isMoving = this.upstream.reply();
      for (const model of models) {
        while (model.hear()) isMoving = true;
        for (const line of [...model.lines.values()]) {
          if (model.actOn(line, { isEager: true })) isMoving = true;
        }
      }
      this.check(...models);
    }
  }

  /** A client opens a channel that is to stay, and upstream agrees. */
  establish(client: FuzzClient, options: { isSession: boolean }): Ends {
    const { refusalChance } = this.upstream;
    this.upstream.refusalChance = 0;
    const line = client.open(options);
    line.staysOpen = true;
    for (let count = 0; count < longestSweep; count++) {
      this.#keepGoing(client);
      const upstream = this.#pairs.get(line.key)?.upstream;
      if (line.state !== "open" || upstream === undefined) continue;
      upstream.staysOpen = true;
      if (options.isSession && this.random.chance(0.5)) client.requestDisplay(line);
      this.upstream.refusalChance = refusalChance;
      return { client: line, upstream };
    }
    throw new Error(`${client.peer.name} cannot open a channel`);
  }

  /** A client forwards a port, and upstream agrees. */
  establishForward(client: FuzzClient): void {
    const { refusalChance } = this.upstream;
    this.upstream.refusalChance = 0;
    client.ask("tcpip-forward", { ...forward, wantReply: true });
    this.#keepGoing(client);
    while (this.upstream.reply());
    this.upstream.refusalChance = refusalChance;
  }

  /** Whoever connects to the port that a client forwards comes out at that client. */
  expectForward(client: FuzzClient): void {
    const { key } = this.upstream.openForwarded(forward.bindAddress, forward.port);
    this.#keepGoing(client);
    const taken = this.#pairs.get(key)?.client;
    assert(taken && client.made.has(taken), `the forward of ${client.peer.name} leads nowhere`);
  }

  /** A channel that was established carries bytes both ways, and they are the right ones. */
  expectCarrying(client: FuzzClient, ends: Ends): void {
    for (const { peer } of [this.upstream, client]) peer.drain();
    const lines = [ends.client, ends.upstream] as const;
    for (const line of lines) line.target = line.sent + 1 + this.random.below(8);
    const isDone = () =>
      lines.every((line) => line.sent === line.target) &&
      ends.client.received === ends.upstream.sent && ends.upstream.received === ends.client.sent;
    for (let count = 0; !isDone(); count++) {
      assert(count < longestSweep, `a channel of ${client.peer.name} carries nothing any more`);
      this.#keepGoing(client);
    }
  }

  /** Upstream and a client hear, answer, and go on with the channels that are to stay. */
  #keepGoing(client: FuzzClient): void {
    this.upstream.reply();
    for (const model of [this.upstream, client]) {
      while (model.hear());
      for (const line of [...model.lines.values()]) {
        const goesOn = line.staysOpen || line.state === "awaiting";
        if (goesOn) model.actOn(line, { isEager: true });
      }
      this.check(model);
    }
  }

  /** Everybody finishes and leaves: nothing is left over. */
  finish(): void {
    const clients = [...this.#clients];
    for (const model of [this.upstream, ...clients]) {
      for (const line of model.lines.values()) line.staysOpen = false;
    }
    this.sweep(this.upstream, ...clients);
    for (let count = 0; count < mostRetries && clients.some(({ isIdle }) => !isIdle); count++) {
      this.world.clock.advance(retryMs);
      this.sweep(this.upstream, ...clients);
    }
    for (const client of clients) assert(client.isIdle, `${client.peer.name} waits for ever`);
    for (const client of clients) this.leave(client);
    this.sweep(this.upstream);
    const { relay, clock } = this.world;
    assert(this.upstream.isIdle, "upstream waits for ever");
    assert.equal(this.upstream.listenerCount, 0, "listeners are left");
    assert.equal(relay.channelCount, 0, "channels are left");
    assert.equal(relay.forwardCount, 0, "forwards are left");
    assert.equal(clock.pending, 0, "a timer is left");
    assert.equal(relay.isWanted, false);
  }
}
