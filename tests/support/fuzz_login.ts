/**
 * The fuzzer's side `login`: a peer does something wrong before anybody is logged in, in the clear
 * or in what is encrypted, to the endpoint or to the handshake with upstream.
 *
 * What is sent follows from the seed, but keys are new each time.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { makeBytePair } from "./byte_pair.ts";
import { loginMessages } from "./fuzz_login_messages.ts";
import {
  connectAttacker,
  handshakeVictim,
  password,
  serveAttacker,
  serveVictim,
} from "./fuzz_login_roles.ts";
import { Mutator } from "./fuzz_mutations.ts";
import { ClearStream } from "./fuzz_packets.ts";
import type { Trace } from "./fuzz_trace.ts";
import { RuntimeWatch } from "./fuzz_watch.ts";
import type { Random } from "./models.ts";

/** What clients send while they log in, and what servers do (RFC 4250, section 4.1.2). */
const requestTypes = [5, 50, 61];
const answerTypes = [6, 51, 52, 53, 60];

/** Nobody reaches the piece with this number before the end. */
const noTarget = 1000;

/**
 * Runs one case.
 *
 * @returns how many mutations it had.
 * @throws {Error} where more came of it than the end of the connection.
 */
export async function runLoginCase(random: Random, trace: Trace): Promise<number> {
  const watch = new RuntimeWatch();
  try {
    return await runConnection(random, trace, watch);
  } finally {
    watch.end();
  }
}

async function runConnection(random: Random, trace: Trace, watch: RuntimeWatch): Promise<number> {
  const mutator = new Mutator(random, { said: loginMessages, numbers: () => [0, 1] });
  const isInClear = random.chance(0.5);
  const target = isInClear ? random.below(6) : noTarget;
  const stream = new ClearStream(random, { mutator, target });
  let moved = 0;
  const [attackersEnd, victimsEnd] = makeBytePair([
    (bytes) => {
      moved++;
      const pieces = stream.push(bytes);
      for (const piece of pieces) trace.note("attacker", piece);
      return pieces;
    },
    (bytes) => {
      moved++;
      trace.note("  to attacker", bytes);
      assert(!Buffer.from(bytes).includes(password), "a password in the clear");
      return [bytes];
    },
  ]);

  const isEndpoint = random.chance(0.5);
  const passwords: string[] = [];
  const victim = isEndpoint ? serveVictim(victimsEnd, random) : handshakeVictim(victimsEnd, random);
  const attacker = isEndpoint
    ? connectAttacker(attackersEnd, random)
    : serveAttacker(attackersEnd, random, (password) => passwords.push(password));
  const types = isEndpoint ? requestTypes : answerTypes;
  const fitting = loginMessages.filter(([type]) => type !== undefined && types.includes(type));
  let mutations = 0;
  const mutate = () => {
    mutations++;
    const message = random.pick(random.chance(0.6) ? fitting : loginMessages).slice();
    for (const payload of random.chance(0.5) ? [message] : mutator.mutate(message)) {
      trace.note("attacker, encrypted", payload);
      attacker.send?.(payload);
    }
  };
  if (isInClear) mutations++;
  attacker.onEncrypted = () => {
    for (let count = random.below(isInClear ? 2 : 4); count > 0; count--) mutate();
  };
  await watch.untilQuiet(() => moved);
  for (let count = random.below(6); count > 0 && !victim.isClosed(); count--) {
    if (random.chance(0.1)) attacker.rekey?.();
    mutate();
    await watch.untilQuiet(() => moved);
  }
  attacker.close();
  await watch.withinDeadline(victim.verdict);
  await watch.untilQuiet(() => moved);
  if (!("isTrusting" in victim && victim.isTrusting)) assert.deepEqual(passwords, []);
  return mutations;
}
