/**
 * Packets of chacha20-poly1305@openssh.com between our ciphers and ssh2's own, in both directions:
 * of all lengths, in pieces of all lengths, with new keys now and then.
 *
 *     deno task ciphers [PACKETS [SEED]]
 *
 * With `--deny-ffi` the ciphers do without libcrypto.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import {
  type Cipher,
  type Ciphers,
  type Decipher,
  own,
  present,
} from "./support/ssh2_own_ciphers.ts";
import "../lib/ssh2.ts";
import { Random } from "./support/models.ts";

const defaultPackets = 1_000_000;
/** What ssh2's own take, in bytes. */
const largestPayloadBytes = 34_900;
const packetsAtOnce = 20;
const packetsPerKey = 500;

/** One direction of a connection. */
interface Way {
  cipher: Cipher;
  decipher: Decipher;
  sent: Uint8Array[];
  received: Buffer[];
}

function makeWay(from: Ciphers, to: Ciphers, random: Random): Way {
  const key = randomBytes(64);
  const sequenceNumber = random.chance(0.2)
    ? 2 ** 32 - random.below(100) - 1
    : random.below(2 ** 32);
  const [sent, received]: [Uint8Array[], Buffer[]] = [[], []];
  const info = { sslName: "chacha20", keyLen: 64, ivLen: 0 };
  const cipher = from.createCipher({
    outbound: {
      ...{ seqno: sequenceNumber, cipherInfo: info, cipherKey: key },
      onWrite: (bytes: Uint8Array) => void sent.push(bytes),
    },
  });
  const decipher = to.createDecipher({
    inbound: {
      ...{ seqno: sequenceNumber, decipherInfo: info, decipherKey: key },
      // What is data is there until this returns.
      onPayload: (payload: Buffer) => void received.push(Buffer.from(payload)),
    },
  });
  return { cipher, decipher, sent, received };
}

function randomLength(random: Random): number {
  return random.below(2 + random.below(random.pick([16, 300, 5000, largestPayloadBytes])));
}

/** Sends some packets at once, and takes them in pieces. */
function exchange({ cipher, decipher, sent, received }: Way, random: Random): number {
  const payloads = Array.from({ length: 1 + random.below(packetsAtOnce) }, () => {
    const payload = randomBytes(randomLength(random));
    // Many are data, which is not copied.
    if (payload.length > 0 && random.chance(0.5)) payload[0] = 94;
    return payload;
  });
  for (const payload of payloads) {
    const packet = cipher.allocPacket(payload.length);
    payload.copy(packet, 5);
    cipher.encrypt(packet);
  }
  const bytes = Buffer.concat(sent.splice(0));
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + 1 + random.below(random.pick([3, 100, 100_000])));
    // Some pieces begin in the middle of what they lie in.
    const from = random.pick([0, 3, 4, 7]);
    const piece = Buffer.concat([Buffer.alloc(from), bytes.subarray(at, end)]);
    decipher.decrypt(piece, from, piece.length);
    at = end;
  }
  assert.equal(received.length, payloads.length);
  for (const payload of payloads) assert.equal(Buffer.compare(received.shift()!, payload), 0);
  return payloads.length;
}

async function main(): Promise<void> {
  const [wanted = defaultPackets, seed = Math.floor(Math.random() * 2 ** 32)] = Deno.args.map(
    Number,
  );
  const random = new Random(seed);
  await Promise.all([own.init, present.init]);
  const ours = { ...present };
  assert.notEqual(ours.createCipher, own.createCipher);
  const pairs: [Ciphers, Ciphers][] = [[ours, own], [own, ours], [ours, ours]];
  console.log(`seed ${seed}`);
  let packets = 0;
  while (packets < wanted) {
    const [from, to] = random.pick(pairs);
    const way = makeWay(from, to, random);
    const last = packets + random.below(packetsPerKey);
    do packets += exchange(way, random); while (packets < last);
  }
  console.log(`${packets} packets, no fault`);
}

await main();
