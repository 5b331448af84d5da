/** What was said in one case of the fuzzer, so that a failure can be read. */

import { copyOf, type MemoryPeer } from "./memory.ts";

const nothing = new Uint8Array();

/** The messages between peers and the relay, in order. */
export class Trace {
  readonly #said: { name: string; payload: Uint8Array }[] = [];

  /** Keeps what a peer says and is sent from now on. Returns the list of what it says alone. */
  watch(peer: MemoryPeer): Uint8Array[] {
    const own: Uint8Array[] = [];
    const [sayBytes, send] = [peer.sayBytes.bind(peer), peer.send.bind(peer)];
    peer.send = (payload) => {
      this.note(`  to ${peer.name}`, copyOf(payload));
      send(payload);
    };
    peer.sayBytes = (payload) => {
      const copy = copyOf(payload); // The relay rewrites what it is given.
      own.push(copy);
      this.note(peer.name, copy);
      sayBytes(payload);
    };
    return own;
  }

  /** Keeps bytes that came from somewhere; an event has none. */
  note(name: string, payload: Uint8Array = nothing): void {
    this.#said.push({ name, payload });
  }

  /** One line for each message, in hexadecimal. */
  toString(): string {
    return this.#said.map(({ name, payload }) => `${name}: ${payload.toHex()}`).join("\n");
  }
}
