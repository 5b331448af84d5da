/**
 * The way into the endpoint: the kernel is asked about each connection as soon as it is accepted,
 * and whoever is not our user's is closed before anything is spent on it. Where the kernel does not
 * tell, strangers come in, but not too many.
 */

import type { Admission, Admit, Endpoints, SocketRecord } from "./access.ts";
import { dropsEarly } from "./early_drop.ts";
import { TurnedAway } from "./turned_away.ts";

/** How many connections may wait for the kernel's word before no more are accepted. */
const maximumAsked = 1024;

/** What the door is made of. */
export interface DoorOptions {
  /** Asked once about each connection; without it nobody tells whose it is. */
  admit: Admit | undefined;
  /** Whether a connection of somebody else is closed at once, or counts like one of a stranger. */
  refusesOthers: boolean;
  /** How many that are in have not logged in. */
  countUnauthenticated(): number;
  /**
   * Takes a connection that may enter, and closes it in the end; false where there is no room.
   *
   * @param own whether the kernel has said that it is our user's, and what it said of its socket.
   */
  onEnter(connection: Deno.TcpConn, own: { isOwn: boolean; socket?: SocketRecord }): boolean;
  /** Told of those that were turned away, in words that go on after "turned away a connection". */
  onTurnedAway?(phrase: string, count: number): void;
}

/** The door of the endpoint. */
export class Door {
  readonly #options: DoorOptions;
  readonly #turnedAway: TurnedAway;
  readonly #asked = new Set<Promise<void>>();
  #isClosed = false;

  constructor(options: DoorOptions) {
    this.#options = options;
    this.#turnedAway = new TurnedAway(options.onTurnedAway);
  }

  /** How many connections were turned away in all. */
  get turnedAwayCount(): number {
    return this.#turnedAway.total;
  }

  /** Takes a connection that was just accepted; resolves when the next may be accepted. */
  async receive(connection: Deno.TcpConn): Promise<void> {
    const answer = this.#ask(connection);
    this.#asked.add(answer);
    void answer.then(() => this.#asked.delete(answer));
    if (this.#asked.size >= maximumAsked) await answer;
  }

  /** Lets nobody in any more; resolves when nobody waits here. May be called twice. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#asked);
    this.#turnedAway.close();
  }

  async #ask(connection: Deno.TcpConn): Promise<void> {
    const { admit, refusesOthers } = this.#options;
    const word = await admit?.(endpointsOf(connection));
    const isOwn = word?.admitted === true;
    const isRefused = word?.admitted === false && !word.cannotTell && refusesOthers;
    const admission = isOwn || isRefused ? word : this.#dropAtRandom();
    if (admission.admitted && !this.#isClosed && isAlive(connection)) {
      if (this.#options.onEnter(connection, { isOwn, socket: admission.socket })) return;
      this.#turnedAway.add("(too many others wait to log in)");
    }
    connection.close();
    if (!admission.admitted) this.#turnedAway.add(describe(admission));
  }

  /** Somebody was let in, and could not log in. @param reason for the log, in brackets. */
  onFailedLogin(reason: string): void {
    if (!this.#isClosed) this.#turnedAway.add(reason);
  }

  #dropAtRandom(): Admission {
    return dropsEarly(this.#options.countUnauthenticated(), Math.random())
      ? { admitted: false, reason: "many others have not logged in" }
      : { admitted: true };
  }
}

/** Has small packets sent at once, which fails where the peer has reset the connection. */
function isAlive(connection: Deno.TcpConn): boolean {
  try {
    connection.setNoDelay(true);
    return true;
  } catch {
    // It came and went: that is nobody to serve, and nothing to report.
    return false;
  }
}

/** Both ends of a connection that we have accepted. */
export function endpointsOf({ remoteAddr, localAddr }: Deno.TcpConn): Endpoints {
  return {
    remoteHost: remoteAddr.hostname,
    remotePort: remoteAddr.port,
    localHost: localAddr.hostname,
    localPort: localAddr.port,
  };
}

/** Whose connection it was, or why it could not be told. */
function describe({ user, reason }: Admission & { admitted: false }): string {
  return user === undefined ? `(${reason})` : `of user ${userName(user)}`;
}

/** The name of a user where this machine's own list has one, or else the number. */
function userName(uid: number): string {
  try {
    const accounts = Deno.readTextFileSync("/etc/passwd").split("\n");
    const account = accounts.map((line) => line.split(":")).find(([, , id]) => id === String(uid));
    return account?.[0] ?? String(uid);
  } catch {
    // The number says it too.
    return String(uid);
  }
}
