/**
 * Memory for packets on their way out: each is built, encrypted and written where it lies, those of
 * one connection behind each other, and the memory is used again once they have left.
 */

import { Buffer } from "node:buffer";

/** Room for what one read of a socket brings, as packets; in bytes. */
const blockBytes = 288 * 1024;

/** How many blocks are kept for the next packets of whichever connection. */
const mostFreeBlocks = 8;

interface Block {
  bytes: Buffer;
  usedBytes: number;
  /** What was taken of it and is not released yet. */
  heldBytes: number;
  /** Who takes from it at present. */
  taker: PacketMemory | undefined;
}

const free: Block[] = [];
const blocks = new WeakMap<ArrayBufferLike, Block>();

/** The memory of one connection's packets. */
export class PacketMemory {
  #block: Block | undefined;

  /** So many bytes, behind those of the last time where there is room; they are not zeros. */
  take(bytes: number): Buffer {
    if (bytes > blockBytes) return Buffer.alloc(bytes);
    if (this.#block === undefined || this.#block.usedBytes + bytes > blockBytes) this.#begin();
    const block = this.#block!;
    const end = block.usedBytes + bytes;
    const taken = block.bytes.subarray(block.usedBytes, end);
    block.usedBytes = end;
    block.heldBytes += bytes;
    return taken;
  }

  #begin(): void {
    if (this.#block) this.#block.taker = undefined;
    this.#block = free.pop() ?? newBlock();
    this.#block.taker = this;
  }

  /** Nobody needs these bytes any more; others than were taken do not matter. Once for each. */
  static release(bytes: Uint8Array): void {
    const block = blocks.get(bytes.buffer);
    if (block === undefined) return;
    block.heldBytes -= bytes.length;
    if (block.heldBytes > 0) return;
    if (block.taker) block.taker.#block = undefined;
    block.taker = undefined;
    block.usedBytes = 0;
    if (free.length < mostFreeBlocks) free.push(block);
  }

  /** Nothing is kept for the next packets. */
  static forgetFree(): void {
    free.length = 0;
  }
}

function newBlock(): Block {
  const bytes = Buffer.from(new ArrayBuffer(blockBytes));
  const block: Block = { bytes, usedBytes: 0, heldBytes: 0, taker: undefined };
  blocks.set(bytes.buffer, block);
  return block;
}
