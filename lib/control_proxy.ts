/**
 * The proxy mode of the control socket (PROTOCOL.mux, section 9): the client speaks the connection
 * protocol itself, in packets without encryption, and is a client of the relay like those of the
 * port.
 */

import type { ControlStream } from "./control_stream.ts";
import { messageIn } from "./control_messages.ts";
import { buildMessage, concatenate, writeUint32 } from "./ssh_data.ts";
import { type StartableTransport, type TransportHandlers, usualPayloadBytes } from "./transport.ts";
import { firstConnectionMessage } from "./userauth_messages.ts";

/** What stands before each message: the length, and how much padding there is, which is none. */
const headerBytes = 5;

const disconnectMessage = 1;
const unimplementedMessage = 3;

/** A connection in proxy mode; messages of the transport protocol have no meaning on it. */
export class ProxyTransport implements StartableTransport {
  readonly maximumPayloadBytes = usualPayloadBytes;
  readonly answersPings = false;
  readonly allowsWarmSession = false;
  readonly lastSequenceNumber = undefined;
  readonly lastByteAt = 0;
  readonly #stream: ControlStream;
  #handlers: TransportHandlers | undefined;
  #sequenceNumber = 0;
  #isPaused = false;
  #onResume: (() => void) | undefined;

  constructor(stream: ControlStream) {
    this.#stream = stream;
    stream.onDrain = () => this.#handlers?.onDrain();
  }

  get backlogBytes(): number {
    return this.#stream.backlogBytes;
  }

  start(handlers: TransportHandlers): void {
    this.#handlers = handlers;
  }

  /** Takes what comes until the end: some bytes, what a read brings that has begun, and all behind it. */
  async serve(
    first: { bytes: Uint8Array; next: Promise<Uint8Array | undefined> },
  ): Promise<void> {
    let pending: Uint8Array = first.bytes.slice();
    for (let reading = first.next;; reading = this.#stream.read()) {
      pending = await this.#takeMessages(pending);
      const bytes = await reading;
      if (bytes === undefined) return;
      pending = pending.length === 0 ? bytes.slice() : concatenate([pending, bytes]);
    }
  }

  send(payload: Uint8Array): void {
    const packet = new Uint8Array(headerBytes + payload.length);
    writeUint32(packet, 0, payload.length + 1);
    packet.set(payload, headerBytes);
    this.#stream.send(packet);
  }

  sendUnimplemented(): void {
    this.send(buildMessage(unimplementedMessage, this.#sequenceNumber));
  }

  disconnect(_reasonCode: number, description: string): void {
    this.#handlers?.onDisconnect(description);
    this.#stream.close();
    this.resume();
  }

  abort(): void {
    this.#stream.close({ isLost: true });
    this.resume();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#onResume?.();
  }

  /** @returns what is left. @throws {MalformedDataError} where a packet is too long. */
  async #takeMessages(bytes: Uint8Array): Promise<Uint8Array> {
    let at = 0;
    for (;;) {
      const packet = messageIn(bytes.subarray(at));
      if (packet === undefined) return bytes.subarray(at);
      at += 4 + packet.length;
      while (this.#isPaused) await new Promise<void>((resolve) => this.#onResume = resolve);
      this.#onPacket(packet);
    }
  }

  #onPacket(packet: Uint8Array): void {
    const payload = packet.subarray(1, packet.length - (packet[0] ?? 0));
    const type = payload[0] ?? 0;
    if (type === disconnectMessage) this.#stream.close();
    // Below these are the transport protocol and logging in, which there are none of.
    else if (type >= firstConnectionMessage) this.#handlers?.onPayload(payload);
    this.#sequenceNumber = (this.#sequenceNumber + 1) >>> 0;
  }
}
