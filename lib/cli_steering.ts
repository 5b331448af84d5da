/** The subcommands that see and steer shims that run: how they are written. */

import { object } from "@optique/core/constructs";
import { formatMessage, text } from "@optique/core/message";
import { multiple, optional } from "@optique/core/modifiers";
import { argument } from "@optique/core/primitives";
import { integer, string, type ValueParser } from "@optique/core/valueparser";
import { defined, type SubcommandGrammar } from "./cli_definition.ts";
import { toggle, valued } from "./cli_grammar.ts";
import { UsageError } from "./errors.ts";
import { type ForwardSpec, parseForwardSpec } from "./forward_spec.ts";
import { namesOfShims } from "./running_shims.ts";
import { parseSeconds } from "./ssh_config_values.ts";

/** What is to be done with shims that run; without a name it is the only one. */
export type Steering =
  | { kind: "list"; isJson: boolean }
  | { kind: "status"; name: string | undefined; isJson: boolean; watches: boolean }
  | { kind: "stop"; name: string | undefined; all: boolean }
  | { kind: "reconnect"; name: string | undefined }
  | { kind: "wait"; name: string | undefined; timeoutMs: number | undefined }
  | { kind: "kill"; name: string; client: number }
  | { kind: "forward"; name: string; forwards: ForwardSpec[]; cancels: boolean; lists: boolean }
  | { kind: "logs"; name: string | undefined; follows: boolean }
  | { kind: "connect"; name: string };

/** How a subcommand reaches the one who does it. */
interface Command {
  kind: "steer";
  steering: Steering;
}

const nameValue: ValueParser<"sync", string> = {
  ...string({ metavar: "NAME", pattern: /^[^-]/ }),
  *suggest(prefix) {
    for (const name of namesOfShims()) {
      if (name.startsWith(prefix)) yield { kind: "literal", text: name };
    }
  },
};

/** Where the only shim that runs could be another one than was meant. */
const name = optional(argument(nameValue, {
  description: [text("The name of a running shim, as `sshshim list` shows it.")],
}));
const optionalName = optional(argument(nameValue, {
  description: [text(
    "The name of a running shim, as `sshshim list` shows it. Default: the only one that runs.",
  )],
}));
const clientIsMissing = [text("The number of a client is missing: `sshshim status` shows them.")];
const json = toggle(["--json"], "Write JSON, as status.schema.json describes it.");

function steer(steering: Steering): Command {
  return { kind: "steer", steering };
}

/** @throws {UsageError} where there is none. */
function given(name: string | undefined): string {
  if (name !== undefined) return name;
  throw new UsageError("The name of a shim is missing: `sshshim list` shows those that run.");
}

/** What `-L`, `-R` or `-D` takes. */
function specification(option: "-L" | "-R" | "-D", takes: string, description: string) {
  const value = string({ metavar: "SPEC", pattern: /./s });
  return multiple(valued(option, value, { takes, description }));
}

/** All of them, as the help lists them. */
export const steeringCommands: readonly SubcommandGrammar<Command>[] = [
  defined({
    name: "list",
    usage: "list [--json]",
    brief: "List the shims that run.",
    about: "Lists your shims that run: name, host, address of the local port, how the connection " +
      "is, clients, and for how long each has been there.",
    parser: object({ json }),
    command: ({ json }) => steer({ kind: "list", isJson: json }),
  }),
  defined({
    name: "status",
    usage: "status [--json] [--watch] [NAME]",
    brief: "Show a shim's connection, clients and channels.",
    about: "Shows the connection of a running shim, how far the host is away, its clients and " +
      "what they run.",
    parser: object({
      name: optionalName,
      json,
      watch: toggle(
        ["--watch"],
        "Show it again and again until Ctrl-C, with how fast channels are; " +
          "a line at a time where standard output is no terminal.",
      ),
    }),
    command: ({ name, json, watch }) =>
      steer({ kind: "status", name, isJson: json, watches: watch }),
  }),
  defined({
    name: "stop",
    usage: "stop [--all | NAME]",
    brief: "Stop a shim, and wait until it has ended.",
    about: "Stops a running shim as Ctrl-C does, and waits until it has ended.",
    parser: object({
      name: optionalName,
      all: toggle(["--all"], "Stop all of them."),
    }),
    command: ({ name, all }) => {
      if (all && name !== undefined) throw new UsageError("--all and a name exclude each other.");
      return steer({ kind: "stop", name, all });
    },
  }),
  defined({
    name: "reconnect",
    usage: "reconnect [NAME]",
    brief: "Make a new connection in place of a shim's old one.",
    about: "Drops the connection of a running shim and makes a new one at once, also where it " +
      "waits or has given up; then waits until it is there. Open sessions end.",
    parser: object({ name: optionalName }),
    command: ({ name }) => steer({ kind: "reconnect", name }),
  }),
  defined({
    name: "wait",
    usage: "wait [--timeout TIME] [NAME]",
    brief: "Wait until a shim's connection is there.",
    about:
      "Waits until the connection of a shim is there, or says why it is not to be; wakes one " +
      "that sleeps.",
    parser: object({
      name: optionalName,
      timeout: optional(valued("--timeout", string({ metavar: "TIME" }), {
        takes: "a time such as 90, 30m or 1d12h",
        description: "Wait no longer, and for as long also for a shim that does not run yet.",
      })),
    }),
    command: ({ name, timeout }) => {
      const seconds = timeout === undefined ? undefined : parseSeconds(timeout);
      if (timeout !== undefined && !seconds) {
        throw new UsageError("--timeout takes a time such as 90, 30m or 1d12h.");
      }
      return steer({ kind: "wait", name, timeoutMs: seconds && seconds * 1000 });
    },
  }),
  defined({
    name: "kill",
    usage: "kill NAME CLIENT",
    brief: "End one client of a shim.",
    about: "Ends one client of a running shim, and what it has open; the others go on.",
    parser: object({
      name,
      client: optional(argument(integer({ metavar: "CLIENT", min: 1 }), {
        description: [text("Its number, as `sshshim status` shows it.")],
        errors: { invalidValue: clientIsMissing },
      })),
    }),
    command: ({ name, client }) => {
      if (client === undefined) throw new UsageError(formatMessage(clientIsMissing));
      return steer({ kind: "kill", name: given(name), client });
    },
  }),
  defined({
    name: "forward",
    usage: "forward [-L SPEC | -R SPEC | -D SPEC]... [--cancel] [--list] NAME",
    brief: "Open, close or list forwards of a shim.",
    about:
      "Opens forwards through a running shim, which stay until they are cancelled or it ends. " +
      "They are written as for ssh. The port that was chosen for `-R 0:HOST:PORT` is printed.",
    parser: object({
      name,
      local: specification(
        "-L",
        "[ADDR:]PORT:HOST:HOSTPORT, where a path may stand for either end",
        "Listen here, and connect from the host; as ssh's -L. May be repeated.",
      ),
      remote: specification(
        "-R",
        "[ADDR:]PORT:HOST:HOSTPORT, where a path may stand for either end, or [ADDR:]PORT",
        "Listen at the host, and connect from here; as ssh's -R. May be repeated.",
      ),
      dynamic: specification(
        "-D",
        "[ADDR:]PORT",
        "Listen here for SOCKS, and connect from the host; as ssh's -D. May be repeated.",
      ),
      cancel: toggle(["--cancel"], "Close these forwards in place of opening them."),
      list: toggle(["--list"], "List the forwards that are open then."),
    }),
    command: ({ name, local, remote, dynamic, cancel, list }) => {
      const forwards = [
        ...specs("local", local),
        ...specs("remote", remote),
        ...specs("dynamic", dynamic),
      ];
      if (forwards.length === 0 && !list) {
        throw new UsageError("Nothing is asked for: give -L, -R, -D or --list.");
      }
      return steer({ kind: "forward", name: given(name), forwards, cancels: cancel, lists: list });
    },
  }),
  defined({
    name: "logs",
    usage: "logs [-f] [NAME]",
    brief: "Show the last log lines of a shim.",
    about: "Shows the last log lines of a running shim, which it keeps in memory: up to 2,000.",
    parser: object({
      name: optionalName,
      follow: toggle(["-f", "--follow"], "Go on with new lines until Ctrl-C, or until it ends."),
    }),
    command: ({ name, follow }) => steer({ kind: "logs", name, follows: follow }),
  }),
  defined({
    name: "connect",
    usage: "connect NAME",
    brief: "Join standard input and output to a shim's port.",
    about:
      "Joins standard input and output to the local port of a running shim, for a ProxyCommand " +
      "such as `sshshim connect prod`.",
    parser: object({ name }),
    command: ({ name }) => steer({ kind: "connect", name: given(name) }),
  }),
];

function specs(kind: ForwardSpec["kind"], typed: readonly string[]): ForwardSpec[] {
  return typed.map((text) => {
    const spec = parseForwardSpec(kind, text);
    if (spec !== undefined) return spec;
    const option = { local: "-L", remote: "-R", dynamic: "-D" }[kind];
    throw new UsageError(`What follows ${option} is not understood: write it as for ssh.`);
  });
}
