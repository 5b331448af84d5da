/**
 * Messages that wait, in their order. Many small ones take little more memory than their bytes have,
 * and each costs the same however many there are: an object for each would take hundreds of bytes,
 * and the front of a long array is far from its end.
 */

/**
 * Messages are laid behind each other in blocks of so many bytes: the largest usual data, and what
 * stands before it. Longer ones have their own.
 */
const blockBytes = 32 * 1024 + 8;

interface Block {
  bytes: Uint8Array;
  usedBytes: number;
  /** Of the messages in it, those that were taken included. */
  lengths: number[];
}

/** A line of messages. */
export class MessageStore {
  readonly #blocks: Block[] = [];
  /** Where the first message is in the first block: which one, and from which byte on. */
  #index = 0;
  #at = 0;

  get isEmpty(): boolean {
    return this.#blocks.length === 0;
  }

  /** The first message; its bytes stay as they are. */
  get first(): Uint8Array | undefined {
    const [block] = this.#blocks;
    return block?.bytes.subarray(this.#at, this.#at + block.lengths[this.#index]!);
  }

  /** Takes the first message, whose bytes stay as they are. */
  take(): Uint8Array | undefined {
    const { first } = this;
    if (first === undefined) return undefined;
    this.#at += first.length;
    if (++this.#index === this.#blocks[0]!.lengths.length) {
      this.#blocks.shift();
      this.#index = this.#at = 0;
    }
    return first;
  }

  /** So many bytes of the first message are gone, from its front. */
  skip(bytes: number): void {
    const { lengths } = this.#blocks[0]!;
    if (bytes === lengths[this.#index]) return void this.take();
    lengths[this.#index]! -= bytes;
    this.#at += bytes;
  }

  /** Adds a copy of a message, in parts, at the end. */
  add(...parts: Uint8Array[]): void {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    let block = this.#blocks.at(-1);
    if (block === undefined || !makeRoom(block, length)) {
      block = { bytes: new Uint8Array(length), usedBytes: 0, lengths: [] };
      this.#blocks.push(block);
    }
    block.lengths.push(length);
    for (const part of parts) write(block, part);
  }

  /** Adds bytes of a stream at the end, where it does not matter into which message. */
  append(bytes: Uint8Array): void {
    if (!this.extend(bytes)) this.add(bytes);
  }

  /** Adds bytes to the last message. @returns whether there is one, and room behind it. */
  extend(bytes: Uint8Array): boolean {
    const block = this.#blocks.at(-1);
    if (block === undefined || !makeRoom(block, bytes.length)) return false;
    block.lengths[block.lengths.length - 1]! += bytes.length;
    write(block, bytes);
    return true;
  }
}

/** @returns whether so many bytes have room in a block, which grows as far as it may. */
function makeRoom(block: Block, bytes: number): boolean {
  const needed = block.usedBytes + bytes;
  if (needed <= block.bytes.length) return true;
  if (needed > blockBytes) return false;
  const larger = new Uint8Array(Math.min(blockBytes, Math.max(needed, 2 * block.bytes.length)));
  larger.set(block.bytes.subarray(0, block.usedBytes));
  block.bytes = larger;
  return true;
}

function write(block: Block, bytes: Uint8Array): void {
  block.bytes.set(bytes, block.usedBytes);
  block.usedBytes += bytes.length;
}
