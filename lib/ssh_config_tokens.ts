/** What ssh_config(5) expands in values: `~`, `%` tokens and `${VARIABLES}`. */

import { createHash } from "node:crypto";
import type { LocalFacts } from "./local_facts.ts";
import { configError, type Source } from "./ssh_config_line.ts";

/** The connection that tokens speak of. */
export interface ConnectionFacts {
  /** The real name of the host. */
  host: string;
  /** As typed. */
  originalHost: string;
  port: number;
  user: string;
  /** Under which name host keys are known, if not under the host's own. */
  hostKeyAlias: string;
  /** The last jump host; empty without one. */
  jumpHost: string;
}

/** The letters after `%`, and what takes their place. `%%` needs no entry. */
export type Tokens = Readonly<Record<string, string>>;

/** All tokens that files and `Match exec` may have. */
export function connectionTokens(local: LocalFacts, connection: ConnectionFacts): Tokens {
  const { host, originalHost, user, hostKeyAlias, jumpHost } = connection;
  const port = String(connection.port);
  const hash = createHash("sha1").update(local.hostName + host + port + user + jumpHost);
  return {
    C: hash.digest("hex"),
    d: local.home,
    h: host,
    i: local.uid,
    j: jumpHost,
    k: hostKeyAlias,
    L: local.hostName.replace(/\..*$/s, ""),
    l: local.hostName,
    n: originalHost,
    p: port,
    r: user,
    u: local.user,
  };
}

/** What is expanded, and where it stands, for errors. */
export interface Expansion {
  tokens: Tokens;
  source: Source;
  /** Without one, `${…}` stays as it is. */
  environment?: Readonly<Record<string, string>>;
}

/**
 * Replaces tokens, and variables where there is an environment. What takes their place is not
 * looked at again.
 *
 * @throws {UsageError} A token or a variable is unknown.
 */
export function expandTokens(text: string, { tokens, source, environment }: Expansion): string {
  const pattern = environment === undefined ? /%(.?)/gsu : /%(.?)|\$\{([^}]*)(\}?)/gsu;
  return text.replace(pattern, (_, letter?: string, name?: string, end?: string) => {
    if (letter === "%") return "%";
    if (letter !== undefined) {
      if (Object.hasOwn(tokens, letter)) return tokens[letter]!;
      throw configError(source, `%${letter} cannot be used here. Write %% for a percent sign.`);
    }
    if (end !== "}") throw configError(source, "${ has no } after it. Add one.");
    if (Object.hasOwn(environment!, name!)) return environment![name!]!;
    throw configError(source, `The environment has no variable \${${name}}. Set it.`);
  });
}

/**
 * Replaces `~` and `~user` at the beginning of a path.
 *
 * @throws {UsageError} There is no such user.
 */
export async function expandTilde(
  path: string,
  { local, source }: { local: LocalFacts; source: Source },
): Promise<string> {
  const [start, user] = /^~([^/]*)/.exec(path) ?? [];
  if (start === undefined || user === undefined) return path;
  const home = user === "" ? local.home : await homeOf(user);
  if (home === undefined) {
    throw configError(source, `The home of the user in ${start} is unknown. Write the whole path.`);
  }
  // A lone ~ gets a slash at its end, as with ssh.
  return home.replace(/\/$/, "") + "/" + path.slice(start.length).replace(/^\//, "");
}

async function homeOf(user: string): Promise<string | undefined> {
  let accounts: string;
  try {
    accounts = await Deno.readTextFile("/etc/passwd");
  } catch {
    // Windows has no such file: the home stays unknown, as that of a user who is not in it.
    return undefined;
  }
  const account = accounts.split("\n").find((line) => line.startsWith(`${user}:`));
  return account?.split(":")[5];
}
