/** Clients that break the protocol, or strain it: none of them touches another client's session. */

import assert from "node:assert/strict";
import { Reader } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { shimTarget } from "./support/behind.ts";
import { startGround, type Target } from "./support/both.ts";
import { RawClient } from "./support/raw_client.ts";
import type { RunningProcess } from "./support/run.ts";

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

/** What a client does that has one open session, and what it hears for it. */
interface Violation {
  sentence: string;
  reason: RegExp;
  act(client: RawClient, channel: number): void | Promise<void>;
}

const violations: Violation[] = [
  {
    sentence: "a channel request that is cut off",
    reason: /truncated/,
    act: (client, channel) =>
      client.send(channelRequest, channel, { raw: Uint8Array.of(0, 0, 0, 99, 101) }),
  },
  {
    sentence: "a terminal request that is cut off",
    reason: /truncated/,
    act: (client, channel) => client.request(channel, "pty-req", "xterm", 80),
  },
  {
    sentence: "a request with bytes after its end",
    reason: /bytes after the end/,
    act: (client, channel) => client.request(channel, "exec", "true", "more"),
  },
  {
    sentence: "a command with a NUL byte inside",
    reason: /NUL/,
    act: (client, channel) => client.request(channel, "exec", "echo \0 true"),
  },
  {
    sentence: "a second terminal in one session",
    reason: /second terminal/,
    act(client, channel) {
      for (let count = 0; count < 2; count++) {
        client.request(channel, "pty-req", "xterm", 80, 24, 0, 0, "");
      }
    },
  },
  {
    sentence: "a confirmation of a channel that is open",
    reason: /no CHANNEL_OPEN/,
    act: (client, channel) => client.send(channelOpenConfirmation, channel, 0, 2 ** 21, 32_768),
  },
  {
    sentence: "a refusal of a channel that is open",
    reason: /no CHANNEL_OPEN/,
    act: (client, channel) => client.send(channelOpenFailure, channel, 2, "", ""),
  },
  {
    sentence: "a message for another client's channel",
    reason: /no such channel/,
    act: (client) => client.send(channelData, bystandersChannel, "not yours\n"),
  },
  {
    sentence: "the closing of another client's channel",
    reason: /no such channel/,
    act: (client) => client.send(channelClose, bystandersChannel),
  },
  {
    sentence: "a channel that does not exist",
    reason: /no such channel/,
    act: (client) => client.send(channelExtendedData, 2 ** 32 - 1, 1, "x"),
  },
  {
    sentence: "a forward request that is cut off",
    reason: /truncated/,
    act: (client) => client.send(globalRequest, "tcpip-forward", true, "127.0.0.1"),
  },
  {
    sentence: "a channel opening that is cut off",
    reason: /truncated/,
    act: (client) => client.send(channelOpen, "session", 7),
  },
  {
    sentence: "an opening whose destination is cut off",
    reason: /truncated/,
    act: (client) => client.send(channelOpen, "direct-tcpip", 7, 2 ** 21, 32_768, "127.0.0.1"),
  },
];

/** What a client does without harm to anybody, or to one channel of its own. */
interface Carelessness {
  sentence: string;
  /** Whether it costs the channel. */
  endsChannel?: true;
  act(client: RawClient, channel: number): void | Promise<void>;
}

const carelessness: Carelessness[] = [
  {
    sentence: "a window that overflows",
    endsChannel: true,
    act: (client, channel) => client.send(channelWindowAdjust, channel, 2 ** 32 - 1),
  },
  {
    sentence: "more data than the window allows",
    endsChannel: true,
    // A server opens the window of a session when it starts the command, and not before.
    act: (client, channel) => client.send(channelData, channel, "x"),
  },
  {
    sentence: "a packet above the maximum packet size",
    endsChannel: true,
    act: (client, channel) => client.send(channelData, channel, new Uint8Array(33_000)),
  },
  {
    sentence: "data after the end of the data",
    act(client, channel) {
      client.send(channelEof, channel);
      client.send(channelData, channel, "x");
      client.send(channelExtendedData, channel, 1, "x");
    },
  },
  {
    sentence: "messages on a channel that has been closed",
    async act(client, channel) {
      client.send(channelClose, channel);
      await client.receive(channelClose);
      client.send(channelRequest, channel, "exec", true, "true");
      client.send(channelWindowAdjust, channel, 1);
      client.send(channelData, channel, "x");
      client.send(channelEof, channel);
      client.send(channelClose, channel);
    },
  },
  {
    sentence: "replies that nobody waits for",
    act(client, channel) {
      for (const type of [channelSuccess, channelFailure]) client.send(type, channel);
      for (const type of [requestSuccess, requestFailure]) client.send(type);
    },
  },
];

/** The bystander is the first client, and so has the first number. */
const bystandersChannel = 0;

Deno.test("a client that breaks the protocol is ended alone", async (t) => {
  await using ground = await startGround();
  const target = shimTarget(ground);
  await using bystander = await startBystander(target);
  for (const { sentence, reason, act } of violations) {
    await t.step(sentence, async () => {
      await using client = await RawClient.connect(target);
      const { channel } = await client.openSession();
      await act(client, channel);
      assert.match(await client.lastWords(), reason);
      await assertLives(bystander, sentence);
    });
  }
  assert.deepEqual(await finish(bystander), { code: 0, stderr: "" });
});

Deno.test("a careless client keeps its connection", async (t) => {
  await using ground = await startGround();
  const target = shimTarget(ground);
  await using bystander = await startBystander(target);
  for (const { sentence, endsChannel, act } of carelessness) {
    await t.step(sentence, async () => {
      await using client = await RawClient.connect(target);
      const { channel } = await client.openSession();
      await act(client, channel);
      if (endsChannel) {
        const notice = new Reader(await client.receive(channelExtendedData), 9).text();
        assert.match(notice, /^\r\nsshshim: the client broke the protocol with CHANNEL_/);
        await client.receive(channelClose);
      }
      await client.exec("exit 6");
      assert.equal(await exitStatus(client), 6);
      await assertLives(bystander, sentence);
    });
  }
  assert.deepEqual(await finish(bystander), { code: 0, stderr: "" });
});

Deno.test("a client that strains the protocol without breaking it is served", async (t) => {
  await using ground = await startGround();
  const target = shimTarget(ground);
  await using bystander = await startBystander(target);

  await t.step("a login's messages after the login, a server's among them", async () => {
    await using client = await RawClient.connect(target);
    const [serviceRequest, serviceAccept, request, failure, success, question] = [
      5,
      6,
      50,
      51,
      52,
      60,
    ] as const;
    client.send(serviceRequest, "ssh-userauth");
    client.send(serviceAccept, "ssh-userauth");
    client.send(request, "root", "ssh-connection", "none");
    client.send(failure, "password", false);
    client.send(success);
    client.send(question, "", "", "", 0);
    await client.exec("true");
  });

  for (
    const [maximumPacketSize, length] of [
      [2 ** 20, 20_000_000],
      [2 ** 32 - 1, 20_000_000],
      [100, 500_000],
    ] as const
  ) {
    await t.step(`a maximum packet size of ${maximumPacketSize} bytes`, async () => {
      await using client = await RawClient.connect(target);
      let bytes = 0;
      let largest = 0;
      client.takeData((payload) => {
        const { length } = new Reader(payload, 5).bytes();
        bytes += length;
        largest = Math.max(largest, length);
      });
      // It takes some megabytes until the server has enough to fill a large packet.
      const command = `dd if=/dev/zero bs=${length} count=1 2>/dev/null`;
      await client.exec(command, { maximumPacketSize, initialWindowSize: 2 ** 32 - 1 });
      await client.receive(channelClose);
      assert.equal(bytes, length);
      assert.ok(largest <= Math.min(maximumPacketSize, 32_768), `${largest} bytes in a packet`);
      await assertLives(bystander, "maximum packet size");
    });
  }

  await t.step("the largest window", async () => {
    await using client = await RawClient.connect(target);
    let bytes = 0;
    client.takeData((payload) => bytes += new Reader(payload, 5).bytes().length);
    await client.exec("head -c 5000000 /dev/zero", { initialWindowSize: 2 ** 32 - 1 });
    await client.receive(channelClose);
    assert.equal(bytes, 5_000_000);
  });

  await t.step("requests that nobody knows", async () => {
    await using client = await RawClient.connect(target);
    const { channel } = await client.openSession();
    client.request(channel, "nonsense@example.com", "words");
    await client.receive(channelFailure);
    for (let count = 0; count < 3; count++) {
      client.send(globalRequest, "nonsense@example.com", true, "words");
      await client.receive(requestFailure);
    }
    client.send(globalRequest, "nonsense@example.com", false);
    client.send(channelOpen, "nonsense@example.com", 7, 2 ** 21, 32_768);
    const failure = new Reader(await client.receive(channelOpenFailure), 1);
    // It is sshd that refuses, and it has no better reason.
    assert.deepEqual([failure.uint32(), failure.uint32()], [7, 2]);
    client.request(channel, "exec", "exit 3");
    assert.equal(await exitStatus(client), 3);
  });

  await t.step("a message type that nobody knows", async () => {
    await using client = await RawClient.connect(target);
    client.send(120, "words");
    await client.exec("exit 4");
    assert.equal(await exitStatus(client), 4);
  });

  await t.step("no more sessions, for this client alone", async () => {
    await using client = await RawClient.connect(target);
    await using other = await RawClient.connect(target);
    const { channel } = await client.openSession();
    client.send(globalRequest, "no-more-sessions@openssh.com", true);
    await client.receive(requestSuccess);
    client.send(channelOpen, "session", 7, 2 ** 21, 32_768);
    const failure = new Reader(await client.receive(channelOpenFailure), 1);
    assert.deepEqual([failure.uint32(), failure.uint32()], [7, 1]);
    for (const it of [client, other]) {
      if (it === client) client.request(channel, "exec", "exit 5");
      else await it.exec("exit 5");
      assert.equal(await exitStatus(it), 5);
    }
    await assertLives(bystander, "no more sessions");
  });

  assert.deepEqual(await finish(bystander), { code: 0, stderr: "" });
});

async function startBystander(target: Target): Promise<RunningProcess> {
  const bystander = target.startSsh("echo ready; cat");
  await bystander.stdout.waitFor(/ready/);
  return bystander;
}

async function assertLives(bystander: RunningProcess, word: string): Promise<void> {
  const from = bystander.stdout.text.length;
  await bystander.write(`${word}\n`);
  const [answer] = await bystander.stdout.waitFor(/^.*\n/, { from });
  assert.equal(answer, `${word}\n`);
}

async function finish(bystander: RunningProcess): Promise<{ code: number; stderr: string }> {
  await bystander.closeStdin();
  const { code } = await bystander.drained();
  return { code, stderr: bystander.stderr.text };
}

/** Waits for the exit status of the client's command. */
async function exitStatus(client: RawClient): Promise<number> {
  for (;;) {
    const reader = new Reader(await client.receive(channelRequest), 5);
    if (reader.text() !== "exit-status") continue;
    reader.boolean();
    return reader.uint32();
  }
}
