/** The socket under ssh2, over real TCP connections on loopback. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { createConnection } from "node:net";
import type { ByteConnection } from "../lib/byte_connection.ts";
import { ByteSocket } from "../lib/ssh2_socket.ts";
import { within } from "./support/deadline.ts";
import { FakeTime } from "./support/fake_time.ts";
import { patternBytes } from "./support/memory.ts";
import { settled } from "./support/scripted_connector.ts";

const line = "SSH-2.0-OpenSSH_9.9\r\n";

/** A socket, the other end of its connection, and what the socket has said. */
class Pair {
  readonly peer: Deno.TcpConn;
  readonly socket: ByteSocket;
  readonly events: string[] = [];
  readonly data: Uint8Array[] = [];
  error: (Error & { code?: string }) | undefined;
  /** How many writes the connection has seen. */
  writes = 0;
  readonly closed: Promise<void>;
  #isPeerClosed = false;
  #readBytes = 0;
  #onRead: (() => void) | undefined;

  constructor(
    peer: Deno.TcpConn,
    own: Deno.TcpConn,
    options: { role: "server" | "client"; largestWriteBytes?: number },
  ) {
    this.peer = peer;
    peer.setNoDelay(true);
    const { largestWriteBytes = Infinity } = options;
    const connection: ByteConnection = {
      read: async (buffer) => {
        const count = await own.read(buffer);
        this.#readBytes += count ?? 0;
        this.#onRead?.();
        return count;
      },
      write: (data) => {
        this.writes++;
        return own.write(data.subarray(0, Math.min(data.length, largestWriteBytes)));
      },
      close: () => own.close(),
    };
    this.socket = new ByteSocket(connection, { role: options.role, remote: own.remoteAddr });
    for (const event of ["data", "end", "error", "drain", "close"]) {
      this.socket.on(event, (argument?: Uint8Array) => {
        if (event === "data") this.data.push(argument!);
        if (event === "error") this.error = argument as unknown as Error;
        if (event !== "data" || this.events.at(-1) !== "data") this.events.push(event);
      });
    }
    this.closed = new Promise<void>((resolve) => this.socket.once("close", resolve));
  }

  get received(): Buffer {
    return Buffer.concat(this.data);
  }

  /** Resolves once the socket has handed over so many bytes. */
  async receives(count: number): Promise<void> {
    while (this.received.length < count) await once(this.socket, "data");
  }

  /** Resolves when the connection has got everything that was written. */
  async flushed(): Promise<void> {
    while (this.socket.backlogBytes > 0) await settled();
  }

  /** Resolves when the socket has read so many bytes and has had its turn with them. */
  async untilRead(count: number): Promise<void> {
    while (this.#readBytes < count) await new Promise<void>((resolve) => this.#onRead = resolve);
    await settled();
  }

  closePeer(): void {
    if (!this.#isPeerClosed) this.peer.close();
    this.#isPeerClosed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closePeer();
    this.socket.destroy();
    await this.closed;
    assert.equal(this.events.filter((event) => event === "close").length, 1);
    assert.equal(this.events.at(-1), "close");
    assert.equal(this.socket.backlogBytes, 0);
  }
}

async function connect(
  options: { role?: "server" | "client"; largestWriteBytes?: number } = {},
): Promise<Pair> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [own, peer] = await Promise.all([
    listener.accept(),
    Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port }),
  ]);
  return new Pair(peer, own, { role: "server", ...options });
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
}

/** Reads until the other side closes, or until `count` bytes have come. */
async function readAll(connection: Deno.Conn, count = Infinity): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  while (size < count) {
    const buffer = new Uint8Array(65536);
    const read = await connection.read(buffer);
    if (read === null) break;
    pieces.push(buffer.subarray(0, read));
    size += read;
  }
  return Buffer.concat(pieces);
}

const text = (string: string) => new TextEncoder().encode(string);

// Reading

Deno.test("an identification line in one-byte pieces is handed over in one", async () => {
  await using pair = await connect();
  pair.socket.resume();
  for (const byte of text(line)) await writeAll(pair.peer, Uint8Array.of(byte));
  await pair.receives(line.length);
  assert.deepEqual(pair.data.map((piece) => new TextDecoder().decode(piece)), [line]);
  await writeAll(pair.peer, Uint8Array.of(0, 1, 2, 255));
  await pair.receives(line.length + 4);
  assert.deepEqual(pair.received.subarray(line.length), Buffer.of(0, 1, 2, 255));
});

Deno.test("a server's greeting is handed over with its identification line, in one", async () => {
  for (const greeting of ["Welcome\r\nto example.com\r\n", "\r\n\r\nhello\r\n"]) {
    await using pair = await connect({ role: "client" });
    pair.socket.resume();
    for (const byte of text(greeting + line)) await writeAll(pair.peer, Uint8Array.of(byte));
    await pair.receives(greeting.length + line.length);
    assert.deepEqual(pair.data.map((piece) => new TextDecoder().decode(piece)), [greeting + line]);
  }
});

Deno.test("a client that speaks HTTP, TLS or nothing known is turned away unheard", async () => {
  for (const garbage of ["GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02", "\0", "\r\n", "hello\n"]) {
    await using pair = await connect();
    pair.socket.resume();
    await writeAll(pair.peer, text(garbage));
    await pair.closed;
    assert.deepEqual(pair.events, ["error", "close"]);
    assert.match(pair.error!.message, /does not speak SSH/);
    assert.equal(pair.socket.write("x"), false);
  }
});

Deno.test("a server that greets without end is turned away", async () => {
  await using pair = await connect({ role: "client" });
  pair.socket.resume();
  await writeAll(pair.peer, text("more of the same\n".repeat(1000)));
  await pair.closed;
  assert.deepEqual(pair.events, ["error", "close"]);
});

Deno.test("3 MB arrive whole, in buffers that are not written to again", async () => {
  await using pair = await connect();
  pair.socket.resume();
  const bytes = patternBytes(3_000_000);
  bytes.set(text(line));
  await writeAll(pair.peer, bytes);
  await pair.receives(bytes.length);
  assert(pair.received.equals(bytes));
});

Deno.test("they are, where whoever listens keeps nothing", async () => {
  await using pair = await connect();
  const places = new Set<ArrayBufferLike>();
  pair.socket.on("data", ({ buffer }: Uint8Array) => places.add(buffer));
  pair.socket.resume();
  const bytes = patternBytes(1000);
  bytes.set(text(line));
  await writeAll(pair.peer, bytes);
  await pair.receives(bytes.length);
  pair.socket.keepsNothing = true;
  for (let count = 2; count < 100; count++) {
    await writeAll(pair.peer, bytes);
    await pair.untilRead(count * bytes.length);
    // Those of before may be kept.
    if (count === 4) places.clear();
  }
  assert.equal(places.size, 1);
});

Deno.test("nothing is read before resume, nor while paused", async () => {
  await using pair = await connect();
  await writeAll(pair.peer, text(line));
  pair.socket.write("turns");
  await readAll(pair.peer, 5);
  assert.deepEqual(pair.events, []);
  pair.socket.resume();
  await pair.receives(line.length);

  pair.socket.pause();
  await writeAll(pair.peer, text("first"));
  await pair.untilRead(line.length + 5);
  assert.equal(pair.received.length, line.length);
  pair.socket.resume().pause().resume();
  await pair.receives(line.length + 5);

  // Paused by whoever takes the data, in the middle of it.
  pair.socket.once("data", () => pair.socket.pause());
  await writeAll(pair.peer, text("second"));
  await pair.receives(line.length + 11);
  await writeAll(pair.peer, text("third"));
  await pair.untilRead(line.length + 16);
  assert.equal(pair.received.length, line.length + 11);
  pair.socket.resume();
  await pair.receives(line.length + 16);
});

Deno.test("a socket that is destroyed while paused closes", async () => {
  await using pair = await connect();
  pair.socket.resume();
  await writeAll(pair.peer, text(line));
  await pair.receives(line.length);
  pair.socket.pause();
  await writeAll(pair.peer, text("unread"));
  pair.socket.destroy();
  await pair.closed;
  assert.deepEqual(pair.events, ["data", "close"]);
});

Deno.test("the peer's end is told once, and closes the socket when what is queued has left", async () => {
  await using pair = await connect();
  pair.socket.resume();
  await writeAll(pair.peer, text(line));
  await pair.receives(line.length);
  const reply = patternBytes(1_000_000);
  pair.socket.once("end", () => pair.socket.write(reply));
  await pair.peer.closeWrite();
  assert((await readAll(pair.peer)).equals(reply));
  await pair.closed;
  assert.deepEqual(pair.events, ["data", "end", "close"]);
  assert.equal(pair.socket._readableState.ended, true);
  assert.equal(pair.socket.writable, false);
});

Deno.test("a peer that leaves before its identification line ends the socket quietly", async () => {
  for (const start of ["", "SSH-2.0"]) {
    await using pair = await connect();
    pair.socket.resume();
    await writeAll(pair.peer, text(start));
    pair.closePeer();
    await pair.closed;
    assert.deepEqual(pair.events, ["end", "close"]);
  }
});

Deno.test("what a listener throws becomes the socket's error and ends it", async () => {
  await using pair = await connect();
  pair.socket.once("data", () => {
    throw new Error("cannot parse");
  });
  pair.socket.resume();
  await writeAll(pair.peer, text(line));
  await pair.closed;
  assert.deepEqual(pair.events, ["data", "error", "close"]);
  assert.equal(pair.error!.message, "cannot parse");
});

// Writing

Deno.test("what is written in one turn leaves in one write, whole and in order", async () => {
  await using pair = await connect();
  const bytes = patternBytes(50_000);
  for (let at = 0; at < bytes.length; at += 500) pair.socket.write(bytes.subarray(at, at + 500));
  assert.equal(pair.socket.backlogBytes, bytes.length);
  assert.equal(pair.writes, 0);
  assert((await readAll(pair.peer, bytes.length)).equals(bytes));
  await pair.flushed();
  assert.equal(pair.writes, 1);
  assert.equal(pair.socket.backlogBytes, 0);
});

Deno.test("writes of every size keep their order, even where the system takes them piecemeal", async () => {
  await using pair = await connect({ largestWriteBytes: 4099 });
  const bytes = patternBytes(600_000);
  let at = 0;
  for (const size of [0, 1, 2, 0, 300_000, 7, 100_000, 100_000, 99_990]) {
    pair.socket.write(bytes.subarray(at, at + size));
    at += size;
    if (size > 1000) await Promise.resolve();
  }
  assert.equal(at, bytes.length);
  assert((await readAll(pair.peer, bytes.length)).equals(bytes));
  await pair.flushed();
});

Deno.test("a string is written as bytes, one per character", async () => {
  await using pair = await connect();
  pair.socket.write("SSH-2.0-\xe9\xff\r\n");
  assert.deepEqual([...await readAll(pair.peer, 12)], [
    ...Buffer.from("SSH-2.0-\xe9\xff\r\n", "latin1"),
  ]);
});

Deno.test("a reader that stalls shows in the backlog, and drain tells when it has gone on", async () => {
  await using pair = await connect();
  const bytes = patternBytes(1_000_000);
  const count = 24;
  for (let index = 0; index < count; index++) pair.socket.write(bytes);
  while (pair.socket.backlogBytes === count * bytes.length) await settled();
  assert(pair.socket.backlogBytes > 4_000_000, `${pair.socket.backlogBytes}`);
  assert.deepEqual(pair.events, []);

  const backlogs: number[] = [];
  pair.socket.on("drain", () => backlogs.push(pair.socket.backlogBytes));
  for (let index = 0; index < count; index++) {
    assert((await readExactly(pair.peer, bytes.length)).equals(bytes), `${index}`);
  }
  await pair.flushed();
  assert.deepEqual(pair.events, ["drain"]);
  assert(backlogs[0]! < 512 * 1024);

  // A small backlog is not worth a word.
  pair.socket.write(bytes.subarray(0, 500_000));
  await readExactly(pair.peer, 500_000);
  await pair.flushed();
  assert.deepEqual(pair.events, ["drain"]);
});

async function readExactly(connection: Deno.Conn, count: number): Promise<Buffer> {
  const buffer = new Uint8Array(count);
  for (let at = 0; at < count;) {
    const read = await connection.read(buffer.subarray(at));
    assert.notEqual(read, null);
    at += read!;
  }
  return Buffer.from(buffer.buffer);
}

// Ending

Deno.test("end lets everything leave first, and then closes without a wait", async () => {
  using time = new FakeTime();
  for (const size of [0, 1, 1_000_000, 8_000_000]) {
    await using pair = await connect();
    const bytes = patternBytes(size);
    pair.socket.resume();
    pair.socket.write(bytes);
    pair.socket.end().end();
    assert.equal(pair.socket.write("too late"), false);
    assert((await readAll(pair.peer)).equals(bytes));
    await pair.closed;
    assert.equal(time.pending, 0);
    assert.deepEqual(pair.events.filter((event) => event !== "drain"), ["close"]);
  }
});

Deno.test("what comes after end is not heard", async () => {
  await using pair = await connect();
  pair.socket.resume();
  await writeAll(pair.peer, text(line));
  await pair.receives(line.length);
  const bytes = patternBytes(8_000_000);
  pair.socket.write(bytes);
  pair.socket.end();
  await writeAll(pair.peer, text("more"));
  assert((await readAll(pair.peer)).equals(bytes));
  await pair.closed;
  assert.equal(pair.received.length, line.length);
});

Deno.test("end closes after two seconds where the peer takes nothing", async () => {
  using time = new FakeTime();
  await using pair = await connect();
  pair.socket.resume();
  pair.socket.write(patternBytes(16_000_000));
  pair.socket.end();
  time.advance(1999);
  await settled();
  assert.deepEqual(pair.events, []);
  time.advance(1);
  await pair.closed;
  assert.deepEqual(pair.events, ["close"]);
});

Deno.test("destroy closes at once, whatever is queued, and once", async () => {
  await using pair = await connect();
  pair.socket.resume();
  pair.socket.write(patternBytes(16_000_000));
  await Promise.resolve();
  pair.socket.destroy();
  assert.deepEqual(pair.events, []);
  assert.equal(pair.socket.backlogBytes, 0);
  assert.equal(pair.socket.write("x"), false);
  pair.socket.destroy().end().destroy();
  await pair.closed;
  assert.deepEqual(pair.events, ["close"]);
});

Deno.test("destroy after end closes at once and leaves no timer", async () => {
  using time = new FakeTime();
  await using pair = await connect();
  pair.socket.write(patternBytes(16_000_000));
  pair.socket.end();
  pair.socket.destroy();
  await pair.closed;
  assert.equal(time.pending, 0);
});

Deno.test("a connection that is reset ends with ECONNRESET", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  // Deno's own sockets cannot be reset.
  const peer = createConnection(listener.addr.port, "127.0.0.1");
  const [own] = await Promise.all([listener.accept(), once(peer, "connect")]);
  const socket = new ByteSocket(own, { role: "server" });
  const events: string[] = [];
  const closed = Promise.withResolvers<void>();
  socket.on("end", () => events.push("end"));
  socket.on("error", ({ code }) => events.push(code));
  socket.on("close", closed.resolve);
  socket.resume();
  peer.resetAndDestroy();
  await within(closed.promise, "The socket is open");
  assert.deepEqual(events, ["ECONNRESET"]);
  assert.equal(socket._readableState.ended, true);
});

Deno.test("network errors carry Node's codes, others stay what they are", async () => {
  for (
    const [error, code] of [
      [new Deno.errors.ConnectionReset("reset"), "ECONNRESET"],
      [new Deno.errors.ConnectionAborted("aborted"), "ECONNABORTED"],
      [new Deno.errors.BrokenPipe("broken"), "EPIPE"],
      [new Deno.errors.TimedOut("late"), "ETIMEDOUT"],
      [new Error("other"), undefined],
      ["no error at all", undefined],
    ] as const
  ) {
    for (const fails of ["read", "write"] as const) {
      const socket = new ByteSocket({
        read: () => fails === "read" ? Promise.reject(error) : new Promise(() => {}),
        write: () => Promise.reject(error),
        close: () => {},
      }, { role: "server" });
      const failed = once(socket, "error");
      if (fails === "read") socket.resume();
      else socket.write("x");
      // `once` resolves with the arguments of an "error" that is asked for by name.
      const [emitted] = await failed as [Error & { code?: string }];
      assert(emitted instanceof Error);
      assert.equal(emitted.code, code);
      assert.match(
        emitted.message,
        error instanceof Error ? new RegExp(error.message) : /no error/,
      );
    }
  }
});

Deno.test("a socket knows where its peer is", async () => {
  await using pair = await connect();
  assert.equal(pair.socket.remoteAddress, "127.0.0.1");
  assert.equal(pair.socket.remotePort, (pair.peer.localAddr as Deno.NetAddr).port);
  assert.equal(pair.socket.remoteFamily, "IPv4");
  const connection = {
    read: () => Promise.resolve(null),
    write: () => Promise.resolve(0),
    close() {},
  };
  const remote = { hostname: "::1", port: 5 };
  assert.equal(new ByteSocket(connection, { role: "client", remote }).remoteFamily, "IPv6");
});

Deno.test("a peer that sends without a pause leaves others their turn", async () => {
  const portions = 2000;
  const bytes = new TextEncoder().encode(line);
  let left = portions;
  const socket = new ByteSocket({
    // What can be read at once never goes through the event loop.
    read: (buffer) => {
      if (left-- === 0) return Promise.resolve(null);
      buffer.set(bytes);
      return Promise.resolve(bytes.length);
    },
    write: (data) => Promise.resolve(data.length),
    close: () => {},
  }, { role: "client" });
  const closed = once(socket, "close");
  let taken = 0;
  socket.on("data", () => {
    taken++;
    for (const until = performance.now() + 1; performance.now() < until;);
  });
  const turn = new Promise<number>((resolve) => setTimeout(() => resolve(taken), 0));
  socket.resume();
  assert(await turn < portions, "a timer fires before all is read");
  socket.destroy();
  await closed;
});

Deno.test("small and large pieces leave in the order in which they were written", async () => {
  const sizes = [1, 4, 2048, 2049, 3, 20_000, 16_384, 2000, 2000, 300_000, 7, 2048, 2048, 2048];
  const bytes = patternBytes(40 * sizes.reduce((sum, size) => sum + size, 0));
  const received: Uint8Array[] = [];
  const socket = new ByteSocket({
    read: () => new Promise(() => {}),
    write: (data) => {
      const taken = data.slice(0, 100_000);
      received.push(taken);
      return Promise.resolve(taken.length);
    },
    close: () => {},
  }, { role: "client" });
  let at = 0;
  for (let round = 0; round < 40; round++) {
    for (const size of sizes) {
      socket.write(bytes.slice(at, at += size));
      if (round % 3 === 0) await settled();
    }
  }
  socket.end();
  await once(socket, "close");
  assert(Buffer.concat(received).equals(bytes));
});
