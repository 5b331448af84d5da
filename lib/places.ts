/**
 * Places to log in: a login costs a key exchange, so only some go on at a time. Whoever has said
 * something waits for a place in turn; whoever is silent takes none.
 */

import type { ByteConnection } from "./byte_connection.ts";

/** How many may log in at a time. */
const maximumLogins = 32;

/** How many may be silent, or wait for a place, in all. */
const maximumWaiting = 1024;

/** What is told about a guest. */
export interface Host {
  /** It has said something, and waits for a place. */
  onWait(): void;
  /** It has a place: its login begins. */
  onPlace(): void;
  /** There are too many: it has been silent for longest, and has to go. */
  onUnwanted(): void;
}

/** The guests that have not logged in, in the order of their coming. */
export class Places {
  readonly #guests = new Set<Guest>();
  #logins = 0;

  /** How many have not logged in. */
  get size(): number {
    return this.#guests.size;
  }

  /** A guest for this connection; `undefined` where there is no room, even without the silent. */
  enter(connection: ByteConnection): Guest | undefined {
    if (this.#guests.size - this.#logins >= maximumWaiting) {
      const silent = this.#find("silent");
      if (!silent) return undefined;
      silent.host?.onUnwanted();
    }
    const guest = new Guest(connection, {
      onSpoken: () => this.#fill(),
      onGone: () => this.#onGone(guest),
    });
    this.#guests.add(guest);
    return guest;
  }

  #onGone(guest: Guest): void {
    if (!this.#guests.delete(guest)) return;
    if (guest.isPlaced) this.#logins--;
    this.#fill();
  }

  /** Gives the places that are free to those who wait. */
  #fill(): void {
    while (this.#logins < maximumLogins) {
      const guest = this.#find("waiting");
      if (!guest) return;
      this.#logins++;
      guest.place();
    }
  }

  #find(kind: State["kind"]): Guest | undefined {
    return this.#guests.values().find((guest) => guest.kind === kind);
  }
}

/**
 * - `silent`: nothing has come from it;
 * - `waiting`: its first bytes have come, nobody has them yet;
 * - `placed`: it is being logged in.
 */
type State = { kind: "silent" } | { kind: "waiting"; resume: () => void } | { kind: "placed" };

/** A connection whose first bytes are held back until it has a place. */
export class Guest implements ByteConnection {
  host: Host | undefined;
  readonly #connection: ByteConnection;
  readonly #events: { onSpoken(): void; onGone(): void };
  #state: State = { kind: "silent" };

  constructor(connection: ByteConnection, events: { onSpoken(): void; onGone(): void }) {
    this.#connection = connection;
    this.#events = events;
  }

  get kind(): State["kind"] {
    return this.#state.kind;
  }

  get isPlaced(): boolean {
    return this.#state.kind === "placed";
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    const count = await this.#connection.read(buffer);
    if (this.#state.kind === "silent" && count !== null) {
      await new Promise<void>((resume) => {
        this.#state = { kind: "waiting", resume };
        this.host?.onWait();
        this.#events.onSpoken();
      });
    }
    return count;
  }

  write(data: Uint8Array): Promise<number> {
    return this.#connection.write(data);
  }

  close(): void {
    this.#connection.close();
    this.leave();
    if (this.#state.kind === "waiting") this.#state.resume();
  }

  /** It has logged in, or is gone: its place is free. May be called twice. */
  leave(): void {
    this.#events.onGone();
  }

  /** Hands over what it has said. */
  place(): void {
    if (this.#state.kind !== "waiting") return;
    const { resume } = this.#state;
    this.#state = { kind: "placed" };
    this.host?.onPlace();
    resume();
  }
}
