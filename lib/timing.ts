/** Timers as functions that can be handed on. */

/** Calls `action` after `delayMs`, unless the returned function is called before. */
export function schedule(delayMs: number, action: () => void): () => void {
  const timer = setTimeout(action, delayMs);
  return () => clearTimeout(timer);
}

/** Waits for `task`, but no longer than `timeoutMs`. */
export async function within(timeoutMs: number, task: Promise<unknown>): Promise<void> {
  const expired = Promise.withResolvers<void>();
  const cancel = schedule(timeoutMs, expired.resolve);
  await Promise.race([task, expired.promise]);
  cancel();
}
