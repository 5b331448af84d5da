/** An ssh-agent with one key of its own. */

import { runChecked, RunningProcess } from "./run.ts";
import { makeKey } from "./sshd.ts";

/** A running agent. Leaving its scope ends it. */
export interface Agent extends AsyncDisposable {
  /** The path of its unix socket. */
  readonly socket: string;
  /** The public key's file. */
  readonly publicKeyFile: string;
  /** What `ssh-add -l` prints about its only key, as one line. */
  readonly listing: string;
}

/** Starts an agent whose files are in `folder` and begin with `name`. */
export async function startAgent(folder: string, name: string): Promise<Agent> {
  await using resources = new AsyncDisposableStack();
  const socket = `${folder}/${name}.agent`;
  const keyFile = `${folder}/${name}.key`;
  await makeKey(keyFile, "ed25519");
  const process = resources.use(new RunningProcess(["ssh-agent", "-D", "-a", socket]));
  await process.stdout.waitFor(/SSH_AUTH_SOCK=/);
  const environment = { PATH: Deno.env.get("PATH") ?? "/usr/bin:/bin", SSH_AUTH_SOCK: socket };
  await runChecked(["ssh-add", "-q", keyFile], { environment });
  const listing = await runChecked(["ssh-add", "-l"], { environment });
  const owned = resources.move();
  return {
    socket,
    publicKeyFile: `${keyFile}.pub`,
    listing: listing.trim(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
