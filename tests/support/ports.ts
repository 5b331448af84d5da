/** Ports on the loopback address. */

/**
 * From where ports are given out. Those of whoever asks for port 0, and of connections, are above:
 * from 32768 on with Linux, from 49152 on elsewhere (RFC 6335, 6). So none of them can be taken
 * between the question and the use.
 */
const [lowest, highest] = [10_000, 32_767];

/** Other files of tests begin elsewhere. */
let next = lowest + Math.floor(Math.random() * (highest - lowest));

/** A TCP port of 127.0.0.1 at which nobody listens. */
export function freePort(): number {
  for (;;) {
    const port = next++;
    if (next > highest) next = lowest;
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}

/** Says whether somebody accepts connections at this port of 127.0.0.1. */
export async function isListening(port: number): Promise<boolean> {
  try {
    using _connection = await Deno.connect({ hostname: "127.0.0.1", port });
    return true;
  } catch {
    return false;
  }
}
