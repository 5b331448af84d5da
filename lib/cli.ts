/**
 * The command line: its grammar, its help and its errors.
 *
 * Nothing is printed here and nothing ends the process; `main.ts` does both. No error repeats a
 * value from the command line: whatever stands in the wrong place may be the password.
 */

import { group, object } from "@optique/core/constructs";
import { runParserSync } from "@optique/core/facade";
import { formatMessage, type Message, message, text } from "@optique/core/message";
import { multiple, optional, withDefault } from "@optique/core/modifiers";
import { argument, option } from "@optique/core/primitives";
import { findSimilar } from "@optique/core/suggestion";
import { extractOptionNames, type OptionName } from "@optique/core/usage";
import { choice, integer, string, type ValueParser } from "@optique/core/valueparser";
import config from "../deno.json" with { type: "json" };
import { checkHost, parseDestination, userPattern } from "./destination.ts";
import { UsageError } from "./errors.ts";
import { helpText, programName, usageLine } from "./help.ts";

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
  /** Name or address of upstream as it was typed; an IPv6 address without its brackets. */
  host: string;
  /** 1 to 65535; absent: as configured, or 22. */
  port: number | undefined;
  /** Absent: as configured, or the login name. */
  username: string | undefined;
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
  /** 0 to 65535; 0 takes a free port. */
  localPort: number;
  /** Absent: the key in the state folder. */
  localHostKey?: { type: "rsa" | "ed25519"; file: string };
  /** Empty: the user's and the system's. */
  knownHostsFiles: string[];
  acceptNew: boolean;
  /** The only host key that is taken, `SHA256:…`. */
  fingerprint: string | undefined;
  localAuth: "same-user" | "none";
  /** Whether a connection that is lost comes back, and the longest wait before an attempt. */
  reconnects: boolean;
  reconnectMaxDelayMs: number;
  /** A silence so long is broken while something is open; so many in a row mean death. */
  keepaliveIntervalMs: number | undefined;
  keepaliveCount: number | undefined;
  /** How long what a client asks for waits for upstream. */
  openTimeoutMs: number;
  /** Sessions that upstream allows at a time; absent: found out. */
  maxSessions: number | undefined;
  /** Further connections for more sessions. */
  overflow: number;
  verbosity: "quiet" | "normal" | "verbose";
  logFormat: "text" | "json";
}

/** `print`: `text` ends with a newline, goes to stdout as it stands, and the exit status is 0. */
export type Command = { kind: "run"; options: Options } | { kind: "print"; text: string };

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
  let printed = "";
  // What these callbacks return takes the place of the parsed arguments.
  const onShow = () => undefined;
  const parsed: Parsed | undefined = runParserSync(grammar, programName, args, {
    help: {
      option: { names: ["-h", "--help"], group: "Other" },
      onShow: (_status, page) => void (printed = helpText(page)),
    },
    version: { option: { group: "Other" }, value: `${programName} ${config.version}`, onShow },
    completion: { option: { group: "Other" }, onShow },
    usageLine,
    aboveError: "none",
    onError(_status, error) {
      throw new UsageError(formatMessage(withoutTypedValues(error, args)));
    },
    stdout: (chunk) => void (printed += `${chunk}\n`),
    stderr() {},
  });
  return parsed === undefined
    ? { kind: "print", text: printed }
    : { kind: "run", options: optionsFrom(parsed) };
}

// What an option takes: a parser for its value, and the words that complete "--port takes …".

const portRange = "a number from 1 to 65535";
const portValue = integer({ metavar: "PORT", min: 1, max: 65535 });
const localPortValue = integer({ metavar: "PORT", min: 0, max: 65535 });
const fileValue: ValueParser<"sync", string> = {
  ...string({ metavar: "FILE", pattern: /^(?!-)[^\0]+$/ }),
  *suggest(prefix) {
    yield { kind: "file", type: "file", pattern: prefix, includeHidden: true };
  },
};

function valued<T>(
  names: OptionName | readonly [OptionName, OptionName],
  value: ValueParser<"sync", T>,
  { takes, description }: { takes: string; description: string },
) {
  const [first, ...others] = [names].flat();
  const name = others[0] ?? first!;
  const error = message`${text(name)} takes ${text(takes)}.`;
  return option(first!, ...others, value, {
    description: [text(description)],
    errors: { invalidValue: error, endOfInput: error, duplicate: givenTwice(name) },
  });
}

function fileNamed(
  names: OptionName | readonly [OptionName, OptionName],
  description: string,
) {
  return valued(names, fileValue, { takes: "the name of a file", description });
}

function toggle(names: readonly [OptionName, ...OptionName[]], description: string) {
  const name = names.at(-1) ?? "";
  const unexpectedValue = message`${text(name)} takes no value.`;
  return option(...names, {
    description: [text(description)],
    errors: { unexpectedValue, duplicate: givenTwice(name) },
  });
}

function givenTwice(name: string): Message {
  return message`${text(name)} is given twice.`;
}

const upstream = object({
  destination: optional(argument(string({ metavar: "[USER@]HOST[:PORT]" }), {
    description: message`The server. An IPv6 address with a port is written as [::1]:22.`,
  })),
  host: optional(valued("--host", string({ metavar: "HOST" }), {
    takes: "a host name or an address",
    description: "The server, in place of the argument.",
  })),
  port: optional(valued("--port", portValue, {
    takes: portRange,
    description: "Its port. Default: ssh's configuration, or 22.",
  })),
  username: optional(valued("--username", string({ metavar: "USER", pattern: userPattern }), {
    takes: "a user name",
    description: "The user to log in as. Default: ssh's configuration, or your login name.",
  })),
  jump: optional(valued(["-J", "--jump"], string({ metavar: "HOSTS", pattern: /./s }), {
    takes: "hosts with commas between, or none",
    description: "Go through these hosts, as ProxyJump; none for no host.",
  })),
  configFile: optional(
    fileNamed(["-F", "--config"], "Read this file of ssh's configuration, or none."),
  ),
  configOverrides: multiple(valued("-o", string({ metavar: "KEY=VALUE", pattern: /./s }), {
    takes: "KEY=VALUE",
    description: "A setting of ssh_config; may be repeated.",
  })),
  printConfig: toggle(["--print-config"], "Show the configuration for the server, and end."),
});

const credential = object({
  password: optional(valued("--password", string({ metavar: "PASSWORD", pattern: /./s }), {
    takes: "a password that is not empty",
    description: "Log in with a password. Other users can read it in the list of processes; " +
      "prefer a key.",
  })),
  rsaKey: optional(fileNamed("--rsa-key", "Log in with this RSA private key.")),
  ed25519Key: optional(fileNamed("--ed25519-key", "Log in with this Ed25519 private key.")),
  passwordFile: optional(
    valued("--password-file", string({ metavar: "FILE", pattern: /^(?!-.)[^\0]+$/ }), {
      takes: "the name of a file, or -",
      description: "Log in with the password in the first line of a file; - is standard input.",
    }),
  ),
  identityFiles: multiple(
    fileNamed(["-i", "--identity"], "Offer this private key, of any type; may be repeated."),
  ),
});

const trust = object({
  knownHostsFiles: multiple(fileNamed(
    "--known-hosts",
    "Look here for the server's host key; may be repeated. " +
      "Default: your known_hosts and the system's.",
  )),
  acceptNew: toggle(
    ["--accept-new"],
    "Trust and remember the key of an unknown server. A changed key is always refused.",
  ),
  fingerprint: optional(
    valued(
      "--fingerprint",
      string({ metavar: "SHA256:…", pattern: /^SHA256:[A-Za-z0-9+/]{43}=?$/ }),
      {
        takes: "a fingerprint as ssh shows it, SHA256:…",
        description: "Take this host key and no other, whatever known_hosts has.",
      },
    ),
  ),
});

const endpoint = object({
  localPort: withDefault(
    valued("--local-port", localPortValue, {
      takes: "a number from 0 to 65535",
      description:
        "The port on 127.0.0.1 that clients connect to; 0 takes a free one. Default: 2222.",
    }),
    2222,
  ),
  localRsaKey: optional(fileNamed(
    "--local-rsa-key",
    "The RSA key that the local port shows as its host key. " +
      "Default: an Ed25519 key made at the first start.",
  )),
  localEd25519Key: optional(
    fileNamed("--local-ed25519-key", "The same with an Ed25519 key."),
  ),
  localAuth: withDefault(
    valued("--local-auth", choice(["same-user", "none"], { metavar: "WHO" }), {
      takes: "same-user or none",
      description: "Who may connect: same-user, your own processes, or none, " +
        "every user of this machine. Default: same-user.",
    }),
    "same-user",
  ),
});

function seconds(name: OptionName, secondsByDefault: number, description: string) {
  const value = integer({ metavar: "SECONDS", min: 1, max: 86_400 });
  const takes = "a number of seconds, 1 to 86400";
  return withDefault(
    valued(name, value, { takes, description: `${description} Default: ${secondsByDefault}.` }),
    secondsByDefault,
  );
}

function count(name: OptionName, description: string) {
  const value = integer({ metavar: "N", min: 1, max: 1000 });
  return valued(name, value, { takes: "a number from 1 to 1000", description });
}

const survival = object({
  noReconnect: toggle(["--no-reconnect"], "End when the connection is lost."),
  reconnectMaxDelay: seconds(
    "--reconnect-max-delay",
    30,
    "The longest wait between attempts to reconnect.",
  ),
  keepaliveInterval: optional(valued(
    "--keepalive-interval",
    integer({ metavar: "SECONDS", min: 1, max: 86_400 }),
    {
      takes: "a number of seconds, 1 to 86400",
      description: "Ask a silent server for a sign of life after so long; with nothing open, " +
        "after three times that. Default: ServerAliveInterval, or 5.",
    },
  )),
  keepaliveCount: optional(count(
    "--keepalive-count",
    "Give a silent server up after so many intervals. Default: ServerAliveCountMax, or 3.",
  )),
  openTimeout: seconds(
    "--open-timeout",
    30,
    "How long a client's session or connection waits for the server, or for a free session.",
  ),
  maxSessions: optional(count(
    "--max-sessions",
    "How many sessions the server allows at a time; more wait. Default: found out.",
  )),
  overflow: withDefault(
    valued("--overflow", integer({ metavar: "N", min: 0, max: 100 }), {
      takes: "a number from 0 to 100",
      description: "Make up to so many further connections for sessions that would wait, if " +
        "logging in needs nobody. Default: 0.",
    }),
    0,
  ),
});

const output = object({
  verbose: toggle(["-v", "--verbose"], "Log details, with times and stack traces."),
  quiet: toggle(["-q", "--quiet"], "Log warnings and errors only."),
  logFormat: withDefault(
    valued("--log-format", choice(["text", "json"], { metavar: "FORMAT" }), {
      takes: "text or json",
      description: "Write text, or json: one object per line. Default: text.",
    }),
    "text",
  ),
});

const grammar = object({
  upstream: group("Server", upstream),
  credential: group("Log in with", credential),
  trust: group("Trust", trust),
  endpoint: group("Local port", endpoint),
  survival: group("Reconnecting", survival),
  output: group("Messages", output),
}, { errors: { unexpectedInput } });

type Parsed = NonNullable<(typeof grammar)["$valueType"][number]>;

function unexpectedInput(token: string): Message {
  if (!token.startsWith("-")) {
    return message`Only one HOST can be given; a value with spaces needs quotes.`;
  }
  // Of --name=VALUE and -nVALUE only the name may be shown.
  const name = /^(?:--[\w-]+|-\w)/.exec(token)?.[0];
  if (name === undefined) return message`An argument starts with - and is no option.`;
  const known = extractOptionNames(grammar.usage);
  for (const other of ["-h", "--help", "--version", "--completion"]) known.add(other);
  // An option after "--", or a value for one of those that Optique adds.
  if (known.has(name)) return message`${text(name)} is not understood in this place.`;
  const similar = name.startsWith("--") ? findSimilar(name, known) : [];
  const hint = similar.length === 0 ? "" : ` Did you mean ${similar.join(" or ")}?`;
  return message`There is no option ${text(name)}.${text(hint)}`;
}

/** Optique's own messages quote what was typed, as for an unknown shell; not here. */
function withoutTypedValues(error: Message, args: readonly string[]): Message {
  return error.map((term) =>
    term.type === "value" && args.some((arg) => arg.includes(term.value)) ? text('"…"') : term
  );
}

function optionsFrom(parsed: Parsed): Options {
  const { verbose, quiet, logFormat } = parsed.output;
  if (verbose && quiet) throw new UsageError("--verbose and --quiet exclude each other.");
  return {
    ...destinationFrom(parsed.upstream),
    credential: credentialFrom(parsed.credential),
    identityFiles: [...parsed.credential.identityFiles],
    jumpHosts: parsed.upstream.jump,
    configFile: parsed.upstream.configFile,
    configOverrides: [...parsed.upstream.configOverrides],
    printsConfig: parsed.upstream.printConfig,
    localPort: parsed.endpoint.localPort,
    localHostKey: localHostKeyFrom(parsed.endpoint),
    knownHostsFiles: [...parsed.trust.knownHostsFiles],
    acceptNew: parsed.trust.acceptNew,
    fingerprint: parsed.trust.fingerprint,
    localAuth: parsed.endpoint.localAuth,
    reconnects: !parsed.survival.noReconnect,
    reconnectMaxDelayMs: parsed.survival.reconnectMaxDelay * 1000,
    keepaliveIntervalMs: parsed.survival.keepaliveInterval === undefined
      ? undefined
      : parsed.survival.keepaliveInterval * 1000,
    keepaliveCount: parsed.survival.keepaliveCount,
    openTimeoutMs: parsed.survival.openTimeout * 1000,
    maxSessions: parsed.survival.maxSessions,
    overflow: parsed.survival.overflow,
    verbosity: verbose ? "verbose" : quiet ? "quiet" : "normal",
    logFormat,
  };
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

function destinationFrom(
  { destination, host, port, username }: Parsed["upstream"],
): Pick<Options, "host" | "port" | "username"> {
  if (destination !== undefined && host !== undefined) {
    throw new UsageError("The host is given twice: as an argument and by --host.");
  }
  if (destination === undefined && host === undefined) {
    throw new UsageError("A host is missing: [USER@]HOST[:PORT].");
  }
  const typed = destination === undefined
    ? { host: host?.replace(/^\[(.*)\]$/s, "$1") ?? "" }
    : parseDestination(destination);
  checkHost(typed.host);
  return {
    host: typed.host,
    port: theSame("port", typed.port, port),
    username: theSame("user name", typed.username, username),
  };
}

function theSame<T>(what: string, withHost: T | undefined, byOption: T | undefined): T | undefined {
  if (withHost !== undefined && byOption !== undefined && withHost !== byOption) {
    throw new UsageError(`The ${what} is given twice and differs: with the host and by an option.`);
  }
  return withHost ?? byOption;
}
