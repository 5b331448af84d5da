/**
 * A network that counts round trips: what either end sends stays under way until both have nothing
 * more to say, and then all of it arrives at once.
 */

import type { ByteConnection } from "../../lib/byte_connection.ts";
import { concatenate } from "../../lib/ssh_data.ts";
import { settled } from "./scripted_connector.ts";

/** So many turns of the event loop without a word mean that an end waits. */
const quietTurns = 25;

/** What one end has written, on its way to the other. */
class Way {
  #held: Uint8Array[] = [];
  #arrived: Uint8Array[] = [];
  #wake: (() => void) | undefined;
  /** Whether that nothing more comes is under way as well, or has arrived. */
  #end: "none" | "held" | "arrived" = "none";
  /** Rises with each piece. */
  pieceCount = 0;

  /** Everything that was ever sent. */
  readonly sent: Uint8Array[] = [];

  send(bytes: Uint8Array): void {
    this.#held.push(bytes.slice());
    this.sent.push(bytes.slice());
    this.pieceCount++;
  }

  /** Nothing more is sent. */
  end(): void {
    if (this.#end === "none") this.#end = "held";
    this.pieceCount++;
  }

  /** Nothing more is read. */
  cancel(): void {
    this.#end = "arrived";
    this.#wake?.();
  }

  /** @returns whether anything was under way. */
  deliver(): boolean {
    if (this.#end === "held") this.#end = "arrived";
    this.#wake?.();
    if (this.#held.length === 0) return false;
    this.#arrived.push(concatenate(this.#held));
    this.#held = [];
    return true;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    while (this.#arrived.length === 0) {
      if (this.#end === "arrived") return null;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const [first] = this.#arrived;
    const part = first!.subarray(0, buffer.length);
    if (part.length < first!.length) this.#arrived[0] = first!.subarray(part.length);
    else this.#arrived.shift();
    buffer.set(part);
    return part.length;
  }
}

/** One connection through such a network. */
export class CountedNetwork {
  readonly #toServer = new Way();
  readonly #toClient = new Way();
  /** How often something has gone to the server. */
  flights = 0;

  readonly client: ByteConnection = this.#end(this.#toClient, this.#toServer);
  readonly server: ByteConnection = this.#end(this.#toServer, this.#toClient);

  /** What the client has sent so far. */
  get sentByClient(): Uint8Array {
    return concatenate(this.#toServer.sent);
  }

  /** Carries until something has happened. */
  async until(event: Promise<unknown>): Promise<void> {
    let hasHappened = false;
    const note = () => void (hasHappened = true);
    void event.then(note, note);
    while (!hasHappened) {
      await this.#untilQuiet();
      if (this.#toServer.deliver()) this.flights++;
      await this.#untilQuiet();
      this.#toClient.deliver();
      await this.#untilQuiet();
    }
  }

  async #untilQuiet(): Promise<void> {
    const count = () => this.#toServer.pieceCount + this.#toClient.pieceCount;
    for (let turn = 0, seen = count(); turn < quietTurns; turn++) {
      await settled();
      if (count() === seen) continue;
      seen = count();
      turn = 0;
    }
  }

  #end(incoming: Way, outgoing: Way): ByteConnection {
    return {
      read: (buffer) => incoming.read(buffer),
      write(bytes) {
        outgoing.send(bytes);
        return Promise.resolve(bytes.length);
      },
      close() {
        incoming.cancel();
        outgoing.end();
      },
    };
  }
}
