/**
 * sshshim: one authenticated SSH connection to a remote host, served to every stock SSH client at
 * a port on 127.0.0.1.
 *
 * As a program it is run by `deno run -A jsr:@x/sshshim HOST`. As a library:
 *
 * ```ts
 * import { startShim } from "@x/sshshim";
 *
 * await using shim = await startShim({ destination: "prod" });
 * const args = ["-F", shim.sshConfigFile, shim.host, "uptime"];
 * await new Deno.Command("ssh", { args }).spawn().status;
 * ```
 *
 * This file takes the arguments and gives the exit status; it alone prints to the user and exits.
 *
 * @module
 */

import { lostLine } from "./lib/audit.ts";
import { AuditFile } from "./lib/audit_file.ts";
import { type BannerFacts, bannerProperties, bannerText, shortBannerText } from "./lib/banner.ts";
import type { ClientKey } from "./lib/client_key.ts";
import { errorFormat, type Options, parseArguments } from "./lib/cli.ts";
import { makeCommandEnvironment } from "./lib/command_environment.ts";
import { CommandError, startCommand, statusOf } from "./lib/command_mode.ts";
import type { Steering } from "./lib/cli_steering.ts";
import type { Setup } from "./lib/cli_subcommands.ts";
import {
  AuthenticationError,
  EndpointError,
  HostKeyError,
  messageOf,
  NegotiationError,
  NobodyToAskError,
  NotRunningError,
  PublishingError,
  RefusedError,
  UpstreamLostError,
  UsageError,
} from "./lib/errors.ts";
import { printHostConfig } from "./lib/host_config.ts";
import { fingerprint, publicKeyLine } from "./lib/public_key.ts";
import { LineQueue } from "./lib/line_queue.ts";
import type { LocalHostKey } from "./lib/local_host_key.ts";
import { Life } from "./lib/life.ts";
import { LifetimeEnd } from "./lib/lifetime.ts";
import { localFacts } from "./lib/local_facts.ts";
import { configureLogging, logFlushed, logger, terminalLine } from "./lib/log.ts";
import { MetricsServer } from "./lib/metrics.ts";
import { OwnMemory } from "./lib/own_memory.ts";
import { UserPrompter } from "./lib/prompter.ts";
import { nameFor } from "./lib/published_config.ts";
import { healNames, publishedFolder } from "./lib/published_files.ts";
import type { SshName } from "./lib/publishing.ts";
import { unreadiness } from "./lib/ready_file.ts";
import { setUp, undoSetup } from "./lib/setup.ts";
import type { ServedHost, Shims } from "./lib/shims.ts";
import { StatusLine } from "./lib/status_line_feed.ts";
import { canHaveLine, followTerminal } from "./lib/status_line_terminal.ts";
import { StopSignals } from "./lib/stop_signals.ts";
import { schedule, within } from "./lib/timing.ts";

export * from "./lib/library.ts";

const log = logger();

/** How long the last words may take to be read, in milliseconds. */
const flushTimeoutMs = 500;

const exitStatuses: [new (...args: never[]) => Error, number][] = [
  [UsageError, 2],
  [AuthenticationError, 3],
  [HostKeyError, 4],
  [NobodyToAskError, 3],
  [UpstreamLostError, 5],
  [NegotiationError, 5],
  [EndpointError, 6],
  [PublishingError, 6],
  [NotRunningError, 5],
  [RefusedError, 6],
];

/**
 * Serves the endpoints until a stop signal, until its time is over, or until no host is left.
 *
 * @returns the exit status.
 */
async function run(options: Options): Promise<number> {
  const serving = await import("./lib/serving.ts");
  const { findAdmission, loadLocalHostKeys, readUpstreamConfig, takeEnvironmentPassword } = serving;
  const memory = OwnMemory.ofProcess();
  const environmentPassword = takeEnvironmentPassword();
  if (options.printsConfig) {
    print(printHostConfig(await readUpstreamConfig(options, options.destinations[0]!)));
    return 0;
  }
  if (options.credential?.kind === "password") {
    log.warn("--password can be read by every user in the process list; use --password-file");
  }
  const { access, clientKey } = await findAdmission(options);
  const prompter = new UserPrompter({ shown: terminalLine });
  await using audit = options.auditFile === undefined
    ? undefined
    : await AuditFile.open(options.auditFile, lostLine);
  let statusLine: StatusLine | undefined;
  const life = new Life(options, {
    isBusy: () => shims.channelCount > 0,
    onLastMinute: (text) => shims.tell(text),
    schedule,
    display: {
      onChange: () => statusLine?.onChange(),
      onTick: () => {
        statusLine?.onTick();
        memory.onTick();
      },
    },
  });
  const shims: Shims = await serving.Shims.open(options, {
    ...{ prompter, environmentPassword, access, life, hasControl: true },
    writeAudit: audit && ((line) => audit.write(line)),
  });
  const readStatuses = () => shims.status({ findsPrograms: false });
  await using _metrics = options.metrics && new MetricsServer(options.metrics, readStatuses);
  if (options.showsStatus && canHaveLine()) {
    followTerminal(terminalLine);
    statusLine = new StatusLine({ line: terminalLine, readStatuses, schedule });
  }
  const hostKeys = await loadLocalHostKeys(options.localHostKey);
  const { note } = hostKeys.first;
  if (note) log.warn("{note}", { note });

  const { command } = options;
  const stopSignals = new StopSignals({ onSecond: () => Deno.exit(0) });
  onRetrySignal(shims);
  const failed = Promise.withResolvers<Error>();
  const served = shims.serve(hostKeys.all, {
    onListening: (host, { hostKeys, controlPath, sshName }) => {
      surviveMistakes();
      if (command !== undefined) return;
      const facts = factsOf(options, host, { hostKeys, clientKey, controlPath, sshName });
      announce(options, facts, sshName);
      life.onListening(host.name, bannerProperties(facts));
    },
    onFailure: (host, error) => {
      tell(error);
      life.onFailure(host.name);
      failed.resolve(error);
    },
  });
  let end: Deno.Signal | Error | LifetimeEnd | number;
  if (command === undefined) {
    const terminated = shims.whenTerminated.then((reason) => new LifetimeEnd(reason));
    end = await Promise.race([stopSignals.first, life.whenOver, terminated, served]);
  } else {
    // It needs all of the hosts.
    const obstacle = await Promise.race([stopSignals.first, failed.promise, shims.whenListening]);
    prompter.leaveTerminal();
    end = obstacle ??
      await runCommand(command, {
        ...{ options, shims, clientKey, stopSignals },
        hostKeys: await hostKeys.all,
      });
  }
  statusLine?.close();
  life.end();
  await shims.close(end instanceof LifetimeEnd ? end.reason : undefined);
  if (typeof end === "number") return end;
  if (end instanceof Error) return exitStatusOf(end);
  if (end instanceof LifetimeEnd) log.info("ended by {reason}", { reason: end.reason });
  else log.info("stopped by {signal}", { signal: end });
  return command === undefined || end instanceof LifetimeEnd ? 0 : statusOf(end);
}

/** @returns the command's exit status. */
async function runCommand(
  words: string[],
  { options, shims, hostKeys, clientKey, stopSignals }: {
    options: Options;
    shims: Shims;
    hostKeys: readonly LocalHostKey[];
    clientKey: ClientKey | undefined;
    stopSignals: StopSignals;
  },
): Promise<number> {
  const keys = hostKeys.map(({ publicKey }) => publicKeyLine(publicKey));
  const environment = await makeCommandEnvironment(
    shims.hosts.map(({ name, config: { user }, shim: { address } }) => ({
      name: nameFor(options.name ?? name),
      user,
      address,
      hostKeys: keys,
      identityFile: clientKey?.privateFile,
    })),
    { configFile: options.configFile, local: localFacts({}) },
  );
  try {
    const running = startCommand(words, environment.variables);
    stopSignals.passTo(running.onSignal);
    void shims.whenTerminated.then(() => running.onSignal("SIGTERM"));
    const status = await running.status;
    await shims.drain();
    return status;
  } finally {
    await environment.remove();
  }
}

let survivesMistakes = false;

/** From here on others depend on us: a mistake that nothing catches is told, and ends nobody. */
function surviveMistakes(): void {
  if (survivesMistakes) return;
  survivesMistakes = true;
  const report = (event: Event, mistake: unknown) => {
    event.preventDefault();
    log.error("internal error: {stack}", {
      stack: (mistake as Error | undefined)?.stack ?? mistake,
    });
  };
  globalThis.addEventListener("unhandledrejection", (event) => report(event, event.reason));
  globalThis.addEventListener("error", (event) => report(event, event.error));
}

/** What is said on stdout while sessions run; nobody has to read it. */
const banners = new LineQueue(
  Deno.stdout.isTerminal() ? terminalLine.above(Deno.stdout) : Deno.stdout,
);

/** Tells on stdout how to use the endpoint. */
function announce(
  { logFormat, destinations, sshConfig }: Options,
  facts: BannerFacts,
  sshName: SshName | undefined,
): void {
  banners.write(
    logFormat === "json"
      ? JSON.stringify({ event: "listening", ...bannerProperties(facts) }) + "\n"
      : sshConfig === "printed" && sshName !== undefined
      ? sshName.config
      : destinations.length === 1
      ? bannerText(facts)
      : shortBannerText(facts),
  );
}

function factsOf(
  { localAuth, destinations }: Options,
  { name, config, shim: { address } }: ServedHost,
  { hostKeys, clientKey, controlPath, sshName }: {
    hostKeys: readonly LocalHostKey[];
    clientKey: ClientKey | undefined;
    controlPath: string | undefined;
    sshName: SshName | undefined;
  },
): BannerFacts {
  return {
    host: config.hostName,
    port: config.port,
    username: config.user,
    localAddress: address.hostname,
    localPort: address.port,
    hostKeys: hostKeys.map(({ publicKey }) => ({
      line: publicKeyLine(publicKey),
      fingerprint: fingerprint(publicKey),
    })),
    localAuth,
    ...(clientKey && { clientKeyFile: clientKey.privateFile }),
    ...(destinations.length === 1 ? {} : { name }),
    ...(controlPath === undefined ? {} : { controlPath }),
    ...(sshName === undefined ? {} : { sshName }),
  };
}

/** SIGUSR2: a person wants tried at once what has failed. Windows has no such signal. */
function onRetrySignal(shims: Shims): void {
  if (Deno.build.os === "windows") return;
  Deno.addSignalListener("SIGUSR2", () => shims.retry());
}

/** Returns once it is written: whoever reads a pipe may take its time for help. */
function print(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let sent = 0; sent < bytes.length;) sent += Deno.stdout.writeSync(bytes.subarray(sent));
}

function exitStatusOf(error: unknown): number {
  if (error instanceof CommandError) return error.status;
  return exitStatuses.find(([type]) => error instanceof type)?.[1] ?? 1;
}

/** Tells the user, and returns the exit status that it means. */
function tell(error: unknown): number {
  const status = exitStatusOf(error);
  log.error("{message}", { message: failureText(error), status, error });
  return status;
}

function failureText(error: unknown): string {
  return exitStatusOf(error) === 1 ? `internal error: ${error}` : messageOf(error);
}

/** `sshshim setup`. */
async function changeSetup({ undoes, mayAsk }: Setup): Promise<void> {
  const { home } = localFacts({});
  await healNames(publishedFolder(home));
  const prompter = new UserPrompter();
  const { signal } = new AbortController();
  const ask = (question: string) => prompter.ask(question, { echo: true, signal });
  const done = undoes
    ? await undoSetup({ home })
    : await setUp({ home, ...(mayAsk ? { ask } : {}) });
  print(`${done}\n`);
}

/** The subcommands about shims that run. Whoever takes no more of what they write has had enough. */
async function runSteering(steering: Steering): Promise<void> {
  const { steer } = await import("./lib/steering.ts");
  const write = async (bytes: Uint8Array) => {
    for (let sent = 0; sent < bytes.length;) sent += await Deno.stdout.write(bytes.subarray(sent));
  };
  const print = (text: string) => write(new TextEncoder().encode(text));
  const output = { isTerminal: Deno.stdout.isTerminal(), print, write };
  try {
    await steer(steering, { input: Deno.stdin, output });
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** Reads the arguments, runs, and tells the user of whatever went wrong. */
async function main(args: string[]): Promise<number> {
  let options: Options | undefined;
  try {
    const command = parseArguments(args);
    if (command.kind === "print") {
      print(command.text);
      return 0;
    }
    if (command.kind === "setup") {
      configureLogging({ verbosity: "normal", format: "text" });
      await changeSetup(command);
      return 0;
    }
    if (command.kind === "steer") {
      configureLogging({ verbosity: "normal", format: "text" });
      await runSteering(command.steering);
      return 0;
    }
    if (command.kind === "ready") {
      const reason = unreadiness(command.file);
      if (reason === undefined) return 0;
      console.error(`sshshim: not ready: ${reason}.`);
      return 1;
    }
    options = command.options;
    configureLogging({ verbosity: options.verbosity, format: options.logFormat });
    return await run(options);
  } catch (error) {
    if (options === undefined && errorFormat(args) === "text") {
      console.error(`sshshim: ${failureText(error)}`);
      return exitStatusOf(error);
    }
    if (options === undefined) configureLogging({ verbosity: "normal", format: "json" });
    return tell(error);
  }
}

if (import.meta.main) {
  const status = await main(Deno.args);
  await within(flushTimeoutMs, Promise.all([banners.flushed(), logFlushed()]));
  Deno.exit(status);
} else {
  // Whoever imports this for the library has it whole, with the system's libraries that it opens.
  await import("./lib/serving.ts");
}
