/** The command after `--`: its words are its own, whatever they look like. */

import type { OptionNames } from "./cli_short_options.ts";

/**
 * Divides the arguments at the `--` that follows a host. Before a host, `--` ends the options, as
 * with ssh, and another one begins the command.
 *
 * @param args with the values of options as words of their own
 */
export function divideCommand(
  args: readonly string[],
  options: OptionNames,
): { words: string[]; command: string[] | undefined } {
  let isValue = false;
  let areHosts = false;
  let hasHost = false;
  for (const [index, arg] of args.entries()) {
    if (isValue) {
      isValue = false;
    } else if (arg === "--") {
      if (hasHost) return { words: args.slice(0, index), command: args.slice(index + 1) };
      areHosts = true;
    } else if (areHosts || arg === "-" || !arg.startsWith("-")) {
      hasHost = true;
    } else {
      hasHost ||= arg === "--host" || arg.startsWith("--host=");
      isValue = options.get(arg) ?? false;
    }
  }
  return { words: [...args], command: undefined };
}
