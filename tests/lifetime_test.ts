/** How long sshshim runs: until nobody has used it for a while, or until its time is over. */

import assert from "node:assert/strict";
import { Lifetime, type LifetimeOptions } from "../lib/lifetime.ts";
import { MessageType } from "../lib/wire.ts";
import { Buffer } from "node:buffer";
import { ManualClock, usualWindowBytes, World } from "./support/memory.ts";
import { settled } from "./support/scripted_connector.ts";

const minute = 60_000;

/** A lifetime in simulated time, and what came of it. */
class Scene {
  readonly clock = new ManualClock();
  readonly notices: string[] = [];
  readonly lifetime: Lifetime;
  isBusy = false;
  /** How much further than the timers' clock the other one is. */
  sleptMs = 0;
  reason: string | undefined;

  constructor(options: Partial<LifetimeOptions>) {
    this.lifetime = new Lifetime({
      idleExitMs: undefined,
      maxLifeMs: undefined,
      isBusy: () => this.isBusy,
      onLastMinute: (text) => void this.notices.push(text),
      schedule: (delayMs, action) => this.clock.schedule(delayMs, action),
      now: () => this.clock.nowMs + this.sleptMs,
      ...options,
    });
    void this.lifetime.whenOver.then(({ reason }) => this.reason = reason);
    this.lifetime.begin();
  }

  async pass(ms: number): Promise<void> {
    this.clock.advance(ms);
    await settled();
  }
}

Deno.test("--idle-exit ends it when no client was there for so long", async (t) => {
  await t.step("from the start", async () => {
    const scene = new Scene({ idleExitMs: 90_000 });
    await scene.pass(89_999);
    assert.equal(scene.reason, undefined);
    await scene.pass(1);
    assert.equal(scene.reason, "--idle-exit: no client for 1m30s");
    assert.equal(scene.clock.pending, 0);
  });
  await t.step("from the last one's end", async () => {
    const scene = new Scene({ idleExitMs: minute });
    scene.lifetime.enter();
    scene.lifetime.enter();
    await scene.pass(10 * minute);
    scene.lifetime.leave();
    await scene.pass(10 * minute);
    scene.lifetime.leave();
    await scene.pass(minute - 1);
    scene.lifetime.enter();
    scene.lifetime.leave();
    await scene.pass(minute - 1);
    assert.equal(scene.reason, undefined);
    await scene.pass(1);
    assert.equal(scene.reason, "--idle-exit: no client for 1m");
  });
  await t.step("and not while a channel without a client is open", async () => {
    const scene = new Scene({ idleExitMs: minute });
    scene.isBusy = true;
    await scene.pass(5 * minute);
    assert.equal(scene.reason, undefined);
    scene.isBusy = false;
    await scene.pass(minute);
    assert.equal(scene.reason, "--idle-exit: no client for 1m");
  });
});

Deno.test("--max-life ends it, and people are told a minute before", async (t) => {
  await t.step("whoever is there", async () => {
    const scene = new Scene({ maxLifeMs: 8 * 60 * minute, idleExitMs: 9 * 60 * minute });
    scene.lifetime.enter();
    await scene.pass(8 * 60 * minute - minute - 1);
    assert.deepEqual(scene.notices, []);
    await scene.pass(1);
    assert.deepEqual(scene.notices, ["--max-life: this session ends in 60 seconds"]);
    await scene.pass(minute - 1);
    assert.equal(scene.reason, undefined);
    await scene.pass(1);
    assert.equal(scene.reason, "--max-life: 8h have passed");
    assert.equal(scene.notices.length, 1);
  });
  await t.step("also where timers could not be so long", async () => {
    const scene = new Scene({ maxLifeMs: 60 * 24 * 60 * minute });
    await scene.pass(59 * 24 * 60 * minute);
    assert.equal(scene.reason, undefined);
    await scene.pass(24 * 60 * minute);
    assert.equal(scene.reason, "--max-life: 60d have passed");
  });
  await t.step("and a sleep of the machine counts", async () => {
    const scene = new Scene({ maxLifeMs: 8 * 60 * minute });
    await scene.pass(minute);
    scene.sleptMs = 7 * 60 * minute + 58 * minute;
    await scene.pass(minute / 2);
    assert.deepEqual(scene.notices, ["--max-life: this session ends in 30 seconds"]);
    scene.sleptMs += 60 * minute;
    await scene.pass(minute / 2);
    assert.equal(scene.reason, "--max-life: 8h have passed");
  });
});

Deno.test("nothing ends it without an option", async () => {
  const scene = new Scene({});
  await scene.pass(1000 * 24 * 60 * minute);
  assert.equal(scene.reason, undefined);
  assert.equal(scene.clock.pending, 0);
});

Deno.test("a session at a terminal is told something within its window, and goes on", async (t) => {
  const { channelData, channelExtendedData, channelRequest } = MessageType;
  const noticeBytes = 256;
  const modes = [80, 24, 0, 0, ""] as const;
  await t.step("one at a terminal, and no other", () => {
    const world = new World({ noticeBytes });
    const client = world.client("client");
    const session = world.open(client);
    const other = world.open(client, { downstream: 8 });
    session.up(channelRequest, "pty-req", false, "xterm", ...modes);
    session.expectUp(channelRequest);
    world.relay.tell("it ends soon");
    const { data } = session.expectDown(channelExtendedData);
    assert.equal(Buffer.from(data).toString(), "\r\nsshshim: it ends soon\r\n");
    world.expectQuiet(client);
    session.expectAlive();
    other.expectAlive();
  });
  await t.step("all that upstream may send still fits", () => {
    const world = new World({ noticeBytes });
    const client = world.client("client");
    client.say(MessageType.channelOpen, "session", 7, 65_536, 32_768);
    const opening = world.upstream.expect(MessageType.channelOpen);
    assert.equal(opening.initialWindowSize, 65_536 - noticeBytes);
    const slot = opening.senderChannel;
    world.upstream.say(MessageType.channelOpenConfirmation, slot, 5, usualWindowBytes, 32_768);
    client.expectOn(MessageType.channelOpenConfirmation, 7);
    client.say(channelRequest, slot, "pty-req", false, "xterm", ...modes);
    world.upstream.expectOn(channelRequest, 5);
    const half = opening.initialWindowSize / 2;
    world.relay.tell("it ends soon");
    world.relay.tell("x".repeat(noticeBytes)); // Too long for what is left.
    for (let sent = 0; sent < 2; sent++) {
      world.upstream.say(channelData, slot, new Uint8Array(half));
    }
    const sent = client.take().map(({ message }) => message as { data: Uint8Array });
    const bytes = sent.reduce((sum, { data }) => sum + data.length, 0);
    assert.equal(bytes, opening.initialWindowSize + "\r\nsshshim: it ends soon\r\n".length);
    assert(bytes <= 65_536);
  });
  await t.step("a small window is upstream's alone", () => {
    const world = new World({ noticeBytes });
    const client = world.client("client");
    client.say(MessageType.channelOpen, "session", 7, 100, 32_768);
    assert.equal(world.upstream.expect(MessageType.channelOpen).initialWindowSize, 100);
  });
});
