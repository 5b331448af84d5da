/**
 * A peer that behaves until it turns: then it sends wrong messages, and hears no more than it needs
 * in order to be wrong in depth.
 */

import { buildMessage } from "../../lib/ssh_data.ts";
import { MessageType } from "../../lib/wire.ts";
import { Mutator } from "./fuzz_mutations.ts";
import type { Scene } from "./fuzz_scene.ts";
import type { Sent } from "./memory.ts";
import type { Model, Random } from "./models.ts";

const { channelClose, channelOpenConfirmation } = MessageType;

/** What is left of a model that has turned. */
class Hostile {
  readonly #model: Model;
  readonly #random: Random;
  readonly #mutator: Mutator;
  /** The relay's numbers for the channels that are open, by the peer's own. */
  readonly #open: Map<number, number>;
  /** The relay's numbers for channels that the peer was asked to open. */
  #asked: number[] = [];

  /** @param said what the peer has said so far, and will say. */
  constructor(model: Model, { said }: { said: readonly Uint8Array[] }) {
    const lines = [...model.lines.values()];
    this.#model = model;
    this.#random = model.random;
    this.#open = new Map(
      lines.filter(({ maySend }) => maySend).map(({ own, slot }) => [own, slot]),
    );
    this.#asked = lines.filter(({ state }) => state === "awaiting").map(({ slot }) => slot);
    this.#mutator = new Mutator(model.random, { said, numbers: () => [...this.#open.values()] });
    for (const sent of model.inbox.splice(0)) this.#onSent(sent);
    model.peer.onSent = (sent) => this.#onSent(sent);
  }

  #onSent({ message }: Sent): void {
    if (!("recipientChannel" in message)) {
      if ("senderChannel" in message) this.#asked.push(message.senderChannel);
    } else if ("senderChannel" in message) {
      this.#open.set(message.recipientChannel, message.senderChannel);
    } else if (message.type === channelClose) {
      this.#open.delete(message.recipientChannel);
    }
  }

  /** Sends what one mutation makes. */
  act(): void {
    if (this.#asked.length > 0 && this.#random.chance(0.5)) {
      const [slot, own] = [this.#asked.shift()!, this.#random.below(2 ** 32)];
      this.#open.set(own, slot);
      this.#say(
        this.#mutator.alter(buildMessage(channelOpenConfirmation, slot, own, 32_768, 32_768)),
      );
    }
    this.#say(this.#mutator.next());
  }

  #say(payloads: readonly Uint8Array[]): void {
    const { peer } = this.#model;
    if (peer.isPaused) peer.drain(); // What is not read does not arrive.
    for (const payload of payloads) if (peer.ending === undefined) peer.sayBytes(payload);
  }
}

/**
 * A peer turns, and goes on until the relay ends it, among others that behave.
 *
 * @returns how many mutations it came to.
 */
export function turn(
  scene: Scene,
  model: Model,
  { others, limit }: { others: readonly Model[]; limit: number },
): number {
  const hostile = new Hostile(model, { said: scene.said(model) });
  scene.trace.note(`${model.peer.name} turns`);
  let mutations = 0;
  while (mutations < limit && model.peer.ending === undefined) {
    hostile.act();
    mutations++;
    scene.checkHostile(model);
    for (let count = 0; count < 2; count++) scene.step(...others);
    if (scene.random.chance(0.02)) scene.world.clock.advance(scene.random.below(60_000));
  }
  return mutations;
}
