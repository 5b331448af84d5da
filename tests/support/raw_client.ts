/**
 * A client that sends whatever messages a test wants, in whatever order: the one that no honest
 * program is.
 */

import { buildMessage, encodeFields, type Field, Reader } from "../../lib/ssh_data.ts";
import { MessageType } from "../../lib/wire.ts";
import type { Target } from "./both.ts";
import { defaultTimeoutMs, within } from "./deadline.ts";
import { RawTransport } from "./raw_transport.ts";

/** What a client announces when it opens a channel, in bytes. */
export interface ChannelOptions {
  initialWindowSize?: number;
  maximumPacketSize?: number;
}

/** An open session channel. */
export interface RawSession {
  /** The number by which the server knows it: the recipient channel of what is sent. */
  readonly channel: number;
  /** What the server accepts at first, in bytes. */
  readonly windowBytes: number;
}

/** An authenticated connection through the shim. Leaving its scope closes it. */
export class RawClient implements AsyncDisposable {
  readonly #transport: RawTransport;
  readonly #messages: Uint8Array[] = [];
  #wake: () => void = () => {};
  #hasEnded = false;
  #nextChannel = 0;
  #onData: ((payload: Uint8Array) => void) | undefined;

  private constructor(transport: RawTransport) {
    this.#transport = transport;
    transport.onPayload = (payload) => this.#onPayload(payload);
    transport.ended.then(() => {
      this.#hasEnded = true;
      this.#wake();
    });
  }

  /** Connects to the shim, which lets its own user in by any method, or asks for the user's key. */
  static async connect(
    target: Pick<Target, "port" | "username"> & { keyFile?: string },
  ): Promise<RawClient> {
    const transport = new RawTransport(target);
    const client = new RawClient(transport);
    await transport.authenticated;
    return client;
  }

  /** Sends one message: its number and its fields. */
  send(type: number, ...fields: Field[]): void {
    this.#transport.send(buildMessage(type, ...fields));
  }

  /** Sends a channel request that wants a reply; `fields` follow want_reply. */
  request(channel: number, name: string, ...fields: Field[]): void {
    this.send(MessageType.channelRequest, channel, name, true, { raw: encodeFields(...fields) });
  }

  /**
   * Resolves with the next message of one of these numbers; others before it are dropped.
   *
   * @throws {Error} when the connection ends, or nothing comes in time
   */
  async receive(...types: number[]): Promise<Uint8Array> {
    const deadline = performance.now() + defaultTimeoutMs;
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined && types.includes(message[0]!)) return message;
      if (message !== undefined) continue;
      if (this.#hasEnded) throw new Error(`The connection ended: ${await this.#transport.ended}`);
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`No message of type ${types} came.`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Opens a session channel. */
  async openSession(options: ChannelOptions = {}): Promise<RawSession> {
    const { initialWindowSize = 2 ** 21, maximumPacketSize = 32_768 } = options;
    const { channelOpen, channelOpenConfirmation } = MessageType;
    this.send(channelOpen, "session", this.#nextChannel++, initialWindowSize, maximumPacketSize);
    const reader = new Reader(await this.receive(channelOpenConfirmation), 5);
    return { channel: reader.uint32(), windowBytes: reader.uint32() };
  }

  /** Opens a session channel and starts a command in it. */
  async exec(command: string, options: ChannelOptions = {}): Promise<RawSession> {
    const session = await this.openSession(options);
    this.request(session.channel, "exec", command);
    await this.receive(MessageType.channelSuccess);
    return session;
  }

  /**
   * Resolves with the server's last words, or with "" when it just closes the connection.
   *
   * @throws {Error} when it does not in time
   */
  async lastWords(): Promise<string> {
    return await within(this.#transport.ended, "The connection is still open");
  }

  /** From now on data messages go to `onData` and are not kept for `receive`. */
  takeData(onData: (payload: Uint8Array) => void): void {
    this.#onData = onData;
  }

  /** Reads no more from the socket: whatever the server sends has to wait. */
  stall(): void {
    this.#transport.stall();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport.close();
  }

  #onPayload(payload: Uint8Array): void {
    if (payload[0] === MessageType.channelData && this.#onData) this.#onData(payload);
    else this.#messages.push(payload.slice());
    this.#wake();
  }
}

/**
 * Connects to the shim and opens a channel before it has authenticated.
 *
 * @returns the server's last words
 */
export function openTooEarly(target: Target): Promise<string> {
  return sendBeforeLogin(
    target,
    buildMessage(MessageType.channelOpen, "session", 0, 2 ** 21, 32_768),
  );
}

/**
 * Sends messages as soon as they are encrypted, and nothing but them matters.
 *
 * @returns the server's last words
 */
export async function sendBeforeLogin(target: Target, ...messages: Uint8Array[]): Promise<string> {
  const transport = new RawTransport(target, { authenticates: false });
  await transport.encrypted;
  for (const message of messages) transport.send(message);
  const words = await transport.ended;
  await transport.close();
  return words;
}
