/** What waits to be sent upstream: a line for each channel, and all lines in turn by bytes. */

import { MessageStore } from "./message_store.ts";

/** How much a line may send when its turn comes, in bytes: the largest usual message. */
const turnBytes = 32 * 1024;

interface Line<Key> {
  key: Key;
  payloads: MessageStore;
  bytes: number;
  /** How much of its turns it has not used, in bytes. */
  creditBytes: number;
}

/** Messages in lines. */
export class PaceQueue<Key> {
  readonly #lines = new Map<Key, Line<Key>>();
  /** The first one has its turn. */
  readonly #turns: Line<Key>[] = [];
  #bytes = 0;

  /** What waits, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What waits in a line, in bytes. */
  bytesOf(key: Key): number {
    return this.#lines.get(key)?.bytes ?? 0;
  }

  has(key: Key): boolean {
    return this.#lines.has(key);
  }

  /** Adds a copy of a message to the end of a line. */
  add(key: Key, payload: Uint8Array): void {
    let line = this.#lines.get(key);
    if (line === undefined) {
      line = { key, payloads: new MessageStore(), bytes: 0, creditBytes: turnBytes };
      this.#lines.set(key, line);
      this.#turns.push(line);
    }
    line.payloads.add(payload);
    line.bytes += payload.length;
    this.#bytes += payload.length;
  }

  /** Takes the message whose turn it is. */
  take(): Uint8Array | undefined {
    for (let line = this.#turns[0]; line !== undefined; line = this.#turns[0]) {
      if (line.payloads.first!.length > line.creditBytes) {
        line.creditBytes += turnBytes;
        this.#turns.push(this.#turns.shift()!);
        continue;
      }
      const payload = line.payloads.take()!;
      line.creditBytes -= payload.length;
      line.bytes -= payload.length;
      this.#bytes -= payload.length;
      if (line.payloads.isEmpty) this.#remove(line);
      return payload;
    }
    return undefined;
  }

  /** Forgets what waits in a line. */
  discard(key: Key): void {
    const line = this.#lines.get(key);
    if (line === undefined) return;
    this.#bytes -= line.bytes;
    this.#remove(line);
  }

  #remove(line: Line<Key>): void {
    this.#lines.delete(line.key);
    this.#turns.splice(this.#turns.indexOf(line), 1);
  }
}
