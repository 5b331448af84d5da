/** The states of the connection to the remote host, and which may follow which. */

import type { Session } from "./handshake.ts";
import type { ReadyConnection } from "./ready_connection.ts";

/** Each owns its data and its timer. */
export type State =
  | { kind: "idle" }
  | { kind: "connecting"; attempt: AbortController; mayAsk: boolean; since: number }
  | { kind: "ready"; connection: ReadyConnection; session: Session; provenTimer: Timer }
  /** `isFirst`: what was lost had lived long, and nothing has been tried since. */
  | { kind: "waiting"; reason: Error; retryAt: number; isFirst: boolean; timer: Timer }
  /** Nothing to do until a client comes. */
  | { kind: "asleep"; reason: Error }
  /** Another attempt would fail alike: only a person's word starts one. */
  | { kind: "stopped"; reason: Error }
  | { kind: "closed" };

/** Where the connection to the remote host stands, and why it is down where that is so. */
export type UpstreamState =
  | { kind: "connecting" | "closed" }
  /** With `away`, since a time in milliseconds since 1970: the network is lost, and what runs is kept. */
  | { kind: "ready"; away?: { since: number; reason: Error } }
  /**
   * - `waiting`: tried again after a while, or as soon as a client wants something.
   * - `asleep`: tried again when a client wants something.
   * - `stopped`: tried again when a person wants it.
   */
  | { kind: "waiting" | "asleep" | "stopped"; reason: Error };

type Timer = ReturnType<typeof setTimeout>;

/** Which states may follow one. */
export const followers: Record<State["kind"], readonly State["kind"][]> = {
  idle: ["connecting", "asleep", "closed"],
  connecting: ["ready", "waiting", "asleep", "stopped", "closed"],
  ready: ["waiting", "asleep", "stopped", "closed"],
  waiting: ["connecting", "closed"],
  asleep: ["connecting", "closed"],
  stopped: ["connecting", "closed"],
  closed: [],
};
