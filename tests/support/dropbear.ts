/** A Dropbear server on loopback, with keys of its own, for the length of a test. */

import { freePort } from "./ports.ts";
import { runChecked, RunningProcess } from "./run.ts";
import type { Upstream } from "./shim.ts";
import { makeKey } from "./sshd.ts";
import type { Transcript } from "./transcript.ts";

/** A running server, and what it logs. Leaving its scope ends it. */
export interface DropbearServer extends Upstream, AsyncDisposable {
  readonly log: Transcript;
}

/**
 * Starts a server that accepts root by public key. Dropbear knows no other place for authorized
 * keys than the user's home, so the server gets a home of its own in a mount namespace, which only
 * root can make.
 *
 * @throws {Error} when it does not listen in time; the message holds its log
 */
export async function startDropbear(): Promise<DropbearServer> {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "dropbear-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const [home, keyFile, hostKeyFile] = ["home", "user", "host"].map((name) =>
    `${folder}/${name}`
  ) as [
    string,
    string,
    string,
  ];
  await makeKey(keyFile, "ed25519");
  await Deno.mkdir(`${home}/.ssh`, { recursive: true, mode: 0o700 });
  await Deno.writeTextFile(
    `${home}/.ssh/authorized_keys`,
    await Deno.readTextFile(`${keyFile}.pub`),
    { mode: 0o600 },
  );
  const made = await runChecked(["dropbearkey", "-t", "ed25519", "-f", hostKeyFile]);
  const hostKey = /^ssh-ed25519 \S+/m.exec(made)?.[0];
  const port = freePort();
  const process = resources.use(
    new RunningProcess([
      ...["unshare", "--mount", "/bin/sh", "-c", 'mount --bind "$0" /root && exec "$@"', home],
      ...["dropbear", "-F", "-E", "-s", "-p", `127.0.0.1:${port}`, "-r", hostKeyFile],
      ...["-P", `${folder}/pid`],
    ]),
  );
  await process.stderr.waitFor(/Not backgrounding/);
  const knownHostsFile = `${folder}/known_hosts`;
  await Deno.writeTextFile(knownHostsFile, `[127.0.0.1]:${port} ${hostKey}\n`);
  const owned = resources.move();
  return {
    host: "127.0.0.1",
    port,
    username: "root",
    keyFile,
    knownHostsFile,
    log: process.stderr,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
