/**
 * Descriptors that Deno does not know: those of unix sockets by which others are passed (unix(7),
 * SCM_RIGHTS), and those that were passed, which belong to others and are left as they are: never
 * set to non-blocking, since whoever shares them would be too.
 */

import { type Libc, loadLibc, openWithoutWaiting, unixAddress } from "./libc.ts";
import { type Readiness, ReadinessWatch } from "./readiness.ts";
import { termiosBytes } from "./terminal_modes.ts";

const unix = 1;
const stream = 1;
const closedOnExec = 0o2000000;
const nonBlocking = 0o4000;
const withoutWaiting = 0x40;
const withoutSignal = 0x4000;
/** What comes along is closed when another program is started. */
const passedClosedOnExec = 0x40000000;

const socketLevel = 1;
const peerCredentials = 17;
const windowSize = 0x5413;

/** fcntl(2). */
const getFlags = 3;
const accessMode = 3;
const [readOnly, writeOnly, readAndWrite] = [0, 1, 2];

/** No address. */
const nobody = new Uint8Array();

const wouldBlock = 11;
const interrupted = 4;

/** Where the parts of the system's structures are, in bytes, on machines of 64 bits. */
const messageHeader = { size: 56, buffers: 16, bufferCount: 24, control: 32, controlLength: 40 };
const controlHeader = { size: 16, level: 8, type: 12 };
const passedDescriptors = 1;

/** The most descriptors that one message brings; the system closes what there is no room for. */
const mostPassed = 8;

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
  /** What recvmsg(2) is given; it points to itself, so it stays where it is. */
  readonly #message = {
    header: new Uint8Array(messageHeader.size),
    vector: new BigUint64Array(2),
    control: new Uint8Array(controlHeader.size + mostPassed * 4),
  };

  /**
   * @param libc the system's library.
   * @throws {Error} where it cannot be used.
   */
  constructor(libc: Libc = loadLibc()) {
    this.#libc = libc;
    this.#watch = new ReadinessWatch(this.#libc);
  }

  /** Resolves when a descriptor is ready; with `false` where the waiting has ended. */
  when(descriptor: number, readiness: Readiness, signal?: AbortSignal): Promise<boolean> {
    return this.#watch.when(descriptor, readiness, signal);
  }

  /** Listens at a path, which becomes a socket. @throws {Error} */
  listen(path: string): number {
    const { symbols } = this.#libc;
    const address = unixAddress(path);
    const socket = symbols.socket(unix, stream | closedOnExec | nonBlocking, 0);
    if (socket < 0) throw this.#failure();
    if (symbols.bind(socket, address, address.length) < 0 || symbols.listen(socket, 128) < 0) {
      const failure = this.#failure();
      symbols.close(socket);
      throw failure;
    }
    return socket;
  }

  /** A connection; `undefined` where there is none yet. @throws {Error} */
  accept(listener: number): number | undefined {
    const found = this.#libc.symbols.accept4(listener, null, null, closedOnExec | nonBlocking);
    if (found >= 0) return found;
    const failure = this.#failure();
    if (failure === undefined) return undefined;
    throw failure;
  }

  /** Who has connected; `undefined` where the system does not tell. */
  credentialsOf(socket: number): Credentials | undefined {
    const found = new Int32Array(3);
    const length = new Uint32Array([found.byteLength]);
    const { symbols } = this.#libc;
    const result = symbols.getsockopt(socket, socketLevel, peerCredentials, found, length);
    return result < 0 ? undefined : { pid: found[0]!, uid: found[1]! };
  }

  /**
   * Takes what has come on a unix socket.
   *
   * @returns no bytes at the end of all; `undefined` where nothing has come.
   */
  receive(socket: number, buffer: Uint8Array<ArrayBuffer>): Received | undefined {
    const { header, vector, control } = this.#message;
    vector.set([addressOf(buffer), BigInt(buffer.length)]);
    const view = new DataView(header.buffer);
    view.setBigUint64(messageHeader.buffers, addressOf(vector), true);
    view.setBigUint64(messageHeader.bufferCount, 1n, true);
    view.setBigUint64(messageHeader.control, addressOf(control), true);
    view.setBigUint64(messageHeader.controlLength, BigInt(control.length), true);
    const flags = withoutWaiting | passedClosedOnExec;
    const count = Number(this.#libc.symbols.recvmsg(socket, header, flags));
    if (count < 0) {
      // Whatever else is wrong with it is its end.
      return this.#failure() === undefined
        ? undefined
        : { bytes: buffer.subarray(0, 0), descriptors: [] };
    }
    const length = Number(view.getBigUint64(messageHeader.controlLength, true));
    return { bytes: buffer.subarray(0, count), descriptors: passedIn(control.subarray(0, length)) };
  }

  /** Whether a descriptor was opened for reading, or for writing. */
  allows(descriptor: number, direction: "input" | "output"): boolean {
    const mode = this.#libc.symbols.fcntl(descriptor, getFlags, 0) & accessMode;
    return mode === readAndWrite || mode === (direction === "input" ? readOnly : writeOnly);
  }

  /**
   * Opens what a descriptor leads to once more, without waiting: what is set there is for us alone.
   * Not for files, whose place is shared. @returns `undefined` where that cannot be done.
   */
  reopen(descriptor: number, direction: "input" | "output"): number | undefined {
    const own = openWithoutWaiting(this.#libc, `/proc/self/fd/${descriptor}`, direction);
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
    const { symbols } = this.#libc;
    return this.#now(symbols.recv(socket, buffer, BigInt(buffer.length), withoutWaiting));
  }

  /** The same to a socket. */
  sendNow(socket: number, bytes: Uint8Array<ArrayBuffer>): number {
    const { symbols } = this.#libc;
    const flags = withoutWaiting | withoutSignal;
    return this.#now(symbols.sendto(socket, bytes, BigInt(bytes.length), flags, nobody, 0));
  }

  #now(result: bigint): number {
    if (result >= 0n) return Number(result);
    return this.#failure() === undefined ? nothingNow : failed;
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
    if (this.#libc.symbols.ioctl(descriptor, BigInt(windowSize), found) < 0) return undefined;
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

  /** What the last call failed for; `undefined` where it only has to be tried again. */
  #failure(): Error | undefined {
    const pointer = this.#libc.symbols.__errno_location();
    const number = pointer === null ? 0 : new Deno.UnsafePointerView(pointer).getInt32();
    if (number === wouldBlock || number === interrupted) return undefined;
    return new Error(`the system's error ${number}`);
  }
}

/** The descriptors of a control message. */
function passedIn(control: Uint8Array): number[] {
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  if (control.length <= controlHeader.size) return [];
  const isPassed = view.getInt32(controlHeader.level, true) === socketLevel &&
    view.getInt32(controlHeader.type, true) === passedDescriptors;
  const length = Math.min(Number(view.getBigUint64(0, true)), control.length);
  const descriptors: number[] = [];
  for (let at = controlHeader.size; isPassed && at + 4 <= length; at += 4) {
    descriptors.push(view.getInt32(at, true));
  }
  return descriptors;
}

function addressOf(buffer: ArrayBufferView<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
}
