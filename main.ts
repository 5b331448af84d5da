/**
 * sshshim: one authenticated SSH connection to a remote host, served to every stock SSH client at
 * a port on 127.0.0.1.
 *
 * This file takes the arguments and gives the exit status; it alone prints to the user and exits.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { findAdmission } from "./lib/admission.ts";
import { type BannerFacts, bannerProperties, bannerText } from "./lib/banner.ts";
import type { ClientKey } from "./lib/client_key.ts";
import { errorFormat, type Options, parseArguments } from "./lib/cli.ts";
import {
  AuthenticationError,
  EndpointError,
  HostKeyError,
  messageOf,
  NegotiationError,
  NobodyToAskError,
  UpstreamLostError,
  UsageError,
} from "./lib/errors.ts";
import { type HostConfig, printHostConfig } from "./lib/host_config.ts";
import { findHosts, readUpstreamConfig, takeEnvironmentPassword } from "./lib/hosts.ts";
import { fingerprint, keyTypeOf } from "./lib/public_key.ts";
import { LineQueue } from "./lib/line_queue.ts";
import type { LocalHostKey } from "./lib/local_host_key.ts";
import { loadLocalHostKeys } from "./lib/local_host_keys.ts";
import { configureLogging, logFlushed, logger } from "./lib/log.ts";
import { UserPrompter } from "./lib/prompter.ts";
import { Shim } from "./lib/shim.ts";
import { within } from "./lib/timing.ts";

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
];

/** Serves the endpoint until a stop signal, or until upstream is lost, which is thrown. */
async function run(options: Options): Promise<void> {
  const environmentPassword = takeEnvironmentPassword();
  const config = await readUpstreamConfig(options);
  if (options.printsConfig) return print(printHostConfig(config));
  const { access, clientKey } = await findAdmission(options);
  const prompter = new UserPrompter();
  const hosts = await findHosts(options, { config, prompter, environmentPassword });
  const hostKeys = await loadLocalHostKeys(options.localHostKey);
  const { note } = hostKeys.first;
  if (note) log.warn("{note}", { note });

  const shim = new Shim(options, { config, hosts, access });
  const stopSignal = onStopSignal();
  onRetrySignal(shim);
  let end: Deno.Signal | Error | void = await Promise.race([stopSignal, shim.connect()]);
  if (end === undefined) {
    surviveMistakes();
    const shown = await hostKeys.all;
    shim.serve(shown);
    announce(options, { config, hostKeys: shown, address: shim.address, clientKey });
    end = await Promise.race([stopSignal, shim.whenLost]);
  }
  await shim.close();
  if (end instanceof Error) throw end;
  log.info("stopped by {signal}", { signal: end });
}

/** From here on others depend on us: a mistake that nothing catches is told, and ends nobody. */
function surviveMistakes(): void {
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
const banners = new LineQueue(Deno.stdout);

/** Tells on stdout how to use the endpoint. */
function announce(
  { localAuth, logFormat }: Options,
  { config, address, hostKeys, clientKey }: {
    config: HostConfig;
    address: Shim["address"];
    hostKeys: readonly LocalHostKey[];
    clientKey: ClientKey | undefined;
  },
): void {
  const facts: BannerFacts = {
    host: config.hostName,
    port: config.port,
    username: config.user,
    localAddress: address.hostname,
    localPort: address.port,
    hostKeys: hostKeys.map(({ publicKey }) => ({
      line: `${keyTypeOf(publicKey)} ${Buffer.from(publicKey).toString("base64")}`,
      fingerprint: fingerprint(publicKey),
    })),
    localAuth,
    ...(clientKey && { clientKeyFile: clientKey.privateFile }),
  };
  banners.write(
    logFormat === "json"
      ? JSON.stringify({ event: "listening", ...bannerProperties(facts) }) + "\n"
      : bannerText(facts),
  );
}

/** Resolves at the first stop signal; the second one ends the process at once. */
function onStopSignal(): Promise<Deno.Signal> {
  const { promise, resolve } = Promise.withResolvers<Deno.Signal>();
  let isStopping = false;
  const signals: Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT", "SIGBREAK", "SIGHUP"]
    : ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) {
    Deno.addSignalListener(signal, () => {
      if (isStopping) Deno.exit(0);
      isStopping = true;
      resolve(signal);
    });
  }
  return promise;
}

/** SIGUSR2: a person wants tried at once what has failed. Windows has no such signal. */
function onRetrySignal(shim: Shim): void {
  if (Deno.build.os === "windows") return;
  Deno.addSignalListener("SIGUSR2", () => shim.retry());
}

/** Returns once it is written: whoever reads a pipe may take its time for help. */
function print(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let sent = 0; sent < bytes.length;) sent += Deno.stdout.writeSync(bytes.subarray(sent));
}

function exitStatusOf(error: unknown): number {
  return exitStatuses.find(([type]) => error instanceof type)?.[1] ?? 1;
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
    options = command.options;
    configureLogging({ verbosity: options.verbosity, format: options.logFormat });
    await run(options);
    return 0;
  } catch (error) {
    const status = exitStatusOf(error);
    const message = status === 1 ? `internal error: ${error}` : messageOf(error);
    if (options === undefined && errorFormat(args) === "text") {
      console.error(`sshshim: ${message}`);
      return status;
    }
    if (options === undefined) configureLogging({ verbosity: "normal", format: "json" });
    log.error("{message}", { message, status, error });
    return status;
  }
}

if (import.meta.main) {
  const status = await main(Deno.args);
  await within(flushTimeoutMs, Promise.all([banners.flushed(), logFlushed()]));
  Deno.exit(status);
}
