/**
 * The hosts to log in to, from the command line and ssh's configuration: upstream, and the jump
 * hosts on the way there.
 */

import type { Options } from "./cli.ts";
import { settingsOf } from "./cli_settings.ts";
import type { Host } from "./connector.ts";
import type { Prompter } from "./credential_questions.ts";
import { Credentials } from "./credentials.ts";
import { type Destination, divideHost, isDivisible, theSame } from "./destination.ts";
import { AuthenticationError, messageOf, UsageError } from "./errors.ts";
import type { HostConfig } from "./host_config.ts";
import {
  type ConfiguredDestination,
  type HostConfigOptions,
  resolveHostConfig,
  standsInConfig,
} from "./host_config_resolver.ts";
import { readKeyFile } from "./key_file.ts";
import { logger } from "./log.ts";
import { keyTypeOf } from "./public_key.ts";
import { missingAlgorithms } from "./ssh2_algorithms.ts";
import { writeJumpHosts } from "./ssh_config_proxy.ts";
import { KnownHostsTrust, PinnedTrust } from "./trust.ts";
import { UnrevokedTrust } from "./trust_revoked.ts";

const log = logger("config");

/** A chain of jump hosts this long is a circle. */
const maximumJumps = 16;

/**
 * The configuration of upstream: the command line wins over ssh's files.
 *
 * @throws {UsageError} where a file or an option is not understood.
 */
export async function readUpstreamConfig(
  options: Options,
  destination: Destination,
): Promise<HostConfig> {
  const sources = {
    configFile: options.configFile,
    typed: await settingsOf(options),
    overrides: options.configOverrides,
  };
  const config = await resolveHostConfig(await destinationOf(destination, sources), sources);
  tellNotes(config);
  return config;
}

function tellNotes({ notes }: HostConfig): void {
  for (const { file, line, text } of notes) {
    // An option has no line.
    if (line === 0) log.debug("{file}: {text}", { file, text });
    else log.debug("{file} line {line}: {text}", { file, line, text });
  }
}

/** As with ssh, `HOST:PORT` may be the name of a host; if no Host line has it, it is divided. */
async function destinationOf(
  { host, port, username: user }: Destination,
  sources: HostConfigOptions,
): Promise<ConfiguredDestination> {
  if (isDivisible(host) && await standsInConfig({ alias: host, user, port }, sources)) {
    return { alias: host, user, port };
  }
  const divided = divideHost(host);
  return { alias: divided.host, user, port: theSame("port", divided.port, port) };
}

/**
 * The hosts in the order in which they are logged in to; upstream is the last.
 *
 * @throws {UsageError} where a configuration is not understood, or jumps go in circles.
 * @throws {AuthenticationError} where the key or password that was named cannot be used.
 */
export async function findHosts(
  options: Options,
  { config, prompter, environmentPassword }: {
    config: HostConfig;
    prompter: Prompter;
    environmentPassword: string | undefined;
  },
): Promise<Host[]> {
  const password = await readPassword(options, environmentPassword);
  const { credential, fingerprint } = options;
  if (credential?.kind === "key") await checkKeyType(credential);
  const firstMethods = credential?.kind === "key"
    ? ["publickey"] as const
    // A key that is named beside a password is for a server that wants both.
    : credential !== undefined && options.identityFiles.length === 0
    ? ["password", "keyboard-interactive"] as const
    : undefined;
  const upstream = makeHost(config, { prompter, password, fingerprint, isJump: false });
  return [...await jumpsTo(config, { options, prompter, depth: 0 }), { ...upstream, firstMethods }];
}

/** As with ssh, the first jump host's own configuration may name jump hosts before it. */
async function jumpsTo(
  config: HostConfig,
  { options, prompter, depth }: { options: Options; prompter: Prompter; depth: number },
): Promise<Host[]> {
  if (depth > maximumJumps) {
    throw new UsageError(
      `ProxyJump of ${config.alias} goes in circles. Check ssh's configuration.`,
    );
  }
  const hosts: Host[] = [];
  const jumps = config.proxyJump ?? [];
  for (const [index, jump] of jumps.entries()) {
    const { host, user, port } = jump;
    const way = writeJumpHosts(jumps.slice(0, index));
    const hop = await resolveHostConfig({ alias: host, user, port }, {
      configFile: options.configFile,
      // ssh starts another one for it, with -J and those before it.
      typed: index === 0 ? [] : [{ option: "-J", keyword: "ProxyJump", words: [way] }],
    });
    tellNotes(hop);
    if (index === 0) hosts.push(...await jumpsTo(hop, { options, prompter, depth: depth + 1 }));
    hosts.push(
      makeHost(hop, { prompter, password: undefined, fingerprint: undefined, isJump: true }),
    );
  }
  return hosts;
}

function makeHost(
  config: HostConfig,
  { prompter, password, fingerprint, isJump }: {
    prompter: Prompter;
    password: string | undefined;
    fingerprint: string | undefined;
    isJump: boolean;
  },
): Host {
  const name = `${config.user}@${config.hostName}`;
  for (const [keyword, names] of missingAlgorithms(config)) {
    log.warn("{keyword} for {alias}: sshshim does not have {names}", {
      keyword,
      alias: config.alias,
      names: names.join(", "),
    });
  }
  const credentials = new Credentials({ name, config, password, prompter });
  return {
    config,
    credentials,
    loadTrust: async ({ mayAsk, signal, address }) => {
      const trust = fingerprint !== undefined
        ? new PinnedTrust(config.hostName, fingerprint)
        : await KnownHostsTrust.load({
          config,
          isJump,
          address,
          ask: async (question, verdictSignal) => {
            const asking = { mayAsk, signal: AbortSignal.any([signal, verdictSignal]) };
            return await credentials.questions(asking).ask(question, { echo: true });
          },
          askLater: async (question, signal) =>
            await credentials.questions({ mayAsk, signal }).ask(question, { echo: true }),
        }, signal);
      return new UnrevokedTrust(trust, config);
    },
  };
}

/**
 * Takes the password out of the environment, which every command that we run inherits; before the
 * first one is run.
 */
export function takeEnvironmentPassword(): string | undefined {
  const password = Deno.env.get("SSHSHIM_PASSWORD");
  Deno.env.delete("SSHSHIM_PASSWORD");
  return password || undefined;
}

/** @throws {AuthenticationError} where the file cannot be read or is empty. */
async function readPassword(
  { credential }: Options,
  environmentPassword: string | undefined,
): Promise<string | undefined> {
  // With a key the password is for what the server may want beside it.
  if (credential === undefined || credential.kind === "key") return environmentPassword;
  if (credential.kind === "password") return credential.password;
  const { file } = credential;
  let text: string;
  try {
    text = file === "-"
      ? await new Response(Deno.stdin.readable).text()
      : await Deno.readTextFile(file);
  } catch (cause) {
    throw new AuthenticationError(
      `The password file ${file} cannot be read: ${messageOf(cause)}. ` +
        `Check the path and its permissions.`,
      { cause },
    );
  }
  const [password] = text.split(/\r?\n/);
  if (password) return password;
  throw new AuthenticationError(
    `The password file ${file} has no password in its first line. Write it there.`,
  );
}

const expectedTypes = { rsa: "ssh-rsa", ed25519: "ssh-ed25519" } as const;

async function checkKeyType(
  { file, type }: { file: string; type: "rsa" | "ed25519" },
): Promise<void> {
  const { publicKey } = await readKeyFile(file);
  const actual = publicKey && keyTypeOf(publicKey);
  if (actual === undefined || actual === expectedTypes[type]) return;
  throw new AuthenticationError(
    `The key ${file} is of type ${actual}, but --${type}-key takes ${expectedTypes[type]}. ` +
      `Use the option for its type, or -i for a key of any type.`,
  );
}
