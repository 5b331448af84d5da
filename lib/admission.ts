/** Who may enter the endpoint, by the options: put together from the kernel's word and from keys. */

import { join } from "node:path";
import { sameUserOnly, sameUserSupported } from "./access.ts";
import { AuthorizedKeys } from "./authorized_keys.ts";
import { inBatches } from "./batches.ts";
import type { Options } from "./cli.ts";
import { type ClientKey, loadClientKey } from "./client_key.ts";
import { EndpointError, messageOf, reasonOf } from "./errors.ts";
import { readJudged } from "./judged_file.ts";
import { logger } from "./log.ts";
import type { KeyRing, LoginKeys } from "./login_keys.ts";
import { findOwnPath, ownPathFault } from "./own_path.ts";
import { keysOfAgent, keysOfFolder, type OwnerKey } from "./owner_keys.ts";
import { isSameKey } from "./public_key.ts";
import type { EndpointAccess } from "./server.ts";
import { isFileError, type LocalSystem, thisSystem } from "./state_folder.ts";

const log = logger("endpoint");

/** Far more than anybody has keys, in bytes. */
const fileLimitBytes = 4 * 1024 * 1024;

/** Who may enter, and the key with which the user's own clients do where keys are asked for. */
export interface Admission {
  access: EndpointAccess;
  clientKey: ClientKey | undefined;
}

/**
 * Finds who may enter.
 *
 * @throws {EndpointError} where the file of authorized keys cannot be used.
 */
export async function findAdmission(
  { localAuth, authorizedKeysFile }: Pick<Options, "localAuth" | "authorizedKeysFile">,
): Promise<Admission> {
  if (localAuth === "none") return { access: { kind: "anybody" }, clientKey: undefined };
  const keys = new UserKeys(authorizedKeysFile);
  await keys.check();
  const admit = sameUserSupported() ? sameUserOnly() : undefined;
  const isAsked = localAuth === "publickey" || admit === undefined;
  if (localAuth === "same-user" && isAsked) {
    log.info("this system does not tell whose a connection is: clients log in with a key of yours");
  }
  return {
    access: { kind: localAuth === "publickey" ? "keys" : "user", admit, keys },
    clientKey: isAsked ? await keys.clientKey() : undefined,
  };
}

/** What is replaced in tests. */
export interface UserKeysOptions {
  system?: LocalSystem;
  stateFolder?: string;
}

/** The keys of a file of authorized keys, and those that the user alone has; read anew each time. */
export class UserKeys implements LoginKeys {
  readonly #file: string | undefined;
  readonly #system: LocalSystem;
  readonly #stateFolder: string | undefined;
  /** What was last told of: whoever connects again and again fills no log with it. */
  #told = "";

  constructor(file: string | undefined, { system, stateFolder }: UserKeysOptions = {}) {
    this.#file = file;
    this.#system = system ?? thisSystem();
    this.#stateFolder = stateFolder;
  }

  /**
   * Looks at the file of authorized keys, and tells of its faults.
   *
   * @throws {EndpointError} where it cannot be used.
   */
  async check(): Promise<void> {
    if (this.#file === undefined) return;
    for (const fault of (await this.#readFile(this.#file)).faults) log.warn("{fault}", { fault });
  }

  /** The key that sshshim has made for the user's clients; without it there are others. */
  async clientKey(): Promise<ClientKey | undefined> {
    try {
      return await loadClientKey({ stateFolder: this.#stateFolder });
    } catch (error) {
      if (!(error instanceof EndpointError)) throw error;
      this.#tell(error.message);
      return undefined;
    }
  }

  /** Strangers who log in at the same time do not have files and agent asked for each of them. */
  readonly gather: () => Promise<KeyRing> = inBatches(async (questions: readonly void[]) => {
    const ring = await this.#gather();
    return questions.map(() => ring);
  });

  async #gather(): Promise<KeyRing> {
    try {
      const listed = this.#file === undefined ? undefined : await this.#readFile(this.#file);
      const owned = await this.#ownedKeys();
      return {
        judge(publicKey, address) {
          // What the file says of a key counts, whoever else has it: it may restrict it.
          const verdict = listed?.judge(publicKey, { address, now: Date.now() });
          if (verdict && verdict.kind !== "unknown") return verdict;
          const own = owned.find((it) => isSameKey(it.publicKey, publicKey));
          if (own === undefined) return { kind: "unknown" };
          const { name } = own;
          const demands = { needsTouch: true, needsVerification: false };
          return { kind: "accepted", key: { name, ...demands, permissions: undefined } };
        },
      };
    } catch (error) {
      this.#tell(`nobody can log in with a key: ${messageOf(error)}`);
      return { judge: () => ({ kind: "refused", reason: "the keys cannot be read" }) };
    }
  }

  async #ownedKeys(): Promise<OwnerKey[]> {
    const report = (text: string) => log.debug("{text}", { text });
    const system = this.#system;
    const [clientKey, inFolder, inAgent] = await Promise.all([
      this.clientKey(),
      keysOfFolder(join(system.home, ".ssh"), report, system),
      keysOfAgent(report, system),
    ]);
    const made = clientKey && { name: clientKey.privateFile, publicKey: clientKey.publicKey };
    return [...made ? [made] : [], ...inFolder, ...inAgent];
  }

  #tell(reason: string): void {
    if (reason !== this.#told) log.warn("{reason}", { reason });
    this.#told = reason;
  }

  /** @throws {EndpointError} where it is not there, or others may write it. */
  async #readFile(file: string): Promise<AuthorizedKeys> {
    const refuse = (reason: string, cause?: unknown) =>
      new EndpointError(
        `The file of authorized keys ${file} cannot be used: ${reason}. ` +
          `Correct that, or name another one with --authorized-keys FILE.`,
        { cause },
      );
    try {
      const found = await findOwnPath(file, this.#system);
      if ("fault" in found) throw refuse(found.fault);
      const content = await readJudged(found.path, (info) => {
        if (!info.isFile) throw refuse("it is not a regular file");
        const fault = ownPathFault(info, this.#system);
        if (fault) throw refuse(`it ${fault}`);
        if (info.size > fileLimitBytes) throw refuse("it is too long");
      });
      return new AuthorizedKeys(file, content);
    } catch (error) {
      if (error instanceof EndpointError || !isFileError(error)) throw error;
      throw refuse(reasonOf(error), error);
    }
  }
}
