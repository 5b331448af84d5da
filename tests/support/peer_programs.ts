/** Our own programs over the libraries of others, in `tests/peers/`. */

/** The path of such a program. */
export function peerProgram(name: string): string {
  return new URL(`../peers/${name}`, import.meta.url).pathname;
}
