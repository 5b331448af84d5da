/** The shell that runs the commands of ssh_config(5), and what they find in their environment. */

/**
 * Set for every command on our way to a host: below it a name of `--as` means the host itself, and
 * not the endpoint that is still to get there.
 */
export const upstreamVariable = "SSHSHIM_UPSTREAM";

/** What is added to the environment of such a command. */
export const upstreamEnvironment: Readonly<Record<string, string>> = { [upstreamVariable]: "1" };

/**
 * The user's shell. An empty variable is none, as it is for ssh's ProxyCommand; ssh's `Match exec`
 * is alone in refusing it.
 *
 * @param variable gives a variable of the environment.
 */
export function userShell(variable: (name: string) => string | undefined): string {
  if (Deno.build.os === "windows") return variable("ComSpec") || "cmd.exe";
  return variable("SHELL") || "/bin/sh";
}
