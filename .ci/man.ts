/**
 * Prints the manual page, sshshim.1, made of the grammar that parses the command line.
 *
 *     deno task man
 */

import { program } from "../lib/cli_program.ts";
import { helpPage } from "../lib/cli_parse.ts";
import { subcommands } from "../lib/cli_subcommands.ts";
import { about, commandStatus, examples, exitStatuses, usage } from "../lib/help.ts";
import { mdocList, mdocOptions, mdocText, mdocUsage, plain } from "./mdoc.ts";
import { commitTime, version } from "./release/release.ts";

/** What is read from the environment, or found there by commands of ssh's configuration. */
const environment: Record<string, string> = {
  SSH_AUTH_SOCK: "The agent whose keys are offered to the server, and admitted at the local port.",
  SSH_ASKPASS: "The program that asks questions, by the rules of ssh(1); SSH_ASKPASS_REQUIRE " +
    "and DISPLAY as well.",
  SSHSHIM_PASSWORD: "The password to log in with, where no option gives one.",
  SSHSHIM_UPSTREAM: "Set for a ProxyCommand and other commands that ssh's configuration has run: " +
    "in them a name of --as means the server itself.",
  XDG_RUNTIME_DIR: "Where the control sockets are, in its folder sshshim; without it they are in " +
    "`~/.ssh/sshshim`. The subcommands look there for shims that run.",
  XDG_STATE_HOME: "Where the state folder is; see FILES.",
  SHELL: "What runs a ProxyCommand and `Match exec`, and what runs after -- without a command.",
  NOTIFY_SOCKET: "With --notify, where the service manager listens.",
};

/** What a command after `--` finds there. */
const commandEnvironment: Record<string, string> = {
  SSHSHIM_HOST: "The address of the local port: 127.0.0.1, unless --local-host says otherwise.",
  SSHSHIM_PORT: "The local port; with several hosts, that of the first.",
  SSHSHIM_SSH_CONFIG: "A file for `ssh -F` with the names of all hosts that are served. " +
    "It includes your own configuration.",
  GIT_SSH_COMMAND: "Lets git find these names: `ssh -F` and that file.",
  RSYNC_RSH: "The same for rsync.",
};

/** What is read and written, by the usual paths. */
const files: Record<string, string> = {
  "~/.ssh/config": "Your configuration of ssh, and the system's in /etc/ssh/ssh_config: " +
    "how to reach the server, whether to trust it, and how to log in; see ssh_config(5).",
  "~/.ssh/known_hosts": "The host keys that are known, unless the configuration or --known-hosts " +
    "names others.",
  "~/.ssh/sshshim/NAME.conf": "What ssh is told of the local port while it is there.",
  "~/.local/state/sshshim": "The state folder: host keys of the local port, made at the first " +
    "start, and client_key, with which your clients can log in where keys are asked for. " +
    "It is $XDG_STATE_HOME/sshshim where that is set, `~/Library/Application Support/sshshim` on " +
    "macOS, and `%LOCALAPPDATA%\\sshshim` on Windows.",
};

/** The page in mdoc; `time` is that of its sources, in seconds since 1970. */
export function manualPage({ time }: { time: number }): string {
  const date = new Date(time * 1000).toLocaleDateString("en-US", {
    ...{ year: "numeric", month: "long", day: "numeric", timeZone: "UTC" },
  });
  return `\
.Dd ${date}
.Dt SSHSHIM 1
.Os sshshim ${version}
.Sh NAME
.Nm sshshim
.Nd one authenticated SSH connection for every SSH client
.Sh SYNOPSIS
.Nm
${mdocUsage(usage)}
${subcommands.map(({ usage }) => `.Nm\n${mdocUsage(usage)}`).join("\n")}
.Sh DESCRIPTION
${mdocText(about)}
${
    mdocText(
      "The server is verified once and you log in once; ssh, sftp, scp, rsync, git and others then " +
        "use that connection as if the port were the server itself. " +
        "If it is lost it comes back, and so do the remote forwards.",
    )
  }
.Pp
${
    mdocText(
      "It stays in the foreground. SIGINT, SIGTERM or SIGHUP stops it: open sessions are told, and " +
        "all is closed within 3 seconds; a second signal ends it at once. " +
        "SIGUSR2 has a lost connection tried again at once. " +
        "The banner, on standard output, tells how to use the port; " +
        "log lines go to standard error.",
    )
  }
.Sh OPTIONS
${
    mdocText(
      "Short options may be joined to each other and to their values, as with ssh(1). " +
        "What no option says is what ssh_config(5) says for the server.",
    )
  }
${
    helpPage(program).sections.map(({ title, entries }) => `.Ss ${title}\n${mdocOptions(entries)}`)
      .join("\n")
  }
.Sh SUBCOMMANDS
${
    mdocText(
      "The first word may be one of these. " +
        "A server that is called like one is given as `ssh://NAME`, or by --host.",
    )
  }
${
    mdocList(subcommands.map(({ usage, about, page }) => {
      const options = page().sections.map(({ entries }) => mdocOptions(entries));
      return [mdocUsage(usage), [mdocText(about), ...options].join("\n")];
    }))
  }
.Sh COMMAND AFTER \\-\\-
${
    mdocText(
      "What follows -- is a command that has the local port, a free one, for as long as it runs; " +
        "without a command it is your shell. " +
        "It has the terminal and the standard streams, and nothing but warnings is logged, " +
        "unless -v is given. " +
        'In it `ssh -F "$SSHSHIM_SSH_CONFIG" NAME.shim`, git and rsync reach the server. ' +
        "SIGTERM and SIGHUP go on to it, and it decides when it ends. " +
        "Questions that come later go to SSH_ASKPASS, since the terminal is the command's.",
    )
  }
.Sh ENVIRONMENT
${mdocList(Object.entries(environment).map(([name, text]) => [`Ev ${name}`, mdocText(text)]))}
.Pp
${mdocText("A command after -- finds these:")}
${
    mdocList(
      Object.entries(commandEnvironment).map(([name, text]) => [`Ev ${name}`, mdocText(text)]),
    )
  }
.Sh FILES
${mdocList(Object.entries(files).map(([path, text]) => [`Pa ${plain(path)}`, mdocText(text)]))}
.Sh EXIT STATUS
${mdocList(exitStatuses.map((meaning, status) => [`${status}`, mdocText(sentence(meaning))]))}
.Pp
${
    mdocText(
      "3, 4 and 5 are about the first attempt: a later failure ends nothing, unless --no-reconnect " +
        "is given. " + commandStatus,
    )
  }
.Sh EXAMPLES
${examples.map(({ line, purpose }) => `${mdocText(purpose)}\n.Dl $ ${plain(line)}`).join("\n.Pp\n")}
.Pp
${mdocText("Then, in another terminal, once `sshshim setup` has been run:")}
.Dl $ ssh prod.shim uptime
.Dl $ git clone prod.shim:/srv/project.git
.Sh SEE ALSO
.Xr scp 1 ,
.Xr sftp 1 ,
.Xr ssh 1 ,
.Xr ssh-agent 1 ,
.Xr ssh_config 5 ,
.Xr sshd 8
`;
}

function sentence(words: string): string {
  return `${words[0]!.toUpperCase()}${words.slice(1)}.`;
}

if (import.meta.main) {
  await Deno.stdout.write(new TextEncoder().encode(manualPage({ time: await commitTime() })));
}
