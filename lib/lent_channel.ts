/**
 * A channel through a host that is served as well: a client of its relay in this process, whose
 * messages go from hand to hand. So all that holds for clients holds for it: windows, limits, and
 * waiting until the connection is back.
 */

import { JumpChannel } from "./jump_channel.ts";
import type { Relay } from "./relay.ts";
import { type StartableTransport, type TransportHandlers, usualPayloadBytes } from "./transport.ts";

/**
 * Opens a direct-tcpip channel through the relay of a host.
 *
 * @param id the client's number.
 * @param onEnd called once, when the client has left.
 */
export function lendChannel(
  relay: Relay,
  to: { host: string; port: number },
  { id, onEnd }: { id: number; onEnd(): void },
): JumpChannel {
  const [ours, relays] = [new Hand(), new Hand()];
  const onDisconnect = (reason: string) => {
    for (const hand of [ours, relays]) hand.drop();
    receiver.leave();
    channel.onLost(new Error(reason));
    onEnd();
  };
  ours.meet(relays, onDisconnect);
  relays.meet(ours, onDisconnect);
  const receiver = relay.addClient(relays, undefined, {
    ...{ id, carrier: "host", since: new Date().toISOString() },
    ...{ address: null, user: null, key: null, exchange: null },
  });
  relays.start({ onPayload: receiver.receive, onDrain: receiver.drained, onDisconnect: () => {} });
  const channel = new JumpChannel(ours, to);
  return channel;
}

/** One of two hands: what the other one gives, it takes in a later turn. */
class Hand implements StartableTransport {
  readonly maximumPayloadBytes = usualPayloadBytes;
  readonly answersPings = false;
  readonly lastSequenceNumber = undefined;
  readonly lastByteAt = 0;
  #other!: Hand;
  #onDisconnect!: (reason: string) => void;
  #handlers: TransportHandlers | undefined;
  /** What was given and is not taken yet. */
  #given: Uint8Array[] = [];
  #givenBytes = 0;
  #isPaused = false;
  #isTaking = false;
  #isDropped = false;

  /** @param onDisconnect called when either ends it. */
  meet(other: Hand, onDisconnect: (reason: string) => void): void {
    this.#other = other;
    this.#onDisconnect = onDisconnect;
  }

  start(handlers: TransportHandlers): void {
    this.#handlers = handlers;
  }

  get backlogBytes(): number {
    return this.#other.#givenBytes;
  }

  send(payload: Uint8Array): void {
    if (!this.#isDropped) this.#other.#give(payload.slice());
  }

  sendUnimplemented(): void {}

  disconnect(_reasonCode: number, description: string): void {
    if (!this.#isDropped) this.#onDisconnect(description);
  }

  abort(): void {
    this.disconnect(0, "given up");
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#takeSoon();
  }

  /** Nothing is taken or given any more. */
  drop(): void {
    this.#isDropped = true;
    this.#given = [];
    this.#givenBytes = 0;
  }

  #give(payload: Uint8Array): void {
    this.#given.push(payload);
    this.#givenBytes += payload.length;
    this.#takeSoon();
  }

  #takeSoon(): void {
    if (this.#isTaking || this.#given.length === 0) return;
    this.#isTaking = true;
    queueMicrotask(() => {
      this.#isTaking = false;
      this.#take();
    });
  }

  #take(): void {
    // What comes of it may add to it: that has its own turn.
    const given = this.#given;
    this.#given = [];
    let taken = 0;
    while (taken < given.length && !this.#isPaused && !this.#isDropped) {
      const payload = given[taken++]!;
      this.#givenBytes -= payload.length;
      this.#handlers!.onPayload(payload);
    }
    if (this.#isDropped) return;
    this.#given.unshift(...given.slice(taken));
    if (!this.#isPaused) this.#takeSoon();
    if (taken > 0) this.#other.#handlers?.onDrain();
  }
}
