/** Another OpenSSH server with the keys of a running one: another program, or in another place. */

import { freePort } from "./ports.ts";
import { RunningProcess } from "./run.ts";
import type { Sshd } from "./sshd.ts";

/** How it is started. */
export interface SecondSshdOptions {
  /** The server's program and what comes before its arguments. */
  command: string[];
  /** Further lines for sshd_config, which come first. */
  config?: string[];
}

/** Starts the server; leaving the scope of the result ends it, and not the first one. */
export async function startSecondSshd(
  sshd: Sshd,
  { command, config = [] }: SecondSshdOptions,
): Promise<Sshd> {
  const { folder, host } = sshd;
  const port = freePort();
  const text = await Deno.readTextFile(`${folder}/sshd_config`);
  const configFile = `${folder}/second_sshd_config`;
  const lines = [...config, text.replace(/^Port .*/m, `Port ${port}`)];
  await Deno.writeTextFile(configFile, lines.join("\n"));
  const process = new RunningProcess([...command, "-D", "-e", "-f", configFile]);
  try {
    await process.stderr.waitFor(new RegExp(`Server listening on \\S+ port ${port}`));
  } catch (error) {
    await process[Symbol.asyncDispose]();
    throw error;
  }
  const knownHostsFile = `${folder}/second_known_hosts`;
  await Deno.writeTextFile(
    knownHostsFile,
    sshd.hostKeys.map((key) => `[${host}]:${port} ${key}\n`).join(""),
  );
  return {
    ...sshd,
    port,
    knownHostsFile,
    pid: process.pid,
    log: process.stderr,
    [Symbol.asyncDispose]: () => process[Symbol.asyncDispose](),
  };
}
