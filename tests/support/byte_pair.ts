/** Two ends of a connection that lives in memory. */

import type { ByteConnection } from "../../lib/byte_connection.ts";

/** One direction: what was written and not read. */
class Pipe {
  readonly #pieces: Uint8Array[] = [];
  #isEnded = false;
  #wake: (() => void) | undefined;

  push(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#pieces.push(bytes);
    this.#wake?.();
  }

  /** Nothing more comes; what was pushed can still be read. */
  end(): void {
    this.#isEnded = true;
    this.#wake?.();
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    while (this.#pieces.length === 0) {
      if (this.#isEnded) return null;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const part = this.#pieces[0]!.subarray(0, buffer.length);
    const rest = this.#pieces[0]!.subarray(part.length);
    if (rest.length > 0) this.#pieces[0] = rest;
    else this.#pieces.shift();
    buffer.set(part);
    return part.length;
  }
}

/** Takes what one end writes, and says what arrives at the other. */
export type Carry = (bytes: Uint8Array) => readonly Uint8Array[];

/** Makes a connection; `carry` has one function for what each end writes. */
export function makeBytePair(
  carry: readonly [Carry, Carry],
): readonly [ByteConnection, ByteConnection] {
  const pipes = [new Pipe(), new Pipe()] as const;
  const end = (own: Pipe, other: Pipe, carry: Carry): ByteConnection => ({
    read: (buffer) => own.read(buffer),
    write(bytes) {
      for (const piece of carry(bytes.slice())) other.push(piece);
      return Promise.resolve(bytes.length);
    },
    close() {
      own.end();
      other.end();
    },
  });
  return [end(pipes[0], pipes[1], carry[0]), end(pipes[1], pipes[0], carry[1])];
}
