/** Tells the people at terminals that the network is away, for as long as it is. */

import type { Carried } from "./carried.ts";
import type { Schedule } from "./transport.ts";

/** Shorter losses are not worth a word, in milliseconds. */
export const awayNoticeMs = 2000;

/** How they are told. */
export interface AwayNoticeOptions {
  schedule: Schedule;
  /** Shows a line. */
  show(text: string): void;
  /** Takes it back. */
  takeBack(): void;
}

type State = { kind: "none" } | { kind: "due"; cancel(): void } | { kind: "shown" };

/**
 * Shows a line while what carries a connection is away. It is taken back as soon as the host has let
 * us in again, so that it is gone before anything comes.
 */
export function showAway(
  carried: Pick<Carried, "away" | "watch">,
  { schedule, show, takeBack }: AwayNoticeOptions,
): void {
  let state: State = { kind: "none" };
  carried.watch(() => {
    const { away } = carried;
    if (away === undefined || away.isReached) {
      if (state.kind === "due") state.cancel();
      if (state.kind === "shown") takeBack();
      state = { kind: "none" };
    } else if (state.kind === "none") {
      const since = new Date(away.since).toTimeString().slice(0, 8);
      const delayMs = Math.max(0, away.since + awayNoticeMs - Date.now());
      const cancel = schedule(delayMs, () => {
        state = { kind: "shown" };
        show(`no network since ${since}; what runs here is kept`);
      });
      state = { kind: "due", cancel };
    }
  });
}
