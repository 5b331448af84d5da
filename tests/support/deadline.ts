/** The one deadline of everything that a test waits for, and promises that a test leaves behind. */

/**
 * How long a test waits for one event before it fails, in milliseconds. It guards against waiting
 * for ever and measures nothing: a busy machine must never come near it.
 */
export const defaultTimeoutMs = 300_000;

/** The deadline is real where a test simulates time. */
const { setTimeout, clearTimeout } = globalThis;

/**
 * Resolves as `promise` does, if that is in time.
 *
 * @param what the sentence of the error otherwise
 * @throws {Error} when `timeoutMs` passes first
 */
export async function within<T>(
  promise: Promise<T>,
  what: string,
  timeoutMs: number = defaultTimeoutMs,
): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`${what} after ${timeoutMs} ms.`)), timeoutMs);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Keeps the error of a promise for whoever awaits it. A test that fails leaves behind what it
 * would have awaited later; an error that nobody hears would end the other tests of its file too.
 */
export function kept<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
