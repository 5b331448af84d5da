/** Who uses sshshim, and on which machine: what ssh_config(5) can ask about. */

import { join } from "node:path";
import { homedir, userInfo } from "node:os";
import { UsageError } from "./errors.ts";

/** The user and the machine that sshshim runs on. */
export interface LocalFacts {
  user: string;
  /** The user's folder. */
  home: string;
  /** As a decimal number; empty where there are none. */
  uid: string;
  hostName: string;
  environment: Readonly<Record<string, string>>;
}

/**
 * Gathers the facts. The user's folder is that of the account, whatever HOME says, as for ssh.
 *
 * @throws {UsageError} The account has no name.
 */
export function localFacts(
  given: { user?: string; home?: string; environment?: Readonly<Record<string, string>> },
): LocalFacts {
  const environment = given.environment ?? Deno.env.toObject();
  const account = accountOf();
  const user = given.user ?? account?.username ?? environment.USER ?? environment.LOGNAME;
  if (user === undefined) {
    throw new UsageError("Your login name on this machine is unknown: set USER to it.");
  }
  return {
    user,
    home: given.home ?? account?.homedir ?? homeFolder(),
    uid: String(Deno.uid() ?? ""),
    hostName: Deno.hostname(),
    environment,
  };
}

/** The folder that HOME or the account names; `/` where neither does, as in some containers. */
export function homeFolder(): string {
  return homedir() ?? "/";
}

function accountOf(): { username: string; homedir: string } | undefined {
  try {
    return userInfo();
  } catch {
    // An account may be missing in the user database, as in some containers.
    return undefined;
  }
}

/** Where the system has its ssh_config. */
export function defaultSystemConfig(environment: Readonly<Record<string, string>>): string {
  return Deno.build.os === "windows"
    ? join(environment.ProgramData ?? "C:\\ProgramData", "ssh", "ssh_config")
    : "/etc/ssh/ssh_config";
}
