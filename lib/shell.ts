/** The shell that runs the commands of ssh_config(5). */

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
