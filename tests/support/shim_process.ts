/** The real shim with any arguments: for tests that log in otherwise, or that see it end. */

import { RunningProcess } from "./run.ts";
import { type Banner, shimEnvironment, shimProgram } from "./shim.ts";

/** How the shim is run. */
export interface ShimProcessOptions {
  /** The arguments that lead to upstream; a free local port and a log in JSON are added. */
  arguments: string[];
  /** Whether it may find the terminal of whoever runs the tests; true by default. */
  hasTerminal?: boolean;
}

/** A shim that listens. Leaving its scope ends it, however it ends. */
export interface ShimProcess extends AsyncDisposable {
  readonly process: RunningProcess;
  readonly host: string;
  readonly port: number;
  /** Holds the shim's host key under `[host]:port`. */
  readonly knownHostsFile: string;
}

/** Arguments that every test's shim gets: nothing of the user's configuration. */
export const commonArguments: readonly string[] = [
  ...["--local-port", "0", "--log-format", "json", "-F", "none"],
];

/**
 * Starts the shim.
 *
 * @throws {Error} when it does not listen in time; the message holds what it wrote
 */
export async function startShimProcess(options: ShimProcessOptions): Promise<ShimProcess> {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "shim-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const process = resources.use(
    new RunningProcess(
      [
        ...(options.hasTerminal === false ? ["setsid"] : []),
        ...shimProgram,
        ...commonArguments,
        ...options.arguments,
      ],
      { environment: shimEnvironment(folder) },
    ),
  );
  const banner = await readBanner(process);
  const knownHostsFile = `${folder}/known_hosts`;
  await Deno.writeTextFile(knownHostsFile, `${banner.knownHostsLine}\n`);
  const owned = resources.move();
  return {
    process,
    host: banner.localAddress,
    port: banner.localPort,
    knownHostsFile,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function readBanner(process: RunningProcess): Promise<Banner> {
  try {
    return JSON.parse((await process.stdout.waitFor(bannerLine))[0]);
  } catch (cause) {
    throw new Error(`The shim does not listen. It wrote:\n${process.stderr.text}`, { cause });
  }
}

/** The banner in JSON, on standard output or on a terminal. */
export const bannerLine: RegExp = /^\{.*"listening".*\}$(?=\r?\n)/m;
