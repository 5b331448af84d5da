/** A load of many kinds at a time, and what a process has open and in memory. */

import type { FaultyGround } from "./faulty.ts";

/** No piece of a load lasts longer, cut or not, in milliseconds. */
export const pieceTimeoutMs = 60_000;

/** A share of a load: does one thing, and says whether it was whole or a cut ended it. */
export type Piece<Tools> = (
  tools: Tools & {
    /** Unlike any other piece's. */
    id: number;
  },
) => Promise<boolean>;

/** Keeps pieces of every kind running until it is told to rest. */
export class Load<Tools extends { random: () => number }> {
  whole = 0;
  cut = 0;
  readonly #pieces: Readonly<Record<string, Piece<Tools>>>;
  readonly #tools: Tools;
  #workers: Promise<void>[] = [];
  #isResting = true;
  #lastId = 0;
  #failure: unknown;

  constructor(pieces: Readonly<Record<string, Piece<Tools>>>, tools: Tools) {
    this.#pieces = pieces;
    this.#tools = tools;
  }

  get summary(): string {
    return `${this.whole} pieces of the load were whole, ${this.cut} were cut`;
  }

  /** One worker for each kind. */
  start(): void {
    this.#isResting = false;
    this.#workers = Object.entries(this.#pieces)
      .map(([name, piece]) => this.#work(name, piece));
  }

  /** @throws what made a piece fail. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Lets what runs come to its end. */
  async rest(): Promise<void> {
    this.#isResting = true;
    await Promise.all(this.#workers);
    this.check();
  }

  async #work(name: string, piece: Piece<Tools>): Promise<void> {
    while (!this.#isResting && this.#failure === undefined) {
      try {
        const isWhole = await piece({ ...this.#tools, id: ++this.#lastId });
        if (isWhole) this.whole++;
        else this.cut++;
      } catch (cause) {
        this.#failure ??= new Error(`A piece "${name}" failed: ${cause}`, { cause });
      }
    }
  }
}

/**
 * The shim's resident memory once nobody uses it, in kB. Memory that is free is given back some
 * time after: the least of a few moments counts.
 */
export async function restingMemory({ shim }: Pick<FaultyGround, "shim">): Promise<number> {
  let least = Infinity;
  for (let moment = 0; moment < 4; moment++) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const status = await Deno.readTextFile(`/proc/${shim.pid}/status`);
    least = Math.min(least, Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]));
  }
  return least;
}

/** How many TCP sockets a process has open, its listener among them. */
export async function socketsOf(pid: number): Promise<number> {
  const inodes = new Set<string>();
  for await (const { name } of Deno.readDir(`/proc/${pid}/fd`)) {
    const link = await Deno.readLink(`/proc/${pid}/fd/${name}`).catch(() => "");
    const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1];
    if (inode !== undefined) inodes.add(inode);
  }
  const table = await Deno.readTextFile(`/proc/${pid}/net/tcp`);
  return table.trim().split("\n").filter((line) => inodes.has(line.trim().split(/\s+/)[9] ?? ""))
    .length;
}

/** Whether all bytes are alike. */
export function isEqual(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

/** Numbers from 0 to below 1 that follow from the seed alone (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}
