/**
 * A connection as plain bytes, which SSH runs over: a TCP socket is one, and a channel through a jump
 * host; the pipes of a ProxyCommand are made into one here.
 */

import { connect, type Socket } from "node:net";
import { Readable, Writable } from "node:stream";

/** Bytes in and out; `Deno.Conn` has it. */
export interface ByteConnection {
  read(buffer: Uint8Array): Promise<number | null>;
  write(data: Uint8Array): Promise<number>;
  close(): void;
  /**
   * Of one that outlives what carries it: since when that is there, by `performance.now()`; infinite
   * while it is not.
   */
  readonly carriedSince?: number;
}

/** A pair of streams, and how to end what is behind them. */
export interface StreamPair {
  readable: ReadableStream<Uint8Array>;
  writable: WritableStream<Uint8Array>;
  /** Called once. */
  onClose(): void;
}

/** A pair of streams as a connection. */
export class StreamConnection implements ByteConnection {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #onClose: () => void;
  #rest: Uint8Array = new Uint8Array();
  #isClosed = false;

  constructor({ readable, writable, onClose }: StreamPair) {
    this.#reader = readable.getReader();
    this.#writer = writable.getWriter();
    this.#onClose = onClose;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    while (this.#rest.length === 0) {
      const { value, done } = await this.#reader.read();
      if (done) return null;
      this.#rest = value;
    }
    const part = this.#rest.subarray(0, buffer.length);
    this.#rest = this.#rest.subarray(part.length);
    buffer.set(part);
    return part.length;
  }

  async write(data: Uint8Array): Promise<number> {
    await this.#writer.write(data);
    return data.length;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // The other end may be gone already: there is nothing left to tell it then.
    this.#reader.cancel().catch(() => {});
    this.#writer.abort().catch(() => {});
    this.#onClose();
  }
}

/**
 * Connects to a named pipe of Windows, of which Deno itself opens none, or to a unix socket.
 *
 * @throws {Error} where nobody listens, with the `code` of `node:net`.
 */
export async function connectByNode(path: string): Promise<ByteConnection> {
  const socket = connect(path);
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  return connectionOf(socket);
}

/** A socket of `node:net` as a connection, whose errors whoever reads or writes is told. */
export function connectionOf(socket: Socket): ByteConnection {
  socket.on("error", () => {/* Without any listener it would end the process. */});
  const streams = { readable: Readable.toWeb(socket), writable: Writable.toWeb(socket) };
  return new StreamConnection({
    ...streams as Omit<StreamPair, "onClose">,
    onClose: () => socket.destroy(),
  });
}
