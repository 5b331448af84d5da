/**
 * Descriptors that Deno does not know: those of unix sockets by which others are passed (unix(7),
 * SCM_RIGHTS), and those that were passed, which belong to others and are left as they are: never
 * set to non-blocking, since whoever shares them would be too.
 */

import { type DescriptorKind, kindOf, leadToOneFile, pathToReopen } from "./descriptor_kind.ts";
import {
  closeOnExec,
  control,
  flagsOf,
  lastFailure,
  type Libc,
  makeOurs,
  openWithoutWaiting,
} from "./libc.ts";
import { type Readiness, ReadinessWatch } from "./readiness.ts";
import { controlLength, messageHeader, passedIn, socketAddress } from "./system_layout.ts";
import { termiosBytes } from "./terminal_modes.ts";

const unix = 1;
const stream = 1;

/** Of open(2). */
const accessMode = 3;
const [readOnly, writeOnly, readAndWrite] = [0, 1, 2];

/** No address. */
const nobody = new Uint8Array();

/** The most descriptors that one message brings; the system closes what there is no room for. */
const mostPassed = 8;

/** What getsockopt(2) answers at most, in integers. */
const mostIntegers = 32;

/** What a call that does not wait says: nothing can be had now, or never. */
export const nothingNow = -1;
export const failed = -2;

/** Dimensions of a terminal, in characters and in pixels. */
export interface Dimensions {
  columns: number;
  rows: number;
  width: number;
  height: number;
}

/** What has come: some bytes, and descriptors, which are the receiver's from now on. */
export interface Received {
  bytes: Uint8Array;
  descriptors: number[];
}

/** Who is at the other end of a unix socket. */
export interface Credentials {
  pid: number;
  uid: number;
}

/** The system's calls on descriptors; `close` ends all that waits. */
export class Descriptors {
  readonly #libc: Libc;
  readonly #watch: ReadinessWatch;
  /** What recvmsg(2) fills; it points there, so they stay where they are. */
  readonly #vector = new BigUint64Array(2);
  readonly #control: Uint8Array<ArrayBuffer>;

  /**
   * @param libc the system's library.
   * @throws {Error} where it cannot be used.
   */
  constructor(libc: Libc) {
    this.#libc = libc;
    this.#control = new Uint8Array(libc.layout.controlHeader.size + mostPassed * 4);
    this.#watch = new ReadinessWatch(this.#libc);
  }

  /** Resolves when a descriptor is ready; with `false` where the waiting has ended. */
  when(descriptor: number, readiness: Readiness, signal?: AbortSignal): Promise<boolean> {
    return this.#watch.when(descriptor, readiness, signal);
  }

  /** Listens at a path, which becomes a socket. @throws {Error} */
  listen(path: string): number {
    const { symbols, layout } = this.#libc;
    const address = socketAddress(layout, path);
    const socket = symbols.socket(unix, stream | this.#socketFlags, 0);
    if (socket < 0) throw lastFailure(this.#libc);
    makeOurs(this.#libc, socket);
    if (symbols.bind(socket, address, address.length) < 0 || symbols.listen(socket, 128) < 0) {
      const failure = lastFailure(this.#libc);
      symbols.close(socket);
      throw failure;
    }
    return socket;
  }

  /** A connection; `undefined` where there is none yet. @throws {Error} */
  accept(listener: number): number | undefined {
    const found = this.#libc.symbols.accept(listener, null, null, this.#socketFlags);
    if (found >= 0) {
      makeOurs(this.#libc, found);
      return found;
    }
    const failure = lastFailure(this.#libc);
    if (failure === undefined) return undefined;
    throw failure;
  }

  get #socketFlags(): number {
    const { open, setsFlagsAtOnce } = this.#libc.layout;
    return setsFlagsAtOnce ? open.closedOnExec | open.nonBlocking : 0;
  }

  /** Who has connected; `undefined` where the system does not tell. */
  credentialsOf(socket: number): Credentials | undefined {
    const { layout, symbols } = this.#libc;
    const { level, pid, uid } = layout.credentials;
    const [its, user] = [pid, uid].map(({ option, index }) => {
      const found = new Int32Array(mostIntegers);
      const length = new Uint32Array([found.byteLength]);
      const result = symbols.getsockopt(socket, level, option, found, length);
      return result < 0 || length[0]! < (index + 1) * 4 ? undefined : found[index];
    });
    return its === undefined || user === undefined ? undefined : { pid: its, uid: user };
  }

  /**
   * Takes what has come on a unix socket.
   *
   * @returns no bytes at the end of all; `undefined` where nothing has come.
   */
  receive(socket: number, buffer: Uint8Array<ArrayBuffer>): Received | undefined {
    const { layout, symbols } = this.#libc;
    this.#vector.set([addressOf(buffer), BigInt(buffer.length)]);
    const header = messageHeader(layout, {
      ...{ vector: addressOf(this.#vector), control: addressOf(this.#control) },
      controlLength: this.#control.length,
    });
    const { withoutWaiting, passedClosedOnExec } = layout.message;
    const count = Number(symbols.recvmsg(socket, header, withoutWaiting | passedClosedOnExec));
    if (count < 0) {
      // Whatever else is wrong with it is its end.
      return lastFailure(this.#libc) === undefined
        ? undefined
        : { bytes: buffer.subarray(0, 0), descriptors: [] };
    }
    const length = controlLength(layout, header);
    const descriptors = passedIn(layout, this.#control.subarray(0, length));
    for (const descriptor of descriptors) closeOnExec(this.#libc, descriptor);
    return { bytes: buffer.subarray(0, count), descriptors };
  }

  /** Whether a descriptor was opened for reading, or for writing. */
  allows(descriptor: number, direction: "input" | "output"): boolean {
    const mode = flagsOf(this.#libc, descriptor) & accessMode;
    return mode === readAndWrite || mode === (direction === "input" ? readOnly : writeOnly);
  }

  /** How it is used. */
  kindOf(descriptor: number): DescriptorKind {
    return kindOf(this.#libc, descriptor);
  }

  leadToOneFile(one: number, other: number): boolean {
    return leadToOneFile(this.#libc, one, other);
  }

  /**
   * Opens what a descriptor leads to once more, without waiting: what is set there is for us alone.
   * Not for files, whose place is shared. @returns `undefined` where that cannot be done.
   */
  reopen(descriptor: number, direction: "input" | "output"): number | undefined {
    const path = pathToReopen(this.#libc, descriptor);
    const own = path === undefined ? -1 : openWithoutWaiting(this.#libc, path, direction);
    return own < 0 ? undefined : own;
  }

  /** Reads what there is. @returns how many bytes, {@link nothingNow} or {@link failed}. */
  readNow(descriptor: number, buffer: Uint8Array<ArrayBuffer>): number {
    return this.#now(this.#libc.symbols.read(descriptor, buffer, BigInt(buffer.length)));
  }

  /** Writes what is taken. @returns how many bytes, {@link nothingNow} or {@link failed}. */
  writeNow(descriptor: number, bytes: Uint8Array<ArrayBuffer>): number {
    return this.#now(this.#libc.symbols.write(descriptor, bytes, BigInt(bytes.length)));
  }

  /** The same from a socket. */
  receiveNow(socket: number, buffer: Uint8Array<ArrayBuffer>): number {
    const { symbols, layout } = this.#libc;
    const { withoutWaiting } = layout.message;
    return this.#now(symbols.recv(socket, buffer, BigInt(buffer.length), withoutWaiting));
  }

  /** The same to a socket. */
  sendNow(socket: number, bytes: Uint8Array<ArrayBuffer>): number {
    const { symbols, layout } = this.#libc;
    const { withoutWaiting, withoutSignal } = layout.message;
    const flags = withoutWaiting | withoutSignal;
    return this.#now(symbols.sendto(socket, bytes, BigInt(bytes.length), flags, nobody, 0));
  }

  #now(result: bigint): number {
    if (result >= 0n) return Number(result);
    return lastFailure(this.#libc) === undefined ? nothingNow : failed;
  }

  /** Reads, on a thread that waits. @returns how many bytes; 0 at the end, {@link failed}. */
  async read(descriptor: number, buffer: Uint8Array<ArrayBuffer>): Promise<number> {
    const { symbols } = this.#libc;
    const count = await symbols.waitingRead(descriptor, buffer, BigInt(buffer.length));
    return count < 0n ? failed : Number(count);
  }

  /** Writes, on a thread that waits. @returns how many bytes, or {@link failed}. */
  async write(descriptor: number, bytes: Uint8Array<ArrayBuffer>): Promise<number> {
    const { symbols } = this.#libc;
    const count = await symbols.waitingWrite(descriptor, bytes, BigInt(bytes.length));
    return count < 0n ? failed : Number(count);
  }

  /** A terminal's modes as the system's structure; `undefined` where it is no terminal. */
  terminalModes(descriptor: number): Uint8Array | undefined {
    const termios = new Uint8Array(termiosBytes + 64);
    return this.#libc.symbols.tcgetattr(descriptor, termios) < 0 ? undefined : termios;
  }

  /** A terminal's dimensions; `undefined` where it is no terminal. */
  dimensions(descriptor: number): Dimensions | undefined {
    const found = new Uint16Array(4);
    if (!control(this.#libc, descriptor, this.#libc.layout.windowSize.get, found)) return undefined;
    const [rows, columns, width, height] = found;
    return { columns: columns!, rows: rows!, width: width!, height: height! };
  }

  isTerminal(descriptor: number): boolean {
    return this.#libc.symbols.isatty(descriptor) === 1;
  }

  /** Whether it is the terminal that we run on: the system stops who reads it out of turn. */
  isOurTerminal(descriptor: number): boolean {
    const { symbols } = this.#libc;
    const session = symbols.tcgetsid(descriptor);
    return session > 0 && session === symbols.getsid(0);
  }

  /** Closes one. */
  closeOne(descriptor: number): void {
    this.#libc.symbols.close(descriptor);
  }

  /** Nothing waits any more. */
  close(): void {
    this.#watch.close();
  }
}

function addressOf(buffer: ArrayBufferView<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
}
