/**
 * Whether the host key of upstream is to be believed: known_hosts decides, and for a host that is
 * in none of the files, StrictHostKeyChecking and a person. A fingerprint given in advance stands
 * in for all of that.
 */

import { HostKeyError, NobodyToAskError } from "./errors.ts";
import type { HostTrust, TrustVerdict } from "./handshake.ts";
import type { HostConfig } from "./host_config.ts";
import {
  addKnownHost,
  type HostAddress,
  hostKeyType,
  KnownHosts,
  type Verdict,
} from "./known_hosts.ts";
import { logger } from "./log.ts";
import { fingerprint } from "./public_key.ts";
import { confirmHostKey } from "./terminal.ts";

const log = logger("trust");

/** What trust in one host rests on. */
export interface TrustOptions {
  config: Pick<
    HostConfig,
    | "hostName"
    | "port"
    | "hostKeyAlias"
    | "userKnownHostsFiles"
    | "globalKnownHostsFiles"
    | "strictHostKeyChecking"
    | "hashKnownHosts"
  >;
  /** Whether it is on the way to another host: of the options only `-F` counts for it. */
  isJump: boolean;
  /** @throws {NobodyToAskError} where nobody can be asked now. */
  ask(question: string, signal: AbortSignal): Promise<string | undefined>;
}

/** Trust in the one key whose fingerprint is given. */
export class PinnedTrust implements HostTrust {
  readonly keyTypes = [];
  readonly #host: string;
  readonly #pinned: string;

  /** @param pinned as OpenSSH shows it, `SHA256:…`. */
  constructor(host: string, pinned: string) {
    this.#host = host;
    this.#pinned = pinned.replace(/=+$/, "");
  }

  verify(publicKey: Uint8Array): Promise<TrustVerdict> {
    const offered = fingerprint(publicKey);
    if (offered === this.#pinned) return Promise.resolve("trusted");
    return Promise.reject(
      new HostKeyError(
        `Host key of "${this.#host}" is another one: ${this.#pinned} is expected, the host offers ` +
          `${hostKeyType(publicKey)} ${offered}. If yours is of another type, add ` +
          `-o HostKeyAlgorithms=TYPE; else do not connect.`,
      ),
    );
  }
}

/** Trust in the host keys that OpenSSH's known_hosts files list. */
export class KnownHostsTrust implements HostTrust {
  readonly #options: TrustOptions;
  readonly #address: HostAddress;
  readonly #knownHosts: KnownHosts;

  private constructor(options: TrustOptions, knownHosts: KnownHosts) {
    const { hostName, port, hostKeyAlias } = options.config;
    this.#options = options;
    // An alias stands for the host and its port.
    this.#address = hostKeyAlias ? { host: hostKeyAlias, port: 22 } : { host: hostName, port };
    this.#knownHosts = knownHosts;
  }

  /** @throws {HostKeyError} where a file cannot be read. */
  static async load(options: TrustOptions): Promise<KnownHostsTrust> {
    const { userKnownHostsFiles, globalKnownHostsFiles } = options.config;
    const knownHosts = await KnownHosts.load([...userKnownHostsFiles, ...globalKnownHostsFiles]);
    for (const { file, line, reason } of knownHosts.ignored) {
      log.debug("{file} line {line} is ignored: {reason}", { file, line, reason });
    }
    return new KnownHostsTrust(options, knownHosts);
  }

  get keyTypes(): readonly string[] {
    return this.#knownHosts.keyTypes(this.#address);
  }

  async verify(publicKey: Uint8Array, signal: AbortSignal): Promise<TrustVerdict> {
    const offered = `${hostKeyType(publicKey)} ${fingerprint(publicKey)}`;
    const verdict = this.#knownHosts.check(this.#address, publicKey);
    switch (verdict.kind) {
      case "known":
        log.debug("host key {offered} is known: {file} line {line}", { offered, ...verdict });
        return "trusted";
      case "unknown":
        await this.#onUnknown(publicKey, { offered, signal });
        return "trusted";
      case "revoked":
        throw new HostKeyError(
          `Host key of "${this.#address.host}" is revoked: ${verdict.file} line ${verdict.line} ` +
            `has ${offered}. Do not connect; ask the host's administrator for its new key.`,
        );
      case "changed":
        return this.#onChanged(verdict, offered);
    }
  }

  /** ssh goes on with a changed key if it is told to check nothing, but gives no password away. */
  #onChanged(verdict: Verdict & { kind: "changed" }, offered: string): TrustVerdict {
    const { file, line, knownType, knownFingerprint } = verdict;
    const change = `Host key of "${this.#address.host}" changed: ${file} line ${line} has ` +
      `${knownType} ${knownFingerprint}, the host offers ${offered}.`;
    if (this.#options.config.strictHostKeyChecking === "no") {
      log.warn("{change} StrictHostKeyChecking is off: going on without passwords or forwards", {
        change,
      });
      return "doubted";
    }
    throw new HostKeyError(
      `${change} Somebody may be listening in; if the change is genuine, remove that line.`,
    );
  }

  async #onUnknown(
    publicKey: Uint8Array,
    { offered, signal }: { offered: string; signal: AbortSignal },
  ): Promise<void> {
    const { strictHostKeyChecking, userKnownHostsFiles, hashKnownHosts } = this.#options.config;
    const { host } = this.#address;
    const isAccepted = strictHostKeyChecking === "ask"
      ? await this.#ask(publicKey, signal)
      : strictHostKeyChecking !== "yes";
    if (!isAccepted) {
      throw new HostKeyError(
        `Host key of "${host}" is unknown: ${offered} is in no known_hosts file. ` +
          (this.#options.isJump
            ? "Connect to it once with ssh, or set its StrictHostKeyChecking to accept-new."
            : "Connect once with ssh, pass --accept-new to add it, or --fingerprint to expect it."),
      );
    }
    const [file] = userKnownHostsFiles;
    if (file === undefined) return;
    try {
      await addKnownHost(file, { ...this.#address, publicKey, isHashed: hashKnownHosts });
      log.info("added the host key {offered} of {host} to {file}", { offered, host, file });
    } catch (error) {
      // As with ssh, the connection does not depend on it.
      log.warn("{error}", { error });
    }
  }

  /** Without anybody to ask, or an answer, it is no. */
  async #ask(publicKey: Uint8Array, signal: AbortSignal): Promise<boolean> {
    const { ask } = this.#options;
    try {
      return await confirmHostKey(
        { ask: (question) => ask(question, signal) },
        {
          ...this.#address,
          keyType: hostKeyType(publicKey),
          fingerprint: fingerprint(publicKey),
        },
      );
    } catch (error) {
      if (error instanceof NobodyToAskError || signal.aborted) return false;
      throw error;
    }
  }
}
