/**
 * The relay as a whole: global requests, peers that break the protocol, congestion.
 *
 * Each violation is committed beside a bystander whose session must go on, and nothing of it may
 * reach the other side; `MemoryPeer` parses everything that is sent to it.
 */

import assert from "node:assert/strict";
import { buildMessage, concatenate, encodeFields, type Field } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { type MemoryPeer, type OpenChannel, World } from "./support/memory.ts";

const {
  globalRequest,
  requestSuccess,
  requestFailure,
  channelOpen,
  channelOpenConfirmation,
  channelOpenFailure,
  channelWindowAdjust,
  channelData,
  channelExtendedData,
  channelEof,
  channelClose,
  channelRequest,
  channelSuccess,
  channelFailure,
} = MessageType;

// Global requests

Deno.test("what a client asks globally is answered here, in order, unless it is a forward", () => {
  const world = new World();
  const alice = world.client("alice");
  for (
    const name of [
      "keepalive@openssh.com",
      "hostkeys-prove-00@openssh.com",
      "invented@example.com",
      "",
      "toString",
    ]
  ) {
    alice.say(globalRequest, name, true, { raw: Uint8Array.of(1, 2, 3) });
    assert.equal(alice.expect(requestFailure).data.length, 0);
    alice.say(globalRequest, name, false);
  }
  world.expectQuiet(alice);
});

Deno.test("replies keep the order of a client's requests, whoever answers them", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  alice.say(globalRequest, "tcpip-forward", true, "", 0);
  alice.say(globalRequest, "keepalive@openssh.com", true);
  alice.say(globalRequest, "tcpip-forward", false, "", 8080);
  alice.say(globalRequest, "no-more-sessions@openssh.com", true);
  alice.say(globalRequest, "tcpip-forward", true, "", 8081);
  alice.say(globalRequest, "keepalive@openssh.com", true);
  bob.say(globalRequest, "keepalive@openssh.com", true);
  bob.expect(requestFailure);
  alice.expectNothing();
  for (const port of [0, 8080, 8081]) {
    assert.deepEqual(world.upstream.expect(globalRequest).data, encodeFields("", port));
  }
  world.upstream.say(requestSuccess, 40001);
  assert.deepEqual(alice.expect(requestSuccess).data, encodeFields(40001));
  alice.expect(requestFailure);
  alice.expect(requestSuccess);
  alice.expectNothing();
  world.upstream.say(requestSuccess);
  alice.expectNothing();
  world.upstream.say(requestFailure);
  alice.expect(requestFailure);
  alice.expect(requestFailure);
  world.expectQuiet(alice, bob);
});

Deno.test("our keepalives share the queue of replies with the clients' requests", () => {
  const world = new World();
  const alice = world.client("alice");
  const answered: string[] = [];
  world.relay.sendKeepalive(() => answered.push("first"));
  alice.say(globalRequest, "tcpip-forward", true, "", 8080);
  world.relay.sendKeepalive(() => answered.push("second"));
  assert.equal(world.upstream.expect(globalRequest).name, "keepalive@openssh.com");
  assert.equal(world.upstream.expect(globalRequest).name, "tcpip-forward");
  const keepalive = world.upstream.expect(globalRequest);
  assert.equal(keepalive.wantReply, true);
  assert.equal(keepalive.data.length, 0);
  world.upstream.say(requestFailure);
  assert.deepEqual(answered, ["first"]);
  alice.expectNothing();
  world.upstream.say(requestSuccess);
  alice.expect(requestSuccess);
  assert.deepEqual(answered, ["first"]);
  world.upstream.say(requestFailure);
  assert.deepEqual(answered, ["first", "second"]);
  world.expectQuiet(alice);
});

for (const off of [0, 1, -1]) {
  Deno.test(`what upstream does not know is a reply, counted with an error of ${off}`, () => {
    const world = new World();
    const alice = world.client("alice");
    const answered: string[] = [];
    alice.say(globalRequest, "tcpip-forward", true, "", 8080);
    world.upstream.say(requestSuccess);
    alice.expect(requestSuccess);
    world.relay.sendKeepalive(() => answered.push("keepalive"));
    const { unimplemented } = world.upstream.receiver!;
    const sequenceNumber = world.upstream.lastSequenceNumber! + off;
    alice.say(globalRequest, "tcpip-forward", true, "", 8081);
    unimplemented!(sequenceNumber);
    if (off === 1) {
      // It can as well have been the second request, which is what the number says.
      alice.expect(requestFailure);
      world.upstream.say(requestFailure);
    } else {
      alice.expectNothing();
      world.upstream.say(requestSuccess);
      alice.expect(requestSuccess);
    }
    assert.deepEqual(answered, ["keepalive"]);
    unimplemented!(sequenceNumber);
    world.upstream.take();
    world.expectQuiet(alice);
  });
}

Deno.test("a keepalive whose upstream is lost is not answered by the next one", () => {
  const world = new World();
  const alice = world.client("alice");
  const answered: string[] = [];
  world.relay.sendKeepalive(() => answered.push("old"));
  world.relay.detachUpstream("lost");
  world.relay.sendKeepalive(() => answered.push("while away"));
  world.attach();
  world.relay.sendKeepalive(() => answered.push("new"));
  world.upstream.expect(globalRequest);
  alice.say(globalRequest, "tcpip-forward", true, "", 8080);
  world.upstream.expect(globalRequest);
  world.upstream.say(requestFailure);
  world.upstream.say(requestSuccess);
  alice.expect(requestSuccess);
  assert.deepEqual(answered, ["new"]);
  world.expectQuiet(alice);
});

Deno.test("a client that asks 10,001 times without waiting for a reply is ended", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const bystander = world.open(bob);
  for (let count = 0; count < 10_000; count++) {
    alice.say(globalRequest, "streamlocal-forward@openssh.com", true, `/tmp/${count}`);
  }
  assert.equal(alice.ending, undefined);
  world.upstream.take();
  alice.say(globalRequest, "tcpip-forward", true, "", 20_000);
  alice.expectEnded(/too many requests/);
  world.upstream.expectNothing();
  bystander.expectAlive();
});

Deno.test("upstream's global requests are not passed on, and are answered with a failure", () => {
  const world = new World();
  const alice = world.client("alice");
  for (const name of ["hostkeys-00@openssh.com", "keepalive@openssh.com", "invented@example.com"]) {
    world.upstream.say(globalRequest, name, false, { raw: encodeFields("key") });
    world.upstream.expectNothing();
    world.upstream.say(globalRequest, name, true);
    world.upstream.expect(requestFailure);
  }
  world.expectQuiet(alice);
});

Deno.test("upstream's host keys go to whoever wants them, and the proof is matched by its order", () => {
  const world = new World();
  const alice = world.client("alice");
  const told: (string | undefined)[] = [];
  const bytes = (words: string) => new TextEncoder().encode(words);
  const say = (said: Uint8Array | undefined) => told.push(said && new TextDecoder().decode(said));
  world.relay.detachUpstream("lost");
  world.attach({
    onHostKeys: (keys, prove) => {
      say(keys);
      prove(keys.slice(1), say);
    },
  });
  alice.say(globalRequest, "tcpip-forward", true, "", 0);
  world.upstream.expect(globalRequest);
  world.upstream.say(globalRequest, "hostkeys-00@openssh.com", false, { raw: bytes("keys") });
  const { name, wantReply, data } = world.upstream.expect(globalRequest);
  assert.deepEqual([name, wantReply], ["hostkeys-prove-00@openssh.com", true]);
  assert.equal(new TextDecoder().decode(data), "eys");
  alice.say(globalRequest, "tcpip-forward", true, "", 8081);
  world.upstream.expect(globalRequest);
  alice.expectNothing();
  world.upstream.say(requestSuccess, 40001);
  assert.deepEqual(alice.expect(requestSuccess).data, encodeFields(40001));
  assert.deepEqual(told, ["keys"]);
  world.upstream.say(requestSuccess, { raw: bytes("signatures") });
  assert.deepEqual(told, ["keys", "signatures"]);
  alice.expectNothing();
  world.upstream.say(requestFailure);
  alice.expect(requestFailure);
  world.upstream.say(globalRequest, "hostkeys-00@openssh.com", true, { raw: bytes("more") });
  world.upstream.expect(requestSuccess);
  world.upstream.expect(globalRequest);
  world.upstream.say(requestFailure);
  assert.deepEqual(told, ["keys", "signatures", "more", undefined]);
  world.expectQuiet(alice);
});

Deno.test("a message that belongs to nobody here is answered as not implemented", () => {
  const world = new World();
  const alice = world.client("alice");
  const channel = world.open(alice);
  const types = [5, 6, 50, 51, 52, 53, 60, 83, 89, 101, 127, 191, 194, 255];
  for (const type of types) {
    alice.sayBytes(Uint8Array.of(type, 0, 0, 0, 0));
    world.upstream.sayBytes(Uint8Array.of(type));
  }
  assert.equal(alice.unimplementedCount, types.length);
  assert.equal(world.upstream.unimplementedCount, types.length);
  channel.expectAlive();
  world.expectQuiet(alice);
});

Deno.test("a mistake of ours ends the channel that it was made on, and is told as ours", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const broken = world.open(alice);
  const other = world.open(alice, { downstream: 8 });
  const bystander = world.open(bob);
  const send = alice.send;
  alice.send = () => {
    alice.send = send;
    throw new TypeError("a bug");
  };
  broken.down(MessageType.channelData, "x");
  const notice = broken.expectDown(MessageType.channelExtendedData);
  assert.match(new TextDecoder().decode(notice.data), /a mistake of sshshim/);
  broken.expectDown(MessageType.channelClose);
  broken.expectUp(MessageType.channelClose);
  other.expectAlive();
  bystander.expectAlive();
  assert.match(world.reports[0]!, /internal error: TypeError: a bug\n\s+at /);
  world.expectQuiet(alice, bob);
});

Deno.test("a mistake of ours while a client's message is handled ends that client alone", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const broken = world.open(alice);
  const bystander = world.open(bob);
  const { send } = world.upstream;
  world.upstream.send = () => {
    world.upstream.send = send;
    throw new TypeError("a bug");
  };
  broken.up(MessageType.channelData, "x");
  assert.match(alice.ending!.description, /sshshim has made a mistake/);
  assert.match(world.reports[0]!, /TypeError: a bug/);
  broken.expectUp(MessageType.channelClose);
  bystander.expectAlive();
});

// Violations by a client

/** What a client does wrong; it has a session, whose window upstream set to 100,000 bytes. */
interface Violation {
  name: string;
  reason: RegExp;
  commit(offender: MemoryPeer, session: OpenChannel, world: World): void;
}

const pty: Field[] = ["xterm", 80, 24, 0, 0, new Uint8Array()];

/** A channel request whose body is `fields` less its last byte, and with one byte too many. */
function wrongBodies(requestType: string, ...fields: Field[]): Violation[] {
  const body = encodeFields(...fields);
  const say = (raw: Uint8Array) => (_: MemoryPeer, session: OpenChannel) =>
    session.up(channelRequest, requestType, true, { raw });
  return [
    ...body.length === 0 ? [] : [{
      name: `${requestType} cut short`,
      reason: /truncated/,
      commit: say(body.subarray(0, -1)),
    }],
    {
      name: `${requestType} with a byte too many`,
      reason: /after the end/,
      commit: say(concatenate([body, Uint8Array.of(0)])),
    },
  ];
}

/** A session of the offender's that upstream has asked it for a channel, which it owes an answer. */
function askForAgent(offender: MemoryPeer, session: OpenChannel, world: World): number {
  session.up(channelRequest, "auth-agent-req@openssh.com", false);
  session.expectUp(channelRequest);
  world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  return offender.expect(channelOpen).senderChannel;
}

const clientViolations: Violation[] = [
  {
    name: "a CHANNEL_REQUEST cut short",
    reason: /truncated/,
    commit: (offender, session) =>
      offender.sayBytes(buildMessage(channelRequest, session.slot, "exec").subarray(0, -1)),
  },
  {
    name: "a CHANNEL_REQUEST without want_reply",
    reason: /truncated/,
    commit: (offender, session) => offender.say(channelRequest, session.slot, "exec"),
  },
  ...wrongBodies("exec", "true"),
  ...wrongBodies("shell"),
  ...wrongBodies("subsystem", "sftp"),
  ...wrongBodies("env", "LANG", "C"),
  ...wrongBodies("pty-req", ...pty),
  ...wrongBodies("x11-req", false, "MIT-MAGIC-COOKIE-1", "00", 0),
  ...wrongBodies("window-change", 80, 24, 0, 0),
  ...wrongBodies("signal", "INT"),
  ...wrongBodies("break", 0),
  ...wrongBodies("auth-agent-req@openssh.com"),
  ...wrongBodies("agent-req"),
  ...wrongBodies("eow@openssh.com"),
  {
    name: "terminal modes cut short",
    reason: /truncated/,
    commit: (_, session) =>
      session.up(channelRequest, "pty-req", true, "xterm", 80, 24, 0, 0, Uint8Array.of(1, 0)),
  },
  {
    name: "a command with a NUL byte",
    reason: /NUL/,
    commit: (_, session) => session.up(channelRequest, "exec", true, "true\0false"),
  },
  {
    name: "a second terminal",
    reason: /second terminal/,
    commit: (_, session) => {
      session.up(channelRequest, "pty-req", true, ...pty);
      session.expectUp(channelRequest);
      session.up(channelRequest, "pty-req", true, ...pty);
    },
  },
  {
    name: "a WINDOW_ADJUST cut short",
    reason: /truncated/,
    commit: (offender, session) =>
      offender.sayBytes(Uint8Array.of(channelWindowAdjust, 0, 0, 0, session.slot, 0, 0, 1)),
  },
  {
    name: "a CONFIRMATION for a channel that is open",
    reason: /answer to no CHANNEL_OPEN/,
    commit: (_, session) => session.up(channelOpenConfirmation, 7, 100, 100),
  },
  {
    name: "a FAILURE for a channel that is open",
    reason: /answer to no CHANNEL_OPEN/,
    commit: (_, session) => session.up(channelOpenFailure, 1, "", ""),
  },
  {
    name: "a CONFIRMATION of its own open",
    reason: /answer to no CHANNEL_OPEN/,
    commit: (offender, _, world) => {
      const slot = world.ask(offender, { downstream: 8 });
      offender.say(channelOpenConfirmation, slot, 8, 100, 100);
    },
  },
  {
    name: "a second CONFIRMATION",
    reason: /answer to no CHANNEL_OPEN/,
    commit: (offender, session, world) => {
      const slot = askForAgent(offender, session, world);
      offender.say(channelOpenConfirmation, slot, 8, 100, 100);
      world.upstream.expect(channelOpenConfirmation);
      offender.say(channelOpenConfirmation, slot, 8, 100, 100);
    },
  },
  {
    name: "a CONFIRMATION with a byte too many",
    reason: /after the end/,
    commit: (offender, session, world) => {
      const slot = askForAgent(offender, session, world);
      offender.say(channelOpenConfirmation, slot, 8, 100, 100, true);
    },
  },
  {
    name: "a FAILURE with a NUL byte in its description",
    reason: /NUL/,
    commit: (offender, session, world) => {
      const slot = askForAgent(offender, session, world);
      offender.say(channelOpenFailure, slot, 1, "a\0b", "");
    },
  },
  {
    name: "a FAILURE without a language",
    reason: /truncated/,
    commit: (offender, session, world) => {
      const slot = askForAgent(offender, session, world);
      offender.say(channelOpenFailure, slot, 1, "no");
    },
  },
  {
    name: "data on a channel that it asks for, before the answer",
    reason: /not open/,
    commit: (offender, _, world) =>
      offender.say(channelData, world.ask(offender, { downstream: 8 }), "x"),
  },
  {
    name: "a CLOSE of a channel that it asks for, before the answer",
    reason: /not open/,
    commit: (offender, _, world) =>
      offender.say(channelClose, world.ask(offender, { downstream: 8 })),
  },
  {
    name: "a request on a channel that it asks for, before the answer",
    reason: /not open/,
    commit: (offender, _, world) =>
      offender.say(channelRequest, world.ask(offender, { downstream: 8 }), "shell", false),
  },
  ...[
    channelData,
    channelExtendedData,
    channelWindowAdjust,
    channelEof,
    channelClose,
    channelRequest,
    channelSuccess,
    channelFailure,
    channelOpenConfirmation,
    channelOpenFailure,
  ].flatMap((type) => [
    {
      name: `message ${type} for a channel that nobody has`,
      reason: /no such channel/,
      commit: (offender: MemoryPeer) => offender.sayBytes(wellFormed(type, 999)),
    },
    {
      name: `message ${type} for a channel of another client's`,
      reason: /no such channel/,
      commit: (offender: MemoryPeer, session: OpenChannel) =>
        offender.sayBytes(wellFormed(type, session.slot === 0 ? 1 : 0)),
    },
    {
      name: `message ${type} for a channel number beyond 2^31`,
      reason: /no such channel/,
      commit: (offender: MemoryPeer) => offender.sayBytes(wellFormed(type, 0xffffffff)),
    },
  ]),
  {
    name: "a message on a channel that was refused",
    reason: /no such channel/,
    commit: (offender, _, world) => {
      const body = encodeFields("there", 80, "here", 1024);
      const slot = world.ask(offender, { type: "direct-tcpip", body, downstream: 8 });
      world.upstream.say(channelOpenFailure, slot, 1, "", "");
      offender.expect(channelOpenFailure);
      offender.say(channelWindowAdjust, slot, 1);
    },
  },
  {
    name: "a tcpip-forward cut short",
    reason: /truncated/,
    commit: (offender) => offender.say(globalRequest, "tcpip-forward", true, "localhost"),
  },
  {
    name: "a tcpip-forward with a byte too many",
    reason: /after the end/,
    commit: (offender) => offender.say(globalRequest, "tcpip-forward", true, "", 8080, false),
  },
  {
    name: "a forward at a path with a NUL byte",
    reason: /NUL/,
    commit: (offender) =>
      offender.say(globalRequest, "streamlocal-forward@openssh.com", true, "a\0b"),
  },
  {
    name: "no-more-sessions with a body",
    reason: /after the end/,
    commit: (offender) => offender.say(globalRequest, "no-more-sessions@openssh.com", false, 0),
  },
  {
    name: "an open cut short",
    reason: /truncated/,
    commit: (offender) => offender.say(channelOpen, "session", 8, 100),
  },
  {
    name: "a session with a body",
    reason: /after the end/,
    commit: (offender) => offender.say(channelOpen, "session", 8, 100, 100, true),
  },
  {
    name: "a direct-tcpip cut short",
    reason: /truncated/,
    commit: (offender) =>
      offender.say(channelOpen, "direct-tcpip", 8, 100, 100, "localhost", 22, "x"),
  },
  {
    name: "an empty data message without its length",
    reason: /truncated/,
    commit: (offender, session) => offender.say(channelData, session.slot),
  },
  {
    name: "an EOF with a byte too many",
    reason: /after the end/,
    commit: (offender, session) => offender.say(channelEof, session.slot, false),
  },
];

for (const { name, reason, commit } of clientViolations) {
  Deno.test(`a client is ended, alone, for ${name}`, () => {
    const world = new World();
    const [bystander, offender] = [world.client("bystander"), world.client("offender")];
    const other = world.open(bystander);
    const session = world.open(offender, { upstreamAnnounces: { windowBytes: 100_000 } });
    commit(offender, session, world);
    offender.expectEnded(reason);

    // What comes from the offender now is not heard, and its channels are closed, no more.
    offender.say(channelOpen, "session", 9, 0, 0);
    offender.say(globalRequest, "tcpip-forward", true, "", 9090);
    for (const { message } of world.upstream.take()) {
      assert(
        message.type === channelClose || message.type === channelOpenFailure,
        `upstream was sent ${JSON.stringify(message)}`,
      );
    }
    other.expectAlive();
    assert.equal(world.upstream.ending, undefined);
    assert.equal(bystander.ending, undefined);
    bystander.expectNothing();
  });
}

Deno.test("a channel of an ended client is closed upstream, and nothing stays behind", () => {
  const world = new World();
  const offender = world.client("offender");
  const session = world.open(offender);
  const slot = world.ask(offender, { downstream: 8 });
  offender.say(globalRequest, "tcpip-forward", true, "", 8080);
  world.upstream.expect(globalRequest);
  world.upstream.say(requestSuccess);
  offender.say(channelData, 999, "x");
  assert.equal(world.upstream.expect(globalRequest).name, "cancel-tcpip-forward");
  session.expectUp(channelClose);
  world.upstream.expectNothing();
  session.down(channelClose);
  world.upstream.say(channelOpenConfirmation, slot, 200, 0, 0);
  world.upstream.expectOn(channelClose, 200);
  world.upstream.say(channelClose, slot);
  world.upstream.say(requestSuccess);
  assert.equal(world.relay.channelCount, 0);
  assert.equal(world.relay.forwardCount, 0);
  world.expectQuiet();
});

// Violations by upstream

/** What upstream does wrong; there is a session, whose window the client set to 100,000 bytes. */
interface UpstreamViolation {
  name: string;
  reason: RegExp;
  commit(upstream: MemoryPeer, session: OpenChannel, world: World): void;
}

const upstreamViolations: UpstreamViolation[] = [
  {
    name: "a CHANNEL_REQUEST cut short",
    reason: /truncated/,
    commit: (upstream, session) => upstream.say(channelRequest, session.slot, "exit-status"),
  },
  {
    name: "a message for a channel that nobody has",
    reason: /no such channel/,
    commit: (upstream) => upstream.say(channelData, 999, "x"),
  },
  {
    name: "a CONFIRMATION for a channel that is open",
    reason: /answer to no CHANNEL_OPEN/,
    commit: (_, session) => session.down(channelOpenConfirmation, 7, 100, 100),
  },
  {
    name: "a FAILURE for a channel that is open",
    reason: /answer to no CHANNEL_OPEN/,
    commit: (_, session) => session.down(channelOpenFailure, 1, "", ""),
  },
  {
    name: "data on a channel that it asks for, before the answer",
    reason: /not open/,
    commit: (upstream, session, world) => {
      const slot = askForAgent(session.client, session, world);
      upstream.say(channelData, slot, "x");
    },
  },
  {
    name: "an open cut short",
    reason: /truncated/,
    commit: (upstream) => upstream.say(channelOpen, "forwarded-tcpip", 1, 100, 100, "localhost"),
  },
];

for (const { name, reason, commit } of upstreamViolations) {
  Deno.test(`upstream is ended, and no client, for ${name}`, () => {
    const world = new World();
    const alice = world.client("alice");
    const session = world.open(alice, { downstreamAnnounces: { windowBytes: 100_000 } });
    const { upstream } = world;
    commit(upstream, session, world);
    upstream.expectEnded(reason);
    alice.expectNothing();
    assert.equal(alice.ending, undefined);

    // The owner of the connection tells the relay, and the clients live on.
    world.relay.detachUpstream("lost");
    alice.take();
    world.attach().take();
    world.open(alice, { downstream: 20 }).expectAlive();
    assert.equal(alice.ending, undefined);
  });
}

// Congestion

const clientLimitBytes = 8 * 1024 * 1024;
const upstreamLimitBytes = 32 * 1024 * 1024;

Deno.test("a client that does not take its replies is not read from until it has", () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const [session, other] = [world.open(alice), world.open(bob)];
  alice.backlogBytes = clientLimitBytes;
  session.expectAlive();
  assert.equal(alice.isPaused, false);
  alice.backlogBytes = clientLimitBytes + 1;
  session.expectAlive();
  assert.equal(alice.isPaused, true);
  other.expectAlive();
  assert.equal(bob.isPaused, false);
  alice.receiver?.drained();
  assert.equal(alice.isPaused, true);
  alice.drain();
  assert.equal(alice.isPaused, false);
  session.expectAlive();
  world.expectQuiet(alice, bob);
});

Deno.test("while upstream is congested, a client that sends is not read from", () => {
  const world = new World();
  const [alice, bob, carol] = ["alice", "bob", "carol"].map((name) => world.client(name));
  const [session, other] = [world.open(alice!), world.open(bob!)];
  world.upstream.backlogBytes = upstreamLimitBytes + 1;
  session.expectAlive();
  assert.deepEqual([alice!.isPaused, bob!.isPaused], [true, false]);
  other.expectAlive();
  carol!.backlogBytes = clientLimitBytes + 1;
  carol!.say(globalRequest, "keepalive@openssh.com", false);
  bob!.drain();
  assert.deepEqual([alice, bob, carol].map((client) => client!.isPaused), [true, true, true]);
  world.upstream.drain();
  assert.deepEqual([alice, bob, carol].map((client) => client!.isPaused), [false, false, true]);
  carol!.drain();
  assert.equal(carol!.isPaused, false);
  world.expectQuiet(alice!, bob!, carol!);
});

Deno.test("clients that wait for a congested upstream are read from again when it is lost", () => {
  const world = new World();
  const alice = world.client("alice");
  const session = world.open(alice);
  world.upstream.backlogBytes = upstreamLimitBytes + 1;
  session.expectAlive();
  assert.equal(alice.isPaused, true);
  world.relay.detachUpstream("lost");
  assert.equal(alice.isPaused, false);
});

Deno.test("a client that leaves while it is not read from is forgotten", () => {
  const world = new World();
  const alice = world.client("alice");
  const session = world.open(alice);
  world.upstream.backlogBytes = upstreamLimitBytes + 1;
  session.expectAlive();
  alice.leave();
  world.upstream.drain();
  assert.equal(alice.isPaused, true);
});

/** A message of a given type for a given channel that is well-formed. */
function wellFormed(type: number, channel: number): Uint8Array {
  const rest: Record<number, Field[]> = {
    [channelOpenConfirmation]: [1, 100, 100],
    [channelOpenFailure]: [1, "", ""],
    [channelWindowAdjust]: [1],
    [channelData]: ["x"],
    [channelExtendedData]: [1, "x"],
    [channelRequest]: ["shell", false],
  };
  return buildMessage(type, channel, ...rest[type] ?? []);
}

Deno.test("a message that upstream may not take ends its sender, before upstream sees it", () => {
  const world = new World({}, { maximumPayloadBytes: 34_000 });
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const [session, other] = [world.open(alice), world.open(bob)];
  session.up(MessageType.channelRequest, "exec", true, "x".repeat(30_000));
  session.expectUp(MessageType.channelRequest);
  session.up(MessageType.channelRequest, "exec", true, "x".repeat(40_000));
  alice.expectEnded(/may not take/);
  session.expectUp(MessageType.channelClose);
  other.expectAlive();
});

Deno.test("a large message that comes when upstream is away already does not end its sender", () => {
  const world = new World();
  const alice = world.client("alice");
  const session = world.open(alice);
  world.relay.detachUpstream("lost");
  session.expectDown(MessageType.channelExtendedData);
  session.expectDown(MessageType.channelClose);
  // It was on its way.
  session.up(MessageType.channelRequest, "exec", true, "x".repeat(100_000));
  session.up(MessageType.channelClose);
  world.attach();
  const next = world.open(alice);
  next.up(MessageType.channelRequest, "exec", true, "x".repeat(100_000));
  next.expectUp(MessageType.channelRequest);
  next.expectAlive();
  world.expectQuiet(alice);
});

Deno.test("the next upstream takes less than the one before, and gets no more", () => {
  const world = new World();
  const alice = world.client("alice");
  world.relay.detachUpstream("lost");
  world.attach(undefined, { maximumPayloadBytes: 34_000 });
  const session = world.open(alice);
  session.up(MessageType.channelRequest, "exec", true, "x".repeat(40_000));
  alice.expectEnded(/may not take/);
  session.expectUp(MessageType.channelClose);
  world.expectQuiet();
});

Deno.test("what may have to wait for another connection is refused where that might not take it", () => {
  const { channelOpen, channelOpenFailure, globalRequest, requestFailure } = MessageType;
  for (const isAway of [false, true]) {
    const world = new World();
    const alice = world.client("alice");
    if (isAway) world.relay.detachUpstream("lost");
    const host = encodeFields("x".repeat(40_000), 80, "", 0);
    alice.say(channelOpen, "direct-tcpip", 7, 100, 100, { raw: host });
    assert.equal(alice.expectOn(channelOpenFailure, 7).reasonCode, 4);
    alice.say(globalRequest, "tcpip-forward", true, "x".repeat(40_000), 80);
    alice.expect(requestFailure);
    alice.say(globalRequest, "streamlocal-forward@openssh.com", true, "x".repeat(40_000));
    alice.expect(requestFailure);
    assert.equal(world.relay.channelCount + world.relay.forwardCount, 0);
    world.expectQuiet(alice);
  }
});
