/** A connection that is ready ends once, whatever ends it. */

import assert from "node:assert/strict";
import { ReadyConnection } from "../lib/ready_connection.ts";
import type { ConnectionEnd } from "../lib/transport.ts";
import { FakeTime } from "./support/fake_time.ts";
import { MemoryTransport } from "./support/scripted_connector.ts";

/** What can end a connection, and what is told of it first. */
const endings: Record<string, {
  bring(world: World): void;
  endedBy: ConnectionEnd["endedBy"];
  reason: string;
  /** Whether the server is told. */
  isSaid?: boolean;
}> = {
  "the server": {
    bring: ({ connection }) =>
      connection.end({ reason: new Error("it went away"), endedBy: "server" }),
    endedBy: "server",
    reason: "it went away",
  },
  "the network": {
    bring: ({ connection }) => connection.end({ reason: new Error("reset"), endedBy: "network" }),
    endedBy: "network",
    reason: "reset",
  },
  "a silence": {
    bring: ({ time }) => time.advance(600_000),
    endedBy: "network",
    reason: "silent: no answer for 10 s",
  },
  "the relay": {
    bring: ({ transport }) => transport.disconnect(2, "what was that?"),
    endedBy: "us",
    reason: "ended: what was that?",
    isSaid: true,
  },
  "its owner": {
    bring: ({ connection }) => connection.disconnect("enough"),
    endedBy: "us",
    reason: "ended: enough",
    isSaid: true,
  },
};

for (const [first, { bring, endedBy, reason, isSaid = false }] of Object.entries(endings)) {
  Deno.test(`a connection that ${first} ends has ended, whatever else would`, () => {
    for (const later of Object.values(endings)) {
      using world = new World();
      bring(world);
      assert.deepEqual(world.ends, [`${endedBy}: ${reason}`]);
      assert.equal(world.transport.ending !== undefined, isSaid);
      assert.equal(world.transport.isAborted, first === "a silence");
      later.bring(world);
      later.bring(world);
      assert.deepEqual(world.ends, [`${endedBy}: ${reason}`]);
    }
  });
}

Deno.test("a connection is not asked for a sign of life once it has ended", () => {
  using world = new World();
  world.connection.probe();
  assert.equal(world.asked, 1);
  world.connection.end({ reason: new Error("gone"), endedBy: "server" });
  world.time.advance(600_000);
  assert.equal(world.asked, 1);
});

Deno.test("a connection that is not read is not silent", () => {
  using world = new World();
  world.isPaused = true;
  world.time.advance(600_000);
  assert.deepEqual(world.ends, []);
  world.isPaused = false;
  world.time.advance(600_000);
  assert.equal(world.ends.length, 1);
});

class World implements Disposable {
  readonly time = new FakeTime();
  readonly transport = new MemoryTransport("upstream");
  readonly connection: ReadyConnection;
  readonly ends: string[] = [];
  isPaused = false;
  asked = 0;

  constructor() {
    this.connection = new ReadyConnection(this.transport, {
      name: "alice@upstream.test:22",
      keepalive: { intervalMs: 5000, count: 2 },
      isBusy: () => true,
      isPaused: () => this.isPaused,
      sendKeepalive: () => this.asked++,
      silenceError: (description) => new Error(`silent: ${description}`),
      disconnectError: (description) => new Error(`ended: ${description}`),
      onEnd: ({ reason, endedBy }) => this.ends.push(`${endedBy}: ${reason.message}`),
    });
    this.connection.start({ receive() {}, unimplemented() {}, drained() {} });
  }

  [Symbol.dispose](): void {
    this.connection.disconnect("the test is over");
    this.time[Symbol.dispose]();
  }
}
