/** Connections upstream that are made, fail and end when a test says so. */

import assert from "node:assert/strict";
import type { ConnectionHandlers } from "../../lib/connector.ts";
import { UpstreamLostError } from "../../lib/errors.ts";
import type { TrustVerdict } from "../../lib/handshake.ts";
import type { TransportHandlers } from "../../lib/transport.ts";
import { MessageType } from "../../lib/wire.ts";
import { within } from "./deadline.ts";
import { MemoryPeer, usualPacketBytes, usualWindowBytes } from "./memory.ts";

/** An authenticated connection whose other end is the test. */
export class MemoryTransport extends MemoryPeer {
  lastByteAt = performance.now();
  isAborted = false;
  /** What the owner of the connection started it with. */
  handlers: TransportHandlers | undefined;

  start(handlers: TransportHandlers): void {
    this.handlers = handlers;
    this.receiver = { receive: handlers.onPayload, drained: handlers.onDrain };
  }

  abort(): void {
    this.isAborted = true;
  }

  /** Agrees to a channel; `slot` is the relay's number, and is taken for this side's, too. */
  confirm(slot: number): void {
    const { channelOpenConfirmation } = MessageType;
    this.say(channelOpenConfirmation, slot, slot, usualWindowBytes, usualPacketBytes);
  }

  /** Refuses a channel as OpenSSH's sshd does where MaxSessions is reached. */
  refuse(slot: number): void {
    this.say(MessageType.channelOpenFailure, slot, 2, "open failed", "");
  }

  override disconnect(reasonCode: number, description: string): void {
    if (this.ending) return;
    super.disconnect(reasonCode, description);
    this.handlers?.onDisconnect(description);
  }
}

/** One attempt to connect. */
export class Attempt {
  readonly handlers: ConnectionHandlers;
  readonly #outcome = Promise.withResolvers<void>();

  constructor(handlers: ConnectionHandlers) {
    this.handlers = handlers;
    handlers.signal.addEventListener("abort", () => this.fail(handlers.signal.reason));
  }

  /** What the connector's `connect` returns. */
  get outcome(): Promise<void> {
    return this.#outcome.promise;
  }

  /** The connection will stand, as far as anybody can tell. */
  presume(): MemoryTransport {
    const transport = new MemoryTransport("upstream");
    this.handlers.onPresumed!(transport, { verdict: "trusted" });
    return transport;
  }

  /** The connection stands and is authenticated. */
  succeed(
    verdict: TrustVerdict = "trusted",
    transport: MemoryTransport = new MemoryTransport("upstream"),
  ): MemoryTransport {
    this.handlers.onReady(transport, { verdict });
    this.#outcome.resolve();
    return transport;
  }

  /** It does not come about. */
  fail(error: unknown): void {
    this.#outcome.reject(error);
  }

  /** It stood, and the network broke it. */
  lose(message = "Connection reset by peer"): void {
    this.handlers.onLost({ reason: new UpstreamLostError(message), endedBy: "network" });
  }

  /** It stood, and the server ended it properly. */
  endCleanly(): void {
    const reason = new UpstreamLostError("the server ended the connection");
    this.handlers.onLost({ reason, endedBy: "server" });
  }
}

/** A connector whose attempts wait for the test. */
export class ScriptedConnector {
  readonly name = "alice@upstream.test:22";
  readonly attempts: Attempt[] = [];
  #taken = 0;
  #onAttempt: (() => void) | undefined;

  async connect(handlers: ConnectionHandlers): Promise<void> {
    const attempt = new Attempt(handlers);
    this.attempts.push(attempt);
    this.#onAttempt?.();
    await attempt.outcome;
  }

  /**
   * Resolves with the next attempt that was not taken yet, as soon as there is one.
   *
   * @throws {Error} when there is none in time
   */
  async next(): Promise<Attempt> {
    while (this.#taken >= this.attempts.length) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onAttempt = resolve;
      await within(promise, "No attempt was made");
    }
    return this.attempts[this.#taken++]!;
  }

  /** There is no attempt beyond those that were taken. */
  expectNone(): void {
    assert.equal(this.attempts.length, this.#taken);
  }
}

/** Lets everything happen that waits for nothing but promises. */
export async function settled(): Promise<void> {
  const channel = new MessageChannel();
  const done = new Promise((resolve) => channel.port1.onmessage = resolve);
  channel.port2.postMessage(undefined);
  await done;
  channel.port1.close();
  channel.port2.close();
}
