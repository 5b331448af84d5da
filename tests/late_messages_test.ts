/**
 * Messages that come late, or are careless: what harms nobody goes nowhere, what leaves a channel's
 * bytes in doubt ends that channel. Nobody's connection ends for them.
 */

import assert from "node:assert/strict";
import { FormerSlots, restingSlotsLimit, slotRestMs } from "../lib/channel_slots.ts";
import { encodeFields, type Field } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { type OpenChannel, patternBytes, World } from "./support/memory.ts";

const {
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
  globalRequest,
  requestSuccess,
  requestFailure,
} = MessageType;

/** What either side may say of a channel that is open; of one that is closed, it comes late. */
const channelMessages: [number, ...Field[]][] = [
  [channelWindowAdjust, 2 ** 32 - 1],
  [channelData, "x"],
  [channelExtendedData, 1, "x"],
  [channelEof],
  [channelClose],
  [channelRequest, "exit-status", false, 0],
  [channelRequest, "keepalive@openssh.com", true],
  [channelSuccess],
  [channelFailure],
];

const sides = ["downstream", "upstream"] as const;

type Say = (type: number, ...fields: Field[]) => void;

/** A world with a bystander, and a client whose channel it is about. */
function scene() {
  const world = new World();
  const [bystander, alice] = [world.client("bystander"), world.client("alice")];
  const other = world.open(bystander);
  const expectWell = () => {
    other.expectAlive();
    world.expectQuiet(alice, bystander);
  };
  const sayAs = (side: "downstream" | "upstream", slot: number, type: number, ...rest: Field[]) =>
    (side === "upstream" ? world.upstream : alice).say(type, slot, ...rest);
  return { world, alice, bystander, sayAs, expectWell };
}

for (const side of sides) {
  Deno.test(`what ${side} says of a channel that is closed goes nowhere, and is told in the log`, () => {
    const { world, alice, sayAs, expectWell } = scene();
    const { slot } = close(world.open(alice));
    for (const [type, ...rest] of channelMessages) sayAs(side, slot, type, ...rest);
    assert.equal(world.reports.length, channelMessages.length);
    assert.equal(
      world.reports[1],
      `${side}: CHANNEL_DATA on channel ${slot} is dropped: the channel is closed`,
    );
    expectWell();
  });

  Deno.test(`an answer of ${side} for a channel that is closed is a violation`, () => {
    for (
      const answer of [[channelOpenConfirmation, 1, 0, 0], [channelOpenFailure, 1, "", ""]] as const
    ) {
      const { world, alice, sayAs } = scene();
      const { slot } = close(world.open(alice));
      const [type, ...rest] = answer;
      sayAs(side, slot, type, ...rest);
      (side === "upstream" ? world.upstream : alice).expectEnded(/no such channel/);
    }
  });

  Deno.test(`what ${side} says after EOF goes nowhere, and its window comes back`, () => {
    const { world, alice, sayAs, expectWell } = scene();
    const channel = world.open(alice);
    const peer = side === "upstream" ? world.upstream : alice;
    sayAs(side, channel.slot, channelEof);
    if (side === "upstream") channel.expectDown(channelEof);
    else channel.expectUp(channelEof);
    // More than the whole window: whoever keeps to it is never out of it.
    let credit = 2 ** 21;
    for (let count = 0; count < 200; count++) {
      const data = patternBytes(32_768);
      assert(credit >= data.length);
      credit -= data.length;
      if (count % 2 === 0) sayAs(side, channel.slot, channelData, data);
      else sayAs(side, channel.slot, channelExtendedData, 1, data);
      for (const { message } of peer.take()) {
        assert(message.type === channelWindowAdjust);
        credit += message.bytesToAdd;
      }
    }
    sayAs(side, channel.slot, channelEof);
    assert.match(
      world.reports.at(-1)!,
      /CHANNEL_EOF on channel 1 is dropped: CHANNEL_EOF has been/,
    );
    close(channel);
    expectWell();
  });

  Deno.test(`a reply of ${side} that nobody waits for goes nowhere`, () => {
    const { world, alice, sayAs, expectWell } = scene();
    const channel = world.open(alice);
    for (const type of [channelSuccess, channelFailure]) sayAs(side, channel.slot, type);
    const peer = side === "upstream" ? world.upstream : alice;
    for (const type of [requestSuccess, requestFailure]) peer.say(type);
    assert.deepEqual(world.reports, [
      `${side}: CHANNEL_SUCCESS on channel 1 is dropped: no channel request waits for it`,
      `${side}: CHANNEL_FAILURE on channel 1 is dropped: no channel request waits for it`,
      `${side}: REQUEST_SUCCESS is dropped: nobody has asked`,
      `${side}: REQUEST_FAILURE is dropped: nobody has asked`,
    ]);
    channel.expectAlive();
    expectWell();
  });

  for (
    const { name, reason, commit } of [
      {
        name: "one byte beyond the window",
        reason: "more data than the window allows",
        commit: (say: Say) => {
          for (const size of [32768, 32768, 32768, 100_000 - 3 * 32768]) {
            say(channelData, patternBytes(size));
          }
          say(channelData, "x");
        },
      },
      {
        name: "stderr beyond the window",
        reason: "more data than the window allows",
        commit: (say: Say) => {
          for (const size of [32768, 32768, 32768, 32768]) {
            say(channelExtendedData, 1, patternBytes(size));
          }
        },
      },
      {
        name: "one byte beyond the maximum packet size",
        reason: "more data than the maximum packet size",
        commit: (say: Say) => say(channelData, patternBytes(32769)),
      },
      {
        name: "windows that overflow together",
        reason: "the window overflows",
        commit: (say: Say) => {
          for (let count = 0; count < 2; count++) say(channelWindowAdjust, 2 ** 31);
        },
      },
    ]
  ) {
    Deno.test(`${name} of ${side} ends that channel alone, and both sides are told`, () => {
      const { world, alice, sayAs, expectWell } = scene();
      const announced = { windowBytes: 100_000 };
      const channel = world.open(alice, {
        upstreamAnnounces: announced,
        downstreamAnnounces: announced,
      });
      const second = world.open(alice, { downstream: 8 });
      commit((type, ...fields) => sayAs(side, channel.slot, type, ...fields));
      const [up, down] = [world.upstream.take(), alice.take()];
      assert.equal(up.at(-1)!.message.type, channelClose);
      assert.equal(down.at(-1)!.message.type, channelClose);
      const offender = side === "upstream" ? "the remote host" : "the client";
      const notice = down.at(-2)?.message;
      // There is no room for words in a window that is used up.
      const isFull = side === "upstream" && name === "one byte beyond the window";
      if (isFull) {
        assert.equal(notice?.type, channelData);
      } else {
        assert(notice?.type === channelExtendedData);
        const words = new TextDecoder().decode(notice.data);
        assert(words.includes(`sshshim: ${offender} broke the protocol with CHANNEL_`), words);
        assert(words.includes(`on channel ${channel.slot}: ${reason}`), words);
      }
      assert.equal(world.reports.length, 1);
      assert(world.reports[0]!.startsWith(`${side}: the channel is ended: CHANNEL_`));

      // What was under way goes nowhere.
      commit((type, ...fields) => sayAs(side, channel.slot, type, ...fields));
      world.expectQuiet(alice);
      sayAs("upstream", channel.slot, channelClose);
      sayAs("downstream", channel.slot, channelClose);
      assert.equal(world.relay.channelCount, 2);
      second.expectAlive();
      expectWell();
    });
  }
}

Deno.test("what upstream says of a channel before it has answered ends that channel", () => {
  const { world, alice, expectWell } = scene();
  const slot = world.ask(alice, { downstream: 9 });
  world.upstream.say(channelData, slot, "x");
  assert.match(
    alice.expectOn(channelOpenFailure, 9).description,
    /the remote host broke the protocol with CHANNEL_DATA on channel 1: its opening has no answer/,
  );
  world.upstream.say(channelData, slot, "x");
  world.upstream.say(channelOpenConfirmation, slot, 40, 100, 100);
  world.upstream.expectOn(channelClose, 40);
  world.upstream.say(channelClose, slot);
  assert.equal(world.relay.channelCount, 1);
  expectWell();
});

Deno.test("what a client says of a channel before it has answered ends that channel", () => {
  const { world, alice, expectWell } = scene();
  const session = world.open(alice);
  session.up(channelRequest, "auth-agent-req@openssh.com", false);
  session.expectUp(channelRequest);
  const upstream = world.askFromUpstream("auth-agent@openssh.com", new Uint8Array());
  const { senderChannel: slot } = alice.expect(channelOpen);
  alice.say(channelData, slot, "x");
  world.upstream.expectOn(channelOpenFailure, upstream);
  alice.say(channelOpenConfirmation, slot, 8, 100, 100);
  alice.expectOn(channelClose, 8);
  alice.say(channelClose, slot);
  session.expectAlive();
  expectWell();
});

Deno.test("a late message is not taken for one about another's new channel", () => {
  const { world, alice, bystander, sayAs, expectWell } = scene();
  const former = close(world.open(alice));
  const next = world.open(bystander, { downstream: 20 });
  assert.notEqual(next.slot, former.slot);
  for (const side of sides) sayAs(side, former.slot, channelData, "late");
  next.expectAlive();
  expectWell();
});

Deno.test("a late message is not taken for one about the same peers' new channel", () => {
  const { world, alice, sayAs, expectWell } = scene();
  const former = close(world.open(alice));
  const next = world.open(alice);
  assert.notEqual(next.slot, former.slot);
  for (const side of sides) sayAs(side, former.slot, channelEof);
  next.expectAlive();
  expectWell();
});

Deno.test("a slot rests for a while, or until many more are free; then it is taken again", () => {
  const { world, alice, expectWell } = scene();
  const { slot } = close(world.open(alice));
  world.clock.advance(slotRestMs - 1);
  const second = close(world.open(alice));
  assert.notEqual(second.slot, slot);
  world.clock.advance(1);
  assert.equal(close(world.open(alice)).slot, slot);

  const seen = new Set<number>();
  for (let count = 0; count < 3 * restingSlotsLimit; count++) {
    seen.add(close(world.open(alice)).slot);
  }
  // One is the bystander's, and one more is in use.
  assert.equal(seen.size, restingSlotsLimit + 1);
  expectWell();
});

Deno.test("of all channels that a peer has had, the latest are known", () => {
  const former = new FormerSlots();
  for (let slot = 0; slot < restingSlotsLimit + 10; slot++) former.add(slot);
  former.add(11);
  former.add(0);
  for (const [slot, isKnown] of [[9, false], [10, false], [11, true], [12, true], [0, true]]) {
    assert.equal(former.has(slot as number), isKnown, `slot ${slot}`);
  }
});

Deno.test("a slot that a client was never told of is not its, though it asked for the channel", () => {
  const { world, alice } = scene();
  const body = encodeFields("there", 80, "here", 1024);
  const slot = world.ask(alice, { type: "direct-tcpip", body, downstream: 9 });
  world.upstream.say(channelOpenFailure, slot, 1, "", "");
  alice.expect(channelOpenFailure);
  // Upstream was told.
  world.upstream.say(channelWindowAdjust, slot, 1);
  world.expectQuiet(alice);
  alice.say(channelWindowAdjust, slot, 1);
  alice.expectEnded(/CHANNEL_WINDOW_ADJUST on channel 1: no such channel/);
});

Deno.test("a former channel of one client is none of another's, nor of another upstream's", () => {
  const { world, alice, bystander } = scene();
  const { slot } = close(world.open(alice));
  bystander.say(channelData, slot, "x");
  bystander.expectEnded(/no such channel/);
  const overflow = world.attachOverflow();
  overflow.say(channelData, slot, "x");
  overflow.expectEnded(/no such channel/);
  assert.equal(alice.ending, undefined);
  assert.equal(world.upstream.ending, undefined);
});

Deno.test("what an upstream says of a session that went to another one goes nowhere", () => {
  const world = new World({ sessions: 2 });
  const alice = world.client("alice");
  const first = world.open(alice, { downstream: 1 });
  const slot = world.ask(alice, { downstream: 2 });
  const overflow = world.attachOverflow();
  world.upstream.say(channelOpenFailure, slot, 2, "open failed", "");
  assert.equal(overflow.expect(channelOpen).senderChannel, slot);
  world.upstream.say(channelWindowAdjust, slot, 1);
  overflow.say(channelOpenConfirmation, slot, 93, 2 ** 21, 32_768);
  alice.expectOn(channelOpenConfirmation, 2);
  world.upstream.say(channelClose, slot);
  alice.say(channelData, slot, "x");
  overflow.expectOn(channelData, 93);
  first.expectAlive();
  world.expectQuiet(alice, overflow);
});

Deno.test("replies that nobody waits for do not shift those that somebody waits for", () => {
  const { world, alice, expectWell } = scene();
  world.upstream.say(requestFailure);
  alice.say(requestFailure);
  const forward = encodeFields("", 8080);
  alice.say(globalRequest, "tcpip-forward", true, { raw: forward });
  world.upstream.expect(globalRequest);
  alice.say(requestFailure);
  world.upstream.say(requestSuccess);
  alice.expect(requestSuccess);
  assert.equal(world.relay.forwardCount, 1);
  expectWell();
});

/** Both ends close, the client first. */
function close(channel: OpenChannel): OpenChannel {
  channel.close();
  return channel;
}
