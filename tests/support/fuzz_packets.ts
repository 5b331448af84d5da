/**
 * Puts one thing wrong in what a peer sends before login: in its identification line, or in a
 * packet of the first key exchange, which is in the clear (RFC 4253, sections 4.2 and 6).
 */

import { concatenate, readUint32, writeUint32 } from "../../lib/ssh_data.ts";
import { loginMessages } from "./fuzz_login_messages.ts";
import type { Mutator } from "./fuzz_mutations.ts";
import type { Random } from "./models.ts";

const newline = 10;
const newKeys = 21;
const lengthBytes = 4;

/** What may stand in the place of an identification line. */
const identifications = [
  "SSH-2.0-\r\n",
  "SSH-2.0\r\n",
  "SSH-1.5-old\r\n",
  "SSH-1.99-both\n",
  "SSH-2.0-OpenSSH_9.2 a comment\r\n",
  "SSH-2.0-nul\0byte\r\n",
  `SSH-2.0-${"x".repeat(300)}\r\n`,
  "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
  "\r\n\r\n",
  "\x16\x03\x01\x02\x00",
  `${"greeting\r\n".repeat(2000)}SSH-2.0-late\r\n`,
];

/** The bytes of one direction, of which one piece is changed. */
export class ClearStream {
  readonly #random: Random;
  readonly #mutator: Mutator;
  /** Which piece: 0 is the identification line, then come packets, then what is encrypted. */
  readonly #target: number;
  #count = 0;
  #phase: "identification" | "packets" | "encrypted" = "identification";
  #rest: Uint8Array = new Uint8Array();

  constructor(random: Random, { mutator, target }: { mutator: Mutator; target: number }) {
    this.#random = random;
    this.#mutator = mutator;
    this.#target = target;
  }

  /** Takes bytes of the peer; returns what goes on in their place. */
  push(bytes: Uint8Array): Uint8Array[] {
    this.#rest = concatenate([this.#rest, bytes]);
    const pieces: Uint8Array[] = [];
    for (let piece = this.#take(); piece !== undefined; piece = this.#take()) {
      const isTarget = this.#count++ === this.#target;
      pieces.push(...isTarget ? this.#change(piece) : [piece]);
      const isLast = this.#phase === "packets" && piece[lengthBytes + 1] === newKeys;
      if (isLast) this.#phase = "encrypted";
      else if (this.#phase === "identification") this.#phase = "packets";
    }
    return pieces;
  }

  /** The next piece that is complete. */
  #take(): Uint8Array | undefined {
    const rest = this.#rest;
    const length = this.#phase === "identification"
      ? rest.indexOf(newline) + 1
      : this.#phase === "encrypted"
      ? rest.length
      : rest.length < lengthBytes
      ? 0
      : lengthBytes + readUint32(rest, 0);
    if (length === 0 || length > rest.length) return undefined;
    this.#rest = rest.slice(length);
    return rest.slice(0, length);
  }

  #change(piece: Uint8Array): Uint8Array[] {
    const random = this.#random;
    switch (this.#phase) {
      case "identification":
        return random.chance(0.5)
          ? [new TextEncoder().encode(random.pick(identifications))]
          : this.#mutator.mutate(piece);
      case "encrypted":
        return this.#mutator.mutate(piece);
      case "packets": {
        if (random.chance(0.2)) return this.#mutator.mutate(piece);
        const payload = piece.slice(lengthBytes + 1, piece.length - piece[lengthBytes]!);
        const another = random.pick(loginMessages).slice();
        const payloads = random.chance(0.4)
          ? random.pick([[another], [another, payload], [payload, another]])
          : this.#mutator.mutate(payload);
        return payloads.map(packet);
      }
    }
  }
}

/** A packet in the clear. */
function packet(payload: Uint8Array): Uint8Array {
  const padding = 4 + (8 - (lengthBytes + 1 + payload.length + 4) % 8) % 8;
  const bytes = new Uint8Array(lengthBytes + 1 + payload.length + padding);
  writeUint32(bytes, 0, bytes.length - lengthBytes);
  bytes[lengthBytes] = padding;
  bytes.set(payload, lengthBytes + 1);
  return bytes;
}
