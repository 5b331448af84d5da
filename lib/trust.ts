/**
 * Whether the host key of upstream is to be believed: known_hosts decides, and for a host that is
 * in none of the files, a person or `--accept-new`.
 */

import { HostKeyError } from "./errors.ts";
import type { HostTrust } from "./handshake.ts";
import {
  addKnownHost,
  defaultKnownHostsFiles,
  fingerprint,
  type HostAddress,
  keyType,
  KnownHosts,
} from "./known_hosts.ts";
import { logger } from "./log.ts";
import { confirmHostKey, openTerminal } from "./terminal.ts";

const log = logger("trust");

/** Where known host keys are, and what to do with a key that is not among them. */
export interface TrustOptions extends HostAddress {
  /** New keys are added to the first file; empty means the user's and the system's files. */
  files: readonly string[];
  /** Whether an unknown host's key is added without asking. */
  acceptNew: boolean;
}

/** Trust in the host keys that OpenSSH's known_hosts files list. */
export class KnownHostsTrust implements HostTrust {
  readonly #options: TrustOptions;
  readonly #files: readonly string[];
  readonly #knownHosts: KnownHosts;

  private constructor(options: TrustOptions, files: readonly string[], knownHosts: KnownHosts) {
    this.#options = options;
    this.#files = files;
    this.#knownHosts = knownHosts;
  }

  /** @throws {HostKeyError} where a file cannot be read. */
  static async load(options: TrustOptions): Promise<KnownHostsTrust> {
    const files = options.files.length > 0 ? options.files : defaultKnownHostsFiles();
    const knownHosts = await KnownHosts.load(files);
    for (const { file, line, reason } of knownHosts.ignored) {
      log.debug("{file} line {line} is ignored: {reason}", { file, line, reason });
    }
    return new KnownHostsTrust(options, files, knownHosts);
  }

  get keyTypes(): readonly string[] {
    return this.#knownHosts.keyTypes(this.#options);
  }

  async verify(publicKey: Uint8Array): Promise<void> {
    const { host } = this.#options;
    const offered = fingerprint(publicKey);
    const verdict = this.#knownHosts.check(this.#options, publicKey);
    switch (verdict.kind) {
      case "known":
        log.debug("host key {offered} is known: {file} line {line}", { offered, ...verdict });
        return;
      case "unknown":
        return await this.#onUnknown(publicKey);
      case "revoked":
        throw new HostKeyError(
          `Host key of "${host}" is revoked: ${verdict.file} line ${verdict.line} has ${offered}. ` +
            `Do not connect; ask the host's administrator for its new key.`,
        );
      case "changed":
        throw new HostKeyError(
          `Host key of "${host}" changed: ${verdict.file} line ${verdict.line} has ` +
            `${verdict.knownType} ${verdict.knownFingerprint}, the host offers ` +
            `${keyType(publicKey)} ${offered}. Somebody may be listening in; if the change is ` +
            `genuine, remove that line.`,
        );
    }
  }

  async #onUnknown(publicKey: Uint8Array): Promise<void> {
    const { host, port, acceptNew } = this.#options;
    const offered = fingerprint(publicKey);
    const file = this.#files[0]!;
    if (!acceptNew && !await this.#ask(publicKey)) {
      throw new HostKeyError(
        `Host key of "${host}" is unknown: ${keyType(publicKey)} ${offered} is not in ` +
          `${this.#files.join(", ")}. Connect once with ssh, or pass --accept-new to add it.`,
      );
    }
    await addKnownHost(file, { host, port, publicKey });
    log.info("added the host key {offered} of {host} to {file}", { offered, host, file });
  }

  /** Asks the person at the terminal; without one the answer is no. */
  async #ask(publicKey: Uint8Array): Promise<boolean> {
    const { host, port } = this.#options;
    const terminal = openTerminal();
    if (terminal === null) return false;
    try {
      return await confirmHostKey(terminal, {
        host,
        port,
        keyType: keyType(publicKey),
        fingerprint: fingerprint(publicKey),
      });
    } finally {
      terminal.close();
    }
  }
}
