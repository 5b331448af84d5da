/**
 * The client's side of a control socket (PROTOCOL.mux), as far as it needs no streams to be passed:
 * requests of our own, and forwards.
 */

import type { ByteConnection } from "./byte_connection.ts";
import {
  controlMessage,
  ControlType,
  controlVersion,
  type ForwardEnd,
  type ForwardRequest,
  messageIn,
  unixSocketPort,
} from "./control_messages.ts";
import { messageOf, NotRunningError, RefusedError } from "./errors.ts";
import { escapeControls } from "./shown_text.ts";
import { concatenate, displayText, Reader, utf8String } from "./ssh_data.ts";
import type { ShimStatus } from "./status.ts";
import { within } from "./timing.ts";

/** How long whoever is at the socket may take for its first words, and for a status; in milliseconds. */
const patienceMs = 5000;

/** The longest answer: there may be many channels. In bytes. */
const longestAnswerBytes = 64 * 1024 * 1024;

/** What is read at a time, in bytes. */
const bufferBytes = 64 * 1024;

/** The extension by which our own requests are announced. */
const extension = "requests@sshshim";

/** An answer to a request, without its number. */
interface Reply {
  type: number;
  reader: Reader;
}

/** Whoever waits for answers; while it has not taken one, nothing more is read. */
type OnReply = (reply: Reply) => void | Promise<void>;

interface Waiting {
  onReply: OnReply;
  onEnd(): void;
}

/** A running shim, by its control socket. Leaving the scope leaves it. */
export class ControlClient implements Disposable {
  /** By which people call it. */
  readonly name: string;
  readonly #connection: ByteConnection;
  readonly #waiting = new Map<number, Waiting>();
  readonly #hello = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #hasEnded = false;
  #lastId = 0;

  private constructor(name: string, connection: ByteConnection) {
    this.name = name;
    this.#connection = connection;
  }

  /**
   * Begins to speak with whoever is at the other end of a connection, which is the client's from then
   * on.
   *
   * @throws {NotRunningError} where that is no sshshim, or it does not answer.
   */
  static async meet(name: string, connection: ByteConnection): Promise<ControlClient> {
    const client = new ControlClient(name, connection);
    client.#hello.promise.catch(() => {/* Nobody waits for it any more. */});
    void client.#serve();
    try {
      await client.#send(controlMessage(ControlType.hello, controlVersion));
      await client.#soon(client.#hello.promise);
      return client;
    } catch (error) {
      client[Symbol.dispose]();
      throw error;
    }
  }

  /** Resolves when it is gone. */
  get whenEnded(): Promise<void> {
    return this.#ended.promise;
  }

  /**
   * What runs there now.
   *
   * @param full whether the round trip is measured, and whose processes the clients are is asked.
   * @throws {NotRunningError | RefusedError}
   */
  async status({ full = true } = {}): Promise<ShimStatus> {
    const asked = this.ask({ request: "status", measures: full, findsPrograms: full });
    return await this.#soon(asked) as ShimStatus;
  }

  /**
   * Makes a request of our own that has one answer.
   *
   * @throws {NotRunningError} where it ends before it has answered.
   * @throws {RefusedError} with the reason where it is refused.
   */
  async ask(request: { request: string } & Record<string, unknown>): Promise<unknown> {
    let last: unknown;
    await this.follow(request, (answer) => void (last = answer));
    return last;
  }

  /**
   * Makes a request of our own; resolves when the last answer was taken.
   *
   * @throws as {@link ask}.
   */
  async follow(
    request: { request: string } & Record<string, unknown>,
    onAnswer: (answer: unknown) => void | Promise<void>,
  ): Promise<void> {
    const text = utf8String(JSON.stringify(request));
    await this.#request(ControlType.own, [text], async ({ type, reader }) => {
      if (type !== ControlType.ownAnswer) throw this.#strange();
      const isLast = reader.uint32() !== 0;
      await onAnswer(JSON.parse(displayText(reader.text())));
      return isLast;
    });
  }

  /**
   * Opens a forward, which stays.
   *
   * @returns the port, if it was to be chosen.
   * @throws as {@link ask}.
   */
  async openForward(forward: Omit<ForwardRequest, "type" | "id">): Promise<number | undefined> {
    let port: number | undefined;
    await this.#request(ControlType.openForward, forwardFields(forward), ({ type, reader }) => {
      if (type === ControlType.remotePort) port = reader.uint32();
      else if (type !== ControlType.ok) throw this.#strange();
      return true;
    });
    return port;
  }

  /** Closes one. @throws as {@link ask}. */
  async closeForward(forward: Omit<ForwardRequest, "type" | "id">): Promise<void> {
    await this.#request(ControlType.closeForward, forwardFields(forward), ({ type }) => {
      if (type !== ControlType.ok) throw this.#strange();
      return true;
    });
  }

  [Symbol.dispose](): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#connection.close();
  }

  /** @param onReply tells whether that was the last one. */
  #request(
    type: number,
    fields: (string | number)[],
    onReply: (reply: Reply) => boolean | Promise<boolean>,
  ): Promise<void> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const end = (action: () => void) => {
        this.#waiting.delete(id);
        action();
      };
      const onEnd = () => end(() => reject(new NotRunningError(`${this.name} has ended.`)));
      if (this.#hasEnded) return onEnd();
      this.#waiting.set(id, {
        onEnd,
        onReply: async (reply) => {
          try {
            const isRefusal = reply.type === ControlType.failure ||
              reply.type === ControlType.permissionDenied;
            if (isRefusal) throw new RefusedError(escapeControls(displayText(reply.reader.text())));
            if (await onReply(reply)) end(resolve);
          } catch (error) {
            end(() => reject(error));
          }
        },
      });
      this.#send(controlMessage(type, id, ...fields)).catch(() => onEnd());
    });
  }

  async #send(bytes: Uint8Array): Promise<void> {
    for (let sent = 0; sent < bytes.length;) {
      sent += await this.#connection.write(bytes.subarray(sent));
    }
  }

  async #serve(): Promise<void> {
    const buffer = new Uint8Array(bufferBytes);
    let pending: Uint8Array = new Uint8Array();
    try {
      for (;;) {
        const count = await this.#connection.read(buffer);
        if (count === null) break;
        pending = concatenate([pending, buffer.subarray(0, count)]);
        for (;;) {
          const message = messageIn(pending, longestAnswerBytes);
          if (message === undefined) break;
          pending = pending.subarray(4 + message.length);
          await this.#onMessage(new Reader(message));
        }
      }
    } catch (error) {
      // It is the end in any case, by whichever side.
      this.#hello.reject(new NotRunningError(`${this.name} does not answer: ${messageOf(error)}`));
    }
    this[Symbol.dispose]();
    this.#hello.reject(this.#strange());
    for (const { onEnd } of [...this.#waiting.values()]) onEnd();
    this.#ended.resolve();
  }

  async #onMessage(reader: Reader): Promise<void> {
    const type = reader.uint32();
    if (type === ControlType.hello) return this.#onHello(reader);
    const id = reader.uint32();
    await this.#waiting.get(id)?.onReply({ type, reader });
  }

  #onHello(reader: Reader): void {
    const isOurs = reader.uint32() === controlVersion;
    const names: string[] = [];
    while (!reader.isAtEnd) {
      names.push(reader.text());
      reader.bytes();
    }
    if (isOurs && names.includes(extension)) this.#hello.resolve();
    else this.#hello.reject(this.#strange());
  }

  /** What is there in time; else it stands still, or is no sshshim. */
  async #soon<T>(task: Promise<T>): Promise<T> {
    let isThere = false;
    const done = task.finally(() => isThere = true);
    done.catch(() => {/* It is told below. */});
    await within(patienceMs, done.catch(() => {}));
    if (!isThere) throw new NotRunningError(`${this.name} does not answer: it may be stopped.`);
    return await done;
  }

  #strange(): Error {
    return new NotRunningError(`${this.name} is no sshshim of this version.`);
  }
}

function forwardFields(
  { kind, listen, connect }: Omit<ForwardRequest, "type" | "id">,
): (string | number)[] {
  const kinds = { local: 1, remote: 2, dynamic: 3 };
  return [kinds[kind], ...endFields(listen), ...endFields(connect)];
}

function endFields(end: ForwardEnd): [string, number] {
  return "path" in end ? [end.path, unixSocketPort] : [end.host, end.port];
}
