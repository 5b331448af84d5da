/** The channel through a jump host, and what a jump host may not do with it. */

import assert from "node:assert/strict";
import { JumpChannel } from "../lib/jump_channel.ts";
import { generateKey } from "../lib/local_host_key.ts";
import { ssh2 } from "../lib/ssh2.ts";
import { serverAlgorithms } from "../lib/ssh2_algorithms.ts";
import { ByteSocket } from "../lib/ssh2_socket.ts";
import { Ssh2Transport } from "../lib/ssh2_transport.ts";
import { buildMessage, Reader } from "../lib/ssh_data.ts";
import type { StartableTransport, TransportHandlers } from "../lib/transport.ts";
import { MessageType } from "../lib/wire.ts";
import { logIn } from "./support/login.ts";
import { withFolder } from "./support/signing.ts";

const {
  channelClose,
  channelData,
  channelEof,
  channelExtendedData,
  channelFailure,
  channelOpen,
  channelOpenConfirmation,
  channelRequest,
  channelSuccess,
  channelWindowAdjust,
  globalRequest,
  requestFailure,
  requestSuccess,
} = MessageType;

const windowBytes = 2 ** 21;
const packetBytes = 32_768;

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function confirmation(window = windowBytes, packet = packetBytes): Uint8Array {
  return buildMessage(channelOpenConfirmation, 0, 7, window, packet);
}

/** A jump host that lets everybody in and answers CHANNEL_OPEN with these messages. */
async function withJumpHost(
  answers: readonly Uint8Array[],
  use: (port: number) => Promise<void>,
): Promise<void> {
  const algorithms = serverAlgorithms();
  const server = new ssh2.Server({
    hostKeys: [generateKey().privateKey],
    algorithms: algorithms.forSsh2,
  }, (connection) => {
    connection.on("error", () => {});
    const transport = new Ssh2Transport(connection, algorithms);
    connection.on("authentication", (context) => {
      context.accept();
      transport.start({
        onPayload: (payload) => {
          if (payload[0] === channelOpen) answers.forEach((answer) => transport.send(answer));
        },
        onDrain: () => {},
        onDisconnect: () => {},
      });
    });
  });
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const sockets: ByteSocket[] = [];
  const accepting = (async () => {
    for await (const connection of listener) {
      const socket = new ByteSocket(connection, { role: "server", remote: connection.remoteAddr });
      sockets.push(socket);
      server.injectSocket(socket as never);
    }
  })();
  try {
    await use(listener.addr.port);
  } finally {
    listener.close();
    await accepting;
    for (const socket of sockets) socket.destroy();
  }
}

const violations: [what: string, answers: Uint8Array[], complaint: string][] = [
  ["packets of no size", [confirmation(windowBytes, 0)], "a maximum packet size of 0"],
  ["two answers", [confirmation(), confirmation()], "an answer to no CHANNEL_OPEN"],
  ["bytes before its answer", [buildMessage(channelData, 0, "x")], "the channel is not open"],
  [
    "a window without end",
    [confirmation(2 ** 32 - 1), buildMessage(channelWindowAdjust, 0, 2 ** 32 - 1)],
    "the window overflows",
  ],
  [
    "packets that are too large",
    [confirmation(), buildMessage(channelData, 0, "x".repeat(packetBytes + 1))],
    "more data than the maximum packet size",
  ],
  ["another channel", [confirmation(), buildMessage(channelClose, 1)], "no such channel"],
  ["half a message", [buildMessage(channelOpenConfirmation, 0)], "the message is truncated"],
];

Deno.test("a jump host that breaks the protocol loses its connection, and that is all", async (t) => {
  for (const [what, answers, complaint] of violations) {
    await t.step(what, async () => {
      await withFolder((folder) =>
        withJumpHost(answers, async (port) => {
          const config = `${folder}/config`;
          await Deno.writeTextFile(
            config,
            `Host *\n  StrictHostKeyChecking accept-new\n  UserKnownHostsFile ${folder}/hosts\n`,
          );
          const jump = `jane@127.0.0.1:${port}`;
          const args = ["-F", config, "-J", jump, "jane@192.0.2.1"];
          const { status, log } = await logIn(args, { folder });
          assert.equal(status, 5, log);
          assert(log.includes(`the jump host broke the protocol: ${complaint}`), log);
        })
      );
    });
  }
});

/** A jump host's connection that keeps what is sent. */
class KeptTransport implements StartableTransport {
  readonly lastSequenceNumber = undefined;
  readonly sent: Uint8Array[] = [];
  readonly maximumPayloadBytes = 34_000;
  readonly answersPings = false;
  readonly allowsWarmSession = false;
  readonly lastByteAt = 0;
  backlogBytes = 0;
  isPaused = false;
  /** Why it was ended. */
  farewell: string | undefined;
  handlers!: TransportHandlers;

  start(handlers: TransportHandlers): void {
    this.handlers = handlers;
  }
  send(payload: Uint8Array): void {
    this.sent.push(payload.slice());
  }
  sendUnimplemented(): void {}
  disconnect(_reasonCode: number, description: string): void {
    this.farewell ??= description;
  }
  abort(): void {}
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }

  receive(...messages: Uint8Array[]): void {
    for (const message of messages) this.handlers.onPayload(message);
  }
}

function openChannel(...answers: Uint8Array[]): { transport: KeptTransport; channel: JumpChannel } {
  const transport = new KeptTransport();
  const channel = new JumpChannel(transport, { host: "there", port: 22 });
  transport.receive(...answers);
  transport.sent.length = 0;
  return { transport, channel };
}

Deno.test("the channel is asked for as ssh asks", () => {
  const transport = new KeptTransport();
  new JumpChannel(transport, { host: "there", port: 22 });
  assert.deepEqual(
    transport.sent,
    [
      buildMessage(
        channelOpen,
        ...["direct-tcpip", 0, windowBytes, packetBytes, "there", 22, "127.0.0.1", 0],
      ),
    ],
  );
});

Deno.test("what is written waits for the window, in packets of the size that was announced", async () => {
  const { transport, channel } = openChannel(confirmation(5, 3));
  const data = bytesOf("abcdefgh");
  assert.equal(await channel.write(data), 3);
  assert.equal(await channel.write(data.subarray(3)), 2);
  const third = channel.write(data.subarray(5));
  assert.equal(transport.sent.length, 2);
  transport.receive(buildMessage(channelWindowAdjust, 0, 100));
  assert.equal(await third, 3);
  assert.deepEqual(
    transport.sent,
    ["abc", "de", "fgh"].map((text) => buildMessage(channelData, 7, text)),
  );
});

Deno.test("what is written waits while much waits already", async () => {
  const { transport, channel } = openChannel(confirmation());
  transport.backlogBytes = 2 ** 30;
  const written = channel.write(bytesOf("x"));
  assert.equal(transport.sent.length, 0);
  transport.backlogBytes = 0;
  transport.handlers.onDrain();
  assert.equal(await written, 1);
});

Deno.test("no more is taken than was granted, and what is read is granted again", async () => {
  const { transport, channel } = openChannel(confirmation());
  const packet = buildMessage(channelData, 0, "x".repeat(packetBytes));
  const packets = Array(windowBytes / packetBytes).fill(packet);
  transport.receive(...packets);
  const buffer = new Uint8Array(windowBytes);
  for (const _ of packets) assert.equal(await channel.read(buffer), packetBytes);
  const granted = transport.sent.map((message) => new Reader(message, 5).uint32())
    .reduce((sum, bytes) => sum + bytes, 0);
  assert(granted >= windowBytes / 2 && granted <= windowBytes, `${granted}`);
  transport.receive(...packets.slice(0, granted / packetBytes));
  assert.equal(transport.farewell, undefined);
  transport.receive(buildMessage(channelData, 0, "x"));
  assert.match(transport.farewell!, /more data than the window allows/);
});

Deno.test("bytes of stderr, which no forwarded connection has, count and are let go", async () => {
  const { transport, channel } = openChannel(confirmation());
  const packet = buildMessage(channelExtendedData, 0, 1, "x".repeat(packetBytes));
  transport.receive(...Array(3 * windowBytes / packetBytes).fill(packet));
  transport.receive(buildMessage(channelData, 0, "y"), buildMessage(channelClose, 0));
  const buffer = new Uint8Array(10);
  assert.equal(await channel.read(buffer), 1);
  assert.equal(await channel.read(buffer), null);
});

Deno.test("replies that nobody waits for, and bytes after the end, are let go", async () => {
  const { transport, channel } = openChannel(confirmation());
  transport.receive(buildMessage(channelData, 0, "y"), buildMessage(channelEof, 0));
  for (let count = 0; count < 3 * windowBytes / packetBytes; count++) {
    transport.receive(buildMessage(channelData, 0, "x".repeat(packetBytes)));
  }
  for (const type of [channelSuccess, channelFailure]) transport.receive(buildMessage(type, 0));
  for (const type of [requestSuccess, requestFailure]) transport.receive(buildMessage(type));
  const buffer = new Uint8Array(10);
  assert.equal(await channel.read(buffer), 1);
  assert.equal(await channel.read(buffer), null);
  assert.equal(transport.farewell, undefined);
});

Deno.test("a jump host is not read while its pieces, or our answers, are not taken", async () => {
  const { transport, channel } = openChannel(confirmation());
  const piece = buildMessage(channelData, 0, "x");
  while (!transport.isPaused && transport.farewell === undefined) transport.receive(piece);
  assert.equal(transport.farewell, undefined);
  await channel.read(new Uint8Array(10));
  assert.equal(transport.isPaused, false);
  transport.backlogBytes = 2 ** 30;
  transport.receive(buildMessage(globalRequest, "keepalive@openssh.com", true));
  assert.equal(transport.isPaused, true);
  transport.backlogBytes = 0;
  transport.handlers.onDrain();
  assert.equal(transport.isPaused, false);
});

Deno.test("questions about our life are answered, openings are refused", () => {
  const { transport } = openChannel(confirmation());
  transport.receive(
    buildMessage(channelRequest, 0, "keepalive@openssh.com", true),
    buildMessage(globalRequest, "hostkeys-00@openssh.com", true, { raw: new Uint8Array(9) }),
    buildMessage(channelOpen, "auth-agent@openssh.com", 3, 1, 1),
  );
  assert.deepEqual(transport.sent.slice(0, 2), [
    buildMessage(MessageType.channelFailure, 7),
    buildMessage(requestFailure),
  ]);
  assert.equal(transport.sent[2]![0], MessageType.channelOpenFailure);
  assert.equal(transport.farewell, undefined);
});
