/** A tinyssh server on loopback, with keys of its own: a process for each connection. */

import { runChecked } from "./run.ts";
import { startService, writeAll } from "./services.ts";
import { makeKey } from "./sshd.ts";
import type { PeerServer } from "./peer_matrix.ts";
import { Transcript } from "./transcript.ts";

/**
 * Starts a server that accepts root by public key. It looks for authorized keys in the user's home
 * alone, so each process gets a home of its own in a mount namespace, which only root can make.
 */
export async function startTinyssh(): Promise<PeerServer> {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "tinyssh-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const [home, keyFile, hostKeys] = [`${folder}/home`, `${folder}/user`, `${folder}/keys`] as const;
  await makeKey(keyFile, "ed25519");
  await Deno.mkdir(`${home}/.ssh`, { recursive: true, mode: 0o700 });
  await Deno.copyFile(`${keyFile}.pub`, `${home}/.ssh/authorized_keys`);
  await Deno.chmod(`${home}/.ssh/authorized_keys`, 0o600);
  await runChecked(["tinysshd-makekey", "-q", hostKeys]);
  const hostKey = await runChecked(["tinysshd-printkey", hostKeys]);
  const command = [
    ...["unshare", "--mount", "/bin/sh", "-c", 'mount --bind "$0" /root && exec "$@"', home],
    ...["tinysshd", "-v", "-x", "sftp=/usr/lib/openssh/sftp-server", hostKeys],
  ];
  const log = new Transcript();
  const service = resources.use(startService((connection) => serve(connection, { command, log })));
  const knownHostsFile = `${folder}/known_hosts`;
  const [publicKey = ""] = /ssh-ed25519 \S+/.exec(hostKey) ?? [];
  await Deno.writeTextFile(knownHostsFile, `[127.0.0.1]:${service.port} ${publicKey}\n`);
  const owned = resources.move();
  return {
    ...{ host: "127.0.0.1", port: service.port, username: "root", keyFile, knownHostsFile, log },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Joins a connection to the standard streams of a process. */
async function serve(
  connection: Deno.Conn,
  { command: [program = "", ...args], log }: { command: string[]; log: Transcript },
): Promise<void> {
  const child = new Deno.Command(program, {
    args,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const logging = child.stderr.pipeThrough(new TextDecoderStream()).pipeTo(
    new WritableStream({ write: (text) => log.append(text) }),
  );
  const writer = child.stdin.getWriter();
  const feeding = (async () => {
    const buffer = new Uint8Array(65_536);
    for (;;) {
      const count = await connection.read(buffer).catch(() => null);
      if (count === null) break;
      await writer.write(buffer.slice(0, count));
    }
    await writer.close();
  })().catch(() => {});
  for await (const chunk of child.stdout) await writeAll(connection, chunk).catch(() => {});
  connection.close();
  await Promise.all([feeding, logging, child.status]);
}
