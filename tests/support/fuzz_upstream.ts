/**
 * The fuzzer's side `upstream`: one upstream after the other turns hostile, beside clients that
 * behave; the last one behaves, and serves them.
 */

import { Hostile } from "./fuzz_hostile.ts";
import type { FuzzClient } from "./fuzz_peers.ts";
import { Scene } from "./fuzz_scene.ts";
import type { Trace } from "./fuzz_trace.ts";
import type { Random } from "./models.ts";

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
  const scene = new Scene(random, trace);
  const clients = ["alice", "bob"].map((name) => scene.join(name));
  let mutations = 0;
  while (mutations < mutationsPerCase) {
    mutations += runHostile(scene, clients, mutationsPerCase - mutations);
    scene.loseUpstream();
    if (random.chance(0.2)) scene.step(...clients);
    scene.connect();
    scene.upstream.expectsPorts = false;
  }
  const [client] = clients;
  const ends = scene.establish(client!, { isSession: true });
  scene.expectCarrying(client!, ends);
  scene.finish();
  return mutations;
}

/** Upstream behaves for a while, and turns. Returns how many mutations it came to. */
function runHostile(scene: Scene, clients: readonly FuzzClient[], limit: number): number {
  const { random, upstream, world } = scene;
  if (random.chance(0.5)) {
    for (const client of clients) scene.establish(client, { isSession: true });
  }
  for (let count = random.below(longestHistory); count > 0; count--) {
    scene.step(upstream, ...clients);
  }
  for (const client of clients) client.onUpstreamHostile();
  const hostile = new Hostile(upstream, { said: scene.said(upstream) });
  scene.trace.note("upstream turns");
  let mutations = 0;
  while (mutations < limit && upstream.peer.ending === undefined) {
    hostile.act();
    mutations++;
    scene.checkHostile(upstream);
    for (const client of clients) scene.step(client);
    if (random.chance(0.02)) world.clock.advance(random.below(60_000));
  }
  for (let count = random.below(longestAfterlife); count > 0; count--) scene.step(...clients);
  return mutations;
}
