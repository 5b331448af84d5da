/** Several hosts for one shim: servers of their own, and a configuration that has them by name. */

import { clientEnvironment, makeTarget, type Target } from "./both.ts";
import { loginEnvironment, shimCommand } from "./login.ts";
import { RunningProcess } from "./run.ts";
import { lendHostKey } from "./shim.ts";
import { type Sshd, startSshd } from "./sshd.ts";

/** Servers, by name. */
export interface Hosts extends AsyncDisposable {
  readonly folder: string;
  readonly servers: Readonly<Record<string, Sshd>>;
  /** The file that has them all. */
  readonly config: string;
  /** Writes it; further lines by name of a host. */
  configure(lines?: Record<string, string[]>): Promise<void>;
}

/** Starts a server for each name. */
export async function startHosts(names: string[]): Promise<Hosts> {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "hosts-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const servers: Record<string, Sshd> = {};
  for (const name of names) {
    servers[name] = resources.use(await startSshd({ environment: { SERVER: name } }));
  }
  const config = `${folder}/config`;
  const configure = (lines: Record<string, string[]> = {}) =>
    Deno.writeTextFile(
      config,
      Object.entries(servers)
        .map(([name, sshd]) => section(name, sshd, ...lines[name] ?? [])).join(""),
    );
  await configure();
  await lendHostKey(folder);
  const owned = resources.move();
  return {
    folder,
    servers,
    config,
    configure,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A section of ssh's configuration for one of the test's servers. */
export function section(name: string, sshd: Sshd, ...more: string[]): string {
  return [
    `Host ${name}`,
    `HostName ${sshd.host}`,
    `Port ${sshd.port}`,
    `User ${sshd.username}`,
    `IdentityFile ${sshd.keyFile}`,
    "IdentitiesOnly yes",
    `UserKnownHostsFile ${sshd.knownHostsFile}`,
    ...more,
    "",
  ].join("\n  ");
}

/** How often somebody has logged in to a server. */
export function logins(sshd: Sshd): number {
  return sshd.log.text.match(/^Accepted publickey/gm)?.length ?? 0;
}

/** Starts the shim with this configuration, as JSON unless `args` say otherwise. */
export function startShims({ folder, config }: Hosts, args: string[]): RunningProcess {
  return new RunningProcess(
    ["setsid", ...shimCommand(["-F", config, ...args])],
    { environment: loginEnvironment(folder) },
  );
}

/** The way to a host through a shim that logs as JSON, once it listens there. */
export async function targetOf(
  { folder }: Hosts,
  shim: RunningProcess,
  name: string,
): Promise<Target> {
  const [line] = await shim.stdout.waitFor(new RegExp(`^\\{.*"name":"${name}".*\\}$(?=\\n)`, "m"));
  const { localPort, knownHostsLine } = JSON.parse(line);
  const knownHostsFile = `${folder}/known_hosts_of_${name}`;
  await Deno.writeTextFile(knownHostsFile, `${knownHostsLine}\n`);
  return makeTarget({
    mode: "shim",
    host: "127.0.0.1",
    port: localPort,
    username: "anybody",
    keyFile: "/dev/null",
    knownHostsFile,
    folder,
    environment: clientEnvironment(folder),
  });
}
