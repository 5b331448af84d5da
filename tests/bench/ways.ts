/** The four ways to one OpenSSH server: alone, by ControlMaster, by sshshim's port and its lane. */

import { clientEnvironment, makeTarget, type Target } from "../support/both.ts";
import { type Proxy, type ProxyOptions, startProxy } from "../support/proxy.ts";
import { RunningProcess } from "../support/run.ts";
import { type Shim, startShim } from "../support/shim.ts";
import { type Sshd, startSshd } from "../support/sshd.ts";
import type { WayName } from "./rows.ts";

/** A way to the server. */
export interface Way {
  name: WayName;
  target: Target;
  /** The process in between that has the connection; plain ssh has none. */
  pid?: number;
}

/** All ways, with what is between. Leaving its scope ends all of it. */
export interface Ways extends AsyncDisposable {
  /** In the order of `wayNames`. */
  all: Way[];
  shim: Shim;
  sshd: Sshd;
  /** What all of them pass on their way to the server, if that was asked for. */
  link?: Proxy;
  folder: string;
}

/** A port that nobody has: where a shared connection is gone, ssh must not find another way. */
const noPort = 9;

/**
 * Starts a server, sshshim and a ControlMaster.
 *
 * @param link what the path to the server is like; without it, there is nothing between
 */
export async function startWays(link?: Omit<ProxyOptions, "target">): Promise<Ways> {
  await using resources = new AsyncDisposableStack();
  // Ten sessions on a connection are the default: more at once are measured.
  const sshd = resources.use(await startSshd({ config: ["MaxSessions 1000"] }));
  const proxy = link === undefined ? undefined : resources.use(
    await startProxy({ target: { hostname: sshd.host, port: sshd.port }, ...link }),
  );
  const folder = await Deno.makeTempDir({ prefix: "bench-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const port = proxy?.port ?? sshd.port;
  const knownHostsFile = `${folder}/known_hosts`;
  const known = sshd.hostKeys.map((key) => `[${sshd.host}]:${port} ${key}\n`);
  await Deno.writeTextFile(knownHostsFile, known.join(""));
  const { host, username, keyFile } = sshd;
  const login = { username, keyFile, folder, environment: clientEnvironment(folder) };
  const direct = makeTarget({ ...login, mode: "direct", host, port, knownHostsFile });

  const shim = resources.use(await startShim({ host, port, username, keyFile, knownHostsFile }));
  const { controlPath } = shim.banner;
  if (controlPath === undefined) throw new Error("sshshim has no control socket here.");
  const masterPath = `${folder}/master`;
  const master = resources.use(
    new RunningProcess(direct.sshCommand(undefined, ["-v", "-M", "-N", "-S", masterPath])),
  );
  await master.stderr.waitFor(/Entering interactive session/);
  const throughShim = { ...login, host: shim.host, knownHostsFile: shim.knownHostsFile };
  const owned = resources.move();
  return {
    all: [
      { name: "ssh", target: direct },
      {
        name: "ControlMaster",
        target: makeTarget({ ...direct, port: noPort, controlPath: masterPath }),
        pid: master.pid,
      },
      {
        name: "port",
        target: makeTarget({ ...throughShim, mode: "shim", port: shim.port }),
        pid: shim.pid,
      },
      {
        name: "lane",
        target: makeTarget({ ...throughShim, mode: "lane", port: noPort, controlPath }),
        pid: shim.pid,
      },
    ],
    shim,
    sshd,
    ...proxy && { link: proxy },
    folder,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Runs ssh to the end of `true` there, and says how long that took in milliseconds. */
export async function timeExec({ target, name }: Way): Promise<number> {
  const start = performance.now();
  const { code, stderr } = await target.ssh("true");
  if (code !== 0) throw new Error(`${name}: ${new TextDecoder().decode(stderr)}`);
  return performance.now() - start;
}
