/**
 * Keys, passwords and answers for authentication, in the order in which ssh offers them.
 *
 * What was given once is kept in memory for as long as sshshim runs: an unlocked key, a password.
 * So a later connection needs nobody, unless the server asks for something that changes each time.
 */

import { type Agent, AgentError, connectAgent, windowsAgentPipe } from "./agent.ts";
import { acceptedKeyAlgorithms } from "./ssh2_algorithms.ts";
import { type Certificate, withCertificate } from "./key_certificate.ts";
import { AuthenticationError, NobodyToAskError } from "./errors.ts";
import type { HostConfig } from "./host_config.ts";
import {
  certificateFor,
  type KeyFile,
  readCertificate,
  readKeyFile,
  readPublicKey,
  WrongPassphraseError,
} from "./key_file.ts";
import { logger } from "./log.ts";
import { algorithmsFor, isSameKey, keyTypeOf, rsaBits } from "./public_key.ts";
import type { Signer } from "./signer.ts";
import type { CredentialSource, InfoRequest, KeyCandidate } from "./userauth.ts";

const log = logger("authentication");

/** Asks a person. */
export interface Prompter {
  /**
   * @returns what was typed; `undefined` where the person declines.
   * @throws {NobodyToAskError} where there is no way to ask.
   */
  ask(
    question: string,
    options: { echo: boolean; signal: AbortSignal },
  ): Promise<string | undefined>;
}

/** What the credentials are taken from. */
export interface CredentialOptions {
  /** For prompts: `user@host`. */
  name: string;
  config: Pick<
    HostConfig,
    | "identityFiles"
    | "identityFilesAreDefaults"
    | "identitiesOnly"
    | "identityAgent"
    | "certificateFiles"
    | "numberOfPasswordPrompts"
    | "pubkeyAcceptedAlgorithms"
    | "requiredRsaSize"
    | "batchMode"
  >;
  /** A password that was given in advance. */
  password: string | undefined;
  prompter: Prompter;
}

/** How one attempt may use the credentials. */
export interface AttemptOptions {
  /** Whether a person may be asked; if not, a question throws NobodyToAskError. */
  mayAsk: boolean;
  signal: AbortSignal;
}

/** How much of what a server says around a question is shown, in characters and in lines. */
const longestWords = 4096;
const mostLines = 40;

/** How often a wrong passphrase may be typed; as ssh. */
const passphraseAttempts = 3;

/** The user's credentials for one host. */
export class Credentials {
  readonly #options: CredentialOptions;
  /** Signers of key files that were unlocked, by file. */
  readonly #unlocked = new Map<string, Signer>();
  /** The password that was typed last. */
  #typedPassword: string | undefined;

  constructor(options: CredentialOptions) {
    this.#options = options;
  }

  /** The credentials as one attempt to authenticate uses them; close it after the attempt. */
  forAttempt(attempt: AttemptOptions): AttemptCredentials {
    return new AttemptCredentials(this.#options, {
      ...attempt,
      unlocked: this.#unlocked,
      rememberedPassword: this.#typedPassword ?? this.#options.password,
      onPassword: (password) => this.#typedPassword = password,
    });
  }
}

/** What an attempt gets beside the options, and gives back. */
interface AttemptState extends AttemptOptions {
  unlocked: Map<string, Signer>;
  rememberedPassword: string | undefined;
  onPassword(password: string | undefined): void;
}

/** A configured identity: a key's file, or the certificate beside it. */
interface Identity {
  file: string;
  /** Of a certificate: all of it. Some encrypted files do not show theirs. */
  publicKey: Uint8Array | undefined;
  certificate?: Certificate;
}

/** Where keys are: in files, and in the agent. */
interface KeySources {
  identities: readonly Identity[];
  fromAgent: readonly Signer[];
}

/** The credentials during one attempt. */
export class AttemptCredentials implements CredentialSource {
  readonly #options: CredentialOptions;
  readonly #state: AttemptState;
  #agent: Agent | undefined;
  #hasUsedRemembered = false;

  constructor(options: CredentialOptions, state: AttemptState) {
    this.#options = options;
    this.#state = state;
  }

  /** Lets the agent go. */
  close(): void {
    this.#agent?.close();
  }

  /** The keys that may be used, in ssh's order. */
  async *keys(): AsyncGenerator<KeyCandidate> {
    const { pubkeyAcceptedAlgorithms, requiredRsaSize } = this.#options.config;
    for await (const candidate of this.#allKeys()) {
      const bits = candidate.publicKey && rsaBits(candidate.publicKey);
      if (bits !== undefined && bits < requiredRsaSize) {
        log.warn("the key {name} has {bits} bits, and RequiredRSASize is {requiredRsaSize}", {
          name: candidate.name,
          bits,
          requiredRsaSize,
        });
        continue;
      }
      const algorithms = acceptedKeyAlgorithms(candidate.algorithms, pubkeyAcceptedAlgorithms);
      yield { ...candidate, algorithms };
    }
  }

  /** Certificates by name, the agent's keys that are configured, the agent's others, the files. */
  async *#allKeys(): AsyncGenerator<KeyCandidate> {
    const { config } = this.#options;
    const identities = await this.#readIdentities();
    const fromAgent = await this.#agentSigners();
    const sources: KeySources = { identities, fromAgent };
    for (const file of config.certificateFiles) {
      const certificate = await usableCertificate(readCertificate(file));
      if (certificate) yield this.#certified(certificate, sources);
    }
    const isConfigured = (signer: Signer) =>
      identities.some(({ publicKey }) => publicKey && isSameKey(publicKey, signer.publicKey));
    yield* fromAgent.filter(isConfigured).map(candidateOf);
    if (!config.identitiesOnly) {
      yield* fromAgent.filter((signer) => !isConfigured(signer)).map(candidateOf);
    }
    for (const { file, publicKey, certificate } of identities) {
      const isInAgent = publicKey &&
        fromAgent.some((signer) => isSameKey(signer.publicKey, publicKey));
      if (isInAgent) continue;
      const candidate = certificate
        ? this.#certified(certificate, sources, file)
        : await this.#fileCandidate(file);
      if (candidate) yield candidate;
    }
  }

  get numberOfPasswordPrompts(): number {
    return this.#options.config.numberOfPasswordPrompts;
  }

  async password(attempt: number): Promise<string | undefined> {
    const remembered = this.#takeRemembered();
    if (remembered !== undefined) return remembered;
    if (this.#options.password !== undefined) return undefined;
    if (attempt >= this.numberOfPasswordPrompts) return undefined;
    const password = await this.ask(`${this.#options.name}'s password: `, { echo: false });
    this.#state.onPassword(password);
    return password;
  }

  async answer(request: InfoRequest): Promise<string[] | undefined> {
    const asksPassword = isPasswordPrompt(request);
    if (asksPassword) {
      const remembered = this.#takeRemembered();
      if (remembered !== undefined) return [remembered];
    }
    if (this.#options.password !== undefined && asksPassword) return undefined;

    const answers: string[] = [];
    const heading = [request.name, request.instruction].filter(Boolean).join("\n");
    for (const [index, { text, echo }] of request.prompts.entries()) {
      const introduction = index === 0 && heading ? `${this.#asTheirs(heading)}\n` : "";
      const answer = await this.ask(`${introduction}${this.#asTheirs(text)}`, { echo });
      if (answer === undefined) return undefined;
      answers.push(answer);
    }
    if (asksPassword) this.#state.onPassword(answers[0]);
    return answers;
  }

  async newPassword(prompt: string): Promise<string | undefined> {
    const { name } = this.#options;
    while (true) {
      const question = `${this.#asTheirs(prompt)}\nNew password for ${name}: `;
      const first = await this.ask(question, { echo: false });
      if (first === undefined) return undefined;
      const second = await this.ask(`The same again: `, { echo: false });
      if (second === undefined) return undefined;
      if (first === second) {
        this.#state.onPassword(first);
        return first;
      }
    }
  }

  /** Marks each line as the host's words, so that none can pass for a question of ours. */
  #asTheirs(text: string): string {
    const lines = text.slice(0, longestWords).trimEnd().split(/\r\n?|\n/).slice(0, mostLines);
    const space = /\s*$/.exec(text)![0].includes(" ") ? " " : "";
    return lines.map((line) => `(${this.#options.name}) ${line}`).join("\n") + space;
  }

  /** A password that is known is tried once an attempt; if it was wrong it is forgotten. */
  #takeRemembered(): string | undefined {
    if (this.#hasUsedRemembered) {
      this.#state.onPassword(undefined);
      return undefined;
    }
    this.#hasUsedRemembered = true;
    return this.#state.rememberedPassword;
  }

  /** @throws {NobodyToAskError} where nobody may be asked, or can be. */
  ask(question: string, { echo }: { echo: boolean }): Promise<string | undefined> {
    const { mayAsk, signal } = this.#state;
    if (!mayAsk || this.#options.config.batchMode) {
      throw new NobodyToAskError(`${this.#options.name} needs a person to log in`);
    }
    return this.#options.prompter.ask(question, { echo, signal });
  }

  /** As with ssh, certificates beside the keys count unless others are named. */
  async #readIdentities(): Promise<Identity[]> {
    const { identityFiles, certificateFiles } = this.#options.config;
    const identities = await Promise.all(identityFiles.map(async (file): Promise<Identity[]> => {
      const plain = { file, publicKey: await readPublicKey(file) };
      if (certificateFiles.length > 0) return [plain];
      const certificate = await usableCertificate(certificateFor(file));
      return certificate ? [plain, { file, publicKey: certificate.blob, certificate }] : [plain];
    }));
    return identities.flat();
  }

  async #agentSigners(): Promise<Signer[]> {
    const path = agentPath(this.#options.config.identityAgent);
    if (path === undefined) return [];
    try {
      this.#agent ??= await connectAgent(path);
      return await this.#agent.identities();
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      log.debug("{reason}", { reason: error.message });
      return [];
    }
  }

  async #fileCandidate(file: string): Promise<KeyCandidate | undefined> {
    const key = await this.#readKey(file);
    if (key === undefined) return undefined;
    const { publicKey } = key;
    return {
      name: file,
      publicKey,
      algorithms: publicKey ? algorithmsFor(keyTypeOf(publicKey)) : [],
      unlock: () => this.#unlock(key),
    };
  }

  /** @param beside the file of its key, where it is known. */
  #certified(
    certificate: Certificate,
    { identities, fromAgent }: KeySources,
    beside?: string,
  ): KeyCandidate {
    const { name, blob, type, subjectKey } = certificate;
    return {
      name,
      publicKey: blob,
      algorithms: algorithmsFor(type),
      unlock: async () => {
        let signer = fromAgent.find(({ publicKey }) => isSameKey(publicKey, subjectKey));
        const file = beside ??
          identities.find(({ publicKey }) => publicKey && isSameKey(publicKey, subjectKey))?.file;
        if (signer === undefined && file !== undefined) {
          const key = await this.#readKey(file);
          signer = key && await this.#unlock(key);
        }
        if (signer && isSameKey(signer.publicKey, subjectKey)) {
          return withCertificate(signer, certificate);
        }
        log.warn("the private key for the certificate {name} is neither in a file nor an agent", {
          name,
        });
        return undefined;
      },
    };
  }

  /** A file that cannot be used is told of, unless it is one of those that ssh tries by default. */
  async #readKey(file: string): Promise<KeyFile | undefined> {
    try {
      return await readKeyFile(file);
    } catch (error) {
      if (!(error instanceof AuthenticationError)) throw error;
      const isDefault = this.#options.config.identityFilesAreDefaults;
      log[isDefault ? "debug" : "warn"]("{reason}", { reason: error.message });
      return undefined;
    }
  }

  async #unlock(key: KeyFile): Promise<Signer | undefined> {
    const { file } = key;
    const known = this.#state.unlocked.get(file);
    const isSame = key.publicKey === undefined ||
      (known && isSameKey(known.publicKey, key.publicKey));
    if (known && isSame) return known;
    for (let attempt = 0; attempt < passphraseAttempts; attempt++) {
      const passphrase = key.encrypted
        ? await this.ask(`Passphrase for the key ${file}: `, { echo: false })
        : undefined;
      if (key.encrypted && !passphrase) return undefined;
      try {
        const signer = await key.unlock(passphrase);
        this.#state.unlocked.set(file, signer);
        return signer;
      } catch (error) {
        if (!(error instanceof WrongPassphraseError)) throw error;
        log.warn("{reason}", { reason: error.message });
      }
    }
    return undefined;
  }
}

/** Whether it is the password that is asked for, and not one that changes each time. */
function isPasswordPrompt({ prompts: [prompt, ...others] }: InfoRequest): boolean {
  if (prompt === undefined || prompt.echo || others.length > 0) return false;
  return /passw/i.test(prompt.text) && !/one[- ]?time|otp|oath|token|code/i.test(prompt.text);
}

/** A file that is no certificate for users is told of, and gone without. */
async function usableCertificate(
  reading: Promise<Certificate | undefined>,
): Promise<Certificate | undefined> {
  try {
    const certificate = await reading;
    if (certificate === undefined || certificate.kind === "user") return certificate;
    log.warn("the certificate {name} is not for users", { name: certificate.name });
  } catch (error) {
    if (!(error instanceof AuthenticationError)) throw error;
    log.warn("{reason}", { reason: error.message });
  }
  return undefined;
}

function candidateOf(signer: Signer): KeyCandidate {
  return { ...signer, unlock: () => Promise.resolve(signer) };
}

/** Where the agent listens; `undefined` where there is none. */
function agentPath(agent: HostConfig["identityAgent"]): string | undefined {
  switch (agent.kind) {
    case "none":
      return undefined;
    case "socket":
      return agent.path;
    case "variable":
      return Deno.env.get(agent.name) || undefined;
    case "default":
      return Deno.env.get("SSH_AUTH_SOCK") ||
        (Deno.build.os === "windows" ? windowsAgentPipe : undefined);
  }
}
