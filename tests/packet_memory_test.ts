/** Memory of packets: whose it is, and when it is used again. */

import assert from "node:assert/strict";
import { PacketMemory } from "../lib/packet_memory.ts";

const packetBytes = 32 * 1024;

function assertAt(bytes: Uint8Array, { buffer, byteOffset }: Uint8Array, behind = 0): void {
  assert(bytes.buffer === buffer);
  assert.equal(bytes.byteOffset, byteOffset + behind);
}

Deno.test("packets of one connection lie behind each other, those of two in memory of their own", () => {
  const [one, other] = [new PacketMemory(), new PacketMemory()];
  const [first, , second] = [one.take(100), other.take(100), one.take(50)];
  assertAt(second, first, 100);
  assert(other.take(1).buffer !== first.buffer);
});

Deno.test("memory is used again once all of it is released, and not before", () => {
  const memory = new PacketMemory();
  const taken = Array.from({ length: 9 }, () => memory.take(packetBytes));
  const [first, ...others] = taken;
  assert(taken.every(({ buffer }) => buffer === first!.buffer));
  for (const packet of others) PacketMemory.release(packet);
  const next = memory.take(packetBytes);
  assert(next.buffer !== first!.buffer);
  PacketMemory.release(next);
  PacketMemory.release(first!);
  assertAt(new PacketMemory().take(1), first!);
});

Deno.test("what was taken elsewhere, and what no block has room for, is nobody's", () => {
  const memory = new PacketMemory();
  const large = memory.take(1024 * 1024);
  assert.equal(large.length, 1024 * 1024);
  for (const bytes of [large, new Uint8Array(10)]) PacketMemory.release(bytes);
  assert(memory.take(1).buffer !== large.buffer);
});

Deno.test("pieces that were joined are released as one", () => {
  const memory = new PacketMemory();
  const first = memory.take(3000);
  memory.take(4000);
  PacketMemory.release(new Uint8Array(first.buffer, first.byteOffset, 7000));
  assertAt(memory.take(1), first);
});
