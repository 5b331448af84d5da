/** The two ends of a resumable stream in memory: cut anywhere, nothing is lost and nothing doubled. */

import assert from "node:assert/strict";
import { ProtocolError } from "../lib/errors.ts";
import { FrameType, ResumeEnd } from "../lib/resume_end.ts";
import { concatenate } from "../lib/ssh_data.ts";

/** What is acknowledged at once here, in bytes, and what is sent. */
const acknowledgeBytes = 64 * 1024;
const sentBytes = acknowledgeBytes - 5;

/** Bytes of which each says where it is. */
function pattern(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 8) * 7 + seed) & 255);
}

/** Reads all that can be read. */
function drain(end: ResumeEnd): Uint8Array {
  const parts: Uint8Array[] = [];
  const buffer = new Uint8Array(5000);
  for (let count = end.read(buffer); count > 0; count = end.read(buffer)) {
    parts.push(buffer.slice(0, count));
  }
  return concatenate(parts);
}

/** Two ends, and what each has still to write and has read. */
class Pair {
  readonly sides: { end: ResumeEnd; rest: Uint8Array; read: Uint8Array }[];

  constructor(sizes: [number, number], kept?: number) {
    this.sides = sizes.map((size, index) => ({
      end: new ResumeEnd({ kept, acknowledged: acknowledgeBytes }),
      rest: pattern(size, index),
      read: new Uint8Array(),
    }));
  }

  /** One carrier; at most `bytes` pass each way. @returns whether it had to be cut. */
  carry(bytes: [number, number]): boolean {
    const [a, b] = this.sides as [Pair["sides"][0], Pair["sides"][0]];
    const [aHas, bHas] = [a.end.has, b.end.has];
    a.end.attach(bHas);
    b.end.attach(aHas);
    let isCut = false;
    const left = [...bytes];
    for (let hasMoved = true; hasMoved;) {
      hasMoved = false;
      for (const [index, side] of this.sides.entries()) {
        side.rest = side.rest.subarray(side.end.write(side.rest));
        const other = this.sides[1 - index]!;
        const next = left[index]! > 0 ? side.end.next() : undefined;
        if (next === undefined) {
          isCut ||= left[index] === 0;
          continue;
        }
        hasMoved = true;
        const part = next.subarray(0, left[index]);
        left[index]! -= part.length;
        other.end.receive(part);
        other.read = concatenate([other.read, drain(other.end)]);
      }
    }
    a.end.detach();
    b.end.detach();
    return isCut;
  }

  /** All has come, and nothing else. */
  assertDone(sizes: [number, number]): void {
    assert.ok(isEqual(this.sides[1]!.read, pattern(sizes[0], 0)));
    assert.ok(isEqual(this.sides[0]!.read, pattern(sizes[1], 1)));
  }
}

Deno.test("a cut after any number of bytes, in either direction, loses nothing and doubles nothing", () => {
  const sizes: [number, number] = [40, 23];
  for (let up = 0; up <= 60; up++) {
    for (let down = 0; down <= 40; down++) {
      const pair = new Pair(sizes);
      pair.carry([up, down]);
      pair.carry([down, up]);
      pair.carry([Infinity, Infinity]);
      pair.assertDone(sizes);
    }
  }
});

Deno.test("a cut at any byte around an acknowledgment and the bound of a frame does neither", () => {
  const sizes: [number, number] = [acknowledgeBytes + sentBytes, 100];
  for (let cut = -12; cut <= 20; cut++) {
    // The second direction has its data, then the acknowledgment: a header and eight bytes.
    for (const down of [105, 106, 109, 110, 111, 117, 118, Infinity]) {
      const pair = new Pair(sizes);
      pair.carry([acknowledgeBytes + cut, down]);
      pair.carry([Infinity, Infinity]);
      pair.assertDone(sizes);
    }
  }
});

Deno.test("streams far beyond what is kept pass through many cuts", () => {
  let seed = 7;
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed % below;
  };
  const sizes: [number, number] = [2_000_000, 1_300_000];
  const pair = new Pair(sizes, 3 * acknowledgeBytes);
  let cuts = 0;
  while (pair.carry([random(400_000), random(400_000)])) cuts++;
  assert.ok(cuts > 5);
  pair.assertDone(sizes);
});

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

Deno.test("no more is taken than is kept, until the other end has it", () => {
  const [a, b] = [
    new ResumeEnd({ kept: acknowledgeBytes }),
    new ResumeEnd({ acknowledged: acknowledgeBytes }),
  ];
  assert.equal(a.write(new Uint8Array(acknowledgeBytes + 1)), acknowledgeBytes);
  assert.equal(a.roomBytes, 0);
  a.attach(0);
  b.attach(0);
  b.receive(a.next()!);
  b.receive(a.next()!);
  assert.ok(a.next() === undefined);
  a.receive(b.next()!);
  assert.equal(a.roomBytes, acknowledgeBytes);
});

Deno.test("an end is told after all data, and again by the next carrier", () => {
  const [a, b] = [new ResumeEnd(), new ResumeEnd()];
  a.write(pattern(10, 0));
  a.finish(FrameType.end, "the reason");
  a.attach(0);
  b.attach(0);
  b.receive(a.next()!);
  assert.equal(b.end, undefined);
  assert.notEqual(a.next(), undefined);
  assert.equal(a.next(), undefined);
  a.detach();
  a.attach(b.has);
  b.attach(0);
  b.receive(a.next()!);
  assert.equal(b.end, "the reason");
  assert.deepEqual(drain(b), pattern(10, 0));
});

Deno.test("counts and frames that cannot be are refused", () => {
  const end = new ResumeEnd();
  end.write(new Uint8Array(10));
  for (const count of [11, -1, NaN]) assert.throws(() => end.attach(count), ProtocolError);
  end.attach(4);
  assert.throws(() => end.attach(3), ProtocolError);
  const frame = (type: number, body: number[]) =>
    Uint8Array.from([type, 0, 0, 0, body.length, ...body]);
  const wrong = [
    frame(FrameType.acknowledgment, [0, 0, 0, 0, 0, 0, 0, 9]), // Not sent yet.
    frame(FrameType.acknowledgment, [0]),
    frame(70, []),
    Uint8Array.from([FrameType.data, 255, 255, 255, 255]),
  ];
  for (const bytes of wrong) {
    end.attach(4);
    assert.throws(() => end.receive(bytes), ProtocolError);
  }
});
