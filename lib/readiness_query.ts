/** Asks the system which descriptors are ready, and waits until one is: by poll(2) or select(2). */

import type { Libc } from "./libc.ts";

/** What a descriptor is waited for. */
export type Readiness = "readable" | "writable";

/** What is asked. */
export interface Question {
  descriptor: number;
  readiness: Readiness;
}

/** poll(2)'s bits. */
const bits: Record<Readiness, number> = { readable: 0x1, writable: 0x4 };
/** An error, the other side's end, no such descriptor: whoever tries is told which. */
const always = 0x8 | 0x10 | 0x20;

/** A structure of poll(2), in bytes: descriptor, what is waited for, what is so. */
const entryBytes = 8;

/** How many descriptors select(2) takes in any case. */
const usualDescriptors = 1024;

/**
 * How long to wait where select(2) fails: a signal has come between, or one of them is none that can be
 * waited for, and would be asked about again at once; in milliseconds.
 */
const failureMs = 20;

/** @returns which of them are ready; where the system does not say, some that are not may be there. */
export function readyOnes(libc: Libc, questions: readonly Question[]): Promise<boolean[]> {
  return libc.layout.waitsBySelect ? select(libc, questions) : poll(libc, questions);
}

async function poll({ symbols }: Libc, questions: readonly Question[]): Promise<boolean[]> {
  const entries = new DataView(new ArrayBuffer(questions.length * entryBytes));
  questions.forEach(({ descriptor, readiness }, index) => {
    entries.setInt32(index * entryBytes, descriptor, true);
    entries.setInt16(index * entryBytes + 4, bits[readiness], true);
  });
  const bytes = new Uint8Array(entries.buffer);
  // A signal that came between is as good as nothing.
  await symbols.waitingPoll(bytes, BigInt(questions.length), -1);
  return questions.map(({ readiness }, index) =>
    (entries.getInt16(index * entryBytes + 6, true) & (bits[readiness] | always)) !== 0
  );
}

/** A set of descriptors is a row of bits, the lowest first. */
async function select({ symbols }: Libc, questions: readonly Question[]): Promise<boolean[]> {
  const highest = Math.max(...questions.map(({ descriptor }) => descriptor));
  const bytes = Math.ceil(Math.max(highest + 1, usualDescriptors) / 64) * 8;
  const sets = { readable: new Uint8Array(bytes), writable: new Uint8Array(bytes) };
  for (const { descriptor, readiness } of questions) {
    sets[readiness][descriptor >> 3]! |= 1 << (descriptor & 7);
  }
  const { readable, writable } = sets;
  const count = await symbols.waitingSelect(highest + 1, readable, writable, null, null);
  if (count < 0) {
    await new Promise((resolve) => setTimeout(resolve, failureMs));
    // Whoever tries is told what is wrong with it.
    return questions.map(() => true);
  }
  return questions.map(({ descriptor, readiness }) =>
    (sets[readiness][descriptor >> 3]! & (1 << (descriptor & 7))) !== 0
  );
}
