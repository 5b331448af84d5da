/** Hosts of a name and port of their own, which are sshd as a ProxyCommand, for ssh and the shim. */

import { clientEnvironment } from "./both.ts";
import { logIn, type LoginResult } from "./login.ts";
import { run, runChecked, text } from "./run.ts";
import { type Sshd, startSshd } from "./sshd.ts";

/** Where keys and certificates are made, and servers at `host.example.com:2222` of them. */
export interface ProxiedGround extends AsyncDisposable {
  readonly folder: string;
  /** Makes a key pair, whose public half is the result; its file is in the folder. */
  makeKey(name: string, ...args: string[]): Promise<string>;
  /** Signs the key of a host and returns the certificate's file. */
  certify(name: string, ...args: string[]): Promise<string>;
  /**
   * Logs in directly and through the shim.
   *
   * @param environment further variables for the shim.
   */
  try(
    server: ProxiedHost,
    more?: string[],
    environment?: Record<string, string>,
  ): Promise<{ direct: Direct; shim: LoginResult }>;
  /** The arguments for a shim. */
  args(server: ProxiedHost, more?: string[]): Promise<string[]>;
}

/** A host and what is known of it. */
export interface ProxiedHost {
  /** Names of its keys. */
  keys: string[];
  /** Files of certificates. */
  certificates: string[];
  /** Lines of known_hosts. */
  known: string[];
  /** Further lines of its configuration. */
  config?: string[];
}

/** What came of ssh without the shim. */
export interface Direct {
  isIn: boolean;
  log: string;
}

/** The name of all of them. */
export const host = "host.example.com";

/** Starts with nothing but a folder and an account to log in to. */
export async function startProxiedGround(): Promise<ProxiedGround> {
  const sshd = await startSshd();
  const { folder } = sshd;
  let servers = 0;

  async function makeKey(name: string, ...args: string[]): Promise<string> {
    const file = `${folder}/${name}`;
    await runChecked(["ssh-keygen", "-q", "-N", "", "-C", "", "-f", file, ...args]);
    return (await Deno.readTextFile(`${file}.pub`)).trim();
  }

  async function args(server: ProxiedHost, more: string[] = []): Promise<string[]> {
    return [
      ...[`${sshd.username}@${host}:2222`, "--ed25519-key", sshd.keyFile],
      ...await optionsFor(server),
      ...more,
    ];
  }

  async function optionsFor(
    { keys, certificates, known, config = [] }: ProxiedHost,
  ): Promise<string[]> {
    const own = `${folder}/server_${++servers}`;
    await Deno.writeTextFile(`${own}_known_hosts`, known.map((line) => `${line}\n`).join(""));
    await Deno.writeTextFile(
      `${own}_config`,
      [
        ...config,
        ...keys.map((key) => `HostKey ${folder}/${key}`),
        ...certificates.map((file) => `HostCertificate ${file}`),
        ...[`AuthorizedKeysFile ${folder}/authorized_keys`, "StrictModes no", "UsePAM no"],
        ...["PermitRootLogin yes", "PidFile none", ""],
      ].join("\n"),
    );
    return [
      `ProxyCommand=/usr/sbin/sshd -i -f ${own}_config -E ${own}_log`,
      `UserKnownHostsFile=${own}_known_hosts`,
      "GlobalKnownHostsFile=/dev/null",
    ].flatMap((option) => ["-o", option]);
  }

  return {
    folder,
    makeKey,
    args,
    certify: async (name, ...more) => {
      await runChecked(["ssh-keygen", "-q", "-I", "a host", ...more, `${folder}/${name}.pub`]);
      const file = `${folder}/${crypto.randomUUID()}-cert.pub`;
      await Deno.rename(`${folder}/${name}-cert.pub`, file);
      return file;
    },
    try: async (server, more = [], environment = {}) => {
      const [direct, shim] = await Promise.all([
        runSsh(sshd, [...await optionsFor(server), ...more]),
        logIn(await args(server, more), { folder, environment }),
      ]);
      return { direct, shim };
    },
    [Symbol.asyncDispose]: () => sshd[Symbol.asyncDispose](),
  };
}

async function runSsh({ folder, keyFile, username }: Sshd, options: string[]): Promise<Direct> {
  const { code, stderr } = await run([
    ...["ssh", "-F", "none", "-o", "BatchMode=yes", "-i", keyFile, ...options],
    ...["-p", "2222", `${username}@${host}`, "true"],
  ], { environment: clientEnvironment(folder) });
  return { isIn: code === 0, log: text(stderr) };
}
