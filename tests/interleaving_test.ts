/**
 * Random interleavings: many clients and an upstream do whatever RFC 4254 allows them, in any
 * order, connections come and go, and each peer checks that what it hears is allowed and right.
 *
 * A run is repeated with the seed that it prints: `SSHSHIM_SEED=… deno test -A tests/interleaving_test.ts`.
 */

import assert from "node:assert/strict";
import { maximumAheadBytes } from "../lib/ahead.ts";
import { encodeFields } from "../lib/ssh_data.ts";
import { type ChannelOpen, MessageType } from "../lib/wire.ts";
import type { MemoryPeer } from "./support/memory.ts";
import { World } from "./support/memory.ts";
import {
  Attacker,
  type Model,
  ModelClient,
  ModelUpstream,
  type Pairs,
  Random,
} from "./support/models.ts";

/** Everybody around one relay. */
class Crowd {
  readonly #random: Random;
  readonly #world: World;
  readonly #pairs: Pairs = new Map();
  readonly #clients: ModelClient[] = [];
  /** The one connection upstream; `undefined` while it is away. */
  #upstream: ModelUpstream | undefined;
  #overflow: ModelUpstream[] = [];
  #attacker: Attacker | undefined;
  #lastKey = 0;
  #lastName = 0;
  readonly #nextKey = () => ++this.#lastKey;

  constructor(random: Random, options: { clients: number; hasAttacker: boolean }) {
    this.#random = random;
    this.#world = new World(
      {
        aheadBytes: random.pick([0, 1, 5000, maximumAheadBytes]),
        warm: random.chance(0.7),
        noticeBytes: random.pick([0, 256]),
      },
      {},
      { isPaced: random.chance(0.7) },
    );
    this.#upstream = this.#newUpstream(this.#world.upstream);
    for (let count = 0; count < options.clients; count++) this.#join();
    if (options.hasAttacker) this.#attacker = this.#newAttacker();
  }

  get #upstreams(): ModelUpstream[] {
    return this.#upstream ? [this.#upstream, ...this.#overflow] : this.#overflow;
  }

  get #models(): Model[] {
    return [...this.#upstreams, ...this.#clients];
  }

  /** Lets one of them do one thing, or something happen to them. */
  step(): void {
    const random = this.#random;
    const model = this.#upstreams.length > 0 && random.chance(0.4)
      ? random.pick(this.#upstreams)
      : random.pick(this.#clients);
    const event = random.below(10_000);
    if (event < 30) this.#leave();
    else if (event < 40) this.#loseUpstream();
    else if (event < 140) this.#connect();
    else if (event < 240) this.#congest(model.peer);
    else if (event < 340) this.#world.clock.advance(random.below(3000));
    else if (event < 343) this.#passMinute();
    else if (event < 1300 && this.#attacker) this.#attack();
    else if (event % 2 === 0) model.hear();
    else model.act();
    this.#check();
  }

  /** As long as a closed channel's number rests; nothing is on its way for so long. */
  #passMinute(): void {
    for (const model of this.#models) while (model.hear());
    this.#world.clock.advance(60_000);
  }

  /** Lets everybody finish, or ends everything, and checks that all is gone then. */
  async finish(): Promise<void> {
    this.#attacker?.peer.leave();
    this.#upstream ??= this.#newUpstream(this.#world.attach());
    for (const { peer } of this.#models) peer.drain();
    const closed = this.#random.chance(0.3) ? this.#closeAll() : undefined;
    let sweeps = 0;
    while (
      this.#upstreams.some((upstream) => !upstream.isIdle) ||
      this.#clients.some((client) => !client.isIdle)
    ) {
      assert(++sweeps < 2000, `no end in sight: ${this.#stuck()}`);
      let isMoving = this.#sweep();
      // Keepalives may go to and fro until pacing has looked at the path, for a second at most.
      if (!isMoving || sweeps % 100 === 0) {
        // Sessions that were all refused are tried again after a second.
        this.#world.clock.advance(1000);
        isMoving = this.#sweep() || isMoving;
      }
      this.#check();
      assert(isMoving, `nothing moves any more: ${this.#stuck()}`);
    }
    for (const client of this.#clients) client.peer.leave();
    for (const upstream of this.#upstreams) while (upstream.hear() || upstream.reply());
    this.#check();
    await closed;
    assert.equal(this.#world.relay.channelCount, 0);
    assert.equal(this.#world.relay.forwardCount, 0);
    assert.equal(this.#world.clock.pending, 0, "a timer is left");
  }

  /** Everybody does all that is due; whether there was anything. */
  #sweep(): boolean {
    let isMoving = false;
    for (const upstream of this.#upstreams) if (upstream.reply()) isMoving = true;
    for (const model of this.#models) {
      while (model.hear()) isMoving = true;
      for (const line of [...model.lines.values()]) {
        for (let count = 0; count < 100 && model.actOn(line, { isEager: true }); count++) {
          isMoving = true;
        }
      }
    }
    return isMoving;
  }

  #check(): void {
    for (const { peer } of this.#models) {
      if (peer.fault) throw peer.fault;
      assert.equal(peer.ending, undefined, peer.name);
      assert.equal(peer.unimplementedCount, 0);
    }
    if (this.#attacker?.peer.fault) throw this.#attacker.peer.fault;
  }

  #stuck(): string {
    return this.#models.flatMap(({ peer, lines }) =>
      [...lines.values()].map((line) => `${peer.name}: ${JSON.stringify(line)}`)
    ).join("\n");
  }

  #newUpstream(peer: MemoryPeer, isOverflow = false): ModelUpstream {
    const shared = { pairs: this.#pairs, nextKey: this.#nextKey, isOverflow };
    return new ModelUpstream(peer, this.#random, shared);
  }

  #newAttacker(): Attacker {
    return new Attacker(this.#world.client("attacker"), this.#random);
  }

  #join(): void {
    const peer = this.#world.client(`client ${++this.#lastName}`);
    const shared = { pairs: this.#pairs, nextKey: this.#nextKey };
    this.#clients.push(new ModelClient(peer, this.#random, shared));
  }

  #leave(): void {
    const [client] = this.#clients.splice(this.#random.below(this.#clients.length), 1);
    client!.peer.leave();
    this.#join();
  }

  #closeAll(): Promise<void> {
    for (const { lines } of this.#models) for (const line of lines.values()) line.isCut = true;
    this.#pairs.clear();
    return this.#world.relay.closeAll("stopped");
  }

  /** One of the connections upstream is lost. */
  #loseUpstream(): void {
    const { relay } = this.#world;
    const lost = this.#random.pick([this.#upstream, ...this.#overflow]);
    if (lost === undefined) return;
    for (const client of this.#clients) client.onLost([...lost.lines.values()]);
    if (lost === this.#upstream) {
      this.#upstream = undefined;
      relay.detachUpstream("lost");
    } else {
      this.#overflow = this.#overflow.filter((upstream) => upstream !== lost);
      relay.detachOverflow(lost.peer, "lost");
    }
  }

  /** A connection upstream that is wanted is there. */
  #connect(): void {
    const { wishes } = this.#world;
    if (this.#upstream === undefined) {
      this.#upstream = this.#newUpstream(this.#world.attach());
    } else if (wishes.session > 0 && this.#overflow.length < 2) {
      this.#overflow.push(this.#newUpstream(this.#world.attachOverflow(), true));
      wishes.session = 0;
    }
  }

  #congest(peer: MemoryPeer): void {
    if (peer.backlogBytes > 0) peer.drain();
    else peer.backlogBytes = this.#random.pick([2 ** 20, 2 ** 20 + 1, 9 * 2 ** 20, 40 * 2 ** 20]);
  }

  #attack(): void {
    this.#attacker!.act();
    if (this.#attacker!.peer.ending) this.#attacker = this.#newAttacker();
  }
}

/** A seed for each run: the one that is asked for, or new ones. */
function seeds(count: number): number[] {
  const wanted = Deno.env.get("SSHSHIM_SEED");
  if (wanted !== undefined) return [Number(wanted)];
  return Array.from({ length: count }, () => Math.floor(Math.random() * 2 ** 32));
}

async function run(options: { clients: number; hasAttacker: boolean }): Promise<void> {
  for (const seed of seeds(10)) {
    const crowd = new Crowd(new Random(seed), options);
    try {
      for (let step = 0; step < 4000; step++) crowd.step();
      await crowd.finish();
    } catch (cause) {
      throw new Error(`to see this again: SSHSHIM_SEED=${seed}`, { cause });
    }
  }
}

Deno.test("in any order of what clients and upstream do, every byte arrives and nothing stays", async () => {
  await run({ clients: 6, hasAttacker: false });
});

Deno.test("whatever one client sends, the others and upstream are untouched", async () => {
  await run({ clients: 4, hasAttacker: true });
});

Deno.test("an attacker's channel is not taken for a client's that it names", () => {
  const world = new World();
  const shared = { pairs: new Map() as Pairs, nextKey: () => 1, isOverflow: false };
  const upstream = new ModelUpstream(world.upstream, new Random(1), shared);
  const client = new ModelClient(world.client("client"), new Random(1), shared);
  const raw = encodeFields("h", 1, "o", 1);
  world.client("attacker").say(MessageType.channelOpen, "direct-tcpip", 0, 1, 1, { raw });
  client.open({ isSession: false });
  const { senderChannel } = upstream.inbox.at(-1)!.message as ChannelOpen;
  while (upstream.hear());
  assert.equal(shared.pairs.get(1)?.upstream?.slot, senderChannel);
});
