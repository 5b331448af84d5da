/**
 * A server with a key of its own that does not wait: in one write it sends its key exchange reply,
 * NEWKEYS and whatever else it wants believed, before the client can have said anything about the
 * key. It goes on to read, and never answers.
 */

import { Buffer } from "node:buffer";
import { generateKey } from "../../lib/local_host_key.ts";
import { concatenate, Reader } from "../../lib/ssh_data.ts";
import { ssh2 } from "../../lib/ssh2.ts";
import { serverAlgorithms } from "../../lib/ssh2_algorithms.ts";
import { ByteSocket } from "../../lib/ssh2_socket.ts";
import { Ssh2Transport } from "../../lib/ssh2_transport.ts";

/** A running impostor. Leaving its scope ends it and its connections. */
export interface Impostor extends AsyncDisposable {
  readonly port: number;
  /** The blob of its host key. */
  readonly publicKey: Uint8Array;
  readonly connectionCount: number;
  /** The numbers of the messages that a client has sent before its own direction was encrypted. */
  clearMessages(): number[];
  /** All that clients have sent, as it came. */
  received(): Uint8Array;
}

/** How an impostor behaves. */
export interface ImpostorOptions {
  /** What follows NEWKEYS in the same write. */
  early: readonly Uint8Array[];
  /** A free one by default. */
  port?: number;
}

/** The parts of ssh2's server that are used here. */
interface KeyExchange {
  parse(payload: Uint8Array): unknown;
  finish(): unknown;
}

const keyExchangeInit = 30;
const newKeys = 21;

/** Starts an impostor on 127.0.0.1. */
export function startImpostor({ early, port = 0 }: ImpostorOptions): Impostor {
  const key = generateKey();
  const algorithms = serverAlgorithms();
  const server = new ssh2.Server({
    hostKeys: [key.privateKey],
    algorithms: { ...algorithms.forSsh2, kex: ["curve25519-sha256"] },
  }, (connection) => {
    connection.on("error", () => {});
    const transport = new Ssh2Transport(connection, { ...algorithms, kex: ["curve25519-sha256"] });
    const { _protocol: protocol } = connection as unknown as { _protocol: object };
    afterReply(protocol, (exchange) => {
      // Its own direction becomes encrypted, as if the client had sent its NEWKEYS.
      exchange.finish();
      for (const message of early) transport.send(message);
      transport.socket.removeAllListeners("data");
    });
  });
  const pieces: Uint8Array[] = [];
  const sockets = new Set<ByteSocket>();
  let connectionCount = 0;
  const listener = Deno.listen({ hostname: "127.0.0.1", port });
  const accepting = (async () => {
    for await (const connection of listener) {
      connectionCount++;
      const socket = new ByteSocket(
        {
          read: async (buffer) => {
            const count = await connection.read(buffer);
            if (count !== null) pieces.push(buffer.slice(0, count));
            return count;
          },
          write: (bytes) => connection.write(bytes),
          close: () => connection.close(),
        },
        { role: "server", remote: connection.remoteAddr },
      );
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      server.injectSocket(socket as never);
    }
  })();
  return {
    port: listener.addr.port,
    publicKey: key.publicKey,
    get connectionCount() {
      return connectionCount;
    },
    received: () => concatenate(pieces),
    clearMessages: () => clearMessagesOf(concatenate(pieces)),
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Calls back in the turn in which the key exchange reply is sent. */
function afterReply(protocol: object, onReplied: (exchange: KeyExchange) => void): void {
  const property = Object.getOwnPropertyDescriptor(protocol, "_kex")!;
  Object.defineProperty(protocol, "_kex", {
    configurable: true,
    get: () => property.get!.call(protocol),
    set: (exchange: KeyExchange) => {
      const parse = exchange.parse.bind(exchange);
      exchange.parse = (payload) => {
        parse(payload);
        if (payload[0] === keyExchangeInit) onReplied(exchange);
      };
      property.set!.call(protocol, exchange);
    },
  });
}

/** The messages of one connection up to NEWKEYS; packets are not encrypted until then. */
export function clearMessagesOf(stream: Uint8Array): number[] {
  const types: number[] = [];
  const lineEnd = Buffer.from(stream).indexOf("\n");
  if (lineEnd === -1) return types;
  for (let at = lineEnd + 1; at + 6 <= stream.length;) {
    const type = stream[at + 5]!;
    types.push(type);
    if (type === newKeys) break;
    at += 4 + new Reader(stream, at).uint32();
  }
  return types;
}
