/** KnownHostsCommand of ssh_config(5): a program that prints lines of known_hosts for a host. */

import { Buffer } from "node:buffer";
import { isAbsolute } from "node:path";
import { HostKeyError, messageOf, UpstreamLostError } from "./errors.ts";
import type { HostConfig } from "./host_config.ts";
import { plainKeyOf } from "./key_certificate.ts";
import { KnownHostsFile, type KnownHostsSource } from "./known_hosts_file.ts";
import { localFacts } from "./local_facts.ts";
import { logger } from "./log.ts";
import { fingerprint, keyTypeOf } from "./public_key.ts";
import { upstreamEnvironment } from "./shell.ts";
import { splitWords } from "./ssh_config_line.ts";
import { lastJumpHost } from "./ssh_config_proxy.ts";
import { connectionTokens, expandTokens } from "./ssh_config_tokens.ts";

const log = logger("trust");

/** What the command is asked for. */
export interface KnownHostsRequest {
  /**
   * `ORDER`: which types of keys to ask the host for; `HOSTNAME`: what is known of the host;
   * `ADDRESS`: and of its address.
   */
  invocation: "ORDER" | "HOSTNAME" | "ADDRESS";
  /** The host or address as files store it. */
  host: string;
  /** The key or certificate that the host shows, once there is one. */
  publicKey?: Uint8Array;
  /** Ends the command. */
  signal: AbortSignal;
}

/** The configuration that is needed for it. */
export type KnownHostsCommandConfig =
  & Pick<HostConfig, "alias" | "hostName" | "port" | "user" | "hostKeyAlias" | "knownHostsCommand">
  & { asWritten: Pick<HostConfig["asWritten"], "proxyJump"> };

/**
 * Runs the command, without a shell and with nothing to read. As with ssh, one that cannot be
 * started counts for nothing, with a warning.
 *
 * @returns `undefined` where there is nothing to be said
 * @throws {HostKeyError} where the command fails, and with it what it may have revoked.
 * @throws {UpstreamLostError} where it was ended.
 * @throws {UsageError} where a token is unknown.
 */
export async function askKnownHostsCommand(
  config: KnownHostsCommandConfig,
  request: KnownHostsRequest,
): Promise<KnownHostsSource | undefined> {
  const { knownHostsCommand: command } = config;
  if (command === undefined) return undefined;
  const { invocation, signal } = request;
  const name = `KnownHostsCommand-${invocation}`;
  const [program, ...args] = splitWords(command, { hasComments: false }) ?? [];
  if (program === undefined || !isAbsolute(program)) {
    log.warn("{command} of KnownHostsCommand does not begin with the whole path of a program", {
      command,
    });
    return undefined;
  }
  const expanded = expand(args, config, request);
  log.debug("{name}: {command}", { name, command: [program, ...expanded].join(" ") });
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program, {
      args: expanded,
      env: upstreamEnvironment,
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
      signal,
    }).spawn();
  } catch (error) {
    const reason = messageOf(error);
    log.warn("{program} of KnownHostsCommand cannot be started: {reason}", { program, reason });
    return undefined;
  }
  const [text, { success, code }] = await Promise.all([
    new Response(child.stdout).text(),
    child.status,
  ]);
  if (success) {
    const file = new KnownHostsFile(name, text);
    // As with ssh, it was not asked about the host at any port.
    return {
      about: (host) => host === request.host ? file.about(host) : { lines: [], ignored: [] },
    };
  }
  if (signal.aborted) {
    throw new UpstreamLostError(
      `${config.hostName} closed the connection while KnownHostsCommand ran. Try again.`,
    );
  }
  throw new HostKeyError(
    `KnownHostsCommand has failed for "${config.hostName}", with exit status ${code}: ${program}. ` +
      `Run it by hand to see why, or add -o KnownHostsCommand=none.`,
  );
}

function expand(
  words: readonly string[],
  config: KnownHostsCommandConfig,
  { invocation, host, publicKey }: KnownHostsRequest,
): string[] {
  const { alias, hostName, port, user, hostKeyAlias = alias, asWritten } = config;
  const local = localFacts({});
  const jumpHost = lastJumpHost(asWritten.proxyJump);
  const connection = { host: hostName, originalHost: alias, port, user, hostKeyAlias, jumpHost };
  const tokens = {
    ...connectionTokens(local, connection),
    H: host,
    I: invocation,
    f: publicKey === undefined ? "NONE" : fingerprint(plainKeyOf(publicKey)),
    K: publicKey === undefined ? "NONE" : Buffer.from(publicKey).toString("base64"),
    t: publicKey === undefined ? "NONE" : keyTypeOf(publicKey),
  };
  const source = { file: `KnownHostsCommand for "${alias}"`, line: 0 };
  const { environment } = local;
  return words.map((word) => expandTokens(word, { tokens, source, environment }));
}
