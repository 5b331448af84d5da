/**
 * The rule that every end-to-end test follows: what a client sees through the shim is what it
 * sees directly.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type CommandResult, run, RunningProcess, type RunOptions } from "./run.ts";
import { type Service, startEcho } from "./services.ts";
import { type Shim, type ShimOptions, startShim, type Upstream } from "./shim.ts";
import { type Sshd, type SshdOptions, startSshd } from "./sshd.ts";

/** How a scenario connects: to the server itself, to the shim's port, or by its control socket. */
export type Mode = "direct" | "shim" | "lane";

/** One way to the server, as a scenario sees it. */
export interface Target {
  readonly mode: Mode;
  readonly host: string;
  readonly port: number;
  readonly username: string;
  readonly keyFile: string;
  readonly knownHostsFile: string;
  /** The control socket by which clients come. */
  readonly controlPath?: string;
  /** An empty temporary folder, which only this run of this scenario has. */
  readonly folder: string;
  /** The whole environment for clients: no agent, and a home of the test's own. */
  readonly environment: Record<string, string>;
  /** Options that ssh, scp and sftp understand alike; they name no host. */
  clientOptions(): string[];
  /** The arguments with which ssh reaches the target; a remote command may follow. */
  sshArguments(): string[];
  /** The words of an ssh command: `options` stand before the host, `command` after it. */
  sshCommand(command?: string, options?: string[]): string[];
  /** Runs ssh to its end. */
  ssh(command: string, options?: SshOptions): Promise<CommandResult>;
  /** Starts ssh and leaves it running. */
  startSsh(
    command: string | undefined,
    options?: { options?: string[]; discardStdout?: boolean },
  ): RunningProcess;
}

/** How ssh is run. */
export interface SshOptions extends RunOptions {
  /** Options of ssh itself, such as `-tt`. */
  options?: string[];
}

/** The shim in front of a server, and the comparison of both. */
export interface Comparison extends AsyncDisposable {
  readonly shim: Shim;
  /**
   * Runs a scenario in each of the modes at the same time, and asserts that all came to the same
   * result. Results may hold bytes, text, numbers and nested objects; ports and the
   * scenario's folder are read as equal, and functions are not compared.
   *
   * @returns the result of the direct run, for assertions about what it has to be
   */
  compare<T>(scenario: (target: Target) => Promise<T>, options?: CompareOptions): Promise<T>;
  /** One step of a test: `compare`, then `expect` with the direct run's result. */
  step<T>(
    context: Deno.TestContext,
    sentence: string,
    scenario: (target: Target) => Promise<T>,
    options: CompareOptions & { expect: (result: T) => void },
  ): Promise<void>;
}

/** A comparison and the OpenSSH server that it started for itself. */
export interface Ground extends Comparison {
  readonly sshd: Sshd;
}

/** How a scenario is compared. */
export interface CompareOptions {
  /** Runs the scenario directly first and then through the shim, not at the same time. */
  inTurn?: boolean;
  /** Why it is not run by the control socket: what is different there. */
  noLane?: string;
}

/**
 * A test of its own, with a ground of its own: `compare`, then `expect` with the direct result.
 * Both runs of the scenario share a service that says "hello" and sends back what it gets.
 */
export function testComparison<T>(
  sentence: string,
  scenario: (target: Target, echo: Service) => Promise<T>,
  options: CompareOptions & { expect: (result: T) => void },
): void {
  Deno.test(sentence, async () => {
    await using ground = await startGround();
    await using echo = startEcho({ greeting: "hello\n" });
    options.expect(await ground.compare((target) => scenario(target, echo), options));
  });
}

/** Starts OpenSSH's server with the shim in front of it. */
export async function startGround(
  options: { sshd?: SshdOptions; shim?: ShimOptions } = {},
): Promise<Ground> {
  await using resources = new AsyncDisposableStack();
  const sshd = resources.use(await startSshd(options.sshd));
  const comparison = resources.use(await startComparison(sshd, options.shim));
  const owned = resources.move();
  return { ...comparison, sshd, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Starts the shim in front of a server that the caller has started and ends. */
export async function startComparison(
  server: Upstream,
  options: ShimOptions = {},
): Promise<Comparison> {
  await using resources = new AsyncDisposableStack();
  const shim = resources.use(await startShim(server, options));
  const folder = await Deno.makeTempDir({ prefix: "ground-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const environment = clientEnvironment(folder);
  let runs = 0;

  const targetOf = async (mode: Mode): Promise<Target> => {
    const own = `${folder}/${++runs}`;
    await Deno.mkdir(own);
    const { host, port, knownHostsFile } = mode === "direct" ? server : shim;
    return makeTarget({
      ...{ mode, host, port, knownHostsFile, environment, folder: own },
      ...mode === "lane" && { controlPath: shim.banner.controlPath },
      username: server.username,
      keyFile: server.keyFile,
    });
  };

  const compare = async <T>(
    scenario: (target: Target) => Promise<T>,
    options: CompareOptions = {},
  ): Promise<T> => {
    const hasLane = shim.banner.controlPath !== undefined && options.noLane === undefined;
    const modes: Mode[] = ["direct", "shim", ...hasLane ? ["lane" as const] : []];
    const targets = await Promise.all(modes.map(targetOf));
    const [direct, ...others] = await runAll(targets, scenario, options);
    others.forEach((result, index) => {
      const target = targets[index + 1]!;
      const expected = comparable(direct, targets[0]!);
      assert.deepEqual(comparable(result, target), expected, `in mode "${target.mode}"`);
    });
    return direct!;
  };

  const owned = resources.move();
  return {
    shim,
    compare,
    async step(context, sentence, scenario, options) {
      await context.step(sentence, async () => options.expect(await compare(scenario, options)));
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The environment for clients that shall know nothing of the user who runs the tests. */
export function clientEnvironment(home: string): Record<string, string> {
  return {
    PATH: `${Deno.env.get("PATH") ?? "/usr/bin:/bin"}:/usr/sbin:/sbin`,
    HOME: home,
    TERM: "xterm",
    LANG: "C",
  };
}

/** Adds the ways to run ssh to the facts about a target. */
export function makeTarget(
  facts: Pick<
    Target,
    | "mode"
    | "host"
    | "port"
    | "username"
    | "keyFile"
    | "knownHostsFile"
    | "controlPath"
    | "folder"
    | "environment"
  >,
): Target {
  const { environment } = facts;
  const clientOptions = () => [
    ...["-F", "/dev/null"],
    ...["-i", facts.keyFile],
    ...[
      "IdentitiesOnly=yes",
      "IdentityAgent=none",
      "BatchMode=yes",
      `ControlPath=${facts.controlPath ?? "none"}`,
      "StrictHostKeyChecking=yes",
      `UserKnownHostsFile=${facts.knownHostsFile}`,
      "GlobalKnownHostsFile=/dev/null",
      `Port=${facts.port}`,
      `User=${facts.username}`,
    ].flatMap((option) => ["-o", option]),
  ];
  const sshCommand = (command?: string, options: string[] = []) => [
    // The first value of an option is the one that counts, so the scenario's own come first.
    ...["ssh", ...options, ...clientOptions(), facts.host],
    ...(command === undefined ? [] : [command]),
  ];
  return {
    ...facts,
    clientOptions,
    sshArguments: () => [...clientOptions(), facts.host],
    sshCommand,
    ssh: (command, { options, ...runOptions } = {}) =>
      run(sshCommand(command, options), { environment, ...runOptions }),
    startSsh: (command, { options, ...processOptions } = {}) =>
      new RunningProcess(sshCommand(command, options), { environment, ...processOptions }),
  };
}

async function runAll<T>(
  targets: readonly Target[],
  scenario: (target: Target) => Promise<T>,
  options: CompareOptions,
): Promise<T[]> {
  const attempt = (target: Target) =>
    scenario(target).catch((error) => {
      throw new Error(`The scenario failed in mode "${target.mode}".`, { cause: error });
    });
  if (options.inTurn) {
    const results: T[] = [];
    for (const target of targets) results.push(await attempt(target));
    return results;
  }
  // All have to end before one's failure ends the test, or it would leave things behind.
  const settled = await Promise.allSettled(targets.map(attempt));
  return settled.map((result) => {
    if (result.status !== "fulfilled") throw result.reason;
    return result.value;
  });
}

/** Bytes above this size are compared by checksum, so that a failure prints one line. */
const longestPrinted = 8192;

function comparable(value: unknown, target: Target): unknown {
  if (value instanceof Uint8Array) {
    return value.length > longestPrinted
      ? { bytes: value.length, sha256: createHash("sha256").update(value).digest("hex") }
      : comparable(new TextDecoder("latin1").decode(value), target);
  }
  if (typeof value === "string") {
    return value
      // By a control socket ssh says it in other words, and also where it otherwise says nothing.
      .replaceAll(/(Shared c|C)onnection to \S+ closed\.\r*\n/g, "")
      .replaceAll(target.folder, "FOLDER")
      .replaceAll(new RegExp(`(?<![0-9])${target.port}(?![0-9])`, "g"), "PORT");
  }
  if (Array.isArray(value)) return value.map((item) => comparable(item, target));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, comparable(item, target)]),
    );
  }
  // The result's own accessors to what differs from run to run, such as a duration.
  return typeof value === "function" ? undefined : value;
}
