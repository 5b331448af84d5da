/**
 * Reads ssh_config(5) files as ssh does, and collects the settings for one connection.
 *
 * The user's file comes before the system's, and in them the first value of a keyword wins. A file
 * is checked to its end, also where its blocks are for other hosts. If a block asks for it with
 * `Match final`, or CanonicalizeHostname is on, everything is read a second time with the real name
 * of the host in the place of the typed one. `Match canonical` is true in that second reading only,
 * as with ssh.
 */

import { dirname, isAbsolute } from "node:path";
import { messageOf, UsageError } from "./errors.ts";
import { canonicalHost } from "./host_name.ts";
import type { LocalFacts } from "./local_facts.ts";
import { matchesPatterns } from "./pattern.ts";
import { upstreamEnvironment, userShell } from "./shell.ts";
import { canonicalizes, canonicalName, type NameLookup } from "./ssh_config_canonical.ts";
import { lastJumpHost } from "./ssh_config_proxy.ts";
import { readConfigFile } from "./ssh_config_file.ts";
import { pathsMatching } from "./ssh_config_include.ts";
import { findKeyword } from "./ssh_config_keywords.ts";
import {
  configError,
  type ConfigLine,
  lowerCase,
  parseConfigLine,
  type Source,
} from "./ssh_config_line.ts";
import { evaluateMatch, matchesHostLine, type MatchFacts } from "./ssh_config_match.ts";
import { Settings } from "./ssh_config_settings.ts";
import { connectionTokens, expandTilde, expandTokens, type Tokens } from "./ssh_config_tokens.ts";
import { badValue } from "./ssh_config_values.ts";

/** A setting that an option of the command line stands for. */
export interface TypedSetting {
  /** For messages. */
  option: string;
  keyword: string;
  /** The arguments. */
  words: readonly string[];
  /** Whether they are names of files as they are: `%`, `$` and `~` mean nothing in them. */
  isLiteral?: boolean;
  /** Whether no IdentityFile of `-o` and of the files is to be added. */
  isOnly?: boolean;
}

/** Which settings are wanted. */
export interface ConfigRequest {
  /** The host as typed. */
  alias: string;
  /** What was typed with the host; it wins over everything. */
  user?: string;
  port?: number;
  /** They win over `-o`. */
  typed: readonly TypedSetting[];
  /** Values of `-o`, such as `Port=22`; the first wins, and all win over the files. */
  overrides: readonly string[];
  /** The one file to read, or `none`; absent: the user's and the system's. */
  configFile?: string;
  systemConfig: string;
  local: LocalFacts;
  /** For CanonicalizeHostname; absent: the system's. */
  names?: NameLookup;
}

/** Something that is good to know when a setting does not do what it says. */
export interface ConfigNote extends Source {
  text: string;
}

/** What the files say about one connection. */
export interface ConfigReading {
  settings: Settings;
  /** The real name of the host in lower case, or its address in the usual form. */
  hostName: string;
  notes: ConfigNote[];
}

/** Files may include others this deep. */
const maximumDepth = 16;

/** Where a line stands, and whether it counts. */
interface Block {
  /** Whether the file is the user's: `~` and `~/.ssh` are for these only. */
  isUsers: boolean;
  /** Whether the file is included by a block that is for this host, or by none. */
  mayMatch: boolean;
  /** Whether the Host or Match block that the line is in is for this host. */
  isActive: boolean;
  depth: number;
}

/**
 * Reads the options and the files.
 *
 * @throws {UsageError} A line is not understood, or a file cannot be used; the message names it.
 * @throws {UpstreamLostError} CanonicalizeHostname finds no such host, and there must be one.
 */
export async function readSshConfig(request: ConfigRequest): Promise<ConfigReading> {
  const reader = new ConfigReader(request);
  reader.readCommandLine();
  await reader.readFiles();
  const realHost = canonicalHost(reader.realHost);
  const hostName = await canonicalName(realHost, reader.settings, request.names);
  if (reader.wantsFinalPass || canonicalizes(reader.settings)) {
    reader.beginFinalPass(hostName);
    await reader.readFiles();
  }
  return { settings: reader.settings, hostName, notes: reader.notes };
}

/**
 * Whether a Host line has the alias as it stands, in whatever block. No command is run.
 *
 * @throws {UsageError} As above.
 */
export async function namesHost(request: ConfigRequest): Promise<boolean> {
  const reader = new ConfigReader(request, { runsCommands: false });
  reader.readCommandLine();
  await reader.readFiles();
  return reader.isNamed;
}

class ConfigReader {
  readonly settings = new Settings();
  readonly notes: ConfigNote[] = [];
  readonly #request: ConfigRequest;
  /** The real name of the host, in the second reading only. */
  #finalHost: string | undefined;
  #wantsFinalPass = false;
  #isNamed = false;
  readonly #runsCommands: boolean;

  constructor(request: ConfigRequest, { runsCommands = true } = {}) {
    this.#request = request;
    this.#runsCommands = runsCommands;
  }

  /** Whether a Host line has the alias as it stands. */
  get isNamed(): boolean {
    return this.#isNamed;
  }

  get wantsFinalPass(): boolean {
    return this.#wantsFinalPass;
  }

  /** The name of the host with HostName applied, as far as the files have been read. */
  get realHost(): string {
    if (this.#finalHost !== undefined) return this.#finalHost;
    const { alias } = this.#request;
    const hostName = this.settings.get("HostName");
    if (hostName === undefined) return alias;
    const { values, source } = hostName;
    return expandTokens(values[0]!, { tokens: { h: alias }, source });
  }

  beginFinalPass(hostName: string): void {
    this.#finalHost = hostName;
  }

  readCommandLine(): void {
    const { user, port, typed, overrides } = this.#request;
    const source = { file: "-o", line: 0 };
    if (user !== undefined) this.#add("user", [user], source);
    if (port !== undefined) this.#add("port", [String(port)], source);
    for (const setting of typed) this.#readTyped(setting);
    if (typed.some(({ isOnly }) => isOnly)) this.settings.seal("IdentityFile");
    for (const override of overrides) {
      const line = parseConfigLine(override, source);
      if (line === null) throw configError(source, "It takes KEYWORD=VALUE.");
      if (["host", "include", "match"].includes(line.keyword)) {
        throw badValue(line, "stands in files only");
      }
      this.#readSetting(line, { isActive: true, isUsers: true });
    }
  }

  #readTyped({ option, keyword: name, words, isLiteral }: TypedSetting): void {
    const source = { file: option, line: 0 };
    const keyword = findKeyword(lowerCase(name))!;
    const line = { keyword: lowerCase(name), words, text: words.join(" "), source };
    const values = isLiteral ? words : keyword.read(line);
    if (values !== undefined) this.settings.add({ keyword, values, source, isLiteral });
  }

  async readFiles(): Promise<void> {
    const { configFile, local, systemConfig } = this.#request;
    const block = { isUsers: true, mayMatch: true, isActive: true, depth: 0 };
    if (configFile === undefined) {
      await this.#readFile(`${local.home}/.ssh/config`, block, { mustBeSafe: true });
      await this.#readFile(systemConfig, { ...block, isUsers: false }, { mustBeSafe: false });
    } else if (lowerCase(configFile) !== "none") {
      if (await this.#readFile(configFile, block, { mustBeSafe: false })) return;
      throw new UsageError(`There is no configuration file ${configFile}. Check the path.`);
    }
  }

  /** @returns false if there is no such file */
  async #readFile(
    file: string,
    block: Block,
    { mustBeSafe }: { mustBeSafe: boolean },
  ): Promise<boolean> {
    if (block.depth > maximumDepth) {
      throw new UsageError(
        `${file}: files include each other more than ${maximumDepth} deep. Remove an Include.`,
      );
    }
    const content = await readConfigFile(file, { mustBeSafe });
    if (content === undefined) return false;
    const state = { ...block };
    for (const [index, text] of content.split("\n").entries()) {
      const line = parseConfigLine(text, { file, line: index + 1 });
      if (line !== null) state.isActive = await this.#readLine(line, state);
    }
    return true;
  }

  /** @returns whether the next line counts */
  async #readLine(line: ConfigLine, block: Block): Promise<boolean> {
    switch (line.keyword) {
      case "host": {
        this.#isNamed ||= line.words.includes(this.#request.alias);
        const matches = matchesHostLine(line, this.#finalHost ?? this.#request.alias);
        return matches && block.mayMatch;
      }
      case "match": {
        const { matches, wantsFinalPass } = await evaluateMatch(line, this.#facts(line, block));
        this.#wantsFinalPass ||= wantsFinalPass;
        return matches && block.mayMatch;
      }
      case "include":
        await this.#include(line, block);
        return block.isActive;
      default:
        this.#readSetting(line, block);
        return block.isActive;
    }
  }

  #readSetting(
    line: ConfigLine,
    { isActive, isUsers }: Pick<Block, "isActive" | "isUsers">,
  ): void {
    const keyword = findKeyword(line.keyword);
    if (keyword !== undefined) {
      const values = keyword.read(line);
      const { source } = line;
      if (isActive && values !== undefined) {
        this.settings.add({ keyword, values, source, isSystems: !isUsers });
      }
      return;
    }
    const ignored = lowerCase(this.settings.value("IgnoreUnknown") ?? "").split(",");
    if (matchesPatterns(line.keyword, ignored)) return;
    // What was typed is not repeated: it may be a secret in the wrong place.
    const name = line.source.line === 0 ? "" : `: ${line.keyword}`;
    throw configError(
      line.source,
      `Bad configuration option${name}. Correct it, or name it in IgnoreUnknown before.`,
    );
  }

  #add(name: string, values: readonly string[], source: Source): void {
    this.settings.add({ keyword: findKeyword(name)!, values, source });
  }

  async #include(line: ConfigLine, block: Block): Promise<void> {
    const { local, systemConfig } = this.#request;
    const { source } = line;
    for (const word of line.words) {
      if (word === "") throw badValue(line, "has an empty path");
      const { environment } = local;
      const path = expandTokens(word, { tokens: this.#tokens(), source, environment });
      if (path.startsWith("~") && !block.isUsers) {
        throw badValue(line, "takes no ~ in a file of the system");
      }
      const folder = block.isUsers ? `${local.home}/.ssh` : dirname(systemConfig);
      const pattern = path.startsWith("~")
        ? await expandTilde(path, { local, source })
        : isAbsolute(path)
        ? path
        : `${folder}/${path}`;
      const files = pathsMatching(pattern);
      const mayMatch = block.mayMatch && block.isActive;
      if (files.length === 0 && mayMatch && this.#finalHost === undefined) {
        this.notes.push({ ...source, text: `Include finds no file ${pattern}` });
      }
      for (const file of files) {
        const inner = { ...block, mayMatch, depth: block.depth + 1 };
        await this.#readFile(file, inner, { mustBeSafe: true });
      }
    }
  }

  #facts(line: ConfigLine, block: Block): MatchFacts {
    const { alias, local } = this.#request;
    const { source } = line;
    return {
      host: this.realHost,
      originalHost: alias,
      user: this.settings.value("User") ?? local.user,
      localUser: local.user,
      tag: this.settings.value("Tag") ?? "",
      isFinalPass: this.#finalHost !== undefined,
      expand: (command) => expandTokens(command, { tokens: this.#tokens(), source }),
      // In a file of a block for other hosts, the result would not count.
      run: async (command) =>
        this.#runsCommands && block.mayMatch && await runInShell(command, local, source),
    };
  }

  #tokens(): Tokens {
    const { alias, local } = this.#request;
    const host = this.realHost;
    return connectionTokens(local, {
      host,
      originalHost: alias,
      port: Number(this.settings.value("Port") ?? 22),
      user: this.settings.value("User") ?? local.user,
      hostKeyAlias: this.settings.value("HostKeyAlias") ?? host,
      jumpHost: lastJumpHost(this.settings.value("ProxyJump")),
    });
  }
}

/** Runs a command of `Match exec`; its output is thrown away, its errors go to the user. */
async function runInShell(command: string, local: LocalFacts, source: Source): Promise<boolean> {
  const { environment } = local;
  const shell = userShell((name) => environment[name]);
  const args = [Deno.build.os === "windows" ? "/c" : "-c", command];
  let status: Deno.CommandStatus;
  try {
    const options = {
      args,
      env: { ...environment, ...upstreamEnvironment },
      clearEnv: true,
    } as const;
    const child = new Deno.Command(shell, {
      ...options,
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    status = await child.status;
  } catch (cause) {
    throw configError(
      source,
      `The shell ${shell} cannot be run: ${messageOf(cause)}. Set SHELL to another.`,
    );
  }
  if (status.signal === null) return status.success;
  throw configError(source, `The command of Match exec was ended by ${status.signal}. Correct it.`);
}
