/**
 * What one client may take of what all share: the file descriptors that upstream has for one
 * connection, usually 1,024 with OpenSSH's server.
 */

/** File descriptors of upstream's that channels and remote forwards take, or will. */
export interface Usage {
  /** Those of one client, and of all clients. */
  own: number;
  all: number;
  /** How many all clients together may take. */
  maximum: number;
}

/**
 * A client may have this many times what is left: one client three quarters of all, the next ones
 * less, so that none takes them from all. Beside that, clients get the smallest share as long as
 * all together go that far beyond the maximum, no further: sessions keep a reserve.
 */
const shareOfRest = 3;
const smallestShare = 32;

/** Why a client may not take so many more; `undefined` if it may. */
export function objectionTo(more: number, { own, all, maximum }: Usage): string | undefined {
  const share = Math.max(smallestShare, shareOfRest * (maximum - all));
  if (own + more <= share && all + more <= maximum + smallestShare) return undefined;
  return `channels and forwards take ${all} file descriptors of the remote host in all, ` +
    `${own} of them this client's: too many for one more (--max-channels is ${maximum})`;
}
