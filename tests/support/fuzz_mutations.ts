/**
 * Messages that are wrong in one way or another: made of what a peer has said, or of messages that
 * are right by themselves and come in the wrong state.
 */

import { buildMessage, concatenate, type Field, writeUint32 } from "../../lib/ssh_data.ts";
import { MessageType } from "../../lib/wire.ts";
import { displaySetup } from "./fuzz_peers.ts";
import { copyOf, patternBytes } from "./memory.ts";
import type { Random } from "./models.ts";

const boundaryNumbers = [
  ...[0, 1, 2, 4, 5, 9, 255, 256, 4096, 16_383, 16_384, 32_767, 32_768, 32_769, 65_535, 65_536],
  ...[2 ** 21 - 1, 2 ** 21, 2 ** 21 + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 2, 2 ** 32 - 1],
];

const messageTypes = Object.values(MessageType);

const channelTypes: readonly (readonly [string, ...Field[]])[] = [
  ["session"],
  ["x11", "127.0.0.1", 6000],
  ["direct-tcpip", "host", 80, "127.0.0.1", 1],
  ["forwarded-tcpip", "localhost", 8080, "127.0.0.1", 1],
  ["forwarded-tcpip", "", 40_001, "127.0.0.1", 1],
  ["direct-streamlocal@openssh.com", "/run/socket", "", 0],
  ["forwarded-streamlocal@openssh.com", "/run/socket", ""],
  ["auth-agent@openssh.com"],
  ["tun@openssh.com", 1, 0],
  ["unknown@example.com", 1, 2, 3],
  ["constructor"],
  [""],
];

const globalRequests: readonly (readonly [string, ...Field[]])[] = [
  ["tcpip-forward", "", 0],
  ["tcpip-forward", "localhost", 8080],
  ["tcpip-forward", "0.0.0.0", 7000],
  ["tcpip-forward", "*", 70_000],
  ["cancel-tcpip-forward", "localhost", 8080],
  ["cancel-tcpip-forward", "", 7000],
  ["streamlocal-forward@openssh.com", "/run/socket"],
  ["cancel-streamlocal-forward@openssh.com", "/run/socket"],
  ["no-more-sessions@openssh.com"],
  ["keepalive@openssh.com"],
  ["hostkeys-00@openssh.com", "key"],
  ["__proto__", 1],
  [""],
];

const channelRequests: readonly (readonly [string, ...Field[]])[] = [
  ["pty-req", "xterm", 80, 24, 0, 0, Uint8Array.of(128, 0, 0, 0, 1, 0)],
  ["x11-req", false, "MIT-MAGIC-COOKIE-1", "a1".repeat(16), 0],
  ["x11-req", true, "XDM-AUTHORIZATION-1", "zz", 0],
  ["env", "LANG", "C"],
  ["shell"],
  ["exec", "true"],
  ["subsystem", "sftp"],
  ["window-change", 80, 24, 0, 0],
  ["xon-xoff", true],
  ["signal", "INT"],
  ["break", 1],
  ["exit-status", 0],
  ["exit-signal", "TERM", false, "text", ""],
  ["auth-agent-req@openssh.com"],
  ["eow@openssh.com"],
  ["keepalive@openssh.com"],
  ["toString", 1],
  ["n\0ame"],
];

/** What may be said at almost any time; of channels, while there is one. */
const mildTypes = [MessageType.globalRequest, MessageType.channelOpen, MessageType.ping];
const mildChannelTypes = [
  ...mildTypes,
  ...Array<number>(3).fill(MessageType.channelWindowAdjust),
  ...Array<number>(3).fill(MessageType.channelData),
  ...Array<number>(6).fill(MessageType.channelRequest),
  MessageType.channelExtendedData,
  MessageType.channelEof,
  MessageType.channelClose,
];

/** Makes the wrong messages of one peer. */
export class Mutator {
  readonly #random: Random;
  /** How likely a message is wrong in a way that shows at once; others lead on, and deeper. */
  readonly #wildness: number;
  /** What the peer has said so far. */
  readonly #said: readonly Uint8Array[];
  /** Channel numbers that the peer may know. */
  readonly #numbers: () => readonly number[];

  constructor(
    random: Random,
    { said, numbers }: { said: readonly Uint8Array[]; numbers: () => readonly number[] },
  ) {
    this.#random = random;
    this.#wildness = random.pick([0.02, 0.1, 0.3, 1]);
    this.#said = said;
    this.#numbers = numbers;
  }

  /** One mutation: mostly one message. */
  next(): Uint8Array[] {
    const random = this.#random;
    if (!random.chance(this.#wildness)) {
      const type = random.pick(this.#numbers().length > 0 ? mildChannelTypes : mildTypes);
      return [buildMessage(type, ...this.#fields(type))];
    }
    return this.mutate(this.#source());
  }

  /** A message as it should be, or not. */
  alter(message: Uint8Array): Uint8Array[] {
    return this.#random.chance(this.#wildness) ? this.mutate(message) : [message];
  }

  /** Makes something wrong of a message, which is changed. */
  mutate(message: Uint8Array): Uint8Array[] {
    const random = this.#random;
    switch (random.below(13)) {
      case 0:
        return [this.#flipBits(message)];
      case 1:
        return [message.subarray(0, random.below(message.length + 1))];
      case 2:
        return [concatenate([message, this.#anyBytes(random.chance(0.02) ? 40_000 : 40)])];
      case 3:
        if (message.length >= 4) {
          writeUint32(message, random.below(message.length - 3), random.pick(boundaryNumbers));
        }
        return [message];
      case 4:
      case 5:
        if (message.length >= 5) writeUint32(message, 1, this.#channelNumber());
        return [message];
      case 6:
        message[0] = random.chance(0.8) ? random.pick(messageTypes) : random.below(256);
        return [message];
      case 7:
        return [message, copyOf(message)];
      case 8:
        return [message, this.#source()];
      case 9:
        return [this.#splice(message, this.#source())];
      case 10:
        return [this.#anyBytes(40)];
      default:
        return [message];
    }
  }

  /** A message that is well-formed, in no state in particular. */
  #source(): Uint8Array {
    const random = this.#random;
    if (this.#said.length > 0 && random.chance(0.4)) return copyOf(random.pick(this.#said));
    const type = random.pick(messageTypes);
    return buildMessage(type, ...this.#fields(type));
  }

  #fields(type: number): Field[] {
    const random = this.#random;
    const wantReply = random.chance(0.5);
    switch (type) {
      case MessageType.globalRequest: {
        const [name, ...fields] = random.pick(globalRequests);
        return [name, wantReply, ...fields];
      }
      case MessageType.requestSuccess:
        return random.chance(0.5) ? [] : [random.pick(boundaryNumbers)];
      case MessageType.requestFailure:
        return [];
      case MessageType.channelOpen: {
        const [name, ...fields] = random.pick(channelTypes);
        return [name, this.#channelNumber(), this.#size(), this.#size(), ...fields];
      }
      case MessageType.channelOpenConfirmation:
        return [this.#channelNumber(), this.#channelNumber(), this.#size(), this.#size()];
      case MessageType.channelOpenFailure:
        return [this.#channelNumber(), random.pick([1, 2, 3, 4, 99]), "why", ""];
      case MessageType.channelWindowAdjust:
        return [this.#channelNumber(), this.#size()];
      case MessageType.channelData:
        return [this.#channelNumber(), this.#data()];
      case MessageType.channelExtendedData:
        return [this.#channelNumber(), random.pick([1, 0, 2, 2 ** 32 - 1]), this.#data()];
      case MessageType.channelRequest: {
        const [name, ...fields] = random.pick(channelRequests);
        return [this.#channelNumber(), name, wantReply, ...fields];
      }
      case MessageType.ping:
      case MessageType.pong:
        return [this.#data()];
      default:
        return [this.#channelNumber()];
    }
  }

  #channelNumber(): number {
    const random = this.#random;
    const numbers = this.#numbers();
    if (numbers.length > 0 && !random.chance(this.#wildness * 0.3)) return random.pick(numbers);
    return random.chance(0.7) ? random.below(12) : random.pick(boundaryNumbers);
  }

  #size(): number {
    if (!this.#random.chance(this.#wildness)) return this.#random.pick([1, 100, 32_768]);
    const { below, usual } = { below: this.#random.below(4096), usual: 32_768 };
    return this.#random.pick([below, usual, usual, this.#random.pick(boundaryNumbers)]);
  }

  #data(): Uint8Array {
    const random = this.#random;
    if (!random.chance(this.#wildness)) return this.#anyBytes(3);
    if (random.chance(0.01)) return patternBytes(random.pick([32_767, 32_768, 32_769, 40_000]));
    if (random.chance(0.1)) return displaySetup(random.pick(["a1", "b2", "c3"]).repeat(16));
    return this.#anyBytes(32);
  }

  #flipBits(message: Uint8Array): Uint8Array {
    const random = this.#random;
    for (let count = 1 + random.below(3); count > 0 && message.length > 0; count--) {
      message[random.below(message.length)]! ^= 1 << random.below(8);
    }
    return message;
  }

  #splice(one: Uint8Array, two: Uint8Array): Uint8Array {
    const random = this.#random;
    const head = one.subarray(0, random.below(one.length + 1));
    return concatenate([head, two.subarray(random.below(two.length + 1))]);
  }

  #anyBytes(limit: number): Uint8Array {
    return Uint8Array.from({ length: this.#random.below(limit) }, () => this.#random.below(256));
  }
}
