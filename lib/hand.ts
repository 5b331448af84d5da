/**
 * A carrier of messages within this process: two hands, each of which takes what the other gives.
 * By it whatever runs here is a client of the relay like any other.
 */

import type { ClientRules } from "./client_rules.ts";
import type { Relay } from "./relay.ts";
import type { ClientAbout } from "./relay_status.ts";
import {
  type Peer,
  type StartableTransport,
  type TransportHandlers,
  usualPayloadBytes,
} from "./transport.ts";

/**
 * How many messages may wait that are not read: data stops long before, but the remote host may ask
 * for any number of answers.
 */
const mostGiven = 65_536;

/**
 * The other side hears that less waits once it has been more than the first, and is less than the
 * second, in bytes; as with a socket. Nobody stops giving before.
 */
const highBacklogBytes = 1024 * 1024;
const lowBacklogBytes = 512 * 1024;

/**
 * Makes a client of the relay.
 *
 * @param onEnd called once, with the reason, when either side has ended it.
 * @returns the client's end, which is started by its owner.
 */
export function joinRelay(
  relay: Relay,
  { rules, about, onEnd }: {
    rules?: ClientRules;
    about: ClientAbout;
    onEnd(reason: string): void;
  },
): Hand {
  const [ours, relays] = [new Hand(), new Hand()];
  const onDisconnect = (reason: string) => {
    for (const hand of [ours, relays]) hand.drop();
    receiver.leave();
    onEnd(reason);
  };
  ours.meet(relays, onDisconnect);
  relays.meet(ours, onDisconnect);
  const receiver = relay.addClient(relays, rules, about);
  relays.start({ onPayload: receiver.receive, onDrain: receiver.drained, onDisconnect: () => {} });
  return ours;
}

/** One of two hands: what the other one gives, it takes in a later turn. */
export class Hand implements StartableTransport {
  readonly maximumPayloadBytes = usualPayloadBytes;
  readonly answersPings = false;
  readonly allowsWarmSession = false;
  readonly lastSequenceNumber = undefined;
  readonly lastByteAt = 0;
  #other!: Hand;
  #onDisconnect!: (reason: string) => void;
  #handlers: TransportHandlers | undefined;
  /** What was given and is not taken yet. */
  #given: Uint8Array[] = [];
  #givenBytes = 0;
  /** What was taken, and is still held by this hand's owner. */
  #heldBytes = 0;
  #owesDrain = false;
  #isPaused = false;
  #isTaking = false;
  #isDropped = false;

  /** @param onDisconnect called when either ends it. */
  meet(other: Hand, onDisconnect: (reason: string) => void): void {
    this.#other = other;
    this.#onDisconnect = onDisconnect;
  }

  /** What it is to the other side. */
  get other(): Peer {
    return this.#other;
  }

  start(handlers: TransportHandlers): void {
    this.#handlers = handlers;
  }

  get backlogBytes(): number {
    return this.#other.#waitingBytes;
  }

  get #waitingBytes(): number {
    return this.#givenBytes + this.#heldBytes;
  }

  /** The owner keeps so many bytes of what it took, or fewer where that is negative. */
  hold(bytes: number): void {
    this.#heldBytes += bytes;
    if (bytes < 0 && !this.#isDropped) this.#tellDrain();
  }

  #tellDrain(): void {
    if (!this.#owesDrain || this.#waitingBytes >= lowBacklogBytes) return;
    this.#owesDrain = false;
    this.#other.#handlers?.onDrain();
  }

  /** Whether the other side takes nothing at the moment. */
  get isHeldUp(): boolean {
    return this.#other.#isPaused;
  }

  send(payload: Uint8Array): void {
    if (!this.#isDropped) this.#other.#give(payload.slice());
  }

  /** Sends one message, whose bytes are the other side's from now on. */
  pass(payload: Uint8Array): void {
    if (!this.#isDropped) this.#other.#give(payload);
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
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#takeSoon();
    queueMicrotask(() => this.#isDropped || this.#other.#handlers?.onDrain());
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
    if (this.#waitingBytes > highBacklogBytes) this.#owesDrain = true;
    this.#takeSoon();
    if (!this.#isPaused || this.#given.length <= mostGiven) return;
    this.#onDisconnect("the remote host wants answers, and does not take them");
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
    if (taken < given.length) this.#given = given.slice(taken).concat(this.#given);
    if (!this.#isPaused) this.#takeSoon();
    this.#tellDrain();
  }
}
