/** The proxy has to break connections exactly as a test orders it. */

import assert from "node:assert/strict";
import { freePort } from "./ports.ts";
import { waitUntil } from "./processes.ts";
import { type Proxy, type ProxyOptions, startProxy } from "./proxy.ts";

/** A server that keeps its connections, and a proxy in front of it. */
interface Bench extends AsyncDisposable {
  proxy: Proxy;
  /** Connects to the proxy. */
  connectClient(): Promise<Deno.TcpConn>;
  /** Connects through the proxy and gives both ends. */
  connect(): Promise<{ client: Deno.TcpConn; served: Deno.TcpConn }>;
}

async function startBench(options: Omit<ProxyOptions, "target"> = {}): Promise<Bench> {
  await using resources = new AsyncDisposableStack();
  const listener = resources.use(Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  const proxy = resources.use(await startProxy({ target: listener.addr, ...options }));
  const owned = resources.move();
  const connectClient = async () =>
    owned.use(await Deno.connect({ hostname: proxy.hostname, port: proxy.port }));
  return {
    proxy,
    connectClient,
    async connect() {
      const accepted = listener.accept();
      const client = await connectClient();
      const served = owned.use(await accepted);
      return { client, served };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Reads to the end; the error's name takes the place of an end that is none. */
async function readAll(connection: Deno.TcpConn): Promise<{ bytes: number; end: string }> {
  const chunk = new Uint8Array(65_536);
  let bytes = 0;
  try {
    while (true) {
      const read = await connection.read(chunk);
      if (read === null) return { bytes, end: "fin" };
      bytes += read;
    }
  } catch (error) {
    return { bytes, end: nameOf(error) };
  }
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : "unknown";
}

async function write(connection: Deno.TcpConn, length: number): Promise<void> {
  const bytes = new Uint8Array(length);
  for (let offset = 0; offset < length;) {
    offset += await connection.write(bytes.subarray(offset));
  }
}

Deno.test("bytes and the end of each direction pass the proxy", async () => {
  await using bench = await startBench();
  const { client, served } = await bench.connect();
  const writing = write(client, 3_000_000).then(() => client.closeWrite());
  assert.deepEqual(await readAll(served), { bytes: 3_000_000, end: "fin" });
  await writing;
  await write(served, 1000);
  await served.closeWrite();
  assert.deepEqual(await readAll(client), { bytes: 1000, end: "fin" });
  await untilClosed(bench.proxy);
  assert.deepEqual(bench.proxy.passedBytes, { toTarget: 3_000_000, toClient: 1000 });
});

for (const [how, end] of [["fin", "fin"], ["rst", "ConnectionReset"]] as const) {
  for (const direction of ["toClient", "toTarget"] as const) {
    for (const count of [1, 16_384, 100_001]) {
      Deno.test(`a cut by ${how} comes after ${count} bytes ${direction}`, async () => {
        await using bench = await startBench();
        const { client, served } = await bench.connect();
        const [source, sink] = direction === "toClient" ? [served, client] : [client, served];
        const cut = bench.proxy.cutAfterBytes(count, direction, how);
        const writing = write(source, 500_000).catch(nameOf);
        assert.deepEqual(await readAll(sink), { bytes: count, end });
        await cut;
        assert.equal((await readAll(source)).end, end);
        await writing;
        source.close();
        sink.close();
        await untilClosed(bench.proxy);
      });
    }
  }

  Deno.test(`cutting all by ${how} ends each connection on both sides`, async () => {
    await using bench = await startBench();
    const connections = [await bench.connect(), await bench.connect()];
    await Promise.all(connections.map(({ client, served }) => exchange(client, served)));
    bench.proxy.cutAll(how);
    for (const { client, served } of connections) {
      assert.deepEqual(await readAll(client), { bytes: 0, end });
      assert.deepEqual(await readAll(served), { bytes: 0, end });
    }
  });
}

Deno.test("a black hole holds everything back until it is restored", async () => {
  await using bench = await startBench();
  const { client, served } = await bench.connect();
  await exchange(client, served);
  bench.proxy.blackHole();
  await write(client, 50_000);
  const late = new Promise<"nothing">((resolve) => setTimeout(() => resolve("nothing"), 200));
  const received = served.read(new Uint8Array(1));
  assert.equal(await Promise.race([received, late]), "nothing");
  await bench.proxy.restore();
  assert.equal(await received, 1);
  await client.closeWrite();
  assert.deepEqual(await readAll(served), { bytes: 49_999, end: "fin" });
});

Deno.test("a refusing proxy keeps its connections and opens the same port again", async () => {
  await using bench = await startBench();
  const { client, served } = await bench.connect();
  await bench.proxy.refuse();
  await assert.rejects(bench.connectClient(), Deno.errors.ConnectionRefused);
  await exchange(client, served);
  await bench.proxy.restore();
  const next = await bench.connect();
  await exchange(next.client, next.served);
});

Deno.test("a target that is not there resets whoever connects", async () => {
  await using proxy = await startProxy({ target: { hostname: "127.0.0.1", port: freePort() } });
  using client = await Deno.connect({ hostname: proxy.hostname, port: proxy.port });
  assert.deepEqual(await readAll(client), { bytes: 0, end: "ConnectionReset" });
});

Deno.test("each byte is under way for the delay, and the delay does not limit the rate", async () => {
  await using bench = await startBench({ delayMs: 100 });
  const { client, served } = await bench.connect();
  const start = performance.now();
  await exchange(client, served);
  assert.ok(performance.now() - start >= 200);
  const writing = write(client, 2_000_000).then(() => client.closeWrite());
  const middle = performance.now();
  assert.equal((await readAll(served)).bytes, 2_000_000);
  await writing;
  const elapsedMs = performance.now() - middle;
  // One piece after the other would take 12 s.
  assert.ok(elapsedMs >= 100 && elapsedMs < 10_000, `${elapsedMs} ms`);
});

Deno.test("a slow path carries its rate for all connections together", async () => {
  await using bench = await startBench({ bytesPerSecond: 1_000_000 });
  const connections = [await bench.connect(), await bench.connect()];
  const start = performance.now();
  await Promise.all(connections.map(async ({ client, served }) => {
    const writing = write(client, 200_000).then(() => client.closeWrite());
    assert.equal((await readAll(served)).bytes, 200_000);
    await writing;
  }));
  const elapsedMs = performance.now() - start;
  // Each for itself would take half of it.
  assert.ok(elapsedMs >= 380, `${elapsedMs} ms`);
});

/** One byte there and one back. */
async function exchange(client: Deno.TcpConn, served: Deno.TcpConn): Promise<void> {
  const byte = new Uint8Array(1);
  await write(client, 1);
  assert.equal(await served.read(byte), 1);
  await write(served, 1);
  assert.equal(await client.read(byte), 1);
}

async function untilClosed(proxy: Proxy): Promise<void> {
  await waitUntil("no connection is left", () => Promise.resolve(proxy.connectionCount === 0));
}
