/** A server that tells each session which requests reached it, whatever sshd would make of them. */

import { fileURLToPath } from "node:url";
import { pythonProgram } from "./python.ts";
import { runChecked, RunningProcess } from "./run.ts";
import type { Upstream } from "./shim.ts";
import { makeKey } from "./sshd.ts";

const script = fileURLToPath(new URL("./witness.py", import.meta.url));

/** Starts it on loopback. Leaving the scope of the result ends it and its sessions. */
export async function startWitness(): Promise<Upstream & AsyncDisposable> {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "witness-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  await Promise.all([makeKey(`${folder}/host`, "ed25519"), makeKey(`${folder}/user`, "ed25519")]);
  const process = resources.use(
    new RunningProcess([
      ...[pythonProgram, "-W", "ignore", script],
      ...[`${folder}/host`, `${folder}/user.pub`],
    ]),
  );
  const [port] = await process.stdout.waitFor(/^\d+(?=\n)/);
  const hostKey = await Deno.readTextFile(`${folder}/host.pub`);
  await Deno.writeTextFile(`${folder}/known_hosts`, `[127.0.0.1]:${port} ${hostKey}`);
  const owned = resources.move();
  return {
    host: "127.0.0.1",
    port: Number(port),
    username: (await runChecked(["id", "-un"])).trim(),
    keyFile: `${folder}/user`,
    knownHostsFile: `${folder}/known_hosts`,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
