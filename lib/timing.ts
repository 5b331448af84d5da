/** Timers as functions that can be handed on, and waiting that ends in time. */

/** Calls `action` after `delayMs`, unless the returned function is called before. */
export function schedule(delayMs: number, action: () => void): () => void {
  const timer = setTimeout(action, delayMs);
  return () => clearTimeout(timer);
}

/** Timers that have one end. */
export class Timers {
  readonly #cancels = new Set<() => void>();
  #isClosed = false;

  /** As {@link schedule}; what is due after the end is not called. */
  readonly schedule = (delayMs: number, action: () => void): () => void => {
    if (this.#isClosed) return () => {};
    const cancelTimer = schedule(delayMs, () => {
      this.#cancels.delete(cancel);
      action();
    });
    const cancel = () => {
      this.#cancels.delete(cancel);
      cancelTimer();
    };
    this.#cancels.add(cancel);
    return cancel;
  };

  /** No timer is left, and none is made any more. May be called twice. */
  close(): void {
    this.#isClosed = true;
    for (const cancel of this.#cancels) cancel();
  }
}

/** The reason of an abort that nobody asks for: without any an error is made, stack and all. */
export const unexplained = null;

/** Waits so long, or until it is aborted. */
export function pause(delayMs: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(done, delayMs);
    signal?.addEventListener("abort", done);
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
  });
}

/** Waits for `task`, but no longer than `timeoutMs`. */
export async function within(timeoutMs: number, task: Promise<unknown>): Promise<void> {
  const expired = Promise.withResolvers<void>();
  const cancel = schedule(timeoutMs, expired.resolve);
  await Promise.race([task, expired.promise]);
  cancel();
}

/** Resolves as `promise` does; rejects with the reason of `signal` if that is aborted first. */
export async function unlessAborted<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (signal === undefined) return await promise;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  // A signal that was aborted before tells nobody any more.
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
