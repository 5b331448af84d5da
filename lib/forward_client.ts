/**
 * The client of the relay that all forwards of a host share, and the connections that came by them:
 * it is there as long as there is any of either.
 */

import { ChannelPipe, type PipeEnd } from "./channel_pipe.ts";
import { ForwardedEnd } from "./forward_ends.ts";
import type { RelayClient, RelayClientOptions } from "./relay_client.ts";

/** How many connections may wait for their other end at a time. */
const mostWaiting = 600;

/** What makes the client. */
export type MakeClient = (options: Pick<RelayClientOptions, "onOpen" | "onEnd">) => RelayClient;

/** What the client is for. */
export interface ForwardClientOptions {
  makeClient: MakeClient;
  onOpen: RelayClientOptions["onOpen"];
  /** The relay has ended it, and all that it had there. */
  onLost(reason: string): void;
  /** Whether there is a forward. */
  isNeeded(): boolean;
}

/** The client, which is made anew where there is none, and the connections. */
export class ForwardClient {
  readonly #options: ForwardClientOptions;
  readonly #connections = new Set<ForwardedEnd>();
  #client: RelayClient | undefined;
  #waitingCount = 0;

  constructor(options: ForwardClientOptions) {
    this.#options = options;
  }

  /** Joins the relay, where it has not yet. */
  enter(): void {
    this.#present();
  }

  /**
   * A connection begins to wait for its other end.
   *
   * @returns what ends that; may be called twice.
   * @throws {Error} where too many wait.
   */
  beginWait(): () => void {
    if (this.#waitingCount >= mostWaiting) throw new Error("too many connections wait");
    this.#waitingCount++;
    let isWaiting = true;
    return () => {
      if (isWaiting) this.#waitingCount--;
      isWaiting = false;
    };
  }

  /** Takes a connection, of which it is told when it is closed. */
  add(connection: PipeEnd, onClose: () => void): ForwardedEnd {
    const end = new ForwardedEnd(connection, () => {
      this.#connections.delete(end);
      onClose();
      this.leaveIfUnused();
    });
    this.#connections.add(end);
    return end;
  }

  /** Asks upstream for the other end of a connection. */
  openChannel(
    { channelType, body }: { channelType: string; body: Uint8Array },
    pipe: { connection: ForwardedEnd; onOpen: () => void; onRefusal: (reason: string) => void },
  ): void {
    this.#present().openChannel(channelType, { body }, (channel) => new ChannelPipe(channel, pipe));
  }

  /** Sends a global request. @returns the answer; `undefined` where it is refused. */
  request({ name, data }: { name: string; data: Uint8Array }): Promise<Uint8Array | undefined> {
    return this.#present().request(name, data);
  }

  /** Takes back what was requested; what the relay has ended is gone already. */
  async cancel({ name, data }: { name: string; data: Uint8Array }): Promise<void> {
    await this.#client?.request(`cancel-${name}`, data);
  }

  /** Leaves the relay where nothing is left. */
  leaveIfUnused(): void {
    if (this.#connections.size === 0 && !this.#options.isNeeded()) this.#leave();
  }

  /** Ends all connections, and leaves the relay. */
  close(): void {
    this.#leave();
    for (const connection of this.#connections) connection.close();
  }

  #leave(): void {
    const client = this.#client;
    this.#client = undefined;
    client?.leave();
  }

  #present(): RelayClient {
    if (this.#client) return this.#client;
    const client = this.#options.makeClient({
      onOpen: this.#options.onOpen,
      onEnd: (reason) => {
        if (this.#client !== client) return;
        this.#client = undefined;
        this.#options.onLost(reason);
      },
    });
    return this.#client = client;
  }
}
