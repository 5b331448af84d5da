/**
 * The grammar of the command line: every option, what it takes, and the words of its help.
 *
 * No error repeats a value from the command line: whatever stands in the wrong place may be the
 * password.
 */

import { group, object } from "@optique/core/constructs";
import { type Message, message, text } from "@optique/core/message";
import { multiple, optional, withDefault } from "@optique/core/modifiers";
import { argument, option } from "@optique/core/primitives";
import { findSimilar } from "@optique/core/suggestion";
import { extractOptionNames, type OptionName } from "@optique/core/usage";
import { choice, integer, string, type ValueParser } from "@optique/core/valueparser";
import { userPattern } from "./destination.ts";
import { isSafeName } from "./published_config.ts";
import { suggestHosts } from "./suggested_hosts.ts";

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

const destinationValue: ValueParser<"sync", string> = {
  ...string({ metavar: "[USER@]HOST[:PORT]" }),
  *suggest(prefix) {
    for (const host of suggestHosts(prefix)) yield { kind: "literal", text: host };
  },
};

/** An option with a value. */
export function valued<T>(
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

/** An option without a value. */
export function toggle(names: readonly [OptionName, ...OptionName[]], description: string) {
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
  destinations: multiple(argument(destinationValue, {
    description: [text(
      "The server; ssh://[USER@]HOST[:PORT] as well. " +
        "An IPv6 address with a port is written as [::1]:22. Several get a local port each.",
    )],
  })),
  host: optional(valued("--host", string({ metavar: "HOST" }), {
    takes: "a host name or an address",
    description: "The server, in place of the argument.",
  })),
  port: optional(valued(["-p", "--port"], portValue, {
    takes: portRange,
    description: "Its port. Default: ssh's configuration, or 22.",
  })),
  username: optional(
    valued(["-l", "--username"], string({ metavar: "USER", pattern: userPattern }), {
      takes: "a user name",
      description: "The user to log in as. Default: ssh's configuration, or your login name.",
    }),
  ),
  jump: optional(valued(["-J", "--jump"], string({ metavar: "HOSTS", pattern: /./s }), {
    takes: "hosts with commas between, or none",
    description: "Go through these hosts, as ProxyJump; none for no host.",
  })),
  configFile: optional(
    fileNamed(
      ["-F", "--config"],
      "Read this file of ssh's configuration and no other; none for no file.",
    ),
  ),
  configOverrides: multiple(valued("-o", string({ metavar: "KEY=VALUE", pattern: /./s }), {
    takes: "KEY=VALUE",
    description: "A setting of ssh_config; may be repeated.",
  })),
  lazy: toggle(["--lazy"], "Log in when the first client comes, and not before."),
  printConfig: toggle(
    ["-G", "--print-config"],
    "Show what the configuration says for the server, as `ssh -G` does, and end.",
  ),
});

const credential = object({
  identityFiles: multiple(fileNamed(
    ["-i", "--identity"],
    "Offer this private key, of any type, before those of the configuration; may be repeated.",
  )),
  ed25519Key: optional(
    fileNamed("--ed25519-key", "Log in with this Ed25519 private key, and offer no other."),
  ),
  rsaKey: optional(fileNamed("--rsa-key", "The same with an RSA key.")),
  passwordFile: optional(
    valued("--password-file", string({ metavar: "FILE", pattern: /^(?!-.)[^\0]+$/ }), {
      takes: "the name of a file, or -",
      description: "Log in with the password in the first line of a file; - is standard input.",
    }),
  ),
  password: optional(valued("--password", string({ metavar: "PASSWORD", pattern: /./s }), {
    takes: "a password that is not empty",
    description: "Log in with a password. Other users can read it in the list of processes; " +
      "prefer a key or a file.",
  })),
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
  localPort: optional(valued("--local-port", localPortValue, {
    takes: "a number from 0 to 65535",
    description: "The port that clients connect to; 0 takes a free one. " +
      "Default: 2222, or a free one where another sshshim has that; with several servers or a " +
      "command, a free one.",
  })),
  localHost: withDefault(
    valued("--local-host", string({ metavar: "ADDR", pattern: /^[0-9a-f.:]+(?:%\w+)?$/i }), {
      takes: "an IPv4 or IPv6 address",
      description: "The address that clients connect to; one that other machines reach needs " +
        "--local-auth publickey. Default: 127.0.0.1.",
    }),
    "127.0.0.1",
  ),
  localEd25519Key: optional(fileNamed(
    "--local-ed25519-key",
    "The Ed25519 key that the local port shows as its only host key. " +
      "Default: keys of several types, made at the first start.",
  )),
  localRsaKey: optional(fileNamed("--local-rsa-key", "The same with an RSA key.")),
  localAuth: optional(
    valued("--local-auth", choice(["same-user", "publickey", "none"], { metavar: "WHO" }), {
      takes: "same-user, publickey or none",
      description: "Who may connect: same-user, your own processes, by a key of yours where the " +
        "system does not tell; publickey, whoever has a key; or none, every user of this " +
        "machine. Default: same-user.",
    }),
  ),
  authorizedKeys: optional(fileNamed(
    "--authorized-keys",
    "Further keys that may connect, in sshd's format, with its options; implies " +
      "--local-auth publickey.",
  )),
  confirm: toggle(
    ["--confirm"],
    "Ask you, at the terminal or by SSH_ASKPASS, before a new program may connect.",
  ),
  audit: optional(fileNamed(
    "--audit",
    "Append a line of JSON for each client, channel, forward, request and refusal to this file.",
  )),
});

function named(option: OptionName, description: string) {
  const value: ValueParser<"sync", string> = {
    ...string({ metavar: "NAME" }),
    parse: (input) =>
      isSafeName(input) ? { success: true, value: input } : { success: false, error: message`` },
  };
  const takes = "letters, digits, dots, _ and -, of which neither - nor a dot comes first";
  return optional(valued(option, value, { takes, description }));
}

const naming = object({
  name: named("--name", "Let ssh reach the port as NAME.shim. Default: what the server is called."),
  as: named("--as", "Let ssh reach it as NAME as well, such as the server's own name."),
  printSshConfig: toggle(
    ["--print-ssh-config"],
    "Print the configuration for ssh in place of the banner, and do not write it.",
  ),
  noLane: toggle(
    ["--no-lane"],
    "Let ssh come to the port alone, and not by the control socket.",
  ),
  noSshConfig: toggle(["--no-ssh-config"], "Have no name, and write nothing for ssh."),
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

const timeValue = string({ metavar: "TIME", pattern: /^[0-9smhdw+]+$/i });

function time(name: OptionName, description: string) {
  return optional(
    valued(name, timeValue, { takes: "a time such as 90, 30m or 1d12h", description }),
  );
}

const survival = object({
  resume: toggle(
    ["--resume"],
    "Keep what runs over the loss of the network: a program on the server holds the connection. " +
      "Needs perl or python3 there, and logs in twice.",
  ),
  resumeFor: time(
    "--resume-for",
    "For how long it is held while the network is away, such as 90, 30m or 1d12h; implies " +
      "--resume. Default: 8h.",
  ),
  quietResume: toggle(
    ["--quiet-resume"],
    "With --resume: show no line at terminals while the network is away.",
  ),
  noReconnect: toggle(["--no-reconnect"], "End, with status 5, when the connection is lost."),
  reconnectMaxDelay: seconds(
    "--reconnect-max-delay",
    30,
    "The longest wait between attempts to reconnect.",
  ),
  keepaliveInterval: optional(valued(
    "--keepalive-interval",
    integer({ metavar: "SECONDS", min: 0, max: 86_400 }),
    {
      takes: "a number of seconds, 0 to 86400",
      description: "Ask a silent server for a sign of life after so long; with nothing open, " +
        "after three times that; 0 never. Default: ServerAliveInterval, or 5.",
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
  noWarm: toggle(
    ["--no-warm"],
    "Open no session on the server before a client wants it, which saves a round trip.",
  ),
  maxChannels: withDefault(
    valued("--max-channels", integer({ metavar: "N", min: 32, max: 20_000 }), {
      takes: "a number from 32 to 20000",
      description: "How many forwarded connections and remote forwards all clients together may " +
        "have; OpenSSH's server has 1024 file descriptors for them, or `ulimit -n`. Default: 960.",
    }),
    960,
  ),
  overflow: withDefault(
    valued("--overflow", integer({ metavar: "N", min: 0, max: 100 }), {
      takes: "a number from 0 to 100",
      description: "Make up to so many further connections for sessions that would wait, if " +
        "logging in needs nobody. Default: 0.",
    }),
    0,
  ),
  noPacing: toggle(
    ["--no-pacing"],
    "Let transfers fill the way to the server as far as their windows allow, while others wait.",
  ),
});

const life = object({
  idleExit: time(
    "--idle-exit",
    "End, with status 0, when no client was there for so long, such as 90, 30m or 1d12h.",
  ),
  maxLife: time(
    "--max-life",
    "End, with status 0, after so long; sessions are told a minute before.",
  ),
  readyFile: optional(fileNamed(
    "--ready-file",
    "Write this file once the port can be used, with what the banner says as JSON; " +
      "it is removed at the end.",
  )),
  notify: toggle(
    ["--notify"],
    "Tell the service manager (systemd) that the port can be used, and how it goes.",
  ),
});

/** An IPv6 address stands in brackets, as in an URL. */
const metricsPattern = /^(?:\[[0-9a-f:.]+\]|[0-9a-z.-]+):\d{1,5}$/i;

const output = object({
  // ssh knows several degrees; here there is one.
  verbose: multiple(toggle(["-v", "--verbose"], "Log details, with times and stack traces.")),
  quiet: toggle(["-q", "--quiet"], "Log warnings and errors only."),
  logFormat: withDefault(
    valued("--log-format", choice(["text", "json"], { metavar: "FORMAT" }), {
      takes: "text or json",
      description:
        "Write the banner, log lines and errors as text, or json: one object per line. Default: text.",
    }),
    "text",
  ),
  noStatusLine: toggle(
    ["--no-status-line"],
    "Show no line at the bottom of the terminal with what runs.",
  ),
  metrics: optional(valued("--metrics", string({ metavar: "ADDR:PORT", pattern: metricsPattern }), {
    takes: "a loopback address and a port, such as 127.0.0.1:9222",
    description: "Serve metrics for Prometheus at http://ADDR:PORT/metrics; a loopback address.",
  })),
});

/** The whole command line. */
export const grammar = object({
  upstream: group("Server", upstream),
  credential: group("Log in with", credential),
  trust: group("Trust", trust),
  endpoint: group("Local port", endpoint),
  naming: group("Its name for ssh", naming),
  survival: group("Reconnecting", survival),
  life: group("Start and end", life),
  output: group("Messages", output),
}, { errors: { unexpectedInput } });

/** What the grammar makes of arguments; `undefined` where an option is absent. */
export type Parsed = NonNullable<(typeof grammar)["$valueType"][number]>;

function unexpectedInput(token: string): Message {
  if (!token.startsWith("-")) {
    return message`An argument is not understood in this place.`;
  }
  // Of --name=VALUE and -nVALUE only the name may be shown.
  const name = /^(?:--[\w-]+|-\w)/.exec(token)?.[0];
  if (name === undefined) return message`An argument starts with - and is no option.`;
  const known = extractOptionNames(grammar.usage);
  for (const other of ["-h", "--help", "-V", "--version", "--completion"]) known.add(other);
  // An option after "--", or a value for one of those that Optique adds.
  if (known.has(name)) return message`${text(name)} is not understood in this place.`;
  const similar = name.startsWith("--") ? findSimilar(name, known) : [];
  const hint = similar.length === 0 ? "" : ` Did you mean ${similar.join(" or ")}?`;
  return message`There is no option ${text(name)}.${text(hint)}`;
}
