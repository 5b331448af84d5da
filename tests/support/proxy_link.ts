/** One connection through the proxy of proxy.ts: a socket on each side, a pump each way. */

import { connect, type Socket } from "node:net";

/** Which way bytes go: from whoever connected towards the target, or back. */
export type Direction = "toTarget" | "toClient";

/** How a connection is cut: reset, or closed as if the peer had left in peace. */
export type Cut = "rst" | "fin";

/** What a connection asks of its proxy. */
export interface Path {
  target: { hostname: string; port: number };
  queueBytes: number;
  /** When bytes that arrive now come out, in milliseconds of `performance.now`. */
  dueTime(direction: Direction, bytes: number): number;
  /** How many of these bytes may pass, and the cut that follows them. */
  takeBytes(direction: Direction, bytes: number): { passed: number; cut?: Cut };
  onClose(): void;
}

/** Two sockets that pass on to each other what they read. */
export class Link {
  /** Resolves when both sockets are closed. */
  readonly closed: Promise<void>;
  readonly #sockets: readonly [Socket, Socket];
  readonly #pumps: readonly [Pump, Pump];
  #held = false;
  /** A side broke while nothing may pass, news of it included. */
  #broken = false;
  #isCut = false;

  /** Connects `client` with the path's target. */
  constructor(client: Socket, path: Path) {
    const target = connect({
      ...{ host: path.target.hostname, port: path.target.port },
      ...{ allowHalfOpen: true, noDelay: true },
    });
    this.#sockets = [client, target];
    const pump = (direction: Direction, source: Socket, sink: Socket) =>
      new Pump(source, sink, {
        queueBytes: path.queueBytes,
        dueTime: (bytes) => path.dueTime(direction, bytes),
        takeBytes: (bytes) => path.takeBytes(direction, bytes),
        cut: (how) => this.cut(how),
      });
    this.#pumps = [pump("toTarget", client, target), pump("toClient", target, client)];
    this.closed = Promise.all(this.#sockets.map((socket) =>
      new Promise<void>((resolve) => {
        socket.on("error", () => this.#onBroken());
        socket.on("close", () => {
          if (!this.#pumps.every((pump) => pump.finished)) this.#onBroken();
          resolve();
        });
      })
    )).then(() => path.onClose());
  }

  /** Holds back everything, or lets it pass again. */
  hold(held: boolean): void {
    this.#held = held;
    for (const pump of this.#pumps) pump.hold(held);
    if (!held && this.#broken) this.cut("rst");
  }

  /** Ends both sides now; what has not passed is lost. May be called twice. */
  cut(how: Cut): void {
    if (this.#isCut) return;
    this.#isCut = true;
    for (const pump of this.#pumps) pump.discard();
    for (const socket of this.#sockets) {
      if (socket.connecting) socket.destroy();
      else if (how === "rst") socket.resetAndDestroy();
      // Closing for good would reset a peer that still writes; it is left to close its own side.
      else socket.end();
    }
  }

  /** Closes both sockets for good. */
  destroy(): void {
    this.cut("fin");
    for (const socket of this.#sockets) socket.destroy();
  }

  /** A side that is refused, reset or gone ends the other one in the same way. */
  #onBroken(): void {
    this.#broken = true;
    if (!this.#held) this.cut("rst");
  }
}

/** What a pump asks of its connection. */
interface PumpOwner {
  queueBytes: number;
  dueTime(bytes: number): number;
  takeBytes(bytes: number): { passed: number; cut?: Cut };
  cut(how: Cut): void;
}

/** Bytes in one direction: they wait for their time, in order, and then pass. */
class Pump {
  /** Whether the end has been passed on. */
  finished = false;
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #owner: PumpOwner;
  /** `undefined` stands for the end. */
  readonly #queue: { bytes: Uint8Array | undefined; dueAt: number }[] = [];
  #queuedBytes = 0;
  #held = false;
  #discards = false;
  #sinkFull = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(source: Socket, sink: Socket, owner: PumpOwner) {
    this.#source = source;
    this.#sink = sink;
    this.#owner = owner;
    source.on("data", (bytes: Uint8Array) => {
      if (this.#discards) return;
      // Small pieces come out at an even pace where the path is slow.
      for (let offset = 0; offset < bytes.length; offset += pieceBytes) {
        this.#enqueue(bytes.subarray(offset, offset + pieceBytes));
      }
      this.#flush();
    });
    source.on("end", () => {
      if (this.#discards) return;
      this.#enqueue(undefined);
      this.#flush();
    });
    sink.on("drain", () => {
      this.#sinkFull = false;
      this.#flush();
    });
  }

  hold(held: boolean): void {
    this.#held = held;
    this.#flush();
  }

  /** Passes nothing on any more, and reads on only to see the end. */
  discard(): void {
    this.#discards = true;
    clearTimeout(this.#timer);
    this.#queue.length = 0;
    this.#source.resume();
  }

  #enqueue(bytes: Uint8Array | undefined): void {
    const length = bytes?.length ?? 0;
    this.#queuedBytes += length;
    this.#queue.push({ bytes, dueAt: this.#owner.dueTime(length) });
  }

  #flush(): void {
    if (this.#discards) return;
    clearTimeout(this.#timer);
    while (!this.#held && !this.#sinkFull) {
      const first = this.#queue[0];
      if (first === undefined) break;
      const waitMs = first.dueAt - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.#flush(), waitMs);
        break;
      }
      this.#queue.shift();
      if (first.bytes === undefined) {
        this.finished = true;
        this.#sink.end();
        break;
      }
      this.#pass(first.bytes);
    }
    if (this.#held || this.#queuedBytes > this.#owner.queueBytes) this.#source.pause();
    else this.#source.resume();
  }

  #pass(bytes: Uint8Array): void {
    this.#queuedBytes -= bytes.length;
    const { passed, cut } = this.#owner.takeBytes(bytes.length);
    if (cut === undefined) {
      this.#sinkFull = !this.#sink.write(bytes);
      return;
    }
    this.#held = true;
    // The cut comes once the bytes before it have left.
    this.#sink.write(bytes.subarray(0, passed), () => this.#owner.cut(cut));
  }
}

/** The largest piece that passes at once. */
const pieceBytes = 16_384;
