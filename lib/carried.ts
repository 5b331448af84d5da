/** A connection that outlives what carries it: types alone. */

/** A time without what carries a connection. */
export interface Away {
  /** In milliseconds since 1970. */
  since: number;
  reason: Error;
  /** Whether the host has let us in again, and is about to be joined. */
  isReached: boolean;
}

/** What carries a connection that outlives it. */
export interface Carried {
  /** `undefined` while it is there. */
  readonly away: Away | undefined;
  /** `onChange` is called when `away` is perhaps another; it must not throw. */
  watch(onChange: () => void): void;
  /** The machine has slept: asks for a sign of life, or tries now. */
  probe(): void;
  /** A person wants it there, and may be asked. */
  retry(): void;
}
