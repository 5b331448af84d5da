/**
 * sshshim as a library: an endpoint within a program, which has the meaning of the command line's
 * and nothing of a process's own. Nothing is printed, no signal is listened to, nothing ends the
 * process; log lines go to LogTape's category `sshshim`, wherever the program sends it.
 */

import { readOptions } from "./cli.ts";
import { makeCommandEnvironment } from "./command_environment.ts";
import type { Prompter } from "./credential_questions.ts";
import { NobodyToAskError, UsageError } from "./errors.ts";
import { localFacts } from "./local_facts.ts";
import { logger } from "./log.ts";
import { publicKeyLine } from "./public_key.ts";
import { hostOf, nameFor } from "./published_config.ts";
import { unlessAborted } from "./timing.ts";
import type { UpstreamState } from "./upstream_state.ts";

export {
  AuthenticationError,
  EndpointError,
  HostKeyError,
  NegotiationError,
  NobodyToAskError,
  UpstreamLostError,
  UsageError,
} from "./errors.ts";
export type { Prompter, UpstreamState };

const log = logger();

/**
 * Which host is served, and how. An option means what the option of that name means on the command
 * line; what is not given comes from ssh's configuration.
 */
export interface ShimOptions {
  /** `[USER@]HOST[:PORT]`, `ssh://[USER@]HOST[:PORT]`, or a name in ssh's configuration. */
  destination: string;
  /** The account on the host. */
  username?: string;
  /** The host's port. */
  port?: number;
  /** Hosts to go through, as in ProxyJump; `none` for no host. */
  jump?: string;
  /** The one file of ssh's configuration to read; `none` for no file. */
  config?: string;
  /** Settings of ssh_config(5), by keyword: `-o` of the command line. */
  settings?: Readonly<Record<string, string>>;
  /** Private keys to offer before those of the configuration. */
  identity?: readonly string[];
  /** The password to log in with; it is sent once. */
  password?: string;
  /** The files to look for the host key in, in place of the user's and the system's. */
  knownHosts?: readonly string[];
  /** Whether the key of an unknown host is trusted and remembered. */
  acceptNew?: boolean;
  /** The only host key that is taken, as `SHA256:…`. */
  fingerprint?: string;
  /** The port of 127.0.0.1 that clients connect to; a free one by default. */
  localPort?: number;
  /** Who may connect: by default processes of the same user. */
  localAuth?: "same-user" | "publickey" | "none";
  /** Whether to log in when the first client comes, and not before. */
  lazy?: boolean;
  /** Whether a connection that is lost comes back; by default it does. */
  reconnect?: boolean;
  /** Asks a person for passwords, passphrases and the like; without it nobody is asked. */
  prompter?: Prompter;
  /** Told of each new state, in order. What it throws is as what a listener of events throws. */
  onState?(state: UpstreamState): void;
  /** Gives the start up. A shim that has started is ended by `stop`. */
  signal?: AbortSignal;
}

/** A host that is served. Leaving its scope (`await using`) stops it. */
export interface RunningShim extends AsyncDisposable {
  /** Where clients connect to. */
  readonly address: { readonly hostname: string; readonly port: number };
  /** The host keys that it shows there, best first, as `TYPE BASE64`. */
  readonly hostKeys: readonly string[];
  /** Its name in `sshConfig`, `NAME.shim`. */
  readonly host: string;
  /**
   * The lines by which ssh, and what runs ssh, reach it as `host`. They name a file with the host
   * keys, which is there until the end.
   */
  readonly sshConfig: string;
  /** A file for `ssh -F` with `sshConfig` and the user's own hosts, there until the end. */
  readonly sshConfigFile: string;
  /**
   * Variables for programs that this one starts, those of a command after `--`: among them
   * GIT_SSH_COMMAND and RSYNC_RSH, by which git and rsync reach `host`.
   */
  readonly environment: Readonly<Record<string, string>>;
  /** How the connection to the host is. */
  readonly state: UpstreamState;
  /**
   * Resolves when clients are served no more: with `undefined` after `stop`, or, where a connection
   * that is lost does not come back, with the reason of the loss.
   */
  readonly whenEnded: Promise<Error | undefined>;
  /** Tries at once what has failed; where the connection was `asleep` or `stopped`, it may ask. */
  retry(): void;
  /** Ends all sessions, then all connections, within 3 seconds. May be called twice. */
  stop(): Promise<void>;
}

/**
 * Logs in to a host and serves the connection to SSH clients at a port of 127.0.0.1.
 *
 * @throws {UsageError} where an option or ssh's configuration is not understood.
 * @throws {HostKeyError} where the host's key is not trusted.
 * @throws {AuthenticationError} where the host refuses to let us in, or a key cannot be used.
 * @throws {NobodyToAskError} where a person would have to be asked, and there is no prompter.
 * @throws {UpstreamLostError} where the host cannot be reached.
 * @throws {NegotiationError} where no algorithm is common.
 * @throws {EndpointError} where the local port or one of its keys cannot be used.
 */
export async function startShim(
  { prompter, onState, signal, ...typed }: ShimOptions,
): Promise<RunningShim> {
  signal?.throwIfAborted();
  // It would be read as an option.
  if (typed.destination.startsWith("-")) throw new UsageError("A host cannot start with -.");
  const options = readOptions(wordsOf(typed));
  const { findAdmission, loadLocalHostKeys, Shims } = await import("./serving.ts");
  const { access, clientKey } = await findAdmission(options);
  const { first, all } = await loadLocalHostKeys();
  if (first.note) log.warn("{note}", { note: first.note });
  const keys = await all;
  let state: UpstreamState = { kind: "connecting" };
  await using resources = new AsyncDisposableStack();
  const shims = await Shims.open(options, {
    prompter: prompterFrom(prompter),
    environmentPassword: undefined,
    hasControl: false,
    access,
    life: {
      enter() {},
      leave() {},
      onStatus() {},
      onState(next) {
        state = next;
        // Later: whatever is done or thrown there is no part of the change.
        if (onState) queueMicrotask(() => onState(next));
      },
    },
  });
  resources.defer(() => shims.close());
  const failed = Promise.withResolvers<Error>();
  void shims.serve(Promise.resolve(keys), {
    onListening() {},
    onFailure: (_host, error) => failed.resolve(error),
  });
  const failure = await unlessAborted(Promise.race([failed.promise, shims.whenListening]), signal);
  if (failure !== undefined) throw failure;

  const { config: { alias, user }, shim: { address } } = shims.hosts[0]!;
  const name = nameFor(alias);
  const hostKeys = keys.map(({ publicKey }) => publicKeyLine(publicKey));
  const { config, configFile, variables, remove } = await makeCommandEnvironment(
    [{ name, user, address, hostKeys, identityFile: clientKey?.privateFile }],
    { configFile: options.configFile, local: localFacts({}) },
  );
  // Somebody may have tidied up temporary files.
  resources.defer(() => remove().catch(() => {}));

  const owned = resources.move();
  const ended = Promise.withResolvers<Error | undefined>();
  let ending: Promise<void> | undefined;
  const end = (reason?: Error) =>
    ending ??= owned.disposeAsync().finally(() => ended.resolve(reason));
  void failed.promise.then(end);
  return {
    address,
    hostKeys,
    host: hostOf({ name }),
    sshConfig: config,
    sshConfigFile: configFile,
    environment: variables,
    get state() {
      return state;
    },
    whenEnded: ended.promise,
    retry: () => shims.retry(),
    stop: () => end(),
    [Symbol.asyncDispose]: () => end(),
  };
}

/** The words of a command line that say the same. */
function wordsOf(typed: Omit<ShimOptions, "prompter" | "onState" | "signal">): string[] {
  const { destination, settings = {}, identity = [], knownHosts = [], localPort = 0 } = typed;
  const one = (option: string, value: string | number | undefined) =>
    value === undefined ? [] : [`${option}=${value}`];
  return [
    "--no-ssh-config",
    ...one("--username", typed.username),
    ...one("--port", typed.port),
    ...one("--jump", typed.jump),
    ...one("--config", typed.config),
    ...Object.entries(settings).map(([keyword, value]) => `-o${keyword}=${value}`),
    ...identity.map((file) => `--identity=${file}`),
    ...one("--password", typed.password),
    ...knownHosts.map((file) => `--known-hosts=${file}`),
    ...typed.acceptNew ? ["--accept-new"] : [],
    ...one("--fingerprint", typed.fingerprint),
    ...one("--local-port", localPort),
    ...one("--local-auth", typed.localAuth),
    ...typed.lazy ? ["--lazy"] : [],
    ...typed.reconnect === false ? ["--no-reconnect"] : [],
    destination,
  ];
}

function prompterFrom(given: Prompter | undefined): Prompter {
  return {
    async ask(question, options) {
      if (given !== undefined) {
        return await unlessAborted(given.ask(question, options), options.signal);
      }
      throw new NobodyToAskError(
        `There is no prompter to ask "${question.trim()}". Give startShim one, or use a key ` +
          `without a passphrase or an SSH agent.`,
      );
    },
  };
}
