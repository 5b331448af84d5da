/**
 * What a command that runs for the length of its endpoint finds in its environment: the port, and a
 * configuration by which ssh, git and rsync know the endpoint by name, beside the user's own hosts.
 */

import { join, resolve } from "node:path";
import { reachable } from "./banner.ts";
import { defaultSystemConfig, type LocalFacts } from "./local_facts.ts";
import { configText, hostOf } from "./published_config.ts";

/** An endpoint, as the command is to find it. */
export interface NamedEndpoint {
  /** `NAME`, of which `NAME.shim` is made. */
  name: string;
  /** The account on the host. */
  user: string;
  address: { hostname: string; port: number };
  /** The local host keys, as `TYPE BASE64`. */
  hostKeys: readonly string[];
  /** The private key that it admits, where it asks for one. */
  identityFile?: string;
}

/** Where the user's own configuration is. */
type LocalFiles = Pick<LocalFacts, "home" | "environment">;

/** The variables, and the files that they name. */
export interface CommandEnvironment {
  variables: Record<string, string>;
  /** The configuration of the endpoints alone, and the file that has the user's own as well. */
  config: string;
  configFile: string;
  /** Removes the files. */
  remove(): Promise<void>;
}

/**
 * Writes the files into a folder that is this user's alone.
 *
 * @param endpoints the first is the one that SSHSHIM_PORT names
 * @param configFile what `-F` says of the user's own configuration
 */
export async function makeCommandEnvironment(
  endpoints: readonly NamedEndpoint[],
  { configFile, local }: {
    configFile: string | undefined;
    local: LocalFiles;
  },
): Promise<CommandEnvironment> {
  const folder = await Deno.makeTempDir({ prefix: "sshshim-" });
  const [config, knownHosts] = [join(folder, "config"), join(folder, "known_hosts")];
  const included = usersFiles(configFile, local);
  const sections = endpoints.map((endpoint) => section(endpoint, knownHosts));
  await Deno.writeTextFile(
    knownHosts,
    endpoints.flatMap(({ name, hostKeys }) => hostKeys.map((key) => `${hostOf({ name })} ${key}\n`))
      .join(""),
    { mode: 0o600 },
  );
  await Deno.writeTextFile(
    config,
    [
      ...sections,
      ...included.length === 0 ? [] : ["Match all\n"],
      ...included.map((file) => `Include "${file}"\n`),
    ].join("\n"),
    { mode: 0o600 },
  );
  const [{ hostname, port }] = endpoints.map(({ address }) => address) as [
    NamedEndpoint["address"],
  ];
  return {
    variables: {
      SSHSHIM_HOST: reachable(hostname),
      SSHSHIM_PORT: String(port),
      SSHSHIM_SSH_CONFIG: config,
      GIT_SSH_COMMAND: `ssh -F ${quotedForShell(config)}`,
      RSYNC_RSH: `ssh -F ${quotedForRsync(config)}`,
    },
    config: sections.join("\n"),
    configFile: config,
    remove: () => Deno.remove(folder, { recursive: true }),
  };
}

function section(
  { name, user, address: { hostname, port }, identityFile }: NamedEndpoint,
  knownHostsFile: string,
): string {
  return configText({
    ...{ name, user, port, identityFile, knownHostsFile },
    pid: Deno.pid,
    address: reachable(hostname),
  });
}

/** With -F, ssh reads no other file: those that it would read are named in this one. */
function usersFiles(
  configFile: string | undefined,
  { home, environment }: LocalFiles,
): string[] {
  if (configFile?.toLowerCase() === "none") return [];
  if (configFile !== undefined) return [resolve(configFile)];
  return [join(home, ".ssh", "config"), defaultSystemConfig(environment)];
}

/** As `sh` reads it. */
function quotedForShell(path: string): string {
  return isPlain(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

/** As rsync(1) reads RSYNC_RSH: a quote in a quoted word is doubled. */
function quotedForRsync(path: string): string {
  return isPlain(path) ? path : `'${path.replaceAll("'", "''")}'`;
}

function isPlain(path: string): boolean {
  return /^[\w@%+=:,./-]+$/.test(path);
}
