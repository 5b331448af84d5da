/** What the relay tells of what passes through it: each thing once, in its order, and its end. */

import assert from "node:assert/strict";
import { ChannelRecord } from "../lib/channel_record.ts";
import type { RelayEvent } from "../lib/relay_events.ts";
import { encodeFields } from "../lib/ssh_data.ts";
import { type ChannelRequest, MessageType } from "../lib/wire.ts";
import { type OpenChannel, World } from "./support/memory.ts";

const { channelClose, channelRequest, channelSuccess, channelFailure, globalRequest } = MessageType;

/** The events, each with the values that are named. */
function told(world: World, ...names: string[]): unknown[][] {
  return world.events.map((event) => {
    const values = event as RelayEvent & Record<string, unknown>;
    return [event.event, ...names.map((name) => values[name])];
  });
}

/** Both ends close, whatever else was sent to them. */
function close(world: World, session: OpenChannel): void {
  session.up(channelClose);
  session.down(channelClose);
  session.client.take();
  world.upstream.take();
}

Deno.test("requests are told with their answers, in the order of these", () => {
  const world = new World();
  const session = world.open(world.client("client"));
  session.up(channelRequest, "env", false, "LANG", "C");
  session.up(channelRequest, "subsystem", true, "sftp");
  session.up(channelRequest, "exec", true, "rm -rf secret");
  session.up(channelRequest, "shell", true);
  session.up(channelRequest, "window-change", false, 80, 24, 0, 0);
  session.down(channelFailure);
  session.down(channelSuccess);
  session.down(channelRequest, "exit-status", false, 3);
  close(world, session);
  assert.deepEqual(told(world, "type", "name", "outcome", "requestsNotListed"), [
    ["channel-open", "session", undefined, undefined, undefined],
    ["channel-request", "env", undefined, undefined, undefined],
    ["channel-request", "subsystem", "sftp", "refused", undefined],
    ["channel-request", "exec", undefined, "granted", undefined],
    ["channel-request", "exit-status", undefined, undefined, undefined],
    ["channel-request", "shell", undefined, "unanswered", undefined],
    ["channel-close", undefined, undefined, undefined, 1],
  ]);
  assert.doesNotMatch(JSON.stringify(world.events), /secret|LANG/);
  assert(world.events.every(({ client }) => client === "client"));
});

Deno.test("a client that asks on and on fills no file", () => {
  const world = new World();
  const session = world.open(world.client("client"));
  for (let count = 0; count < 1000; count++) session.up(channelRequest, "signal", false, "USR1");
  close(world, session);
  assert.equal(world.events.length, 66);
  assert.deepEqual(told(world, "requestsNotListed").at(-1), ["channel-close", 936]);
});

Deno.test("of a million requests before their answers each is told with its own, or counted", () => {
  const events: RelayEvent[] = [];
  const facts = { type: "session", openedBy: "client" } as const;
  const record = new ChannelRecord(0, { facts, tell: (event) => void events.push(event) });
  record.onOpened();
  const count = 1_000_000;
  const request = { wantReply: true, data: new Uint8Array() } as ChannelRequest;
  for (let at = 0; at < count; at++) {
    const requestType = at % 3 === 0 ? `${at}` : "window-change";
    record.onRequest("downstream", { ...request, requestType });
  }
  for (let at = 0; at < count; at++) record.onReply("downstream", { isGranted: at % 2 === 0 });
  assert.deepEqual(
    events.slice(1).map((event) =>
      event.event === "channel-request" && [event.type, event.outcome]
    ),
    Array.from({ length: 64 }, (_, at) => [`${3 * at}`, at % 2 === 0 ? "granted" : "refused"]),
  );
});

Deno.test("a channel that is not opened is told once, by whose fault", async (t) => {
  const target = encodeFields("10.0.0.1", 80, "127.0.0.1", 5000);
  await t.step("the host refuses", () => {
    const world = new World();
    const slot = world.ask(world.client("client"), { type: "direct-tcpip", body: target });
    world.upstream.say(MessageType.channelOpenFailure, slot, 2, "no route", "");
    assert.deepEqual(told(world, "by", "code", "reason", "target", "origin"), [
      ["channel-refused", "host", 2, "no route", "10.0.0.1:80", "127.0.0.1:5000"],
    ]);
  });
  await t.step("sshshim refuses at once, and after a wait", () => {
    const world = new World({ channels: 1, openTimeoutMs: 1000 });
    world.relay.detachUpstream("it is lost");
    const client = world.client("client");
    for (const downstream of [7, 8]) {
      client.say(MessageType.channelOpen, "session", downstream, 1000, 1000);
    }
    world.clock.advance(1000);
    assert.deepEqual(told(world, "by", "code", "reason"), [
      ["channel-refused", "sshshim", 4, "too many channels of this client"],
      ["channel-refused", "sshshim", 2, "waited 1 s: it is lost"],
    ]);
  });
  await t.step("the client leaves, and the answer comes later", () => {
    const world = new World();
    const client = world.client("client");
    const slot = world.ask(client);
    client.leave();
    world.upstream.say(MessageType.channelOpenConfirmation, slot, 5, 1000, 1000);
    world.upstream.say(MessageType.channelClose, slot);
    assert.deepEqual(told(world, "by", "reason"), [
      ["channel-refused", "client", "the client has left"],
    ]);
  });
  await t.step("the host asks for what nobody wants", () => {
    const world = new World();
    world.askFromUpstream("forwarded-tcpip", encodeFields("", 8080, "10.0.0.9", 5000));
    assert.deepEqual(told(world, "client", "openedBy", "by", "target"), [
      ["channel-refused", undefined, "host", "sshshim", ":8080"],
    ]);
  });
});

Deno.test("a channel ends for its client when that leaves, with what had crossed it", () => {
  const world = new World();
  const client = world.client("client");
  const session = world.open(client);
  session.expectAlive();
  client.leave();
  session.down(MessageType.channelData, new Uint8Array(100));
  session.down(channelClose);
  assert.deepEqual(told(world, "toHostBytes", "toClientBytes"), [
    ["channel-open", undefined, undefined],
    ["channel-close", 3, 2],
  ]);
});

Deno.test("a remote forward is told with the port that was found, and its end", () => {
  const world = new World();
  const client = world.client("client");
  const ask = (name: string, port: number) => client.say(globalRequest, name, true, "", port);
  ask("tcpip-forward", 0);
  world.upstream.say(MessageType.requestSuccess, { raw: encodeFields(9000) });
  ask("tcpip-forward", 22);
  world.upstream.say(MessageType.requestFailure);
  ask("cancel-tcpip-forward", 9000);
  world.upstream.say(MessageType.requestSuccess);
  ask("cancel-tcpip-forward", 9000);
  assert.deepEqual(told(world, "client", "request", "place"), [
    ["forward-open", "client", "tcpip-forward", "*:9000"],
    ["forward-refused", "client", "tcpip-forward", "*:22"],
    ["forward-close", "client", "cancel-tcpip-forward", "*:9000"],
    ["forward-refused", "client", "cancel-tcpip-forward", "*:9000"],
  ]);
});
