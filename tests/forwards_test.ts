/** Remote forwards: who owns a listener on the remote host, and where its connections go. */

import assert from "node:assert/strict";
import { encodeFields } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { type MemoryPeer, World } from "./support/memory.ts";

const {
  globalRequest,
  requestSuccess,
  requestFailure,
  channelOpen,
  channelOpenConfirmation,
  channelOpenFailure,
  channelClose,
} = MessageType;

const listen = "tcpip-forward";
const cancel = "cancel-tcpip-forward";
const listenAtPath = "streamlocal-forward@openssh.com";
const cancelAtPath = "cancel-streamlocal-forward@openssh.com";

/** The spellings that sshd may bind to one and the same socket. */
const anyOrLoopback = ["", "*", "localhost", "127.0.0.1", "0.0.0.0", "::", "::1", "LocalHost"];

/** A client gets a TCP listener that upstream grants. */
function grant(world: World, client: MemoryPeer, address: string, port: number): void {
  client.say(globalRequest, listen, true, address, port);
  const request = world.upstream.expect(globalRequest);
  assert.deepEqual(request.data, encodeFields(address, port));
  world.upstream.say(requestSuccess);
  client.expect(requestSuccess);
}

/** A client asks for a TCP listener that upstream refuses. */
function refuse(world: World, client: MemoryPeer, address: string, port: number): void {
  client.say(globalRequest, listen, true, address, port);
  assert.deepEqual(world.upstream.expect(globalRequest).data, encodeFields(address, port));
  world.upstream.say(requestFailure);
  client.expect(requestFailure);
}

/** A client gets a listener at a path that upstream grants. */
function grantPath(world: World, client: MemoryPeer, path: string): void {
  client.say(globalRequest, listenAtPath, true, path);
  world.upstream.expect(globalRequest);
  world.upstream.say(requestSuccess);
  client.expect(requestSuccess);
}

/** Upstream has a connection to a TCP listener; nobody has answered. */
function connect(world: World, address: string, port: number): number {
  return world.askFromUpstream("forwarded-tcpip", encodeFields(address, port, "10.0.0.9", 55555));
}

/** Upstream has a connection to a TCP listener, and `client` takes it. */
function expectTaken(world: World, client: MemoryPeer, address: string, port: number): void {
  const upstream = connect(world, address, port);
  const asked = client.expect(channelOpen);
  assert.equal(asked.channelType, "forwarded-tcpip");
  assert.deepEqual(asked.data, encodeFields(address, port, "10.0.0.9", 55555));
  client.say(channelOpenConfirmation, asked.senderChannel, 31, 100, 100);
  const { senderChannel } = world.upstream.expectOn(channelOpenConfirmation, upstream);
  world.upstream.say(channelClose, senderChannel);
  client.expectOn(channelClose, 31);
  client.say(channelClose, asked.senderChannel);
  world.upstream.expectOn(channelClose, upstream);
}

/** Upstream has a connection that nobody wants. */
function expectRefused(world: World, address: string, port: number): void {
  const upstream = connect(world, address, port);
  world.upstream.expectOn(channelOpenFailure, upstream);
}

Deno.test("a forward is granted by upstream, and its connections reach its owner", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  expectRefused(world, "localhost", 8080);
  grant(world, alice, "localhost", 8080);
  assert.equal(world.relay.forwardCount, 1);
  expectTaken(world, alice, "localhost", 8080);
  grant(world, bob, "localhost", 9090);
  expectTaken(world, bob, "localhost", 9090);
  expectTaken(world, alice, "localhost", 8080);
  expectRefused(world, "localhost", 7070);
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice, bob);
});

Deno.test("a forward goes upstream with want_reply, whatever the client said", () => {
  const world = new World();
  const alice = world.client("alice");
  for (
    const [name, body] of [
      [listen, encodeFields("", 8080)],
      [listenAtPath, encodeFields("/tmp/s")],
    ] as const
  ) {
    alice.say(globalRequest, name, false, { raw: body });
    const request = world.upstream.expect(globalRequest);
    assert.equal(request.name, name);
    assert.equal(request.wantReply, true);
    assert.deepEqual(request.data, body);
    world.upstream.say(requestSuccess);
  }
  assert.equal(world.relay.forwardCount, 2);
  expectTaken(world, alice, "localhost", 8080);
  world.expectQuiet(alice);
});

Deno.test("a forward that upstream refuses is refused, and nobody owns it", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  refuse(world, alice, "", 80);
  assert.equal(world.relay.forwardCount, 0);
  expectRefused(world, "", 80);
  grant(world, bob, "", 80);
  expectTaken(world, bob, "", 80);
  world.expectQuiet(alice, bob);
});

Deno.test("a connection right behind the grant reaches the owner, after the grant", () => {
  const world = new World();
  const alice = world.client("alice");
  alice.say(globalRequest, listen, true, "", 0);
  alice.say(globalRequest, listenAtPath, true, "/tmp/s");
  world.upstream.take();
  world.upstream.say(requestSuccess, 40001);
  connect(world, "localhost", 40001);
  assert.deepEqual(alice.expect(requestSuccess).data, encodeFields(40001));
  alice.expect(channelOpen);
  world.upstream.say(requestSuccess);
  world.askFromUpstream("forwarded-streamlocal@openssh.com", encodeFields("/tmp/s", ""));
  alice.expect(requestSuccess);
  alice.expect(channelOpen);
  world.expectQuiet(alice);
});

Deno.test("port 0 comes back as the port that upstream allocated, and is known by it", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  alice.say(globalRequest, listen, true, "localhost", 0);
  bob.say(globalRequest, listen, true, "localhost", 0);
  assert.deepEqual(world.upstream.expect(globalRequest).data, encodeFields("localhost", 0));
  assert.deepEqual(world.upstream.expect(globalRequest).data, encodeFields("localhost", 0));
  world.upstream.say(requestSuccess, 40001);
  world.upstream.say(requestSuccess, 40002);
  assert.deepEqual(alice.expect(requestSuccess).data, encodeFields(40001));
  assert.deepEqual(bob.expect(requestSuccess).data, encodeFields(40002));
  expectTaken(world, bob, "localhost", 40002);
  expectTaken(world, alice, "localhost", 40001);
  refuse(world, bob, "localhost", 40001);
  alice.say(globalRequest, cancel, true, "localhost", 40001);
  assert.deepEqual(world.upstream.expect(globalRequest).data, encodeFields("localhost", 40001));
  world.upstream.say(requestSuccess);
  alice.expect(requestSuccess);
  expectRefused(world, "localhost", 40001);
  world.expectQuiet(alice, bob);
});

for (const granted of [[], [0], [65_536], [2 ** 31]]) {
  Deno.test(`a grant of port 0 that names the port "${granted}" fails that request alone`, () => {
    const world = new World();
    const [alice, bob] = [world.client("alice"), world.client("bob")];
    const session = world.open(bob);
    for (let count = 0; count < 2; count++) {
      alice.say(globalRequest, listen, true, "localhost", 0);
      world.upstream.expect(globalRequest);
      world.upstream.say(requestSuccess, ...granted);
      alice.expect(requestFailure);
    }
    assert.equal(world.relay.forwardCount, 0);
    assert.deepEqual(world.reports, [
      "remote forward localhost:0 is refused: the remote host names no port",
    ]);
    session.expectAlive();
    grant(world, alice, "localhost", 8080);
    expectTaken(world, alice, "localhost", 8080);
    world.expectQuiet(alice, bob);
  });
}

Deno.test("upstream decides whether a place can be had twice, in every spelling", () => {
  for (const taken of anyOrLoopback) {
    const world = new World();
    const [alice, bob] = [world.client("alice"), world.client("bob")];
    grant(world, alice, taken, 8080);
    for (const wanted of anyOrLoopback) refuse(world, bob, wanted, 8080);
    grant(world, bob, "192.0.2.1", 8080);
    for (const spelling of anyOrLoopback) expectTaken(world, alice, spelling, 8080);
    expectTaken(world, bob, "192.0.2.1", 8080);
    for (const other of anyOrLoopback.filter((it) => it !== taken)) {
      grant(world, bob, other, 8080);
      expectTaken(world, bob, other, 8080);
      expectTaken(world, alice, taken, 8080);
    }
    world.expectQuiet(alice, bob);
  }
});

Deno.test("names and addresses other than those compare without case", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  grant(world, alice, "Host.example.com", 8080);
  grant(world, bob, "2001:DB8::1", 8080);
  expectTaken(world, bob, "2001:db8::1", 8080);
  expectTaken(world, alice, "host.example.com", 8080);
  world.expectQuiet(alice, bob);
});

Deno.test("a place that upstream grants twice is the newest client's, then the earlier one's", () => {
  for (const spelling of ["localhost", "name.tunnels.example.com"]) {
    const world = new World();
    const [alice, bob] = [world.client("alice"), world.client("bob")];
    grant(world, alice, "localhost", 80);
    expectTaken(world, alice, spelling, 80);
    grant(world, bob, "localhost", 80);
    expectTaken(world, bob, spelling, 80);
    // A cancellation would end both listeners at sshd.
    bob.leave();
    world.upstream.expectNothing();
    expectTaken(world, alice, spelling, 80);
    alice.leave();
    for (let count = 0; count < 2; count++) {
      const request = world.upstream.expect(globalRequest);
      assert.deepEqual([request.name, request.data], [cancel, encodeFields("localhost", 80)]);
    }
    world.upstream.say(requestSuccess);
    world.upstream.say(requestFailure);
    assert.equal(world.relay.forwardCount, 0);
    world.expectQuiet();
  }
});

Deno.test("a place that upstream grants twice stays the newest client's when the earlier one goes", () => {
  for (const ends of ["cancelled", "left"] as const) {
    const world = new World();
    const [alice, bob] = [world.client("alice"), world.client("bob")];
    grantPath(world, alice, "/tmp/s");
    grantPath(world, bob, "/tmp/s");
    if (ends === "left") alice.leave();
    else {
      alice.say(globalRequest, cancelAtPath, true, "/tmp/s");
      alice.expect(requestSuccess);
      alice.say(globalRequest, cancelAtPath, true, "/tmp/s");
      alice.expect(requestFailure);
    }
    world.upstream.expectNothing();
    world.askFromUpstream("forwarded-streamlocal@openssh.com", encodeFields("/tmp/s", ""));
    bob.expect(channelOpen);
    bob.say(globalRequest, cancelAtPath, true, "/tmp/s");
    assert.equal(world.upstream.expect(globalRequest).name, cancelAtPath);
    assert.equal(world.upstream.expect(globalRequest).name, cancelAtPath);
    world.upstream.say(requestSuccess);
    bob.expect(requestSuccess);
    world.upstream.say(requestFailure);
    assert.equal(world.relay.forwardCount, 0);
    world.expectQuiet(alice, bob);
  }
});

Deno.test("clients that come and go at another's path do not leave ever more sockets there", () => {
  const world = new World();
  const alice = world.client("alice");
  grantPath(world, alice, "/tmp/s");
  for (let round = 0; round < 3; round++) {
    for (let count = 1; count < 16; count++) {
      const bob = world.client("bob");
      grantPath(world, bob, "/tmp/s");
      bob.leave();
      world.upstream.expectNothing();
    }
    const carol = world.client("carol");
    grantPath(world, carol, "/tmp/s");
    carol.leave();
    for (let count = 0; count < 16; count++) {
      assert.equal(world.upstream.expect(globalRequest).name, cancelAtPath);
    }
    assert.equal(world.upstream.expect(globalRequest).name, listenAtPath);
    world.upstream.say(requestSuccess);
    for (let count = 1; count < 16; count++) world.upstream.say(requestFailure);
    world.upstream.say(requestSuccess);
    assert.equal(world.relay.forwardCount, 1);
    world.askFromUpstream("forwarded-streamlocal@openssh.com", encodeFields("/tmp/s", ""));
    alice.expect(channelOpen);
  }
  alice.say(globalRequest, cancelAtPath, true, "/tmp/s");
  assert.equal(world.upstream.expect(globalRequest).name, cancelAtPath);
  assert.deepEqual(world.reports, []);
  world.expectQuiet(alice);
});

Deno.test("a client leaves while another asks for its place: the answer decides what is cancelled", () => {
  for (const answer of [requestSuccess, requestFailure]) {
    const world = new World();
    const [alice, bob] = [world.client("alice"), world.client("bob")];
    grantPath(world, alice, "/tmp/s");
    bob.say(globalRequest, listenAtPath, true, "/tmp/s");
    world.upstream.expect(globalRequest);
    alice.leave();
    world.upstream.expectNothing();
    world.upstream.say(answer);
    bob.expect(answer);
    if (answer === requestFailure) {
      assert.equal(world.upstream.expect(globalRequest).name, cancelAtPath);
    } else {
      world.askFromUpstream("forwarded-streamlocal@openssh.com", encodeFields("/tmp/s", ""));
      bob.expect(channelOpen);
    }
    world.expectQuiet(bob);
  }
});

Deno.test("a place that two clients have comes back for both, and not for those that left", () => {
  const world = new World();
  const [alice, bob, carol] = [world.client("alice"), world.client("bob"), world.client("carol")];
  for (const client of [alice, bob, carol]) grantPath(world, client, "/tmp/s");
  carol.leave();
  world.relay.detachUpstream("lost");
  assert.equal(world.relay.forwardCount, 2);
  world.attach();
  for (let count = 0; count < 2; count++) {
    assert.equal(world.upstream.expect(globalRequest).name, listenAtPath);
  }
  // One leaves before the answers: what the other gets is not cancelled.
  world.upstream.say(requestSuccess);
  alice.leave();
  world.upstream.expectNothing();
  world.upstream.say(requestSuccess);
  world.askFromUpstream("forwarded-streamlocal@openssh.com", encodeFields("/tmp/s", ""));
  bob.expect(channelOpen);
  world.expectQuiet(bob);
});

Deno.test("what a client asks for twice is upstream's to decide", () => {
  const world = new World();
  const alice = world.client("alice");
  grant(world, alice, "localhost", 8080);
  refuse(world, alice, "localhost", 8080);
  assert.equal(world.relay.forwardCount, 1);
  expectTaken(world, alice, "localhost", 8080);
  world.expectQuiet(alice);
});

Deno.test("a port beyond 65535 is refused without asking", () => {
  const world = new World();
  const alice = world.client("alice");
  grant(world, alice, "", 65535);
  for (const port of [65536, 0x7fffffff, 0x80000000, 0xffffffff]) {
    for (const name of [listen, cancel]) {
      alice.say(globalRequest, name, true, "", port);
      alice.expect(requestFailure);
    }
  }
  world.expectQuiet(alice);
});

Deno.test("a connection whose address upstream spells in its own way finds the only owner", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  grant(world, alice, "host.example.com", 8080);
  expectTaken(world, alice, "192.0.2.7", 8080);
  grant(world, bob, "192.0.2.8", 8080);
  expectRefused(world, "192.0.2.7", 8080);
  expectTaken(world, bob, "192.0.2.8", 8080);
  world.expectQuiet(alice, bob);
});

Deno.test("a forward is cancelled by its owner, as upstream says", () => {
  const world = new World();
  const alice = world.client("alice");
  grant(world, alice, "localhost", 8080);
  alice.say(globalRequest, cancel, true, "localhost", 8080);
  const request = world.upstream.expect(globalRequest);
  assert.equal(request.name, cancel);
  assert.equal(request.wantReply, true);
  world.upstream.say(requestFailure);
  alice.expect(requestFailure);
  expectTaken(world, alice, "localhost", 8080);

  alice.say(globalRequest, cancel, false, "localhost", 8080);
  world.upstream.expect(globalRequest);
  world.upstream.say(requestSuccess);
  alice.expectNothing();
  assert.equal(world.relay.forwardCount, 0);
  expectRefused(world, "localhost", 8080);
  grant(world, alice, "localhost", 8080);
  world.expectQuiet(alice);
});

Deno.test("a forward that is not there, or is another client's, cannot be cancelled", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  grant(world, alice, "localhost", 8080);
  grantPath(world, alice, "/tmp/s");
  for (const address of anyOrLoopback) {
    bob.say(globalRequest, cancel, true, address, 8080);
    bob.expect(requestFailure);
  }
  bob.say(globalRequest, cancelAtPath, true, "/tmp/s");
  bob.expect(requestFailure);
  alice.say(globalRequest, cancel, true, "localhost", 8081);
  alice.expect(requestFailure);
  world.upstream.expectNothing();
  expectTaken(world, alice, "localhost", 8080);
  world.expectQuiet(alice, bob);
});

Deno.test("a connection while the cancellation is under way still reaches its owner", () => {
  const world = new World();
  const alice = world.client("alice");
  grant(world, alice, "localhost", 8080);
  alice.say(globalRequest, cancel, true, "localhost", 8080);
  world.upstream.expect(globalRequest);
  expectTaken(world, alice, "localhost", 8080);
  alice.say(globalRequest, cancel, true, "localhost", 8080);
  world.upstream.expectNothing();
  world.upstream.say(requestSuccess);
  alice.expect(requestSuccess);
  alice.expect(requestFailure);
  assert.equal(world.relay.forwardCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a client leaves: what it listens on is cancelled, nobody else's", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  grant(world, alice, "", 8080);
  grantPath(world, alice, "/tmp/alice");
  grant(world, bob, "", 9090);
  alice.leave();
  const first = world.upstream.expect(globalRequest);
  assert.equal(first.name, cancel);
  assert.deepEqual(first.data, encodeFields("", 8080));
  const second = world.upstream.expect(globalRequest);
  assert.equal(second.name, cancelAtPath);
  assert.deepEqual(second.data, encodeFields("/tmp/alice"));
  alice.leave();
  world.upstream.expectNothing();
  expectRefused(world, "", 8080);
  world.upstream.say(requestSuccess);
  world.upstream.say(requestFailure);
  assert.equal(world.relay.forwardCount, 1);
  expectTaken(world, bob, "", 9090);
  world.expectQuiet(alice, bob);
});

Deno.test("a client leaves: its address may be asked for by another at once", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  grant(world, alice, "", 8080);
  alice.leave();
  bob.say(globalRequest, listen, true, "", 8080);
  assert.equal(world.upstream.expect(globalRequest).name, cancel);
  assert.equal(world.upstream.expect(globalRequest).name, listen);
  world.upstream.say(requestSuccess);
  world.upstream.say(requestSuccess);
  bob.expect(requestSuccess);
  expectTaken(world, bob, "", 8080);
  assert.equal(world.relay.forwardCount, 1);
  world.expectQuiet(alice, bob);
});

Deno.test("a client leaves before its forward is granted: it is cancelled once it is", () => {
  const world = new World();
  const alice = world.client("alice");
  alice.say(globalRequest, listen, true, "", 0);
  alice.say(globalRequest, listenAtPath, true, "/tmp/s");
  alice.say(globalRequest, listen, true, "", 80);
  world.upstream.take();
  alice.leave();
  world.upstream.expectNothing();
  world.upstream.say(requestSuccess, 40001);
  assert.deepEqual(world.upstream.expect(globalRequest).data, encodeFields("", 40001));
  expectRefused(world, "", 40001);
  world.upstream.say(requestSuccess);
  assert.equal(world.upstream.expect(globalRequest).name, cancelAtPath);
  world.upstream.say(requestFailure);
  world.upstream.expectNothing();
  world.upstream.say(requestSuccess);
  world.upstream.say(requestSuccess);
  assert.equal(world.relay.forwardCount, 0);
  world.expectQuiet();
});

Deno.test("a client leaves while its cancellation is under way: it is not asked for again", () => {
  for (const answer of [requestSuccess, requestFailure]) {
    const world = new World();
    const alice = world.client("alice");
    grant(world, alice, "", 8080);
    alice.say(globalRequest, cancel, true, "", 8080);
    world.upstream.expect(globalRequest);
    alice.leave();
    world.upstream.expectNothing();
    world.upstream.say(answer);
    assert.equal(world.relay.forwardCount, 0);
    world.upstream.expectNothing();
  }
});

Deno.test("a connection that waits for its owner's answer is refused when the owner leaves", () => {
  const world = new World();
  const alice = world.client("alice");
  grant(world, alice, "", 8080);
  const upstream = connect(world, "localhost", 8080);
  alice.expect(channelOpen);
  alice.leave();
  const answers = world.upstream.take().map(({ message }) => message);
  assert(
    answers.some((message) =>
      message.type === channelOpenFailure && message.recipientChannel === upstream
    ),
  );
  assert.equal(world.relay.channelCount, 0);
});

Deno.test("the owner's refusal of a connection passes with its reason", () => {
  const world = new World();
  const alice = world.client("alice");
  grant(world, alice, "", 8080);
  const upstream = connect(world, "localhost", 8080);
  const { senderChannel } = alice.expect(channelOpen);
  alice.say(channelOpenFailure, senderChannel, 2, "connect failed", "");
  const failure = world.upstream.expectOn(channelOpenFailure, upstream);
  assert.equal(failure.reasonCode, 2);
  assert.equal(failure.description, "connect failed");
  assert.equal(world.relay.channelCount, 0);
  world.expectQuiet(alice);
});

Deno.test("a forward at a path: granted, connected, refused to others, cancelled", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  grantPath(world, alice, "/tmp/s");
  bob.say(globalRequest, listenAtPath, true, "/tmp/s");
  world.upstream.expect(globalRequest);
  world.upstream.say(requestFailure);
  bob.expect(requestFailure);
  grantPath(world, bob, "/tmp/S");

  const body = encodeFields("/tmp/s", "");
  world.askFromUpstream("forwarded-streamlocal@openssh.com", body);
  assert.deepEqual(alice.expect(channelOpen).data, body);
  bob.expectNothing();
  const nobody = world.askFromUpstream(
    "forwarded-streamlocal@openssh.com",
    encodeFields("/tmp/other", ""),
  );
  world.upstream.expectOn(channelOpenFailure, nobody);

  alice.say(globalRequest, cancelAtPath, true, "/tmp/s");
  assert.deepEqual(world.upstream.expect(globalRequest).data, encodeFields("/tmp/s"));
  world.upstream.say(requestSuccess);
  alice.expect(requestSuccess);
  grantPath(world, bob, "/tmp/s");
  world.askFromUpstream("forwarded-streamlocal@openssh.com", body);
  bob.expect(channelOpen);
  world.expectQuiet(alice, bob);
});

Deno.test("a path and an address are never the same place", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  grantPath(world, alice, "");
  grant(world, bob, "", 8080);
  expectTaken(world, bob, "", 8080);
  world.expectQuiet(alice, bob);
});

// Upstream that is lost and comes back

/** Upstream is asked for a TCP listener again. */
function expectAskedAgain(world: World, address: string, port: number): void {
  const request = world.upstream.expect(globalRequest);
  assert.equal(request.name, listen);
  assert.equal(request.wantReply, true);
  assert.deepEqual(request.data, encodeFields(address, port));
}

Deno.test("upstream comes back: every forward is asked for again, in order, at its old port", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  grant(world, alice, "", 8080);
  bob.say(globalRequest, listen, true, "localhost", 0);
  world.upstream.expect(globalRequest);
  world.upstream.say(requestSuccess, 40001);
  bob.expect(requestSuccess);
  grantPath(world, alice, "/tmp/s");
  world.relay.detachUpstream("lost");
  assert.equal(world.relay.forwardCount, 3);
  world.attach();
  expectAskedAgain(world, "", 8080);
  expectAskedAgain(world, "localhost", 40001);
  assert.equal(world.upstream.expect(globalRequest).name, listenAtPath);
  for (let count = 0; count < 3; count++) world.upstream.say(requestSuccess);
  assert.deepEqual(world.reports, [
    "remote forward *:8080 is back",
    "remote forward localhost:40001 is back",
    "remote forward /tmp/s is back",
  ]);
  expectTaken(world, bob, "localhost", 40001);
  expectTaken(world, alice, "", 8080);
  assert.equal(world.clock.pending, 0);
  world.expectQuiet(alice, bob);
});

Deno.test("a port that the dead connection still holds is asked for until it is free", () => {
  const world = new World();
  const alice = world.client("alice");
  grant(world, alice, "", 8080);
  world.relay.detachUpstream("lost");
  world.attach();
  let delayMs = 500;
  for (let heldMs = 0; heldMs < 120_000;) {
    expectAskedAgain(world, "", 8080);
    world.upstream.say(requestFailure);
    let waitedMs = 0;
    for (; world.clock.pending === 1; waitedMs++) world.clock.advance(1);
    // Whenever it is let go, it is back soon after, measured by how long it was held.
    assert.ok(waitedMs >= 500 && waitedMs <= Math.min(10_000, 501 + heldMs / 8), `${waitedMs} ms`);
    // As .github/PROTOCOL.md says: half a second at first, and an eighth more each time.
    assert.equal(waitedMs, Math.ceil(delayMs));
    delayMs = Math.min(10_000, delayMs * 1.125);
    heldMs += waitedMs;
  }
  assert.equal(world.reports.length, 1);
  expectAskedAgain(world, "", 8080);
  world.upstream.say(requestSuccess);
  assert.equal(world.reports.length, 2);
  assert.equal(world.clock.pending, 0);
  expectTaken(world, alice, "", 8080);
  world.expectQuiet(alice);
});

Deno.test("upstream is lost again before a forward is back: it is asked for once, on the next one", () => {
  for (const isAnswered of [false, true]) {
    const world = new World();
    const alice = world.client("alice");
    grant(world, alice, "", 8080);
    world.relay.detachUpstream("lost");
    world.attach();
    expectAskedAgain(world, "", 8080);
    if (isAnswered) world.upstream.say(requestFailure);
    world.relay.detachUpstream("lost again");
    assert.equal(world.clock.pending, 0);
    world.attach();
    expectAskedAgain(world, "", 8080);
    world.clock.advance(60_000);
    world.upstream.expectNothing();
    world.upstream.say(requestSuccess);
    expectTaken(world, alice, "", 8080);
    world.expectQuiet(alice);
  }
});

Deno.test("a lost forward stays its owner's: no other client gets it meanwhile", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  grant(world, alice, "", 8080);
  world.relay.detachUpstream("lost");
  bob.say(globalRequest, listen, true, "localhost", 8080);
  bob.expect(requestFailure);
  bob.say(globalRequest, cancel, true, "", 8080);
  bob.expect(requestFailure);
  world.attach();
  expectAskedAgain(world, "", 8080);
  bob.say(globalRequest, listen, true, "localhost", 8080);
  bob.expect(requestFailure);
  world.upstream.say(requestSuccess);
  expectTaken(world, alice, "", 8080);
  world.expectQuiet(alice, bob);
});

Deno.test("while a forward is lost, its port is its owner's at every address", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  grant(world, alice, "", 8080);
  // While it listens, sshd itself tells whether both can.
  grant(world, bob, "127.0.0.2", 8080);
  bob.say(globalRequest, cancel, true, "127.0.0.2", 8080);
  world.upstream.expect(globalRequest);
  world.upstream.say(requestSuccess);
  bob.expect(requestSuccess);
  world.relay.detachUpstream("lost");
  world.attach();
  expectAskedAgain(world, "", 8080);
  world.upstream.say(requestFailure);
  bob.say(globalRequest, listen, true, "127.0.0.2", 8080);
  bob.expect(requestFailure);
  world.upstream.expectNothing();
  grant(world, bob, "127.0.0.2", 8081);
  world.clock.advance(500);
  expectAskedAgain(world, "", 8080);
  world.upstream.say(requestSuccess);
  expectTaken(world, alice, "", 8080);
  world.expectQuiet(alice, bob);
});

Deno.test("a lost forward that is cancelled, or whose owner leaves, is not asked for again", () => {
  for (const ends of ["cancelled", "left"] as const) {
    for (const when of ["away", "asked", "refused"] as const) {
      const world = new World();
      const alice = world.client("alice");
      grant(world, alice, "", 8080);
      world.relay.detachUpstream("lost");
      if (when !== "away") expectAskedAgain((world.attach(), world), "", 8080);
      if (when === "refused") world.upstream.say(requestFailure);
      if (ends === "left") alice.leave();
      else {
        alice.say(globalRequest, cancel, true, "", 8080);
        alice.expect(requestSuccess);
      }
      if (when === "away") world.attach();
      if (when === "asked") {
        // It comes back all the same, and is cancelled then.
        world.upstream.say(requestSuccess);
        assert.equal(world.upstream.expect(globalRequest).name, cancel);
        world.upstream.say(requestSuccess);
      }
      world.clock.advance(60_000);
      assert.equal(world.clock.pending, 0);
      assert.equal(world.relay.forwardCount, 0);
      expectRefused(world, "", 8080);
      world.expectQuiet(alice);
    }
  }
});

Deno.test("what is asked for while upstream is away is answered with the truth when it is back", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  alice.say(globalRequest, listen, true, "", 8080);
  world.upstream.expect(globalRequest);
  world.relay.detachUpstream("lost");
  alice.say(globalRequest, listen, true, "", 0);
  alice.say(globalRequest, "keepalive@openssh.com", true);
  bob.say(globalRequest, listen, true, "", 80);
  assert.equal(world.wishes.upstream, 2);
  alice.expectNothing();
  world.attach();
  expectAskedAgain(world, "", 8080);
  expectAskedAgain(world, "", 0);
  expectAskedAgain(world, "", 80);
  world.upstream.say(requestSuccess);
  world.upstream.say(requestSuccess, 40001);
  world.upstream.say(requestFailure);
  alice.expect(requestSuccess);
  assert.deepEqual(alice.expect(requestSuccess).data, encodeFields(40001));
  alice.expect(requestFailure);
  bob.expect(requestFailure);
  assert.equal(world.relay.forwardCount, 2);
  expectTaken(world, alice, "", 40001);
  world.expectQuiet(alice, bob);
});

Deno.test("a client that leaves while its request waits for upstream leaves nothing behind", () => {
  for (const leavesFirst of [false, true]) {
    const world = new World();
    const alice = world.client("alice");
    alice.say(globalRequest, listen, true, "", 8080);
    world.upstream.expect(globalRequest);
    if (leavesFirst) alice.leave();
    world.relay.detachUpstream("lost");
    alice.say(globalRequest, listen, true, "", 8081);
    alice.leave();
    assert.equal(world.relay.forwardCount, 0);
    world.attach();
    world.expectQuiet(alice);
  }
});

Deno.test("a cancellation that is under way when upstream is lost is done", () => {
  const world = new World();
  const alice = world.client("alice");
  grant(world, alice, "", 8080);
  alice.say(globalRequest, cancel, true, "", 8080);
  world.upstream.expect(globalRequest);
  world.relay.detachUpstream("lost");
  alice.expect(requestSuccess);
  assert.equal(world.relay.forwardCount, 0);
  world.attach();
  world.expectQuiet(alice);
});

Deno.test("upstream that will not come back: requests are refused, those that wait too", () => {
  const world = new World();
  const alice = world.client("alice");
  grant(world, alice, "", 8080);
  alice.say(globalRequest, listen, true, "", 8081);
  world.upstream.expect(globalRequest);
  world.relay.detachUpstream("lost");
  alice.expectNothing();
  world.relay.refuseOpens("the host key has changed");
  alice.expect(requestFailure);
  alice.say(globalRequest, listen, true, "", 8082);
  alice.expect(requestFailure);
  world.relay.awaitUpstream();
  alice.say(globalRequest, listen, true, "", 8083);
  alice.expectNothing();
  world.attach();
  expectAskedAgain(world, "", 8080);
  expectAskedAgain(world, "", 8083);
  world.expectQuiet(alice);
});

Deno.test("no timer is left once everything is closed", async () => {
  const world = new World();
  const alice = world.client("alice");
  grant(world, alice, "", 8080);
  world.relay.detachUpstream("lost");
  world.attach();
  expectAskedAgain(world, "", 8080);
  world.upstream.say(requestFailure);
  assert.equal(world.clock.pending, 1);
  await world.relay.closeAll("stopped");
  assert.equal(world.clock.pending, 0);
  assert.equal(world.relay.forwardCount, 0);
});

Deno.test("no timer begins once everything is closed", async () => {
  for (const answer of [requestSuccess, requestFailure]) {
    const world = new World();
    const alice = world.client("alice");
    grant(world, alice, "", 8080);
    world.relay.detachUpstream("lost");
    world.attach();
    expectAskedAgain(world, "", 8080);
    await world.relay.closeAll("stopped");
    world.upstream.say(answer);
    assert.equal(world.clock.pending, 0);
    assert.deepEqual(world.reports, []);
    world.expectQuiet(alice);
  }
});
