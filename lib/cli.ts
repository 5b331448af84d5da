/**
 * The command line: from arguments to options, help and errors.
 *
 * Nothing is printed here and nothing ends the process; `main.ts` does both. No error repeats a
 * value from the command line: whatever stands in the wrong place may be the password.
 */

import { isIPv4, isIPv6 } from "node:net";
import { divideCommand } from "./cli_command.ts";
import { grammar, type Parsed } from "./cli_grammar.ts";
import { completionFrom, program } from "./cli_program.ts";
import { findSubcommand, type Subcommand } from "./cli_subcommands.ts";
import { parseWords } from "./cli_parse.ts";
import { optionNames, separateValues } from "./cli_short_options.ts";
import { checkHost, type Destination, parseDestination, theSame } from "./destination.ts";
import { UsageError } from "./errors.ts";
import { programName } from "./help.ts";
import { parseSeconds } from "./ssh_config_values.ts";

/**
 * What proves to upstream who we are: a password, one in a file (`-` is standard input), or the
 * private key in `file`.
 */
export type Credential =
  | { kind: "password"; password: string }
  | { kind: "password-file"; file: string }
  | { kind: "key"; type: "rsa" | "ed25519"; file: string };

/** A command line that was understood, every default filled in. */
export interface Options {
  /** The hosts, one at least, as they were typed. */
  destinations: Destination[];
  /** What is run while the endpoint is there; empty: the user's shell; absent: nothing. */
  command: string[] | undefined;
  /** Whether the first client is waited for. */
  isLazy: boolean;
  /** Absent: what the configuration and the agent have. */
  credential: Credential | undefined;
  /** More keys, before those of the configuration. */
  identityFiles: string[];
  /** Jump hosts as in ProxyJump. */
  jumpHosts: string | undefined;
  /** The one file of ssh's configuration to read, or `none`; absent: the user's and the system's. */
  configFile: string | undefined;
  /** `KEYWORD=VALUE` of ssh_config(5). */
  configOverrides: string[];
  /** Whether the configuration is shown and nothing else is done. */
  printsConfig: boolean;
  /** The address to listen at; where it is not of loopback, `localAuth` is `publickey`. */
  localHost: string;
  /** 0 to 65535; 0 takes a free port. Absent: the default, or a free one where a shim has that. */
  localPort: number | undefined;
  /** Absent: the key in the state folder. */
  localHostKey?: { type: "rsa" | "ed25519"; file: string };
  /** Empty: the user's and the system's. */
  knownHostsFiles: string[];
  acceptNew: boolean;
  /** The only host key that is taken, `SHA256:…`. */
  fingerprint: string | undefined;
  localAuth: "same-user" | "publickey" | "none";
  /** With `publickey` alone. */
  authorizedKeysFile: string | undefined;
  /** Whether a person is asked about each new program that connects. */
  confirms: boolean;
  /** A file for lines about clients and what they ask for. */
  auditFile: string | undefined;
  /** Of the endpoint, for ssh; absent: made of the host's. */
  name: string | undefined;
  /** A further name of the endpoint. */
  as: string | undefined;
  sshConfig: "written" | "printed" | "none";
  /** Whether ssh comes by the control socket, where there is one. */
  usesLane: boolean;
  /** Whether a connection that is lost comes back, and the longest wait before an attempt. */
  reconnects: boolean;
  reconnectMaxDelayMs: number;
  /** How long the host keeps a connection while the network is away; absent: not at all. */
  resumeForMs: number | undefined;
  /** Whether terminals are told while it is away. */
  showsAway: boolean;
  /** A silence so long is broken while something is open; so many in a row mean death. */
  keepaliveIntervalMs: number | undefined;
  keepaliveCount: number | undefined;
  /** How long what a client asks for waits for upstream. */
  openTimeoutMs: number;
  /** Sessions that upstream allows at a time; absent: found out. */
  maxSessions: number | undefined;
  /** Whether a session is opened before a client wants it. */
  keepsWarm: boolean;
  /** Forwarded connections and remote forwards that all clients share. */
  maxChannels: number;
  /** Further connections for more sessions. */
  overflow: number;
  /** Whether transfers leave the way to the server to others that are there. */
  paces: boolean;
  /** Ends it when no client was there for so long, and after so long in any case. */
  idleExitMs: number | undefined;
  maxLifeMs: number | undefined;
  /** A file that is there while the port can be used. */
  readyFile: string | undefined;
  /** Whether the service manager is told. */
  notifies: boolean;
  verbosity: "quiet" | "normal" | "verbose";
  logFormat: "text" | "json";
  /** Whether a terminal has a line with what runs. */
  showsStatus: boolean;
  /** Where metrics are served: a loopback address; port 0 takes a free one. */
  metrics: { hostname: string; port: number } | undefined;
}

/** `print`: `text` ends with a newline, goes to stdout as it stands, and the exit status is 0. */
export type Command = { kind: "run"; options: Options } | Subcommand;

/**
 * Reads the arguments that follow the program's name.
 *
 * @throws {UsageError} The arguments are not understood. The message has two lines, what is wrong
 * and where to read on, and contains no value that was typed.
 */
export function parseArguments(args: readonly string[]): Command {
  try {
    return commandFrom(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`${error.message}\nTry '${programName} --help'.`);
  }
}

function commandFrom(args: readonly string[]): Command {
  const [word, ...rest] = args;
  const subcommand = findSubcommand(word);
  if (subcommand !== undefined) return subcommand.parse(rest);
  const completion = completionFrom(args);
  if (completion !== undefined) return { kind: "print", text: completion };
  const { words, command } = divideCommand(
    separateValues(args, grammar.usage),
    optionNames(grammar.usage),
  );
  const result = parseWords(words, program);
  if (result.kind === "print") return result;
  return { kind: "run", options: optionsFrom(result.parsed, command) };
}

/**
 * The options of one run, from words that a program has put together.
 *
 * @throws {UsageError} They are not understood. The message is one line.
 */
export function readOptions(words: readonly string[]): Options {
  const command = commandFrom(words);
  if (command.kind !== "run") throw new UsageError("The words ask for something else than a run.");
  return command.options;
}

/** In which form an error of the command line is told: --log-format may stand anywhere. */
export function errorFormat(args: readonly string[]): Options["logFormat"] {
  const end = args.indexOf("--");
  const words = end < 0 ? args : args.slice(0, end);
  const isJson = words.some((word, index) =>
    word === "--log-format=json" || (word === "--log-format" && words[index + 1] === "json")
  );
  return isJson ? "json" : "text";
}

function optionsFrom(parsed: Parsed, command: string[] | undefined): Options {
  const { logFormat } = parsed.output;
  const destinations = destinationsFrom(parsed.upstream);
  const isOne = destinations.length === 1;
  if (!isOne) refuseForSeveral(parsed);
  if (command !== undefined) refuseWithCommand(parsed);
  return {
    destinations,
    command,
    isLazy: parsed.upstream.lazy,
    credential: credentialFrom(parsed.credential),
    identityFiles: [...parsed.credential.identityFiles],
    jumpHosts: parsed.upstream.jump,
    configFile: parsed.upstream.configFile,
    configOverrides: [...parsed.upstream.configOverrides],
    printsConfig: parsed.upstream.printConfig,
    localHost: parsed.endpoint.localHost,
    localPort: parsed.endpoint.localPort ?? (isOne && command === undefined ? undefined : 0),
    localHostKey: localHostKeyFrom(parsed.endpoint),
    knownHostsFiles: [...parsed.trust.knownHostsFiles],
    acceptNew: parsed.trust.acceptNew,
    fingerprint: parsed.trust.fingerprint,
    localAuth: localAuthFrom(parsed.endpoint),
    authorizedKeysFile: parsed.endpoint.authorizedKeys,
    confirms: parsed.endpoint.confirm,
    auditFile: parsed.endpoint.audit,
    ...namingFrom(parsed.naming),
    reconnects: !parsed.survival.noReconnect,
    reconnectMaxDelayMs: parsed.survival.reconnectMaxDelay * 1000,
    resumeForMs: resumeForFrom(parsed.survival),
    showsAway: !parsed.survival.quietResume,
    keepaliveIntervalMs: parsed.survival.keepaliveInterval === undefined
      ? undefined
      : parsed.survival.keepaliveInterval * 1000,
    keepaliveCount: parsed.survival.keepaliveCount,
    openTimeoutMs: parsed.survival.openTimeout * 1000,
    maxSessions: parsed.survival.maxSessions,
    keepsWarm: !parsed.survival.noWarm,
    maxChannels: parsed.survival.maxChannels,
    overflow: parsed.survival.overflow,
    paces: !parsed.survival.noPacing,
    idleExitMs: timeFrom("--idle-exit", parsed.life.idleExit),
    maxLifeMs: timeFrom("--max-life", parsed.life.maxLife),
    readyFile: parsed.life.readyFile,
    notifies: parsed.life.notify,
    verbosity: verbosityFrom(parsed.output, command),
    logFormat,
    showsStatus: showsStatusFrom(parsed.output, command),
    metrics: metricsFrom(parsed.output.metrics),
  };
}

/** @throws {UsageError} Others than this machine would read it. */
function metricsFrom(text: string | undefined): Options["metrics"] {
  if (text === undefined) return undefined;
  const colon = text.lastIndexOf(":");
  const hostname = text.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
  const port = Number(text.slice(colon + 1));
  if (port > 65535) throw new UsageError("--metrics takes a port from 0 to 65535.");
  if (isLoopback(hostname)) return { hostname, port };
  throw new UsageError(
    "--metrics takes 127.0.0.1 or [::1] as its address: " +
      "it asks nobody who he is, and other machines would reach another one.",
  );
}

function isLoopback(address: string): boolean {
  return (isIPv4(address) && address.startsWith("127.")) || address === "::1";
}

/** A time in milliseconds. */
function timeFrom(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = parseSeconds(text);
  if (!seconds) throw new UsageError(`${name} takes a time such as 90, 30m or 1d12h.`);
  return seconds * 1000;
}

const resumeForByDefaultMs = 8 * 3_600_000;

function resumeForFrom({ resume, resumeFor }: Parsed["survival"]): number | undefined {
  return timeFrom("--resume-for", resumeFor) ?? (resume ? resumeForByDefaultMs : undefined);
}

/** What a command prints is not to be mixed with what is not wrong. */
function verbosityFrom(
  { verbose, quiet }: Parsed["output"],
  command: string[] | undefined,
): Options["verbosity"] {
  const isVerbose = verbose.length > 0;
  if (isVerbose && quiet) throw new UsageError("--verbose and --quiet exclude each other.");
  if (isVerbose) return "verbose";
  return quiet || command !== undefined ? "quiet" : "normal";
}

/** The terminal is a command's own, and JSON and silence are for programs. */
function showsStatusFrom(
  { noStatusLine, quiet, logFormat }: Parsed["output"],
  command: string[] | undefined,
): boolean {
  return !noStatusLine && !quiet && logFormat === "text" && command === undefined;
}

/** @throws {UsageError} An option is about one host, or would give what is one host's to others. */
function refuseForSeveral(
  { upstream, credential, trust, endpoint, naming }: Parsed,
): void {
  const given = [
    credential.password !== undefined && "--password",
    credential.passwordFile !== undefined && "--password-file",
    trust.fingerprint !== undefined && "--fingerprint",
    endpoint.localPort !== undefined && endpoint.localPort !== 0 && "--local-port",
    upstream.printConfig && "--print-config",
    naming.name !== undefined && "--name",
    naming.as !== undefined && "--as",
  ].find((name) => name !== false);
  if (given === undefined) return;
  throw new UsageError(`${given} is for one host, and several are given.`);
}

/** @throws {UsageError} An option takes what is the command's: how long it lasts, or its input. */
function refuseWithCommand({ life, upstream, credential }: Parsed): void {
  const given = [
    credential.passwordFile === "-" && "--password-file -",
    life.idleExit !== undefined && "--idle-exit",
    life.maxLife !== undefined && "--max-life",
    life.readyFile !== undefined && "--ready-file",
    life.notify && "--notify",
    upstream.printConfig && "--print-config",
  ].find((name) => name !== false);
  if (given !== undefined) throw new UsageError(`${given} and a command exclude each other.`);
}

function credentialFrom(
  { password, passwordFile, rsaKey, ed25519Key }: Parsed["credential"],
): Credential | undefined {
  const given = [
    password !== undefined && "--password",
    passwordFile !== undefined && "--password-file",
    rsaKey !== undefined && "--rsa-key",
    ed25519Key !== undefined && "--ed25519-key",
  ].filter((name) => name !== false);
  if (given.length > 1) throw new UsageError(`Only one of ${given.join(", ")} can be given.`);
  if (password !== undefined) return { kind: "password", password };
  if (passwordFile !== undefined) return { kind: "password-file", file: passwordFile };
  if (rsaKey !== undefined) return { kind: "key", type: "rsa", file: rsaKey };
  if (ed25519Key !== undefined) return { kind: "key", type: "ed25519", file: ed25519Key };
  return undefined;
}

function namingFrom(
  { name, as, printSshConfig, noSshConfig, noLane }: Parsed["naming"],
): Pick<Options, "name" | "as" | "sshConfig" | "usesLane"> {
  const other = [
    name !== undefined && "--name",
    as !== undefined && "--as",
    printSshConfig && "--print-ssh-config",
  ].find((option) => option !== false);
  if (noSshConfig && other !== undefined) {
    throw new UsageError(`--no-ssh-config and ${other} exclude each other.`);
  }
  const sshConfig = noSshConfig ? "none" : printSshConfig ? "printed" : "written";
  return { name, as, sshConfig, usesLane: !noLane };
}

function localHostKeyFrom(
  { localRsaKey, localEd25519Key }: Parsed["endpoint"],
): Options["localHostKey"] {
  if (localRsaKey !== undefined && localEd25519Key !== undefined) {
    throw new UsageError("--local-rsa-key and --local-ed25519-key exclude each other.");
  }
  if (localRsaKey !== undefined) return { type: "rsa", file: localRsaKey };
  if (localEd25519Key !== undefined) return { type: "ed25519", file: localEd25519Key };
  return undefined;
}

function localAuthFrom(
  { localAuth, localHost, authorizedKeys }: Parsed["endpoint"],
): Options["localAuth"] {
  if (!isIPv4(localHost) && !isIPv6(localHost)) {
    throw new UsageError("--local-host takes an IPv4 or IPv6 address.");
  }
  if (authorizedKeys !== undefined && (localAuth ?? "publickey") !== "publickey") {
    throw new UsageError(
      "--authorized-keys goes with --local-auth publickey: otherwise nobody is asked for a key.",
    );
  }
  const who = localAuth ?? (authorizedKeys === undefined ? "same-user" : "publickey");
  if (isLoopback(localHost) || who === "publickey") return who;
  throw new UsageError(
    "--local-host with another address than 127.0.0.1 or ::1 needs --local-auth publickey: " +
      "other machines reach it.",
  );
}

function destinationsFrom(
  { destinations, host, port, username }: Parsed["upstream"],
): Destination[] {
  if (destinations.length > 0 && host !== undefined) {
    throw new UsageError("The host is given twice: as an argument and by --host.");
  }
  if (destinations.length === 0 && host === undefined) {
    throw new UsageError("A host is missing: [USER@]HOST[:PORT].");
  }
  const typed = host === undefined ? destinations.map(parseDestination) : [{ host }];
  return typed.map((destination) => {
    checkHost(destination.host);
    return {
      host: destination.host,
      port: theSame("port", destination.port, port),
      username: theSame("user name", destination.username, username),
    };
  });
}
