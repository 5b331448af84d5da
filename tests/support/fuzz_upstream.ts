/**
 * The fuzzer's side `upstream`: one upstream after the other turns hostile, beside clients that
 * behave; the last one behaves, and serves them.
 */

import { turn } from "./fuzz_hostile.ts";
import type { FuzzClient } from "./fuzz_peers.ts";
import { Scene } from "./fuzz_scene.ts";
import type { Trace } from "./fuzz_trace.ts";
import type { Model, Random } from "./models.ts";

const mutationsPerCase = 40;

/** The longest history of an upstream before it turns, in steps of it and of the clients. */
const longestHistory = 80;

/** The most that clients do after an upstream was ended, and before that is known. */
const longestAfterlife = 5;

/**
 * Runs one case.
 *
 * @returns how many mutations it had.
 * @throws {Error} where the relay did not keep them from the clients.
 */
export function runUpstreamCase(random: Random, trace: Trace): number {
  const isCrowded = random.chance(0.3);
  const scene = new Scene(random, trace, { sessions: isCrowded ? 2 : Infinity });
  const clients = ["alice", "bob"].map((name) => scene.join(name));
  let mutations = 0;
  while (mutations < mutationsPerCase) {
    const limit = mutationsPerCase - mutations;
    if (isCrowded && random.chance(0.5)) {
      mutations += runOverflow(scene, clients, limit);
    } else {
      if (!isCrowded && random.chance(0.5)) {
        for (const client of clients) scene.establish(client, { isSession: true });
      }
      mutations += runUpstream(scene, clients, limit);
    }
  }
  const [client] = clients;
  const ends = scene.establish(client!, { isSession: !isCrowded });
  scene.expectCarrying(client!, ends);
  scene.finish();
  return mutations;
}

/** Upstream behaves for a while, turns, and is replaced. Returns how many mutations there were. */
function runUpstream(scene: Scene, clients: readonly FuzzClient[], limit: number): number {
  const { random, upstream } = scene;
  behave(scene, [upstream, ...clients]);
  for (const client of clients) client.onUpstreamHostile();
  const mutations = turn(scene, upstream, { others: clients, limit });
  for (let count = random.below(longestAfterlife); count > 0; count--) scene.step(...clients);
  scene.loseUpstream();
  if (random.chance(0.2)) scene.step(...clients);
  scene.connect();
  return mutations;
}

/** The same of a further upstream, beside the one that goes on to behave. */
function runOverflow(scene: Scene, clients: readonly FuzzClient[], limit: number): number {
  const overflow = scene.attachOverflow();
  behave(scene, [scene.upstream, overflow, ...clients]);
  for (const client of clients) client.onUpstreamHostile();
  const mutations = turn(scene, overflow, { others: [scene.upstream, ...clients], limit });
  scene.loseOverflow(overflow);
  return mutations;
}

function behave(scene: Scene, models: readonly Model[]): void {
  for (let count = scene.random.below(longestHistory); count > 0; count--) scene.step(...models);
}
