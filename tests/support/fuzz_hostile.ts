/** A peer that behaves until it turns: then it sends wrong messages, and hears only numbers. */

import { Mutator } from "./fuzz_mutations.ts";
import type { Sent } from "./memory.ts";
import type { Model } from "./models.ts";

/** What is left of a model that has turned. */
export class Hostile {
  readonly #model: Model;
  readonly #mutator: Mutator;

  /** @param said what the peer has said so far, and will say. */
  constructor(model: Model, { said }: { said: readonly Uint8Array[] }) {
    const numbers = [...model.lines.values()].map(({ slot }) => slot).filter((slot) => slot >= 0);
    const onSent = ({ message }: Sent) => {
      if ("senderChannel" in message) numbers.push(message.senderChannel);
    };
    model.inbox.splice(0).forEach(onSent);
    model.peer.onSent = onSent;
    this.#model = model;
    this.#mutator = new Mutator(model.random, { said, numbers });
  }

  /** Sends what one mutation makes. */
  act(): void {
    for (const payload of this.#mutator.next()) this.#model.peer.sayBytes(payload);
  }
}
