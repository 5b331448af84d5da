/** A real OpenSSH server on loopback, with keys of its own, for the length of a test. */

import { freePort } from "./ports.ts";
import { descendantsOf, isRunning } from "./processes.ts";
import { runChecked, RunningProcess } from "./run.ts";
import type { Transcript } from "./transcript.ts";

/** What a test may ask of the server. */
export interface SshdOptions {
  /**
   * Lines for sshd_config, such as `RekeyLimit 1M`. They come first, and the first value of a
   * keyword is the one that counts.
   */
  config?: string[];
  /** How many file descriptors a process of the server may have; as many as this one by default. */
  descriptors?: number;
  /** Further variables of each session, by name. */
  environment?: Record<string, string>;
}

/** A running server. Leaving its scope ends it and every session in it. */
export interface Sshd extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** The account of this process, the only one that may log in. */
  readonly username: string;
  /** The user's private Ed25519 key. */
  readonly keyFile: string;
  /** The user's private RSA key. */
  readonly rsaKeyFile: string;
  /** Holds the server's Ed25519 and RSA host keys under `[host]:port`. */
  readonly knownHostsFile: string;
  /** The public host keys as `type base64`. */
  readonly hostKeys: string[];
  /** A temporary folder that ends with the server. */
  readonly folder: string;
  readonly pid: number;
  /** What the server logs, at level VERBOSE. */
  readonly log: Transcript;
}

const sshdProgram = "/usr/sbin/sshd";
const host = "127.0.0.1";

/**
 * Starts a server that accepts the account of this process by public key.
 *
 * @throws {Error} when it does not listen in time; the message holds its log
 */
export async function startSshd(options: SshdOptions = {}): Promise<Sshd> {
  // An unprivileged separation directory is compiled into Debian's sshd, and made by its service.
  if (Deno.uid() === 0 && Deno.build.os === "linux") {
    await Deno.mkdir("/run/sshd", { recursive: true, mode: 0o755 });
  }
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "sshd-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const username = (await runChecked(["id", "-un"])).trim();
  await Promise.all([
    makeKey(`${folder}/host_ed25519`, "ed25519"),
    lendRsaKey(`${folder}/host_rsa`, "host"),
    makeKey(`${folder}/user_ed25519`, "ed25519"),
    lendRsaKey(`${folder}/user_rsa`, "user"),
  ]);
  await Deno.writeTextFile(
    `${folder}/authorized_keys`,
    await Deno.readTextFile(`${folder}/user_ed25519.pub`) +
      await Deno.readTextFile(`${folder}/user_rsa.pub`),
    { mode: 0o600 },
  );
  // What a user's own startup files do and print is no part of a test, and costs time.
  const environment = { HOME: `${folder}/home`, ...options.environment };
  await Deno.mkdir(environment.HOME);
  const { process, port } = await launch(folder, [
    ...options.config ?? [],
    `SetEnv ${Object.entries(environment).map(([name, value]) => `${name}=${value}`).join(" ")}`,
  ], options.descriptors);
  resources.defer(() => endWithSessions(process));
  const hostKeys = await Promise.all(["ed25519", "rsa"].map(async (type) => {
    const line = await Deno.readTextFile(`${folder}/host_${type}.pub`);
    return line.trim().split(" ").slice(0, 2).join(" ");
  }));
  const knownHostsFile = `${folder}/known_hosts`;
  await Deno.writeTextFile(
    knownHostsFile,
    hostKeys.map((key) => `[${host}]:${port} ${key}\n`).join(""),
  );
  const owned = resources.move();
  return {
    host,
    port,
    username,
    keyFile: `${folder}/user_ed25519`,
    rsaKeyFile: `${folder}/user_rsa`,
    knownHostsFile,
    hostKeys,
    folder,
    pid: process.pid,
    log: process.stderr,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/**
 * Makes a key pair without passphrase at `path` and `path.pub`.
 *
 * @throws {Error} when ssh-keygen fails
 */
export async function makeKey(path: string, type: "ed25519" | "rsa"): Promise<void> {
  const size = type === "rsa" ? ["-b", "2048"] : [];
  await runChecked(["ssh-keygen", "-q", "-t", type, ...size, "-N", "", "-C", "", "-f", path]);
}

/** To make an RSA key takes as long as to start the server: the servers of a file share theirs. */
const rsaKeys = new Map<"host" | "user", Promise<{ secret: string; open: string }>>();

/** The folder of keys that files of tests share, if `shareRsaKeys` has made one. */
const sharedKeys = "SSHSHIM_TEST_RSA_KEYS";

/** Makes the keys for processes that run tests, and names the variable that leads there. */
export async function shareRsaKeys(folder: string): Promise<Record<string, string>> {
  await Promise.all(["host", "user"].map((whose) => makeKey(`${folder}/${whose}`, "rsa")));
  return { [sharedKeys]: folder };
}

/** Writes a key pair that is made once. */
export async function lendRsaKey(path: string, whose: "host" | "user"): Promise<void> {
  let making = rsaKeys.get(whose);
  if (making === undefined) rsaKeys.set(whose, making = makeRsaKey(whose));
  const { secret, open } = await making;
  await Deno.writeTextFile(path, secret, { mode: 0o600 });
  await Deno.writeTextFile(`${path}.pub`, open);
}

async function makeRsaKey(whose: "host" | "user"): Promise<{ secret: string; open: string }> {
  const read = async (path: string) => {
    const [secret, open] = await Promise.all(
      [path, `${path}.pub`].map((p) => Deno.readTextFile(p)),
    );
    return { secret: secret!, open: open! };
  };
  const shared = Deno.env.get(sharedKeys);
  if (shared !== undefined) return await read(`${shared}/${whose}`);
  const folder = await Deno.makeTempDir({ prefix: "rsa-" });
  try {
    await makeKey(`${folder}/key`, "rsa");
    return await read(`${folder}/key`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function launch(
  folder: string,
  config: string[],
  descriptors: number | undefined,
): Promise<{ process: RunningProcess; port: number }> {
  const limited = descriptors === undefined
    ? []
    : ["/bin/sh", "-c", `ulimit -n ${descriptors} && exec "$@"`, "sh"];
  // Somebody else may take the free port before sshd does; that is no reason for a test to fail.
  for (let attempt = 1;; attempt++) {
    const port = freePort();
    await Deno.writeTextFile(`${folder}/sshd_config`, sshdConfig(folder, port, config));
    const process = new RunningProcess([
      ...[...limited, sshdProgram],
      ...["-D", "-e", "-f", `${folder}/sshd_config`],
    ]);
    try {
      await process.stderr.waitFor(/^Server listening on /m);
      return { process, port };
    } catch (error) {
      await process[Symbol.asyncDispose]();
      if (attempt === 3 || !process.stderr.text.includes("Address already in use")) throw error;
    }
  }
}

function sshdConfig(folder: string, port: number, config: string[]): string {
  return [
    ...config,
    `Port ${port}`,
    `ListenAddress ${host}`,
    `HostKey ${folder}/host_ed25519`,
    `HostKey ${folder}/host_rsa`,
    `PidFile ${folder}/sshd.pid`,
    `AuthorizedKeysFile ${folder}/authorized_keys`,
    "StrictModes no",
    "UsePAM no",
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
    "PermitRootLogin yes",
    "PrintMotd no",
    "PrintLastLog no",
    "Subsystem sftp internal-sftp",
    "MaxStartups 100:30:200",
    "LogLevel VERBOSE",
    "",
  ].join("\n");
}

/** The server's end leaves its sessions running: they are ended with it here. */
async function endWithSessions(process: RunningProcess): Promise<void> {
  const sessions = await descendantsOf(process.pid);
  await process[Symbol.asyncDispose]();
  for (const pid of sessions) {
    if (!await isRunning(pid)) continue;
    try {
      Deno.kill(pid, "SIGTERM");
    } catch {
      // It has just ended by itself.
    }
  }
}
