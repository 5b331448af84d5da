/** Gathers the configuration of one host: reads it, and turns settings into typed values. */

import { dirname, join } from "node:path";
import { UsageError } from "./errors.ts";
import type { HostConfig, IdentityAgent } from "./host_config.ts";
import { defaultSystemConfig, type LocalFacts, localFacts } from "./local_facts.ts";
import { type ConfigRequest, namesHost, readSshConfig, type TypedSetting } from "./ssh_config.ts";
import { canonicalization, type NameLookup } from "./ssh_config_canonical.ts";
import { configError, lowerCase, type Source } from "./ssh_config_line.ts";
import {
  expandJumpHosts,
  isSafeHost,
  isSafeUser,
  type JumpHost,
  lastJumpHost,
  parseJumpHosts,
} from "./ssh_config_proxy.ts";
import type { Setting, Settings } from "./ssh_config_settings.ts";
import { connectionTokens, expandTilde, expandTokens, type Tokens } from "./ssh_config_tokens.ts";

/** What was typed: a host by the name that the configuration may have for it. */
export interface ConfiguredDestination {
  alias: string;
  user?: string;
  port?: number;
}

/** Where the configuration comes from; what is absent is as for ssh. */
export interface HostConfigOptions {
  /** The only file to read, or `none`. */
  configFile?: string;
  /** What other options of the command line say; it wins over `overrides`. */
  typed?: readonly TypedSetting[];
  /** `KEYWORD=VALUE`; the first wins, and all win over the files. */
  overrides?: readonly string[];
  /** The system's file; the folder that it is in also has the system's known_hosts files. */
  systemConfig?: string;
  home?: string;
  localUser?: string;
  env?: Readonly<Record<string, string>>;
  names?: NameLookup;
}

/**
 * Reads the configuration for a host.
 *
 * @throws {UsageError} The configuration is not understood, or it asks for something that sshshim
 * cannot do and that would make the connection less safe or another one. The message names the
 * file and the line.
 */
export async function resolveHostConfig(
  destination: ConfiguredDestination,
  options: HostConfigOptions = {},
): Promise<HostConfig> {
  const request = configRequest(destination, options);
  const { alias, local, systemConfig } = request;
  const { settings, hostName, notes } = await readSshConfig(request);
  notes.push(...settings.notFollowed());
  const resolver = new Resolver({ settings, local, alias, hostName, user: destination.user });
  const trust = await resolver.trust(dirname(systemConfig));
  const credentials = await resolver.credentials();
  return {
    ...resolver.connection(),
    ...canonicalization(settings),
    ...resolver.way(),
    ...resolver.algorithms(),
    ...trust.config,
    ...credentials.config,
    ...resolver.methods(),
    notes,
    asWritten: {
      ...trust.asWritten,
      ...credentials.asWritten,
      proxyJump: resolver.text("ProxyJump"),
    },
  };
}

/**
 * Whether a Host line has this very name, whatever looks like a port in it.
 *
 * @throws {UsageError} The configuration is not understood.
 */
export async function standsInConfig(
  destination: ConfiguredDestination,
  options: HostConfigOptions = {},
): Promise<boolean> {
  return await namesHost(configRequest(destination, options));
}

function configRequest(
  destination: ConfiguredDestination,
  options: HostConfigOptions,
): ConfigRequest {
  if (!isSafeHost(destination.alias)) {
    throw new UsageError("The host has characters that no name or address has. Check its name.");
  }
  if (destination.user !== undefined && !isSafeUser(destination.user)) {
    throw new UsageError(
      "The user's name has characters that mean something to a shell. Check what you typed.",
    );
  }
  const local = localFacts({
    user: options.localUser,
    home: options.home,
    environment: options.env,
  });
  return {
    ...destination,
    typed: options.typed ?? [],
    overrides: options.overrides ?? [],
    configFile: options.configFile,
    systemConfig: options.systemConfig ?? defaultSystemConfig(local.environment),
    local,
    names: options.names,
  };
}

/** Turns settings into typed values. */
class Resolver {
  readonly #settings: Settings;
  readonly #local: LocalFacts;
  readonly #alias: string;
  readonly #hostName: string;
  readonly #port: number;
  readonly #user: string;
  readonly #hostKeyAlias: string | undefined;
  readonly #tokens: Tokens;

  constructor({ settings, local, alias, hostName, user }: {
    settings: Settings;
    local: LocalFacts;
    alias: string;
    hostName: string;
    /** As typed with the host. */
    user: string | undefined;
  }) {
    this.#settings = settings;
    this.#local = local;
    this.#alias = alias;
    this.#hostName = hostName;
    this.#port = this.#number("Port", 22);
    const hostKeyAlias = this.text("HostKeyAlias");
    this.#hostKeyAlias = hostKeyAlias && lowerCase(hostKeyAlias);
    const facts = {
      host: hostName,
      originalHost: alias,
      port: this.#port,
      user: "",
      hostKeyAlias: this.#hostKeyAlias ?? alias,
      jumpHost: lastJumpHost(this.text("ProxyJump")),
    };
    this.#user = user ?? this.#configuredUser(connectionTokens(local, facts)) ?? local.user;
    this.#tokens = connectionTokens(local, { ...facts, user: this.#user });
  }

  connection() {
    const attempts = this.#settings.get("ConnectionAttempts");
    if (attempts?.values[0] === "0") {
      throw configError(attempts.source, "ConnectionAttempts takes a number of at least 1.");
    }
    return {
      alias: this.#alias,
      hostName: this.#hostName,
      port: this.#port,
      user: this.#user,
      addressFamily: (this.text("AddressFamily") ?? "any") as HostConfig["addressFamily"],
      bindAddress: this.text("BindAddress"),
      bindInterface: this.text("BindInterface"),
      connectTimeoutSeconds: this.#given("ConnectTimeout")
        ? this.#number("ConnectTimeout", 0)
        : undefined,
      connectionAttempts: this.#number("ConnectionAttempts", 1),
      serverAliveIntervalSeconds: this.#given("ServerAliveInterval")
        ? this.#number("ServerAliveInterval", 0)
        : undefined,
      serverAliveCountMax: this.#number("ServerAliveCountMax", 3),
    };
  }

  /** ProxyJump and ProxyCommand. */
  way(): Pick<HostConfig, "proxyJump" | "proxyCommand"> {
    const command = this.#settings.get("ProxyCommand");
    const proxyCommand = command?.values[0];
    if (proxyCommand === "-") {
      throw configError(
        command!.source,
        "ProxyCommand - is not supported: standard input and output are no connection.",
      );
    }
    return { proxyJump: this.#jumpHosts(), proxyCommand: this.#command("ProxyCommand") };
  }

  algorithms() {
    return {
      caSignatureAlgorithms: this.text("CASignatureAlgorithms"),
      ciphers: this.text("Ciphers"),
      hostKeyAlgorithms: this.text("HostKeyAlgorithms"),
      kexAlgorithms: this.text("KexAlgorithms"),
      macs: this.text("MACs"),
      pubkeyAcceptedAlgorithms: this.text("PubkeyAcceptedAlgorithms"),
      requiredRsaSize: this.#number("RequiredRSASize", 1024),
    };
  }

  /** Where host keys are known, and what becomes of others. */
  async trust(systemFolder: string) {
    const local = this.#local;
    const user = this.#fileList("UserKnownHostsFile");
    const global = this.#fileList("GlobalKnownHostsFile");
    const revoked = this.#fileList("RevokedHostKeys") ?? [];
    const defaultFiles = (folder: string, name: string) => [
      join(folder, name),
      join(folder, `${name}2`),
    ];
    const config = {
      userKnownHostsFiles: user === undefined
        ? defaultFiles(join(local.home, ".ssh"), "known_hosts")
        : await this.#paths(user),
      // ssh expands nothing but ~ in the system's.
      globalKnownHostsFiles: global === undefined
        ? defaultFiles(systemFolder, "ssh_known_hosts")
        : await Promise.all(
          global.map(({ value, source }) => expandTilde(value, { local, source })),
        ),
      hostKeyAlias: this.#hostKeyAlias,
      knownHostsCommand: this.#command("KnownHostsCommand"),
      checkHostIp: this.#isYes("CheckHostIP", false),
      revokedHostKeys: await this.#paths(revoked),
      strictHostKeyChecking:
        (this.text("StrictHostKeyChecking") ?? "ask") as HostConfig["strictHostKeyChecking"],
      hashKnownHosts: this.#isYes("HashKnownHosts", false),
      updateHostKeys: this.#updateHostKeys(user),
    };
    const globalKnownHostsFiles = global?.map(({ value }) => value) ?? config.globalKnownHostsFiles;
    const revokedHostKeys = revoked.map(({ value }) => value);
    return { config, asWritten: { globalKnownHostsFiles, revokedHostKeys } };
  }

  /** As with ssh, `yes` for the usual file alone, and where no other source is asked for keys. */
  #updateHostKeys(files: readonly Value[] | undefined): HostConfig["updateHostKeys"] {
    const isUsual = files === undefined ||
      files.length === 1 && files[0]!.value === "~/.ssh/known_hosts";
    const isAlone = (this.text("VerifyHostKeyDNS") ?? "no") === "no";
    const value = this.text("UpdateHostKeys") ?? (isUsual && isAlone ? "yes" : "no");
    return value as HostConfig["updateHostKeys"];
  }

  /** Keys, certificates and the agent. */
  async credentials() {
    const given = this.#settings.files("IdentityFile").flatMap(valuesOf);
    const certificates = this.#settings.files("CertificateFile").flatMap(valuesOf);
    const agentValue = valuesOf(this.#settings.get("IdentityAgent"))[0];
    const agent = agentValue && await this.#path(agentValue);
    const defaults = defaultIdentities.map((name) => `~/.ssh/${name}`);
    const config = {
      identityFiles: given.length === 0
        ? defaults.map((path) => join(this.#local.home, path.slice(2)))
        : await this.#paths(given.filter(isFile)),
      identityFilesAreDefaults: given.length === 0,
      identitiesOnly: this.#isYes("IdentitiesOnly", false),
      identityAgent: identityAgent(agent, agentValue?.source),
      certificateFiles: await this.#paths(certificates),
    };
    const asWritten = {
      identityFiles: given.length === 0 ? defaults : given.map(({ value }) => value),
      certificateFiles: certificates.map(({ value }) => value),
      identityAgent: agent,
    };
    return { config, asWritten };
  }

  methods() {
    const preferred = this.#settings.get("PreferredAuthentications");
    const pubkeyAuthentication =
      (this.text("PubkeyAuthentication") ?? "yes") as HostConfig["pubkeyAuthentication"];
    const passwordAuthentication = this.#isYes("PasswordAuthentication", true);
    const kbdInteractiveAuthentication = this.#isYes("KbdInteractiveAuthentication", true);
    const preferredAuthentications = preferred?.values[0]?.split(",");
    const enabled: Readonly<Record<string, boolean>> = {
      publickey: pubkeyAuthentication !== "no",
      "keyboard-interactive": kbdInteractiveAuthentication,
      password: passwordAuthentication,
    };
    const wanted = preferredAuthentications ?? Object.keys(enabled);
    if (!wanted.some((method) => Object.hasOwn(enabled, method) && enabled[method])) {
      throw new UsageError(
        `The configuration for ${this.#alias} leaves no way to log in that sshshim has: ` +
          `${
            Object.keys(enabled).join(", ")
          }. Set PreferredAuthentications to one of them, or enable one.`,
      );
    }
    return {
      pubkeyAuthentication,
      passwordAuthentication,
      kbdInteractiveAuthentication,
      preferredAuthentications,
      numberOfPasswordPrompts: this.#number("NumberOfPasswordPrompts", 3),
      batchMode: this.#isYes("BatchMode", false),
    };
  }

  /** The one value of a keyword, if it was given. */
  text(name: string): string | undefined {
    return this.#settings.value(name);
  }

  /** User as configured, which may use every token but its own and the hash of it. */
  #configuredUser(all: Tokens): string | undefined {
    const setting = valuesOf(this.#settings.get("User"))[0];
    if (setting === undefined) return undefined;
    const { value, source } = setting;
    const tokens = Object.fromEntries(Object.entries(all).filter(([key]) => !"Cr".includes(key)));
    const user = expandTokens(value, { tokens, source, environment: this.#local.environment });
    if (user === value || isSafeUser(user)) return user;
    throw configError(source, "User has characters that mean something to a shell. Change it.");
  }

  #jumpHosts(): readonly JumpHost[] | undefined {
    const setting = valuesOf(this.#settings.get("ProxyJump"))[0];
    if (setting === undefined) return undefined;
    const { value, source } = setting;
    const hosts = expandJumpHosts(parseJumpHosts(value)!, { tokens: this.#tokens, source });
    const last = hosts.at(-1)!;
    const { user = this.#user, host, port = 22 } = last;
    if (host === this.#hostName && port === this.#port && user === this.#user) {
      throw configError(source, `ProxyJump goes through ${host} itself. Name another host.`);
    }
    return hosts;
  }

  /** The files of a keyword that takes several; none for `none`, undefined if it was not given. */
  #fileList(name: string): Value[] | undefined {
    const setting = this.#settings.get(name);
    if (setting === undefined) return undefined;
    return valuesOf(setting).filter(isFile);
  }

  #command(name: string): string | undefined {
    const command = this.text(name);
    return command && lowerCase(command) !== "none" ? command : undefined;
  }

  #paths(values: readonly Value[]): Promise<string[]> {
    return Promise.all(values.map((value) => this.#path(value)));
  }

  async #path({ value, source, isLiteral }: Value): Promise<string> {
    if (isLiteral) return value;
    const local = this.#local;
    const path = await expandTilde(value, { local, source });
    return expandTokens(path, { tokens: this.#tokens, source, environment: local.environment });
  }

  #given(name: string): boolean {
    return this.#settings.get(name) !== undefined;
  }

  #isYes(name: string, fallback: boolean): boolean {
    return this.#given(name) ? this.text(name) === "yes" : fallback;
  }

  #number(name: string, fallback: number): number {
    return Number(this.text(name) ?? fallback);
  }
}

/** A value, and where it stands. */
interface Value {
  value: string;
  source: Source;
  /** Whether it is the name of a file in which nothing is expanded. */
  isLiteral?: boolean;
}

function valuesOf(setting: Setting | undefined): Value[] {
  if (setting === undefined) return [];
  const { values, source, isLiteral } = setting;
  return values.map((value) => ({ value, source, isLiteral }));
}

function isFile({ value, isLiteral }: Value): boolean {
  return isLiteral || lowerCase(value) !== "none";
}

/** The key files that ssh looks for, as far as sshshim can use them. */
const defaultIdentities = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"];

function identityAgent(value: string | undefined, source: Source | undefined): IdentityAgent {
  if (value === undefined || source === undefined) return { kind: "default" };
  if (value === "none") return { kind: "none" };
  if (value === "SSH_AUTH_SOCK") return { kind: "variable", name: value };
  if (!value.startsWith("$")) return { kind: "socket", path: value };
  if (/^\$\w+$/.test(value)) return { kind: "variable", name: value.slice(1) };
  throw configError(source, "IdentityAgent takes a path, none, SSH_AUTH_SOCK or $VARIABLE.");
}
