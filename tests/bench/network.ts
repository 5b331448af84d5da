/** A network of the bench's own: a namespace that has nothing but its loopback (Linux, as root). */

/** The variable that says that this process is in one. */
const mark = "SSHSHIM_BENCH_NETWORK";

/** Whether this process has one. */
export function hasOwnNetwork(): boolean {
  return Deno.env.has(mark);
}

/**
 * Runs a module in one; resolves with its exit status. Packets there are of Ethernet's size: with
 * loopback's 64 KB the kernel keeps megabytes for a connection before any of it is under way.
 */
export async function runInOwnNetwork(module: string, words: string[]): Promise<number> {
  const script = 'ip link set lo mtu 1500 up && exec "$@"';
  const child = new Deno.Command("unshare", {
    args: [
      ...["-n", "/bin/sh", "-c", script, "sh"],
      ...[Deno.execPath(), "run", "-A", module, ...words],
    ],
    env: { [mark]: "1" },
  }).spawn();
  return (await child.status).code;
}

/**
 * Has the kernel keep no more for connections that begin now than for a link of the real world. It
 * lets a connection have as much waiting as is under way, which the link's queue limits there; the
 * proxy that stands for the link takes whatever comes, and loses nothing. Leaving the scope undoes
 * it for later connections.
 *
 * @param waitingBytes how much may wait in a connection's sender
 */
export async function limitBuffers(waitingBytes: number): Promise<AsyncDisposable> {
  const limits = { rmem: "4096 65536 65536", wmem: `4096 16384 ${waitingBytes}` };
  const undo = new AsyncDisposableStack();
  for (const [name, limit] of Object.entries(limits)) {
    const file = `/proc/sys/net/ipv4/tcp_${name}`;
    const before = await Deno.readTextFile(file);
    undo.defer(() => Deno.writeTextFile(file, before));
    await Deno.writeTextFile(file, limit);
  }
  return undo;
}
