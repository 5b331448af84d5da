/**
 * A TCP proxy on loopback that breaks, delays and slows connections when a test says so.
 *
 * It is made of node:net, because Deno's own sockets cannot be reset.
 */

import { type AddressInfo, createServer, type Server } from "node:net";
import { type Cut, type Direction, Link } from "./proxy_link.ts";

export type { Cut, Direction } from "./proxy_link.ts";

/** Where the proxy leads, and what the path is like. */
export interface ProxyOptions {
  target: { hostname: string; port: number };
  /** How long each byte is under way, in each direction. */
  delayMs?: number;
  /** What the path carries in each direction, all connections together. */
  bytesPerSecond?: number;
  /**
   * How many bytes of one connection and direction wait in the proxy before it stops reading;
   * 4 MiB by default. It is the queue of the path's bottleneck.
   */
  queueBytes?: number;
}

/** A running proxy. Leaving its scope closes everything. */
export interface Proxy extends AsyncDisposable {
  readonly hostname: string;
  readonly port: number;
  /** Connections that are open now. */
  readonly connectionCount: number;
  /** Bytes that have been passed on, all connections together. */
  readonly passedBytes: Readonly<Record<Direction, number>>;
  /**
   * Cuts a connection as soon as, counted from now, `count` bytes have been passed on in this
   * direction; nothing beyond them is passed on. Resolves when it has been done.
   */
  cutAfterBytes(count: number, direction: Direction, how: Cut): Promise<void>;
  /** Cuts every connection now. */
  cutAll(how: Cut): void;
  /** From now on nothing passes, and nobody is told; new connections are accepted. */
  blackHole(): void;
  /** From now on new connections are refused; those that are open stay. */
  refuse(): Promise<void>;
  /** Ends `blackHole` and `refuse`: what waited is passed on, and the port is open again. */
  restore(): Promise<void>;
}

const hostname = "127.0.0.1";

/** Starts a proxy at a free port. */
export async function startProxy(options: ProxyOptions): Promise<Proxy> {
  const proxy = new FaultyProxy(options);
  await proxy.listen(0);
  return proxy;
}

interface PendingCut {
  bytesLeft: number;
  direction: Direction;
  how: Cut;
  done: () => void;
}

class FaultyProxy implements Proxy {
  readonly hostname = hostname;
  readonly passedBytes = { toTarget: 0, toClient: 0 };
  readonly #options: ProxyOptions;
  readonly #links = new Set<Link>();
  /** Until when the path is busy with what it has taken, in each direction. */
  readonly #busyUntil = { toTarget: 0, toClient: 0 };
  #server: Server | undefined;
  #port = 0;
  #held = false;
  #cuts: PendingCut[] = [];

  constructor(options: ProxyOptions) {
    this.#options = options;
  }

  get port(): number {
    return this.#port;
  }

  get connectionCount(): number {
    return this.#links.size;
  }

  listen(port: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      const link = new Link(socket, {
        target: this.#options.target,
        queueBytes: this.#options.queueBytes ?? 4 << 20,
        dueTime: (direction, bytes) => this.#dueTime(direction, bytes),
        takeBytes: (direction, bytes) => this.#takeBytes(direction, bytes),
        onClose: () => this.#links.delete(link),
      });
      this.#links.add(link);
      link.hold(this.#held);
    });
    server.once("error", reject);
    server.listen(port, hostname, () => {
      this.#port = (server.address() as AddressInfo).port;
      resolve();
    });
    this.#server = server;
    return promise;
  }

  cutAfterBytes(count: number, direction: Direction, how: Cut): Promise<void> {
    return new Promise((done) => this.#cuts.push({ bytesLeft: count, direction, how, done }));
  }

  cutAll(how: Cut): void {
    for (const link of this.#links) link.cut(how);
  }

  blackHole(): void {
    this.#hold(true);
  }

  refuse(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    server?.close();
    // The port is closed at once; the server itself ends with its last connection.
    return Promise.resolve();
  }

  async restore(): Promise<void> {
    this.#hold(false);
    if (this.#server === undefined) await this.listen(this.#port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const links = [...this.#links];
    this.#server?.close();
    for (const link of links) link.destroy();
    await Promise.all(links.map((link) => link.closed));
  }

  #hold(held: boolean): void {
    this.#held = held;
    for (const link of this.#links) link.hold(held);
  }

  /** When bytes that arrive now come out at the other end, in milliseconds of performance.now. */
  #dueTime(direction: Direction, bytes: number): number {
    const { delayMs = 0, bytesPerSecond } = this.#options;
    const now = performance.now();
    if (bytesPerSecond === undefined) return now + delayMs;
    const start = Math.max(now, this.#busyUntil[direction]);
    this.#busyUntil[direction] = start + bytes * 1000 / bytesPerSecond;
    return this.#busyUntil[direction] + delayMs;
  }

  /** How many of these bytes may pass, and the cut that follows them. */
  #takeBytes(direction: Direction, bytes: number): { passed: number; cut?: Cut } {
    let passed = bytes;
    for (const cut of this.#cuts) {
      if (cut.direction === direction) passed = Math.min(passed, cut.bytesLeft);
    }
    this.passedBytes[direction] += passed;
    for (const cut of this.#cuts) {
      if (cut.direction === direction) cut.bytesLeft -= passed;
    }
    const due = this.#cuts.find((cut) => cut.direction === direction && cut.bytesLeft === 0);
    if (due === undefined) return { passed };
    this.#cuts = this.#cuts.filter((cut) => cut !== due);
    due.done();
    return { passed, cut: due.how };
  }
}
