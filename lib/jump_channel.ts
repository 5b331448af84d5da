/**
 * The one channel of a connection as a connection of bytes: the way through a jump host, which is a
 * direct-tcpip channel (RFC 4254, section 7.2), or a command's input and output (section 6.5).
 * Beside it the connection to that host carries the host's word on its keys, and whatever breaks the
 * protocol ends it.
 */

import type { ByteConnection } from "./byte_connection.ts";
import { maximumPacketSize } from "./channel_end.ts";
import { openFailure } from "./channel_reason.ts";
import {
  ChannelOpenFailureReason,
  DisconnectReason,
  MalformedDataError,
  ProtocolError,
} from "./errors.ts";
import { Flow, maximumCreditBytes } from "./flow.ts";
import { RequestQueue } from "./global_requests.ts";
import { sendPong } from "./pings.ts";
import { buildMessage, concatenate, displayText } from "./ssh_data.ts";
import type { OnHostKeys, StartableTransport } from "./transport.ts";
import {
  type ChannelMessage,
  type ChannelOpen,
  type ChannelOpenConfirmation,
  type ConnectionMessage,
  MessageType,
  parseMessage,
} from "./wire.ts";

/** Our number of the channel, which is the only one. */
const ourChannel = 0;

/** Nothing more is written while so much waits for the jump host, in bytes. */
const backlogLimitBytes = 2 * 1024 * 1024;

/**
 * The jump host is not read while it takes no answers, or has sent so many pieces that nobody takes:
 * far beyond what an honest one brings about.
 */
const answersLimitBytes = 8 * 1024 * 1024;
const chunksLimit = 4096;

/** A channel that could not be opened (RFC 4254, section 5.1). */
export class ChannelRefusedError extends Error {
  override name = "ChannelRefusedError";

  constructor(readonly reasonCode: number, description: string) {
    super(description);
  }
}

/** Where a channel leads. */
export type JumpTarget = { host: string; port: number } | { command: string };

/** How much of what a command says on standard error is kept, in bytes. */
const keptErrorBytes = 1024;

/**
 * - `opening`: CHANNEL_OPEN has no answer yet;
 * - `open`: bytes pass; `isEnded` once the jump host sends no more of them;
 * - `gone`: with `error`, where it did not just end.
 */
type State =
  | { kind: "opening" }
  | { kind: "open"; theirChannel: number; packetSize: number; isEnded: boolean }
  | { kind: "gone"; error: Error | undefined };

/** One channel through one jump host, and the end of the connection to it. */
export class JumpChannel implements ByteConnection {
  readonly #transport: StartableTransport;
  readonly #requests = new RequestQueue();
  readonly #opened = Promise.withResolvers<void>();
  /** What the jump host may send, and what we may. */
  readonly #incoming = new Flow();
  #windowBytes = 0;
  #chunks: Uint8Array[] = [];
  #waiting: (() => void)[] = [];
  #state: State = { kind: "opening" };
  readonly #command: string | undefined;
  #isPaused = false;
  #errorText: Uint8Array = new Uint8Array();

  /** Called in the turn in which the jump host lets us in; asks it for the channel. */
  constructor(
    transport: StartableTransport,
    { onHostKeys, ...target }: JumpTarget & { onHostKeys?: OnHostKeys },
  ) {
    this.#transport = transport;
    this.#command = "command" in target ? target.command : undefined;
    this.#requests.attach(transport, onHostKeys);
    // Whoever gives up before it is open does not wait for it.
    this.#opened.promise.catch(() => {});
    transport.start({
      onPayload: (payload) => this.#onPayload(payload),
      onUnimplemented: (sequenceNumber) => this.#requests.onUnimplemented(sequenceNumber),
      onDrain: () => this.#onRoom(),
      onDisconnect: (description) => this.#end(new Error(description)),
    });
    this.#incoming.adjust(maximumCreditBytes);
    const numbers = [ourChannel, this.#incoming.takeGrant(), maximumPacketSize] as const;
    const { channelOpen } = MessageType;
    transport.send(
      "command" in target ? buildMessage(channelOpen, "session", ...numbers) : buildMessage(
        ...[channelOpen, "direct-tcpip", ...numbers] as const,
        ...[target.host, target.port, "127.0.0.1", 0],
      ),
    );
  }

  /** Whether the host is not read at the moment. */
  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** The first words of the command on standard error. */
  get errorText(): string {
    return new TextDecoder().decode(this.#errorText);
  }

  /** Asks for a sign of life; `onReply` is called when it comes. */
  sendKeepalive(onReply: () => void): void {
    this.#requests.sendKeepalive(onReply);
  }

  /**
   * Resolves when bytes can pass.
   *
   * @throws {ChannelRefusedError} where the jump host does not open the channel.
   */
  get whenOpen(): Promise<void> {
    return this.#opened.promise;
  }

  /** The connection to the jump host is gone. */
  onLost(reason: Error): void {
    this.#opened.reject(reason);
    this.#end(undefined);
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    const part = await this.take(buffer.length);
    if (part === null) return null;
    buffer.set(part);
    return part.length;
  }

  /** The next bytes, `most` at most, which are the caller's; `null` at the end. */
  async take(most = Infinity): Promise<Uint8Array | null> {
    while (this.#chunks.length === 0) {
      if (this.#state.kind === "gone" && this.#state.error) throw this.#state.error;
      if (this.#state.kind === "gone" || this.#state.kind === "open" && this.#state.isEnded) {
        return null;
      }
      await this.#change();
    }
    const [chunk] = this.#chunks;
    const part = chunk!.subarray(0, most);
    if (part.length === chunk!.length) this.#chunks.shift();
    else this.#chunks[0] = chunk!.subarray(part.length);
    this.#grant(part.length);
    this.#onRoom();
    return part;
  }

  async write(data: Uint8Array): Promise<number> {
    while (this.#state.kind !== "gone") {
      const hasRoom = this.#windowBytes > 0 && this.#transport.backlogBytes < backlogLimitBytes;
      if (this.#state.kind === "open" && hasRoom) {
        const { theirChannel, packetSize } = this.#state;
        const part = data.subarray(0, Math.min(this.#windowBytes, packetSize));
        this.#windowBytes -= part.length;
        this.#transport.send(buildMessage(MessageType.channelData, theirChannel, part));
        return part.length;
      }
      await this.#change();
    }
    throw this.#state.error ?? new Deno.errors.BrokenPipe("the jump host has closed the channel");
  }

  close(): void {
    this.#end(undefined);
    this.#transport.disconnect(DisconnectReason.byApplication, "not needed any more");
  }

  #onPayload(payload: Uint8Array): void {
    try {
      this.#onMessage(parseMessage(payload));
      if (this.#isFull) this.#pause(true);
    } catch (error) {
      if (!(error instanceof ProtocolError || error instanceof MalformedDataError)) throw error;
      const description = `the jump host broke the protocol: ${error.message}`;
      this.#opened.reject(new Error(description));
      this.#transport.disconnect(DisconnectReason.protocolError, description);
    }
  }

  #onMessage(message: ConnectionMessage | undefined): void {
    const transport = this.#transport;
    if (message === undefined) return transport.sendUnimplemented();
    switch (message.type) {
      case MessageType.globalRequest:
        return this.#requests.onRequest(message);
      case MessageType.ping:
        return sendPong(transport, message.data);
      case MessageType.requestSuccess:
      case MessageType.requestFailure:
        this.#requests.onReply(message);
        return;
      case MessageType.pong:
        return; // Nobody has asked, and nobody minds.
      case MessageType.channelOpen: {
        const { administrativelyProhibited } = ChannelOpenFailureReason;
        const description = "nothing was asked to be forwarded";
        return transport.send(
          openFailure(message.senderChannel, administrativelyProhibited, description),
        );
      }
      default:
        if (message.recipientChannel !== ourChannel) throw new ProtocolError("no such channel");
        return this.#onChannelMessage(message);
    }
  }

  #onChannelMessage(message: Exclude<ChannelMessage, ChannelOpen>): void {
    const state = this.#state;
    switch (message.type) {
      case MessageType.channelOpenConfirmation:
        if (state.kind !== "opening") throw new ProtocolError("an answer to no CHANNEL_OPEN");
        return this.#onConfirmation(message);
      case MessageType.channelOpenFailure:
        if (state.kind !== "opening") throw new ProtocolError("an answer to no CHANNEL_OPEN");
        this.#opened.reject(
          new ChannelRefusedError(message.reasonCode, displayText(message.description)),
        );
        return this.#end(undefined);
    }
    if (state.kind === "gone") return; // Nothing is to follow a CLOSE, and nobody minds.
    if (state.kind === "opening") throw new ProtocolError("the channel is not open");
    switch (message.type) {
      case MessageType.channelData:
      case MessageType.channelExtendedData:
        return this.#onData(message, state.isEnded);
      case MessageType.channelWindowAdjust:
        this.#windowBytes += message.bytesToAdd;
        if (this.#windowBytes > 2 ** 32 - 1) throw new ProtocolError("the window overflows");
        return this.#wake();
      case MessageType.channelEof:
        state.isEnded = true;
        return this.#wake();
      case MessageType.channelClose:
        return this.#refuse();
      case MessageType.channelRequest: {
        // OpenSSH's server asks like that whether we live.
        const { channelFailure } = MessageType;
        const answer = () => buildMessage(channelFailure, state.theirChannel);
        if (message.wantReply) this.#transport.send(answer());
        return;
      }
      // The one request of ours is for the command.
      case MessageType.channelSuccess:
        return this.#opened.resolve();
      case MessageType.channelFailure:
        return this.#refuse();
    }
  }

  /** Nothing leads there any more, or has never done so. */
  #refuse(): void {
    const { administrativelyProhibited } = ChannelOpenFailureReason;
    // Once it is open this is not heard.
    this.#opened.reject(new ChannelRefusedError(administrativelyProhibited, "no command is run"));
    this.#end(undefined);
  }

  #onConfirmation(message: ChannelOpenConfirmation): void {
    const packetSize = Math.min(message.maximumPacketSize, maximumPacketSize);
    if (packetSize === 0) throw new ProtocolError("a maximum packet size of 0");
    this.#windowBytes = message.initialWindowSize;
    const { senderChannel: theirChannel } = message;
    this.#state = { kind: "open", theirChannel, packetSize, isEnded: false };
    if (this.#command === undefined) this.#opened.resolve();
    else {
      const { channelRequest } = MessageType;
      this.#transport.send(buildMessage(channelRequest, theirChannel, "exec", true, this.#command));
    }
    this.#wake();
  }

  #onData({ type, data }: { type: number; data: Uint8Array }, isEnded: boolean): void {
    if (data.length > maximumPacketSize) {
      throw new ProtocolError("more data than the maximum packet size");
    }
    this.#incoming.consume(data.length);
    // A forwarded connection has no stderr, and nothing after its end: as ssh does, it is let go.
    if (type === MessageType.channelData && !isEnded) {
      if (data.length > 0) this.#chunks.push(data.slice());
      this.#wake();
    } else {
      if (type === MessageType.channelExtendedData && this.#errorText.length < keptErrorBytes) {
        this.#errorText = concatenate([this.#errorText, data]).slice(0, keptErrorBytes);
      }
      this.#grant(data.length);
    }
  }

  get #isFull(): boolean {
    return this.#chunks.length >= chunksLimit || this.#transport.backlogBytes > answersLimitBytes;
  }

  #onRoom(): void {
    if (!this.#isFull) this.#pause(false);
    this.#wake();
  }

  #pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) this.#transport.pause();
    else this.#transport.resume();
  }

  /** What was taken may be sent again. */
  #grant(bytes: number): void {
    this.#incoming.adjust(bytes);
    const state = this.#state;
    const grant = state.kind === "open" ? this.#incoming.takeRefill() : 0;
    if (grant === 0 || state.kind !== "open") return;
    const { channelWindowAdjust } = MessageType;
    this.#transport.send(buildMessage(channelWindowAdjust, state.theirChannel, grant));
  }

  /** What has come can still be read, unless something was wrong. */
  #end(error: Error | undefined): void {
    if (this.#state.kind === "gone") return;
    this.#state = { kind: "gone", error };
    this.#wake();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    for (const resume of this.#waiting.splice(0)) resume();
  }
}
