/** Further connections, for sessions beyond the number that upstream allows on one. */

import assert from "node:assert/strict";
import { AuthenticationError, NobodyToAskError, UpstreamLostError } from "../lib/errors.ts";
import { Overflow, type OverflowOptions } from "../lib/overflow.ts";
import { Relay } from "../lib/relay.ts";
import { encodeFields } from "../lib/ssh_data.ts";
import type { Schedule } from "../lib/transport.ts";
import { MessageType } from "../lib/wire.ts";
import { FakeTime } from "./support/fake_time.ts";
import { MemoryPeer, usualPacketBytes, usualWindowBytes } from "./support/memory.ts";
import {
  type Attempt,
  MemoryTransport,
  ScriptedConnector,
  settled,
} from "./support/scripted_connector.ts";

const { channelClose, channelData, channelExtendedData, channelOpen, channelOpenConfirmation } =
  MessageType;

/** A time that no test sits out. */
const longMs = 600_000;

Deno.test("a session that upstream has no room for goes to a further connection", async () => {
  await using world = new OverflowWorld({ maximum: 2 });
  world.openOn(world.upstream);
  world.open();
  world.upstream.refuse(world.upstream.expect(channelOpen).senderChannel);
  const attempt = await world.connector.next();
  assert.equal(attempt.handlers.mayAsk, false);
  world.client.expectNothing();
  const further = attempt.succeed();
  const slot = further.expect(channelOpen).senderChannel;
  further.confirm(slot);
  world.client.expect(channelOpenConfirmation);
  further.say(channelData, slot, "hello");
  assert.equal(new TextDecoder().decode(world.client.expect(channelData).data), "hello");
  world.upstream.expectNothing();
  await settled();
  world.connector.expectNone();
});

Deno.test("without --overflow no further connection is made", async () => {
  await using world = new OverflowWorld({ maximum: 0, sessions: 1 });
  world.openOn(world.upstream);
  world.open();
  await settled();
  world.connector.expectNone();
});

Deno.test("further connections are made one after the other, up to the maximum", async () => {
  await using world = new OverflowWorld({ maximum: 2, sessions: 2 });
  for (let index = 0; index < 10; index++) world.open();
  assert.equal(world.upstream.take().length, 2);
  for (let number = 1; number <= 2; number++) {
    const attempt = await world.connector.next();
    await settled();
    world.connector.expectNone();
    assert.equal(attempt.succeed().take().length, 2);
  }
  await settled();
  world.connector.expectNone();
});

Deno.test("no more connections are made than the waiting sessions need", async () => {
  await using world = new OverflowWorld({ maximum: 5, sessions: 2 });
  world.openOn(world.upstream);
  world.openOn(world.upstream);
  world.open();
  const attempt = await world.connector.next();
  // It comes while the connection is being made, which has room for it.
  world.open();
  assert.equal(attempt.succeed().take().length, 2);
  await settled();
  world.connector.expectNone();
});

Deno.test("forwards stay on the first connection", async () => {
  await using world = new OverflowWorld({ maximum: 1, sessions: 1 });
  world.openOn(world.upstream);
  world.open();
  const further = (await world.connector.next()).succeed();
  further.expect(channelOpen);
  world.open("direct-tcpip", encodeFields("localhost", 80, "localhost", 5000));
  assert.equal(world.upstream.expect(channelOpen).channelType, "direct-tcpip");
  further.expectNothing();
});

Deno.test("a further connection that is lost ends its own sessions, with the reason", async () => {
  await using world = new OverflowWorld({ maximum: 1, sessions: 1 });
  world.openOn(world.upstream);
  const attempt = await world.growFor(1);
  attempt.lose("Connection reset\x1b[2J");
  const notice = world.client.expect(channelExtendedData);
  assert.match(
    new TextDecoder().decode(notice.data),
    /sshshim: connection lost: Connection reset\\x1b\[2J/,
  );
  world.client.expect(channelClose);
  world.client.expectNothing();
  world.upstream.expectNothing();

  // And the next session that waits has another one made.
  world.open();
  (await world.connector.next()).succeed().expect(channelOpen);
});

Deno.test("a further connection that breaks the protocol is ended, alone", async () => {
  await using world = new OverflowWorld({ maximum: 1, sessions: 1 });
  world.openOn(world.upstream);
  await world.growFor(1);
  world.further!.say(channelClose, 999);
  assert.equal(world.further!.ending?.reasonCode, 2);
  world.client.expect(channelExtendedData);
  world.client.expect(channelClose);
  assert.equal(world.upstream.ending, undefined);
});

Deno.test("a silent further connection is given up", async () => {
  await using world = new OverflowWorld({
    maximum: 1,
    sessions: 1,
    keepalive: { intervalMs: 5000, count: 2 },
  });
  world.openOn(world.upstream);
  await world.growFor(1);
  world.time.advance(9999);
  world.client.expectNothing();
  world.time.advance(1);
  world.client.expect(channelExtendedData);
  assert.equal(world.further!.isAborted, true);
  assert.equal(world.further!.expect(MessageType.globalRequest).name, "keepalive@openssh.com");
});

Deno.test("a further connection without sessions is ended after a while, the one stays", async () => {
  await using world = new OverflowWorld({ maximum: 1, sessions: 1, unusedMs: 60_000 });
  world.openOn(world.upstream);
  await world.growFor(1);
  const { further, client } = world;
  // Used, it stays.
  world.time.advance(longMs / 2);
  assert.equal(further!.ending, undefined);

  const slot = world.slots.at(-1)!;
  further!.say(channelClose, slot);
  client.expect(channelClose);
  client.say(channelClose, slot);
  further!.expect(channelClose);
  world.time.advance(60_000);
  assert.equal(further!.ending, undefined);
  // The use is looked at every few seconds.
  world.time.advance(10_000);
  assert.deepEqual(further!.ending, { reasonCode: 11, description: "not used any more" });
  assert.equal(world.upstream.ending, undefined);
  client.expectNothing();

  // When it is needed again, it is made again.
  world.open();
  (await world.connector.next()).succeed().expect(channelOpen);
});

Deno.test("a further connection that nobody came to use is ended as well", async () => {
  await using world = new OverflowWorld({ maximum: 1, sessions: 1, unusedMs: 60_000 });
  world.openOn(world.upstream);
  world.open();
  const attempt = await world.connector.next();
  world.leave();
  const further = attempt.succeed();
  world.time.advance(70_000);
  assert.deepEqual(further.ending, { reasonCode: 11, description: "not used any more" });
  further.expectNothing();
});

Deno.test("after an attempt that the network failed, none is made for a while, and then one by itself", async () => {
  await using world = new OverflowWorld({ maximum: 1, sessions: 1, pauseMs: 10_000 });
  world.openOn(world.upstream);
  world.open();
  (await world.connector.next()).fail(new UpstreamLostError("Connection refused"));
  await settled();
  world.open();
  world.time.advance(9999);
  await settled();
  world.connector.expectNone();
  world.client.expectNothing();
  world.time.advance(1);
  assert.equal((await world.connector.next()).succeed().take().length, 1);
});

for (
  const [what, drop] of [
    ["drops", (attempt: Attempt) => attempt.endCleanly()],
    ["loses", (attempt: Attempt) => attempt.lose()],
    ["breaks", (_: Attempt, further: MemoryTransport) => further.say(channelClose, 999)],
  ] as const
) {
  Deno.test(`a further connection that upstream ${what} at once is made again after a while, and not before`, async () => {
    await using world = new OverflowWorld({ maximum: 1, sessions: 1, pauseMs: 10_000 });
    world.openOn(world.upstream);
    world.open();
    for (let round = 0; round < 3; round++) {
      const attempt = await world.connector.next();
      const further = attempt.succeed();
      further.expect(channelOpen);
      // At once, or when the attempt is over.
      if (round > 0) await settled();
      drop(attempt, further);
      world.open();
      await settled();
      world.time.advance(9999);
      await settled();
      world.connector.expectNone();
      world.client.expectNothing();
      world.time.advance(1);
    }
    assert.equal((await world.connector.next()).succeed().take().length, 1);
  });
}

Deno.test("a connection that is dropped while another is made pauses what comes after that", async () => {
  await using world = new OverflowWorld({ maximum: 2, sessions: 1, pauseMs: 10_000 });
  world.openOn(world.upstream);
  for (let index = 0; index < 3; index++) world.open();
  const first = await world.connector.next();
  first.succeed().expect(channelOpen);
  const second = await world.connector.next();
  first.endCleanly();
  second.succeed().expect(channelOpen);
  await settled();
  world.connector.expectNone();
  world.time.advance(10_000);
  (await world.connector.next()).succeed().expect(channelOpen);
});

Deno.test("a person may want a connection that was dropped at once", async () => {
  await using world = new OverflowWorld({ maximum: 1, sessions: 1 });
  world.openOn(world.upstream);
  world.open();
  const attempt = await world.connector.next();
  attempt.succeed().expect(channelOpen);
  await settled();
  attempt.endCleanly();
  world.overflow.retry();
  (await world.connector.next()).succeed().expect(channelOpen);
});

Deno.test("a session that has found its place meanwhile needs no attempt after the pause", async () => {
  await using world = new OverflowWorld({ maximum: 1, sessions: 1, pauseMs: 10_000 });
  world.openOn(world.upstream);
  world.open();
  (await world.connector.next()).fail(new UpstreamLostError("Connection refused"));
  await settled();
  world.upstream.say(channelClose, world.slots[0]!);
  world.client.expect(channelClose);
  world.client.say(channelClose, world.slots[0]!);
  world.upstream.expect(channelClose);
  world.agree(world.upstream);
  world.time.advance(10_000);
  await settled();
  world.connector.expectNone();
  // It is needed again.
  world.open();
  (await world.connector.next()).succeed();
});

Deno.test("closing ends the pause", async () => {
  const world = new OverflowWorld({ maximum: 1, sessions: 1 });
  world.openOn(world.upstream);
  world.open();
  (await world.connector.next()).fail(new UpstreamLostError("Connection refused"));
  await settled();
  const pending = world.time.pending;
  world.overflow.close();
  assert.equal(world.time.pending, pending - 1);
  world.overflow.retry();
  await settled();
  world.connector.expectNone();
});

for (const type of [AuthenticationError, NobodyToAskError]) {
  const refuse = async (world: OverflowWorld) => {
    world.openOn(world.upstream);
    world.open();
    (await world.connector.next()).fail(new type("It is refused."));
    await settled();
  };

  Deno.test(`after a ${type.name} no further connection is tried, servers ban for it`, async () => {
    await using world = new OverflowWorld({ maximum: 1, sessions: 1, pauseMs: 0 });
    await refuse(world);
    world.open();
    world.time.advance(25_000);
    await settled();
    world.connector.expectNone();
  });

  Deno.test(`after a ${type.name} the next login of the first connection allows an attempt`, async () => {
    await using world = new OverflowWorld({ maximum: 1, sessions: 1 });
    await refuse(world);
    world.logInAgain();
    assert.equal(world.upstream.take().length, 1);
    world.open();
    const attempt = await world.connector.next();
    assert.equal(attempt.succeed().take().length, 1);
  });

  Deno.test(`after a ${type.name} a person may want another attempt`, async () => {
    await using world = new OverflowWorld({ maximum: 1, sessions: 1 });
    await refuse(world);
    world.overflow.retry();
    (await world.connector.next()).fail(new type("It is refused."));
    await settled();
    world.overflow.retry();
    (await world.connector.next()).succeed().expect(channelOpen);
  });
}

Deno.test("what a person wants while the first connection is away is tried once it is back", async () => {
  await using world = new OverflowWorld({ maximum: 1, sessions: 1 });
  world.openOn(world.upstream);
  world.open();
  (await world.connector.next()).fail(new UpstreamLostError("Connection refused"));
  await settled();
  world.detach();
  world.overflow.retry();
  await settled();
  world.connector.expectNone();
  world.open();
  world.attach();
  (await world.connector.next()).succeed().expect(channelOpen);
});

Deno.test("a host whose key is not trusted gets no further connection", async () => {
  await using world = new OverflowWorld({ maximum: 1, sessions: 1 });
  world.openOn(world.upstream);
  world.open();
  const further = (await world.connector.next()).succeed("doubted");
  assert(further.ending);
  further.expectNothing();
});

Deno.test("closing ends all of them, and an attempt that is under way", async () => {
  await using world = new OverflowWorld({ maximum: 2, sessions: 1 });
  world.openOn(world.upstream);
  await world.growFor(1);
  world.open();
  const attempt = await world.connector.next();
  world.overflow.close();
  world.overflow.close();
  assert.equal(attempt.handlers.signal.aborted, true);
  assert.equal(world.further!.ending?.reasonCode, 11);
  // Its success may be on its way already.
  assert(attempt.succeed().ending);
  await settled();
  await world.overflow.grow();
});

/** A relay with one connection upstream, and those that a test lets come about beside it. */
class OverflowWorld implements AsyncDisposable {
  /** Keepalives, pauses and what is unused follow it, as do the relay's waits. */
  readonly time = new FakeTime();
  readonly connector = new ScriptedConnector();
  upstream = new MemoryTransport("upstream");
  readonly client = new MemoryPeer("client");
  readonly overflow: Overflow;
  /** The connection that `growFor` made. */
  further: MemoryTransport | undefined;
  /** The relay's numbers of the sessions that are open. */
  readonly slots: number[] = [];
  readonly #relay: Relay;
  #lastChannel = 0;
  readonly leave: () => void;

  constructor(options: { maximum: number; sessions?: number } & Partial<OverflowOptions>) {
    const { sessions = Infinity, ...overflowOptions } = options;
    const schedule: Schedule = (delayMs, action) => this.time.schedule(delayMs, action);
    this.#relay = new Relay({
      limits: { sessions },
      schedule,
      onWanted: () => {},
      onCrowded: () => void this.overflow.grow(),
      report: () => {},
    });
    this.overflow = new Overflow({
      connector: this.connector,
      relay: this.#relay,
      keepalive: { intervalMs: longMs, count: 3 },
      unusedMs: longMs,
      schedule,
      ...overflowOptions,
    });
    this.attach();
    const receiver = this.#relay.addClient(this.client);
    this.client.receiver = receiver;
    this.leave = receiver.leave;
  }

  /** The first connection is there. */
  attach(): void {
    this.upstream.receiver = this.#relay.attachUpstream(this.upstream);
  }

  /** The first connection is gone. */
  detach(): void {
    this.#relay.detachUpstream("lost");
    this.upstream = new MemoryTransport("upstream");
    this.client.take();
  }

  /** The first connection is gone, and another one is there. */
  logInAgain(): void {
    this.detach();
    this.attach();
  }

  /** The client asks for a channel. */
  open(type = "session", body: Uint8Array = new Uint8Array()): void {
    const own = this.#lastChannel++;
    this.client.say(channelOpen, type, own, usualWindowBytes, usualPacketBytes, { raw: body });
  }

  /** The client opens a session, and this connection agrees. */
  openOn(connection: MemoryTransport): void {
    this.open();
    this.agree(connection);
  }

  agree(connection: MemoryTransport): void {
    const { senderChannel } = connection.expect(channelOpen);
    connection.confirm(senderChannel);
    this.client.expect(channelOpenConfirmation);
    this.slots.push(senderChannel);
  }

  /** Sessions are opened for which a further connection is made. */
  async growFor(count: number) {
    for (let index = 0; index < count; index++) this.open();
    const attempt = await this.connector.next();
    this.further = attempt.succeed();
    for (let index = 0; index < count; index++) this.agree(this.further);
    await settled();
    return attempt;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.overflow.close();
    await settled();
    this.time[Symbol.dispose]();
  }
}
