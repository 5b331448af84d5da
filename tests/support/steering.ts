/** The subcommands about shims that run, and the shims that they find. */

import type { ShimStatus } from "../../lib/status.ts";
import type { Ground, Target } from "./both.ts";
import { shimTarget } from "./behind.ts";
import { waitUntil } from "./processes.ts";
import { type CommandResult, run, RunningProcess, type RunOptions, text } from "./run.ts";
import { program, type Shim, type ShimOptions, startShim, type Upstream } from "./shim.ts";
import { type Sshd, startSshd } from "./sshd.ts";

/** What a subcommand came to. */
export interface Steered {
  code: number;
  stdout: string;
  stderr: string;
}

/** Shims of one user, who has no others. Leaving the scope ends them. */
export interface Steering extends AsyncDisposable {
  readonly sshd: Sshd;
  /** The folder of the log-in, in which the control sockets are. */
  readonly runtime: string;
  readonly environment: Record<string, string>;
  /** Starts a shim in front of the server. */
  start(options?: ShimOptions & { upstream?: Upstream }): Promise<Shim>;
  /** The way through one of them for ssh. */
  target(shim: Shim): Target;
  /** Runs a subcommand to its end. */
  run(words: string[], options?: RunOptions): Promise<Steered>;
  /** Starts one and leaves it running. */
  begin(...words: string[]): RunningProcess;
  /** The words by which one is run. */
  command(...words: string[]): string[];
  /** The status that `status --json` prints. */
  status(name?: string): Promise<ShimStatus>;
  /** Waits for a status of which `condition` holds. */
  until(what: string, condition: (status: ShimStatus) => boolean): Promise<ShimStatus>;
}

/** Starts the server, and no shim yet. */
export async function startSteering(): Promise<Steering> {
  await using resources = new AsyncDisposableStack();
  const sshd = resources.use(await startSshd());
  const runtime = await Deno.makeTempDir({ prefix: "runtime-" });
  resources.defer(() => Deno.remove(runtime, { recursive: true }));
  const { SSH_AUTH_SOCK: _agent, ...inherited } = Deno.env.toObject();
  const environment = { ...inherited, XDG_RUNTIME_DIR: runtime, NO_COLOR: "1" };
  const command = (...words: string[]) => [...program, ...words];
  const steer = async (words: string[], options: RunOptions = {}) => {
    const result: CommandResult = await run(command(...words), { environment, ...options });
    return { code: result.code, stdout: text(result.stdout), stderr: text(result.stderr) };
  };
  const status = async (name?: string): Promise<ShimStatus> => {
    const result = await steer(["status", "--json", ...name === undefined ? [] : [name]]);
    if (result.code !== 0) throw new Error(result.stderr);
    return JSON.parse(result.stdout);
  };
  const owned = resources.move();
  return {
    ...{ sshd, runtime, environment, command, status },
    start: async ({ upstream, ...options } = {}) =>
      owned.use(
        await startShim(upstream ?? sshd, {
          ...options,
          environment: { XDG_RUNTIME_DIR: runtime, ...options.environment },
        }),
      ),
    target: (shim) => shimTarget({ shim, sshd } as Ground),
    run: steer,
    begin: (...words) => owned.use(new RunningProcess(command(...words), { environment })),
    async until(what, condition) {
      let found = await status();
      await waitUntil(what, async () => condition(found = await status()));
      return found;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
