/** Pacing among peers that close, vanish or answer at odd moments. */

import assert from "node:assert/strict";
import { MessageType } from "../lib/wire.ts";
import { usualPacketBytes, usualWindowBytes, World } from "./support/memory.ts";
import { LinkScene, type Transfer } from "./support/simulated_link.ts";

const {
  globalRequest,
  requestFailure,
  channelOpen,
  channelOpenConfirmation,
  channelWindowAdjust,
  channelData,
  channelClose,
  channelRequest,
} = MessageType;

const link = { bytesPerSecond: 1e5, roundTripMs: 40 };

for (const how of ["closes the channel", "leaves"]) {
  Deno.test(`a client ${how} behind what waits, and upstream closes too: CLOSE goes before the next session`, () => {
    const scene = new LinkScene(link);
    scene.terminal(97);
    const upload = scene.upload({ totalBytes: 1.5e6 });
    scene.advance(100);
    if (how === "leaves") upload.client.leave();
    else upload.client.say(channelClose, upload.slot);
    assert(scene.heldBytes > 1e6);
    scene.say(upload.hostChannel, channelClose);
    const arrived = upload.arrivedBytes;
    scene.advance(30);
    assert.equal(scene.heldBytes, 0);
    // What is on its way takes a while.
    scene.open("sink");
    const { types } = upload.hostChannel;
    assert.equal(types.filter((type) => type === channelClose).length, 1);
    assert.equal(types.at(-1), channelClose);
    assert(upload.arrivedBytes - arrived < 3e5);
  });
}

Deno.test("a session that waits for its turn leaves no timer behind when its client leaves", () => {
  const scene = new LinkScene({ bytesPerSecond: 2e6, roundTripMs: 40, sessions: 2 });
  scene.terminal(97);
  scene.download();
  scene.advance(3000);
  const { clock } = scene.world;
  for (let turn = 0; turn < 10; turn++) {
    scene.advance(7);
    const before = clock.pending;
    const client = scene.world.client(`client ${turn}`);
    client.say(channelOpen, "session", 0, usualWindowBytes, usualPacketBytes);
    client.leave();
    assert.equal(clock.pending, before, "a timer is left");
  }
});

/** What part of the link uploads have for a second. */
function shareOf(scene: LinkScene, uploads: readonly Transfer[]): number {
  const sum = () => uploads.reduce((bytes, { arrivedBytes }) => bytes + arrivedBytes, 0);
  const before = sum();
  scene.advance(1000);
  return (sum() - before) / scene.up.bytesPerSecond;
}

Deno.test("uploads to a host that was near go on when the way has become longer", () => {
  for (const messageBytes of [10_000, usualPacketBytes]) {
    const scene = new LinkScene({ bytesPerSecond: 20e6, roundTripMs: 0.5 });
    const uploads = [1, 2].map(() => scene.upload({ messageBytes }));
    scene.advance(1000);
    scene.up.delayMs = scene.down.delayMs = 3;
    // After ten seconds it is looked how long it is.
    for (let second = 0; second < 15; second++) {
      const share = shareOf(scene, uploads);
      assert(share > 0.8, `share ${share} in second ${second}`);
    }
  }
});

Deno.test("an upload to a host that is near goes on after the link has stood still for long", () => {
  const scene = new LinkScene({ bytesPerSecond: 2e6, roundTripMs: 0.5 });
  const uploads = [scene.upload()];
  scene.advance(3000);
  scene.stall(20_000);
  scene.advance(21_000);
  const share = shareOf(scene, uploads);
  assert(share > 0.9, `share ${share}`);
});

Deno.test("an upload to a host that is near goes on when keepalives have no answer any more", () => {
  const scene = new LinkScene({ bytesPerSecond: 2e6, roundTripMs: 0.5 });
  const uploads = [scene.upload()];
  scene.advance(3000);
  scene.answers = false;
  scene.advance(16_000);
  const share = shareOf(scene, uploads);
  assert(share > 0.9, `share ${share}`);
});

Deno.test("a channel that upstream opens while nothing may be under way is granted it later", () => {
  const world = new World({}, {}, { isPaced: true });
  const { upstream, clock } = world;
  const client = world.client("client");
  const upload = world.open(client);
  upload.up(channelRequest, "auth-agent-req@openssh.com", false);
  const send = (messages: number) => {
    const data = new Uint8Array(usualPacketBytes);
    for (let count = 0; count < messages; count++) upload.up(channelData, data);
  };
  const answerKeepalives = () => {
    const asked = upstream.take().filter(({ message }) => message.type === globalRequest);
    assert(asked.length > 0, "no keepalive was sent");
    for (const _ of asked) upstream.say(requestFailure);
  };
  send(6);
  answerKeepalives(); // The host is near.
  send(6);
  clock.advance(200);
  answerKeepalives(); // A queue has come up.
  send(12);
  client.take();
  world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  const { senderChannel, initialWindowSize } = client.expect(channelOpen);
  assert.equal(initialWindowSize, 0);
  answerKeepalives();
  client.take();
  client.say(channelOpenConfirmation, senderChannel, 9, usualWindowBytes, usualPacketBytes);
  const { bytesToAdd } = client.expectOn(channelWindowAdjust, 9);
  assert(bytesToAdd >= usualPacketBytes, `${bytesToAdd} bytes`);
});
