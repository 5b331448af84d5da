/** The life of the connection upstream, attempt by attempt. */

import assert from "node:assert/strict";
import {
  AuthenticationError,
  HostKeyError,
  NegotiationError,
  NobodyToAskError,
  UpstreamLostError,
} from "../lib/errors.ts";
import { Relay } from "../lib/relay.ts";
import { Upstream, type UpstreamOptions } from "../lib/upstream.ts";
import { MessageType } from "../lib/wire.ts";
import { FakeTime } from "./support/fake_time.ts";
import { ManualClock, MemoryPeer, usualPacketBytes, usualWindowBytes } from "./support/memory.ts";
import { type MemoryTransport, ScriptedConnector, settled } from "./support/scripted_connector.ts";

const { channelOpen, channelOpenFailure, channelOpenConfirmation } = MessageType;

/** A wait that no test sits out. */
const longMs = 600_000;

Deno.test("a first attempt that fails is thrown, and nothing is tried again", async () => {
  using world = new UpstreamWorld();
  const started = world.upstream.start();
  const refusal = new UpstreamLostError("Connection refused");
  (await world.connector.next()).fail(refusal);
  await assert.rejects(started, refusal);
  world.client("one").open();
  world.upstream.retry();
  await settled();
  world.connector.expectNone();
  assert.deepEqual(world.backoff.steps, []);
});

Deno.test("the first attempt may ask a person", async () => {
  using world = new UpstreamWorld();
  void world.upstream.start();
  const attempt = await world.connector.next();
  assert.equal(attempt.handlers.mayAsk, true);
  attempt.succeed();
  await settled();
});

Deno.test("a lost connection is made again after the wait, and asks nobody", async () => {
  using world = new UpstreamWorld({ delaysMs: [1] });
  const first = await world.start();
  const client = world.client("one");
  const slot = client.open(first.transport);
  first.attempt.lose();
  client.peer.take();
  const second = await world.connector.next();
  assert.equal(second.handlers.mayAsk, false);
  assert.deepEqual(world.backoff.steps, ["next"]);

  const waiting = client.open();
  const transport = second.succeed();
  const asked = transport.expect(channelOpen);
  transport.confirm(asked.senderChannel);
  client.peer.expect(channelOpenConfirmation);
  assert.equal(slot, 0);
  assert.equal(waiting, undefined);
  await settled();
  world.connector.expectNone();
});

Deno.test("the status says where it stands, why, what comes next, and what brought it back", async () => {
  using world = new UpstreamWorld({ delaysMs: [longMs, longMs, 1] });
  const { upstream, connector } = world;
  const stateOf = () => upstream.describe().state;
  assert.deepEqual([stateOf(), upstream.describe().losses], ["idle", []]);
  let { attempt } = await world.start();
  const causes: (string | null)[] = [];
  for (const wake of [() => upstream.hurry(), () => upstream.retry(), () => {}]) {
    world.client("holder").open();
    assert.deepEqual([stateOf(), upstream.describe().reason], ["ready", null]);
    attempt.lose("gone");
    const { state, reason, nextAttempt, losses } = upstream.describe();
    assert.deepEqual([state, reason, losses.at(-1)!.backBy], ["waiting", "gone", null]);
    assert(Date.parse(nextAttempt!) >= Date.parse(losses.at(-1)!.since));
    wake();
    attempt = await connector.next();
    assert.deepEqual([stateOf(), upstream.describe().nextAttempt], ["connecting", null]);
    attempt.succeed();
    causes.push(upstream.describe().losses.at(-1)!.backBy);
  }
  assert.deepEqual(causes, ["client", "person", "timer"]);
  assert.equal(upstream.describe().reconnections, 3);
  upstream.close();
  assert.equal(stateOf(), "closed");
});

Deno.test("attempts follow each other for as long as the network is to blame", async () => {
  using world = new UpstreamWorld({ delaysMs: [1, 2, 1, 2] });
  await world.startAndLose();
  for (let round = 1; round <= 3; round++) {
    (await world.connector.next()).fail(new UpstreamLostError("No route to host"));
    await settled();
    assert.equal(world.backoff.steps.length, round + 1);
  }
  const transport = (await world.connector.next()).succeed();
  assert.equal(world.client("one").open(transport), 0);
});

Deno.test("a connection that has lived for long ends the series of failures", async () => {
  using world = new UpstreamWorld({ provenMs: 1 });
  const reset = Promise.withResolvers<void>();
  world.backoff.onReset = reset.resolve;
  await world.start();
  await reset.promise;
  assert.deepEqual(world.backoff.steps, ["reset"]);
});

Deno.test("what an older connection says or suffers changes nothing", async () => {
  using world = new UpstreamWorld({ delaysMs: [1] });
  const old = await world.start();
  world.client("holder").open(old.transport);
  old.attempt.lose();
  const second = await world.connector.next();

  const disturb = async () => {
    old.attempt.lose("again");
    old.attempt.endCleanly();
    old.transport.handlers?.onDisconnect("a late complaint");
    old.transport.say(MessageType.channelClose, 0);
    await settled();
    world.connector.expectNone();
    assert.deepEqual(world.backoff.steps, ["next"]);
  };
  await disturb();
  const transport = second.succeed();
  await disturb();
  const client = world.client("later");
  client.open(transport);
  client.peer.expectNothing();
  transport.expectNothing();
});

Deno.test("an attempt that succeeds after the end is ended at once", async () => {
  using world = new UpstreamWorld();
  const started = world.upstream.start();
  const attempt = await world.connector.next();
  world.upstream.close();
  const late = attempt.succeed();
  assert(late.ending);
  assert.equal(late.handlers, undefined);
  await assert.rejects(started);
});

Deno.test("what waits is sent once, before the server has let us in as it will", async () => {
  using world = new UpstreamWorld({ delaysMs: [1] });
  await world.startAndLose();
  const [early, late] = [world.client("early"), world.client("late")];
  early.open();
  const attempt = await world.connector.next();
  const transport = attempt.presume();
  assert.equal(world.upstream.describe().state, "connecting");
  const { senderChannel } = transport.expect(channelOpen);
  late.open();
  const other = transport.expect(channelOpen);
  attempt.succeed("trusted", transport);
  assert.equal(world.upstream.describe().state, "ready");
  transport.expectNothing();
  transport.confirm(senderChannel);
  transport.confirm(other.senderChannel);
  for (const client of [early, late]) client.peer.expect(channelOpenConfirmation);
});

for (const how of ["by the same connection", "by the next one"]) {
  Deno.test(`what was sent in vain is sent again ${how}, to clients that know nothing of it`, async () => {
    using world = new UpstreamWorld({ delaysMs: [1, 1] });
    await world.startAndLose();
    const [client, leaver] = [world.client("one"), world.client("another")];
    for (const one of [client, leaver]) one.open();
    let attempt = await world.connector.next();
    const presumed = attempt.presume();
    assert.equal(presumed.take().length, 2);
    attempt.handlers.onRefuted!();
    leaver.peer.leave();
    client.peer.expectNothing();
    let transport = presumed;
    if (how === "by the next one") {
      attempt.fail(new UpstreamLostError("the network is gone"));
      attempt = await world.connector.next();
      transport = attempt.succeed();
    } else attempt.succeed("trusted", transport);
    transport.confirm(transport.expect(channelOpen).senderChannel);
    transport.expectNothing();
    client.peer.expect(channelOpenConfirmation);
    assert.equal(world.upstream.describe().losses.length, 1);
  });
}

Deno.test("50 clients that come at once during a long wait cause one attempt", async () => {
  using world = new UpstreamWorld({ delaysMs: [longMs] });
  await world.startAndLose();
  const clients = Array.from({ length: 50 }, (_, index) => world.client(`client ${index}`));
  for (const client of clients) client.open();
  for (let hurry = 0; hurry < 50; hurry++) world.upstream.hurry();
  const attempt = await world.connector.next();
  await settled();
  world.connector.expectNone();
  const transport = attempt.succeed();
  assert.equal(transport.take().length, 50);
});

Deno.test("a short wait is not cut shorter", async () => {
  using time = new FakeTime();
  using world = new UpstreamWorld({ delaysMs: [900] });
  await world.startAndLose();
  for (let hurry = 0; hurry < 50; hurry++) world.upstream.hurry();
  time.advance(899);
  await settled();
  world.connector.expectNone();
  time.advance(1);
  await world.connector.next();
});

Deno.test("the first wait after a connection that has lived long is cut short, and no other", async () => {
  using time = new FakeTime();
  using world = new UpstreamWorld({ delaysMs: [200, 200, 200], provenMs: 1000 });
  const { attempt } = await world.start();
  time.advance(1000);
  attempt.lose("gone");
  world.client("one").open();
  (await world.connector.next()).fail(new UpstreamLostError("Connection refused"));
  await settled();
  world.client("two").open();
  await settled();
  world.connector.expectNone();
  time.advance(200);
  const second = await world.connector.next();
  second.succeed();

  // What was asked for and not answered waits already.
  time.advance(1000);
  second.lose("gone again");
  const third = await world.connector.next();
  third.succeed();
  third.lose("at once");
  await settled();
  world.connector.expectNone();
});

Deno.test("a client that hurries an attempt that fails waits for the next one", async () => {
  using world = new UpstreamWorld({ delaysMs: [longMs, longMs, longMs] });
  await world.startAndLose();
  const client = world.client("one");
  client.open();
  (await world.connector.next()).fail(new UpstreamLostError("Connection refused"));
  await settled();
  world.connector.expectNone();
  client.peer.expectNothing();
  world.client("two").open();
  const transport = (await world.connector.next()).succeed();
  assert.equal(transport.take().length, 2);
});

for (const type of [AuthenticationError, HostKeyError, NegotiationError]) {
  Deno.test(`after a ${type.name} nothing is tried until a person says so`, async () => {
    using world = new UpstreamWorld({ delaysMs: [longMs, longMs] });
    await world.startAndLose();
    const early = world.client("early");
    early.open();
    (await world.connector.next()).fail(new type("It is \x1b[31mrefused."));
    await settled();
    const late = world.client("late");
    late.open();
    for (const { peer } of [early, late]) {
      const { reasonCode, description } = peer.expect(channelOpenFailure);
      assert.deepEqual({ reasonCode, description }, {
        reasonCode: 2,
        description: "It is \\x1b[31mrefused.",
      });
    }
    world.upstream.hurry();
    await settled();
    world.connector.expectNone();

    for (let time = 0; time < 3; time++) world.upstream.retry();
    const retried = await world.connector.next();
    assert.equal(retried.handlers.mayAsk, true);
    late.open();
    late.peer.expectNothing();
    await settled();
    world.connector.expectNone();
    const transport = retried.succeed();
    transport.confirm(transport.expect(channelOpen).senderChannel);
    late.peer.expect(channelOpenConfirmation);
  });
}

Deno.test("a silent attempt that needs a person asks at once if somebody waits", async () => {
  using world = new UpstreamWorld({ delaysMs: [longMs] });
  await world.startAndLose();
  const client = world.client("one");
  client.open();
  const silent = await world.connector.next();
  assert.equal(silent.handlers.mayAsk, false);
  silent.fail(new NobodyToAskError("A code is needed."));
  const asking = await world.connector.next();
  assert.equal(asking.handlers.mayAsk, true);
  client.peer.expectNothing();
  await settled();
  world.connector.expectNone();
  asking.succeed().expect(channelOpen);
});

Deno.test("a silent attempt that needs a person asks nobody while nobody waits", async () => {
  using world = new UpstreamWorld({ delaysMs: [1] });
  await world.startAndLose();
  (await world.connector.next()).fail(new NobodyToAskError("A code is needed."));
  await settled();
  world.connector.expectNone();
  assert.deepEqual(world.backoff.steps, ["next"]);
  world.client("one").open();
  assert.equal((await world.connector.next()).handlers.mayAsk, true);
});

Deno.test("where nobody can be asked, who waits is told, and the next client may ask", async () => {
  using world = new UpstreamWorld({ delaysMs: [longMs] });
  await world.startAndLose();
  const client = world.client("one");
  client.open();
  for (const mayAsk of [false, true]) {
    const attempt = await world.connector.next();
    assert.equal(attempt.handlers.mayAsk, mayAsk);
    attempt.fail(new NobodyToAskError("A code is needed."));
  }
  await settled();
  assert.equal(client.peer.expect(channelOpenFailure).description, "A code is needed.");
  assert.deepEqual(world.backoff.steps, ["next"]);
  world.connector.expectNone();

  for (let index = 0; index < 5; index++) client.open();
  client.peer.expectNothing();
  const asking = await world.connector.next();
  assert.equal(asking.handlers.mayAsk, true);
  await settled();
  world.connector.expectNone();
  assert.equal(asking.succeed().take().length, 5);
});

Deno.test("a connection that the server ended while unused comes back with a client", async () => {
  using world = new UpstreamWorld();
  const { attempt } = await world.start();
  attempt.endCleanly();
  await settled();
  world.connector.expectNone();
  assert.deepEqual(world.backoff.steps, []);
  const client = world.client("one");
  client.open();
  (await world.connector.next()).succeed().expect(channelOpen);
  client.peer.expectNothing();
});

Deno.test("a connection that the server ended while in use comes back by itself", async () => {
  using world = new UpstreamWorld({ delaysMs: [1] });
  const { attempt, transport } = await world.start();
  world.client("one").open(transport);
  attempt.endCleanly();
  (await world.connector.next()).succeed();
});

Deno.test("a server that ends each connection after a session is connected to at once again", async () => {
  using world = new UpstreamWorld({ delaysMs: [1] });
  const { attempt, transport } = await world.start();
  const [one, two] = [world.client("one"), world.client("two")];
  const slot = one.open(transport)!;
  two.open();
  transport.refuse(transport.expect(channelOpen).senderChannel);
  one.peer.say(MessageType.channelClose, slot);
  transport.say(MessageType.channelClose, slot);
  attempt.endCleanly();
  assert.deepEqual(world.backoff.steps, ["reset", "next"]);
  (await world.connector.next()).succeed().expect(channelOpen);
});

Deno.test("an unused connection that the network broke comes back by itself", async () => {
  using world = new UpstreamWorld({ delaysMs: [1] });
  const { attempt } = await world.start();
  attempt.lose();
  (await world.connector.next()).succeed();
});

Deno.test("upstream that breaks the protocol is left, and tried again", async () => {
  using world = new UpstreamWorld({ delaysMs: [1] });
  const { transport } = await world.start();
  const client = world.client("one");
  client.open(transport);
  transport.say(MessageType.channelClose, 999);
  assert.equal(transport.ending?.reasonCode, 2);
  (await world.connector.next()).succeed();
});

Deno.test("a silent connection is given up and made again, even an unused one", async () => {
  using world = new UpstreamWorld({ delaysMs: [1], keepalive: { intervalMs: 1, count: 2 } });
  const { transport } = await world.start();
  const attempt = await world.connector.next();
  assert.equal(transport.isAborted, true);
  assert.match(transport.take().map(({ message }) => JSON.stringify(message)).join(), /keepalive@/);
  attempt.succeed();
});

Deno.test("a person's word while the connection stands asks it for a sign of life", async () => {
  using world = new UpstreamWorld();
  const { transport } = await world.start();
  world.upstream.retry();
  assert.equal(transport.expect(MessageType.globalRequest).name, "keepalive@openssh.com");
  await settled();
  world.connector.expectNone();
});

Deno.test("a person's word cuts any wait short, and makes the delays short again", async () => {
  using _time = new FakeTime();
  using world = new UpstreamWorld({ delaysMs: [900] });
  await world.startAndLose();
  world.upstream.retry();
  world.upstream.retry();
  assert.equal((await world.connector.next()).handlers.mayAsk, false);
  assert.deepEqual(world.backoff.steps, ["next", "reset"]);
  world.connector.expectNone();
});

Deno.test("without reconnecting the first loss is the end, and its reason is told", async () => {
  using world = new UpstreamWorld({ reconnects: false });
  const { attempt } = await world.start();
  attempt.lose("Connection reset by peer");
  assert.match((await world.upstream.whenLost).message, /Connection reset by peer/);
  await settled();
  world.connector.expectNone();
  assert.deepEqual(world.backoff.steps, []);
});

// Leak sanitizers see the timers that an end would leave.
const states: Record<string, (world: UpstreamWorld) => Promise<void>> = {
  "before the start": async () => {},
  "after a first attempt that failed": async ({ upstream, connector }) => {
    const started = upstream.start();
    (await connector.next()).fail(new UpstreamLostError("Connection refused"));
    await assert.rejects(started);
  },
  "while the first attempt is under way": async ({ upstream, connector }) => {
    void upstream.start().catch(() => {});
    await connector.next();
  },
  "while connected": async (world) => void await world.start(),
  "while a sign of life is awaited": async (world) => {
    await world.start();
    world.upstream.retry();
  },
  "while waiting": (world) => world.startAndLose(),
  "while a later attempt is under way": async (world) => {
    await world.startAndLose();
    world.upstream.retry();
    await world.connector.next();
  },
  "while asleep": async (world) => (await world.start()).attempt.endCleanly(),
  "while stopped": async (world) => {
    await world.startAndLose();
    world.upstream.retry();
    (await world.connector.next()).fail(new HostKeyError("The host key has changed."));
    await settled();
  },
};

for (const [when, reach] of Object.entries(states)) {
  Deno.test(`closing ${when} leaves nothing behind`, async () => {
    const world = new UpstreamWorld({ delaysMs: [longMs, longMs] });
    await reach(world);
    world.upstream.close();
    world.upstream.close();
    world.upstream.retry();
    world.upstream.hurry();
    await settled();
    world.connector.expectNone();
    if (/under way/.test(when)) {
      assert.equal(world.connector.attempts.at(-1)?.handlers.signal.aborted, true);
    }
    if (/connected|sign of life/.test(when)) assert.equal(world.last?.ending?.reasonCode, 11);
  });
}

/** Delays that the test lays down, and what was asked of them. */
class ScriptedBackoff {
  readonly steps: ("next" | "reset")[] = [];
  onReset: () => void = () => {};
  readonly #delaysMs: number[];

  constructor(delaysMs: number[]) {
    this.#delaysMs = [...delaysMs];
  }

  next(): number {
    this.steps.push("next");
    return this.#delaysMs.shift() ?? longMs;
  }

  reset(): void {
    this.steps.push("reset");
    this.onReset();
  }
}

/** Upstream between a real relay and connections that the test makes. Leaving its scope ends it. */
class UpstreamWorld implements Disposable {
  readonly connector = new ScriptedConnector();
  readonly backoff: ScriptedBackoff;
  readonly relay: Relay;
  readonly upstream: Upstream;
  /** The connection that `start` made. */
  last: MemoryTransport | undefined;
  readonly #clock = new ManualClock();

  constructor(
    { delaysMs = [], ...options }: { delaysMs?: number[] } & Partial<UpstreamOptions> = {},
  ) {
    this.backoff = new ScriptedBackoff(delaysMs);
    this.relay = new Relay({
      schedule: (delayMs, action) => this.#clock.schedule(delayMs, action),
      onWanted: () => this.upstream.hurry(),
      onCrowded: () => {},
      report: () => {},
    });
    this.upstream = new Upstream({
      connector: this.connector,
      relay: this.relay,
      reconnects: true,
      maximumDelayMs: longMs,
      keepalive: { intervalMs: longMs, count: 3 },
      backoff: this.backoff,
      ...options,
    });
  }

  /** The first attempt, which succeeds. */
  async start() {
    const started = this.upstream.start();
    const attempt = await this.connector.next();
    const transport = attempt.succeed();
    await started;
    this.last = transport;
    return { attempt, transport };
  }

  /** A connection that is lost; the wait after it has begun. */
  async startAndLose(): Promise<void> {
    (await this.start()).attempt.lose();
  }

  client(name: string): Client {
    return new Client(this.relay, name);
  }

  [Symbol.dispose](): void {
    this.upstream.close();
  }
}

class Client {
  readonly peer: MemoryPeer;
  #lastChannel = 0;

  constructor(relay: Relay, name: string) {
    this.peer = new MemoryPeer(name);
    const receiver = relay.addClient(this.peer);
    this.peer.receiver = receiver;
    this.peer.leave = receiver.leave;
  }

  /**
   * Opens a session. With `upstream`, which must be asked and then agrees, it returns the relay's
   * number of the channel.
   */
  open(upstream?: MemoryTransport): number | undefined {
    const own = this.#lastChannel++;
    this.peer.say(channelOpen, "session", own, usualWindowBytes, usualPacketBytes);
    if (upstream === undefined) return undefined;
    const { senderChannel } = upstream.expect(channelOpen);
    upstream.confirm(senderChannel);
    this.peer.expectOn(channelOpenConfirmation, own);
    return senderChannel;
  }
}
