/** One client of the control socket, from its first message to its end (PROTOCOL.mux). */

import {
  controlMessage,
  ControlType,
  controlVersion,
  type ForwardEnd,
  type ForwardRequest,
  messageIn,
  parseControlRequest,
  type SessionRequest,
} from "./control_messages.ts";
import type { ControlStream } from "./control_stream.ts";
import type { Credentials } from "./descriptors.ts";
import { messageOf } from "./errors.ts";
import { logger } from "./log.ts";
import { concatenate, utf8String } from "./ssh_data.ts";
import { unexplained } from "./timing.ts";

const log = logger("control");

/** The extensions that we announce: OpenSSH's own requests for information, and ours. */
const extensions = ["info", "0", "requests@sshshim", "1"];

/** How much a client may ask for at a time. */
const mostTasks = 64;

/** What a passenger is told. */
export interface PassengerEvents {
  onOpen(): void;
  onRefused(reason: string): void;
  onTerminalFailed(): void;
  onEnd(status: number): void;
}

/** A session or a forward that has the client's own streams. */
export interface Passenger {
  /** The client is gone. */
  abandon(): void;
}

/** How much of our answers a client may leave untaken before it is ended, in bytes. */
const mostUntakenBytes = 4 * 1024 * 1024;

/** Where the answers of a request of our own go. */
export interface Answer {
  /** Sends one; `isLast` ends the request. */
  send(text: string, options: { isLast: boolean }): void;
  /** How much the client has not taken yet, in bytes. */
  readonly untakenBytes: number;
}

/** What a client may do with the host, once it is let in. */
export interface ControlGuest {
  /**
   * Begins a session with the streams that were passed, which are its own from now on.
   *
   * @throws {Error} where it is refused; the streams are closed.
   */
  startSession(request: SessionRequest, options: PassengerOptions): Promise<Passenger>;
  /** The same for one forwarded connection. */
  startForward(connect: ForwardEnd, options: PassengerOptions): Passenger;
  /**
   * Takes the connection as a client that speaks the connection protocol, until its end.
   *
   * @param first what has come of it, and the read behind that, which has begun.
   */
  serveProxy(
    stream: ControlStream,
    first: { bytes: Uint8Array; next: Promise<Uint8Array | undefined> },
  ): Promise<void>;
  /**
   * Opens a forward. @returns the port that was chosen, if it was to be; and how it is closed.
   *
   * @throws {Error} where it is refused.
   */
  openForward(request: ForwardRequest): Promise<{ port?: number; close: () => Promise<void> }>;
  /** Whether it goes to the port with all that it wants, once it is refused a forward. */
  goesToPort(): Promise<boolean>;
}

/** What a passenger brings. */
export interface PassengerOptions {
  descriptors: number[];
  events: PassengerEvents;
}

/** What the control socket is for: one host that is served. */
export interface ControlHost {
  /**
   * A client wants to use the host.
   *
   * @param signal is aborted when it leaves.
   * @throws {Error} where it is not let in.
   */
  receive(peer: Credentials | undefined, signal: AbortSignal): Promise<ControlGuest>;
  /** @throws {Error} where there is none. */
  closeForward(request: ForwardRequest): Promise<void>;
  /** What ssh's `-O conninfo` and `-O channels` show. @throws {Error} */
  inform(name: string): Promise<string>;
  /** A request of our own, as JSON. @throws {Error} */
  onOwnRequest(text: string, answer: Answer, signal: AbortSignal): Promise<void>;
  /** All is to end. */
  terminate(): void;
  /** Nobody is to come by this socket any more. */
  stopListening(): void;
}

/** A client; it is served until it leaves. */
export class ControlConnection {
  readonly #stream: ControlStream;
  readonly #host: ControlHost;
  readonly #left = new AbortController();
  #pending: Uint8Array = new Uint8Array();
  /** A read that has begun, and whose bytes nobody has taken. */
  #reading: Promise<Uint8Array | undefined> | undefined;
  #guest: Promise<ControlGuest> | undefined;
  #passenger: Passenger | undefined;
  /** The forwards that it has opened: those of one that has a session end with it, as with ssh. */
  readonly #forwards: (() => Promise<void>)[] = [];
  /** It takes its forwards elsewhere. */
  #goesToPort = false;
  #hasSession = false;
  readonly #tasks = new Set<Promise<void>>();

  constructor(stream: ControlStream, host: ControlHost) {
    this.#stream = stream;
    this.#host = host;
  }

  /** Serves it to its end; never rejects. */
  async serve(): Promise<void> {
    this.#send(ControlType.hello, controlVersion, ...extensions);
    try {
      for (;;) {
        const message = await this.#nextMessage();
        if (message === undefined) break;
        if (await this.#onMessage(message)) return;
      }
    } catch (error) {
      log.debug("a client of the control socket is ended: {reason}", { reason: messageOf(error) });
    } finally {
      this.#left.abort(unexplained);
      this.#passenger?.abandon();
      this.#stream.close();
      if (this.#hasSession) void this.#closeForwards();
    }
  }

  /** Ends it. */
  end(): void {
    this.#stream.close();
  }

  async #nextMessage(): Promise<Uint8Array | undefined> {
    for (;;) {
      const message = messageIn(this.#pending);
      if (message !== undefined) {
        this.#pending = this.#pending.subarray(4 + message.length);
        return message;
      }
      if (!await this.#readMore()) return undefined;
    }
  }

  async #readMore(): Promise<boolean> {
    const reading = this.#reading ?? this.#stream.read();
    this.#reading = undefined;
    const bytes = await reading;
    if (bytes === undefined) return false;
    this.#pending = concatenate([this.#pending, bytes]);
    return true;
  }

  /** @returns whether the connection is somebody else's now. */
  async #onMessage(message: Uint8Array): Promise<boolean> {
    if (this.#stream.backlogBytes > mostUntakenBytes) {
      this.#stream.close({ isLost: true });
      throw new Error("it takes no answers");
    }
    const request = parseControlRequest(message);
    switch (request.type) {
      case "hello":
        if (request.version !== controlVersion) throw new Error("another version of the protocol");
        return false;
      case "alive-check":
        this.#send(ControlType.alive, request.id, Deno.pid);
        return false;
      case "terminate":
        this.#send(ControlType.ok, request.id);
        this.#host.terminate();
        return false;
      case "stop-listening":
        this.#send(ControlType.ok, request.id);
        this.#host.stopListening();
        return false;
      case "new-session":
      case "stdio-forward":
        await this.#startPassenger(request);
        return false;
      case "open-forward":
      case "close-forward":
        this.#begin(request.id, () => this.#onForward(request));
        return false;
      case "info":
        this.#begin(request.id, async () => {
          const text = await this.#host.inform(request.name);
          this.#send(ControlType.infoAnswer, request.id, 0, utf8String(text));
        });
        return false;
      case "own":
        this.#begin(request.id, () => this.#onOwn(request.id, request.text));
        return false;
      case "proxy":
        return await this.#onProxy(request.id);
      case "unknown":
        this.#fail(request.id, "unknown request");
        return false;
    }
  }

  async #onProxy(id: number): Promise<boolean> {
    let hasBegun = false;
    await this.#answered(id, async () => {
      // A person may be asked, and is not to be any more when it leaves.
      const next = this.#reading = this.#stream.read();
      void next.then((bytes) => bytes ?? this.#left.abort());
      const guest = await this.#letIn();
      this.#send(ControlType.proxyBegins, id);
      hasBegun = true;
      await guest.serveProxy(this.#stream, { bytes: this.#pending, next });
    });
    return hasBegun;
  }

  #letIn(): Promise<ControlGuest> {
    return this.#guest ??= this.#host.receive(this.#stream.peer, this.#left.signal);
  }

  async #onForward(request: ForwardRequest): Promise<void> {
    if (request.type === "close-forward") {
      await this.#host.closeForward(request);
      return this.#send(ControlType.ok, request.id);
    }
    const guest = await this.#letIn();
    if (this.#goesToPort) throw new Error("another forward of this client was refused");
    const opened = guest.openForward(request);
    // It could not have them there while they are here.
    await opened.catch(async () => {
      this.#goesToPort = await guest.goesToPort();
      if (this.#goesToPort) await this.#closeForwards();
    });
    const { port, close } = await opened;
    // Nobody is told of it any more.
    if (this.#left.signal.aborted) return await close();
    this.#forwards.push(close);
    if (port === undefined) this.#send(ControlType.ok, request.id);
    else this.#send(ControlType.remotePort, request.id, port);
  }

  async #closeForwards(): Promise<void> {
    const all = this.#forwards.splice(0);
    await Promise.all(all.map((close) => close().catch(() => {/* It was closed before. */})));
  }

  async #onOwn(id: number, text: string): Promise<void> {
    const stream = this.#stream;
    await this.#host.onOwnRequest(text, {
      send: (text, { isLast }) => {
        this.#send(ControlType.ownAnswer, id, isLast ? 1 : 0, utf8String(text));
      },
      get untakenBytes() {
        return stream.backlogBytes;
      },
    }, this.#left.signal);
  }

  async #startPassenger(
    request: SessionRequest | { type: "stdio-forward"; id: number; connect: ForwardEnd },
  ): Promise<void> {
    const { id } = request;
    const count = request.type === "new-session" ? 3 : 2;
    const descriptors = this.#stream.passesDescriptors
      ? await this.#takeDescriptors(count)
      : undefined;
    if (descriptors === undefined) {
      this.#fail(id, "no streams can be passed here");
      // ssh takes an end before it has passed all of them for worse than a refusal.
      while (await this.#readMore()) this.#pending = new Uint8Array();
      return;
    }
    if (this.#hasSession) {
      this.#stream.closeDescriptors(descriptors);
      return this.#fail(id, "there is a session already; each has a connection of its own");
    }
    this.#hasSession = true;
    const session = id;
    const events: PassengerEvents = {
      onOpen: () => this.#send(ControlType.sessionOpened, id, session),
      onRefused: (reason) => {
        this.#passenger = undefined;
        this.#fail(id, reason);
      },
      onTerminalFailed: () => this.#send(ControlType.terminalFailed, session),
      onEnd: (status) => {
        this.#passenger = undefined;
        if (request.type === "new-session") this.#send(ControlType.exitMessage, session, status);
        // The client waits for that.
        this.#stream.close();
      },
    };
    const options = { descriptors, events };
    this.#begin(id, async () => {
      let guest: ControlGuest;
      try {
        guest = await this.#letIn();
      } catch (error) {
        this.#stream.closeDescriptors(descriptors);
        throw error;
      }
      this.#passenger = request.type === "new-session"
        ? await guest.startSession(request, options)
        : guest.startForward(request.connect, options);
      if (this.#left.signal.aborted) this.#passenger.abandon();
    });
  }

  /** Each comes with a byte of its own; `undefined` where none come. */
  async #takeDescriptors(count: number): Promise<number[] | undefined> {
    while (this.#pending.length < count) {
      if (!await this.#readMore()) throw new Error("it has left before its streams came");
    }
    this.#pending = this.#pending.subarray(count);
    return this.#stream.takeDescriptors(count);
  }

  /** Does something while it goes on, and is read. */
  #begin(id: number, task: () => Promise<void>): void {
    // To wait for one of them would be not to notice that the client leaves.
    if (this.#tasks.size >= mostTasks) return this.#fail(id, "too much is asked for at a time");
    const done = this.#answered(id, task).then(() => void this.#tasks.delete(done));
    this.#tasks.add(done);
  }

  /** Does something, and says why where it fails. */
  async #answered(id: number, task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      this.#fail(id, messageOf(error));
    }
  }

  #fail(id: number, reason: string): void {
    this.#send(ControlType.failure, id, utf8String(reason));
  }

  #send(...[type, ...fields]: Parameters<typeof controlMessage>): void {
    this.#stream.send(controlMessage(type, ...fields));
  }
}
