/**
 * The fuzzer's side `client`: clients that are logged in turn hostile, one after the other, beside
 * a bystander with an open session and an open forward.
 */

import assert from "node:assert/strict";
import { turn } from "./fuzz_hostile.ts";
import type { FuzzClient } from "./fuzz_peers.ts";
import { Scene } from "./fuzz_scene.ts";
import type { Trace } from "./fuzz_trace.ts";
import type { Random } from "./models.ts";

const mutationsPerCase = 40;

/** The longest history of a client before it turns, in steps of it and of upstream. */
const longestHistory = 40;

/**
 * Runs one case.
 *
 * @returns how many mutations it had.
 * @throws {Error} where the relay did not keep them from the bystander or upstream.
 */
export function runClientCase(random: Random, trace: Trace): number {
  const scene = new Scene(random, trace);
  scene.upstream.refusalChance = random.pick([0, 0, 0.2]);
  const bystander = scene.join("bystander");
  const establish = () =>
    [true, false].map((isSession) => scene.establish(bystander, { isSession }));
  let established = establish();
  scene.establishForward(bystander);
  let mutations = 0;
  while (mutations < mutationsPerCase) {
    const isAway = random.chance(0.05);
    mutations += runMutant(scene, bystander, { limit: mutationsPerCase - mutations, isAway });
    if (isAway) {
      scene.connect();
      established = establish();
    }
    while (scene.upstream.hear());
  }
  for (const ends of established) scene.expectCarrying(bystander, ends);
  scene.expectForward(bystander);
  scene.sweep(scene.upstream, bystander);
  const { channelCount } = scene.world.relay;
  assert.equal(channelCount, bystander.lines.size, "channels of clients that have left");
  scene.finish();
  return mutations;
}

/** One client joins, behaves for a while, and turns. Returns how many mutations it came to. */
function runMutant(
  scene: Scene,
  bystander: FuzzClient,
  { limit, isAway }: { limit: number; isAway: boolean },
): number {
  const { random, upstream } = scene;
  const mutant = scene.join("mutant");
  if (random.chance(0.5)) mutant.open({ isSession: true });
  for (let count = random.below(longestHistory); count > 0; count--) {
    scene.step(mutant, upstream, mutant, bystander);
  }
  if (isAway) scene.loseUpstream();
  scene.doubtChannelsOf(mutant);
  const others = isAway ? [bystander] : [upstream, upstream, bystander];
  const mutations = turn(scene, mutant, { others, limit });
  scene.leave(mutant);
  return mutations;
}
