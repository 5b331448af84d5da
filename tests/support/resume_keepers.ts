/** The host's half of connections that outlive the network, as the system shows it. */

import { run, text } from "./run.ts";

/** The processes that keep connections to an sshd at a port. */
export async function keepersOf(port: number): Promise<number[]> {
  const { stdout } = await run(["ss", "-Htnp", "state", "established", "dport", `:${port}`]);
  return [...text(stdout).matchAll(/"(?:perl|python|sshshim)[^"]*",pid=(\d+)/g)].map(([, pid]) =>
    Number(pid)
  );
}
