/** What the relay is given: types alone. */

import type { ChannelLimits } from "./channel_limits.ts";
import type { PacingOptions } from "./pacing.ts";
import type { Observe } from "./relay_events.ts";
import type { Peer, Schedule } from "./transport.ts";

/** What the relay is given. */
export interface RelayOptions {
  limits?: Partial<ChannelLimits>;
  schedule: Schedule;
  /** Keeps channels from waiting for each other; absent, everything is sent at once. */
  pacing?: PacingOptions;
  /** The time, in milliseconds since 1970; by default it stands still. */
  now?(): number;
  /** A client wants something of upstream while it is away. */
  onWanted(): void;
  /** Whether what waits for upstream goes on waiting, however long; by default it never does. */
  isPatient?(): boolean;
  /** A session waits because upstream allows no more at a time. */
  onCrowded(): void;
  /** Words for the log; an error is one of ours. */
  report(text: string, level?: "debug" | "info" | "error"): void;
  /** Takes what is told of channels and forwards, for a record. */
  observe?: Observe<Peer>;
}
