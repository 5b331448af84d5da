/** Whom to turn away where the kernel does not tell whose a connection is. */

/** From how many connections that have not logged in some are turned away, and from how many all. */
const start = 10;
const full = 100;

/** The share that is turned away at the start; it grows evenly up to all. */
const startRate = 0.3;

/**
 * Whether a new connection is turned away, as sshd's MaxStartups 10:30:100 has it: a flood loses
 * most of its attempts, and somebody who tries again gets in between them.
 *
 * @param unauthenticated how many connections have not logged in yet
 * @param chance evenly distributed from 0 up to, not including, 1
 */
export function dropsEarly(unauthenticated: number, chance: number): boolean {
  if (unauthenticated < start) return false;
  const progress = (unauthenticated - start) / (full - start);
  return chance < startRate + (1 - startRate) * progress;
}
