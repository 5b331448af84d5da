/** What the relay tells of itself, between peers in memory. */

import assert from "node:assert/strict";
import { waitingOf } from "../lib/relay_status.ts";
import { encodeFields } from "../lib/ssh_data.ts";
import type { ChannelStateStatus } from "../lib/status.ts";
import { MessageType } from "../lib/wire.ts";
import { World } from "./support/memory.ts";

const { channelClose, channelData, channelEof, channelExtendedData, channelOpen, globalRequest } =
  MessageType;
const { channelOpenConfirmation, channelOpenFailure, channelRequest, requestSuccess } = MessageType;

/** The states of all channels that have a client. */
function statesOf({ relay }: World): ChannelStateStatus[] {
  return relay.describe().clients.flatMap(({ channels }) => channels.map(({ state }) => state));
}

Deno.test("a channel waits for the host, lives, is half closed, closes and is gone", () => {
  const world = new World();
  const client = world.client("client");
  const slot = world.ask(client);
  assert.deepEqual(statesOf(world), [{ kind: "waiting", for: "answer" }]);
  world.upstream.say(channelOpenConfirmation, slot, 101, 2 ** 21, 32768);
  assert.deepEqual(statesOf(world), [{ kind: "live" }]);
  client.say(channelEof, slot);
  assert.deepEqual(statesOf(world), [{ kind: "half-closed", by: "client" }]);
  world.upstream.say(channelEof, slot);
  assert.deepEqual(statesOf(world), [{ kind: "half-closed", by: "both" }]);
  world.upstream.say(channelClose, slot);
  assert.deepEqual(statesOf(world), [{ kind: "closing" }]);
  client.say(channelClose, slot);
  assert.deepEqual(statesOf(world), []);
});

Deno.test("while upstream is away a channel waits for it, and without room for a session", () => {
  const world = new World({ sessions: 1 });
  const client = world.client("client");
  world.ask(client);
  client.say(channelOpen, "session", 8, 1000, 1000);
  assert.deepEqual(statesOf(world).at(-1), { kind: "waiting", for: "session" });
  assert.deepEqual(world.relay.describe().sessions, { count: 1, limit: 1 });
  world.relay.detachUpstream("lost");
  const { clients: [only] } = world.relay.describe();
  const waiting = waitingOf(only!.channels);
  assert.deepEqual(
    [waiting.upstream.count, waiting.session.count, waiting.answer.count],
    [2, 0, 0],
  );
});

Deno.test("a channel that the host opens waits for its client, and one without client is apart", () => {
  const world = new World();
  const client = world.client("client");
  client.say(globalRequest, "tcpip-forward", true, { raw: encodeFields("localhost", 8080) });
  assert.equal(world.relay.describe().forwards[0]!.state, "requested");
  world.upstream.say(requestSuccess);
  world.askFromUpstream("forwarded-tcpip", encodeFields("localhost", 8080, "::1", 5000));
  const [only] = world.relay.describe().clients;
  const [channel] = only!.channels;
  assert.deepEqual(
    [channel!.openedBy, channel!.target, channel!.state],
    ["host", "localhost:8080", { kind: "waiting", for: "client" }],
  );
  assert.deepEqual(
    world.relay.describe().forwards.map(({ place, state }) => [place, state]),
    [["localhost:8080", "listening"]],
  );
  world.upstream.take();
  client.take();
  world.open(client);
  client.leave();
  assert.equal(world.relay.describe().clients.length, 0);
  const { channelsWithoutClient, forwards } = world.relay.describe();
  assert.deepEqual(channelsWithoutClient.map(({ state }) => state.kind), ["closing"]);
  assert.deepEqual(forwards.map(({ client, state }) => [client, state]), [[null, "cancelling"]]);
});

Deno.test("data is counted once, in both kinds, and what nobody may send is not", () => {
  const world = new World();
  const client = world.client("client");
  const channel = world.open(client);
  channel.up(channelData, new Uint8Array(10));
  channel.down(channelData, new Uint8Array(200));
  channel.down(channelExtendedData, 1, new Uint8Array(30));
  channel.down(channelEof);
  channel.down(channelData, new Uint8Array(999));
  const { clients: [only] } = world.relay.describe();
  assert.deepEqual([only!.channels[0]!.toHostBytes, only!.channels[0]!.toClientBytes], [10, 230]);
  channel.up(channelClose);
  channel.down(channelClose);
  const { clients: [left], totals } = world.relay.describe();
  assert.deepEqual(left!.channels, []);
  assert.deepEqual([totals.toHostBytes, totals.toClientBytes], [10, 230]);
});

Deno.test("every channel that was asked for is counted once, by types that no peer chooses", () => {
  const world = new World({ channels: 3 });
  const client = world.client("client");
  const refused = world.ask(client, { downstream: 8 });
  world.upstream.say(channelOpenFailure, refused, 1, "no", "");
  client.expect(channelOpenFailure);
  world.open(client);
  world.ask(client, { downstream: 9, type: "made-up-1@example.com" });
  world.ask(client, { downstream: 10, type: "made-up-2@example.com" });
  client.say(channelOpen, "session", 11, 1000, 1000);
  world.askFromUpstream("made-up-3@example.com", new Uint8Array());
  client.leave();
  assert.deepEqual(world.relay.describe().totals.channels, [
    { type: "session", opened: 1, refused: 2 },
    { type: "other", opened: 0, refused: 3 },
  ]);
  assert.equal(world.relay.describe().totals.clientsAccepted, 1);
});

Deno.test("of what a session asks for the last word counts, and no more than is shown is kept", () => {
  const world = new World();
  const client = world.client("client");
  const channel = world.open(client);
  const runs = () => world.relay.describe().clients[0]!.channels[0]!.runs;
  assert.equal(runs(), null);
  channel.up(channelRequest, "exec", true, "x".repeat(30_000));
  assert.deepEqual(runs(), { kind: "command", text: `${"x".repeat(199)}…` });
  channel.up(channelRequest, "subsystem", true, "sftp");
  assert.deepEqual(runs(), { kind: "subsystem", text: "sftp" });
  channel.up(channelRequest, "shell", true);
  channel.up(channelRequest, "env", false, "A", "b");
  assert.deepEqual(runs(), { kind: "shell" });
});
