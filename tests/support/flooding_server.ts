/**
 * A server that floods whoever has logged in: run as a program of its own, so that what it costs
 * is not ours.
 *
 *     deno run -A tests/support/flooding_server.ts KIND
 *
 * It prints a line of JSON with its port and host key. The flood begins when a session asks for a
 * command, and ends with the connection.
 */

import { Buffer } from "node:buffer";
import { generateKey } from "../../lib/local_host_key.ts";
import { buildMessage, type Field, Reader } from "../../lib/ssh_data.ts";
import { ssh2 } from "../../lib/ssh2.ts";
import { serverAlgorithms } from "../../lib/ssh2_algorithms.ts";
import { ByteSocket } from "../../lib/ssh2_socket.ts";
import { Ssh2Transport } from "../../lib/ssh2_transport.ts";
import { MessageType } from "../../lib/wire.ts";

/** What one kind of flood consists of. */
interface Flood {
  /** The message that comes over and over; `channel` is the client's that asked for a command. */
  message(channel: number, count: number): Uint8Array;
  /** Whether the server still reads. */
  reads: boolean;
}

const channelWindowBytes = 2 ** 21;
const packetBytes = 32_768;
/** How much is sent in one turn of the event loop, in messages and bytes. */
const turnMessages = 2000;
const turnBytes = 256 * 1024;

const { globalRequest, channelRequest, channelOpen, channelData, ping } = MessageType;
const [ignore, debug, userauthBanner] = [2, 4, 53];
const address: Field[] = ["127.0.0.1", 4022, "127.0.0.1", 1];

function saying(message: Uint8Array, { reads = true } = {}): Flood {
  return { message: () => message, reads };
}

const floods: Record<string, Flood> = {
  "ignore-large": saying(buildMessage(ignore, "x".repeat(30_000))),
  "ignore-empty": saying(buildMessage(ignore, "")),
  debug: saying(buildMessage(debug, true, "x".repeat(1000), "")),
  banners: saying(buildMessage(userauthBanner, "x".repeat(1000), ""), { reads: false }),
  keepalives: saying(buildMessage(globalRequest, "keepalive@openssh.com", true), { reads: false }),
  pings: saying(buildMessage(ping, "x".repeat(100)), { reads: false }),
  unknown: saying(buildMessage(199, "x"), { reads: false }),
  "channel-requests": {
    message: (channel) => buildMessage(channelRequest, channel, "x".repeat(1000), false),
    reads: true,
  },
  opens: {
    message: (_channel, count) =>
      buildMessage(
        channelOpen,
        "forwarded-tcpip",
        count + 1000,
        channelWindowBytes,
        packetBytes,
        ...address,
      ),
    reads: true,
  },
  "small-data": { message: (channel) => buildMessage(channelData, channel, "x"), reads: true },
};

/** The names of all kinds. */
export const floodKinds: readonly string[] = [...Object.keys(floods), "rekeys"];

function serve(kind: string): void {
  const key = generateKey();
  const algorithms = serverAlgorithms();
  const server = new ssh2.Server({
    hostKeys: [key.privateKey],
    algorithms: algorithms.forSsh2,
  }, (connection) => {
    connection.on("error", () => {});
    const transport = new Ssh2Transport(connection, algorithms);
    connection.on("authentication", (context) => {
      // In this turn, so that nothing of the connection protocol reaches ssh2.
      transport.start({ onPayload, onDrain: () => {}, onDisconnect: () => {} });
      context.accept();
    });
    const onPayload = (payload: Uint8Array) =>
      answer(transport, payload, (channel) => {
        if (kind !== "rekeys") return void begin(floods[kind]!, { transport, channel });
        const { _protocol: protocol } = connection as unknown as { _protocol: { rekey(): void } };
        connection.on("rekey", () => protocol.rekey());
        protocol.rekey();
      });
  });
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const publicKey = Buffer.from(key.publicKey).toString("base64");
  console.log(JSON.stringify({ port: listener.addr.port, key: `ssh-ed25519 ${publicKey}` }));
  (async () => {
    for await (const connection of listener) {
      const socket = new ByteSocket(connection, { role: "server", remote: connection.remoteAddr });
      server.injectSocket(socket as never);
    }
  })();
}

/** Agrees to everything, and says so; `onCommand` hears of the channel that wants a command. */
function answer(
  transport: Ssh2Transport,
  payload: Uint8Array,
  onCommand: (channel: number) => void,
): void {
  const { channelOpenConfirmation, channelSuccess, requestSuccess } = MessageType;
  const reader = new Reader(payload, 1);
  if (payload[0] === globalRequest) {
    transport.send(buildMessage(requestSuccess));
  } else if (payload[0] === channelOpen) {
    reader.bytes();
    const channel = reader.uint32();
    const fields = [channel, channel, channelWindowBytes, packetBytes];
    transport.send(buildMessage(channelOpenConfirmation, ...fields));
  } else if (payload[0] === channelRequest) {
    const channel = reader.uint32();
    transport.send(buildMessage(channelSuccess, channel));
    onCommand(channel);
  }
}

async function begin(
  { message, reads }: Flood,
  { transport, channel }: { transport: Ssh2Transport; channel: number },
): Promise<void> {
  const { socket } = transport;
  if (!reads) socket.pause();
  let isOpen = true;
  socket.once("close", () => isOpen = false);
  for (let count = 0; isOpen;) {
    const turnEnd = count + turnMessages;
    for (let bytes = 0; bytes < turnBytes && count < turnEnd; count++) {
      const payload = message(channel, count);
      transport.send(payload);
      bytes += payload.length + 32;
    }
    // Only one that reads knows when there is room; the other asks again and again.
    while (isOpen && socket.backlogBytes > turnBytes) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

if (import.meta.main) serve(Deno.args[0]!);
