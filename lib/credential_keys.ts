/** The keys for one attempt to log in: of files and of the agent, in ssh's order. */

import { type Agent, AgentError, connectAgent, windowsAgentPipe } from "./agent.ts";
import { type Certificate, withCertificate } from "./key_certificate.ts";
import { type KeyLimits, permitted } from "./credential_limits.ts";
import type { Questions } from "./credential_questions.ts";
import { AuthenticationError } from "./errors.ts";
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
import { algorithmsFor, isSameKey, keyTypeOf } from "./public_key.ts";
import type { SessionBinding, Signer } from "./signer.ts";
import type { KeyCandidate } from "./credential_source.ts";

const log = logger("authentication");

/** How often a wrong passphrase may be typed; as ssh. */
const passphraseAttempts = 3;

/** What the keys are taken from. */
export interface KeyOptions {
  config:
    & KeyLimits
    & Pick<
      HostConfig,
      | "identityFiles"
      | "identityFilesAreDefaults"
      | "identitiesOnly"
      | "identityAgent"
      | "certificateFiles"
    >;
  questions: Questions;
  /** Signers of key files that were unlocked, by file; it outlives the attempt. */
  unlocked: Map<string, Signer>;
}

/** A configured identity: a key's file, or the certificate beside it. */
interface Identity {
  file: string;
  /** Of a certificate: all of it. Some encrypted files do not show theirs. */
  publicKey: Uint8Array | undefined;
  certificate?: Certificate;
}

/** The keys during one attempt; close them after it. */
export class Keys {
  readonly #options: KeyOptions;
  #agent: Agent | undefined;
  #identities: readonly Identity[] = [];
  #fromAgent: readonly Signer[] = [];

  constructor(options: KeyOptions) {
    this.#options = options;
  }

  /** Lets the agent go. */
  close(): void {
    this.#agent?.close();
  }

  /** The keys that may be used, in their order. Called once. */
  candidates(session: () => SessionBinding): AsyncGenerator<KeyCandidate> {
    return permitted(this.#inOrder(session), this.#options.config);
  }

  /** Certificates by name, the agent's keys that are configured, the agent's others, the files. */
  async *#inOrder(session: () => SessionBinding): AsyncGenerator<KeyCandidate> {
    const { certificateFiles, identitiesOnly } = this.#options.config;
    this.#identities = await this.#readIdentities();
    this.#fromAgent = await this.#askAgent(session());
    for (const file of certificateFiles) {
      const certificate = await usableCertificate(readCertificate(file));
      if (certificate) yield this.#certified(certificate);
    }
    const isConfigured = ({ publicKey }: Signer) => this.#identityOf(publicKey) !== undefined;
    yield* this.#fromAgent.filter(isConfigured).map(candidateOf);
    if (!identitiesOnly) {
      yield* this.#fromAgent.filter((signer) => !isConfigured(signer)).map(candidateOf);
    }
    for (const { file, publicKey, certificate } of this.#identities) {
      if (publicKey && this.#inAgent(publicKey)) continue;
      const candidate = certificate
        ? this.#certified(certificate, file)
        : await this.#fileCandidate(file);
      if (candidate) yield candidate;
    }
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

  async #askAgent(session: SessionBinding): Promise<Signer[]> {
    const path = agentPath(this.#options.config.identityAgent);
    if (path === undefined) return [];
    try {
      this.#agent = await connectAgent(path);
      if (!await this.#agent.bind(session)) log.debug("the agent binds no sessions to hosts");
      return await this.#agent.identities();
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      log.debug("{reason}", { reason: error.message });
      return [];
    }
  }

  #identityOf(key: Uint8Array): Identity | undefined {
    return this.#identities.find(({ publicKey }) => publicKey && isSameKey(publicKey, key));
  }

  #inAgent(key: Uint8Array): Signer | undefined {
    return this.#fromAgent.find(({ publicKey }) => isSameKey(publicKey, key));
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
  #certified(certificate: Certificate, beside?: string): KeyCandidate {
    const { name, blob, type, subjectKey } = certificate;
    return {
      name,
      publicKey: blob,
      algorithms: algorithmsFor(type),
      unlock: async () => {
        const file = beside ?? this.#identityOf(subjectKey)?.file;
        const signer = this.#inAgent(subjectKey) ?? await this.#fileSigner(file);
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

  async #fileSigner(file: string | undefined): Promise<Signer | undefined> {
    const key = file === undefined ? undefined : await this.#readKey(file);
    return key && await this.#unlock(key);
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
    const { questions, unlocked } = this.#options;
    const { file } = key;
    const known = unlocked.get(file);
    const isSame = key.publicKey === undefined ||
      (known && isSameKey(known.publicKey, key.publicKey));
    if (known && isSame) return known;
    for (let attempt = 0; attempt < passphraseAttempts; attempt++) {
      const passphrase = key.encrypted
        ? await questions.ask(`Passphrase for the key ${file}: `, { echo: false })
        : undefined;
      if (key.encrypted && !passphrase) return undefined;
      try {
        const signer = await key.unlock(passphrase);
        unlocked.set(file, signer);
        return signer;
      } catch (error) {
        if (!(error instanceof WrongPassphraseError)) throw error;
        log.warn("{reason}", { reason: error.message });
      }
    }
    return undefined;
  }
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
