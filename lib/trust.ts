/**
 * Whether the host key of upstream is to be believed: known_hosts decides, and for a host that is
 * in none of the files, StrictHostKeyChecking and a person. A fingerprint given in advance stands
 * in for all of that.
 *
 * A host may show a certificate. As with ssh, one that is not good for it, or whose authority is
 * not known, counts as the plain key in it.
 */

import { acceptMismatch, addressToCheck, spoofingHint } from "./check_host_ip.ts";
import { HostKeyError, NobodyToAskError } from "./errors.ts";
import type { HostTrust, TrustVerdict } from "./handshake.ts";
import { complaintAbout, readHostCertificate } from "./host_certificate.ts";
import type { HostConfig } from "./host_config.ts";
import type { Certificate } from "./key_certificate.ts";
import {
  addKnownHost,
  type HostAddress,
  hostKeyType,
  KnownHosts,
  storedName,
  type Verdict,
} from "./known_hosts.ts";
import {
  askKnownHostsCommand,
  type KnownHostsCommandConfig,
  type KnownHostsRequest,
} from "./known_hosts_command.ts";
import { logger } from "./log.ts";
import { algorithmsFor, fingerprint } from "./public_key.ts";
import { hostKeyAlgorithms } from "./ssh2_algorithms.ts";
import { confirmHostKey } from "./terminal.ts";
import { updateHostKeys } from "./update_host_keys.ts";

const log = logger("trust");

/** What trust in one host rests on. */
export interface TrustOptions {
  config:
    & KnownHostsCommandConfig
    & Pick<
      HostConfig,
      | "userKnownHostsFiles"
      | "globalKnownHostsFiles"
      | "strictHostKeyChecking"
      | "hashKnownHosts"
      | "hostKeyAlgorithms"
      | "caSignatureAlgorithms"
      | "updateHostKeys"
      | "requiredRsaSize"
      | "checkHostIp"
    >;
  /** Whether it is on the way to another host: of the options only `-F` counts for it. */
  isJump: boolean;
  /** The host's own, where it is reached directly. */
  address?: string;
  /** @throws {NobodyToAskError} where nobody can be asked now. */
  ask(question: string, signal: AbortSignal): Promise<string | undefined>;
  /** The same, once we are let in. */
  askLater(question: string, signal: AbortSignal): Promise<string | undefined>;
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

  // deno-lint-ignore require-await
  async verify(publicKey: Uint8Array): Promise<TrustVerdict> {
    const plainKey = readHostCertificate(publicKey, this.#host)?.subjectKey ?? publicKey;
    const offered = fingerprint(plainKey);
    if (offered === this.#pinned) return "trusted";
    throw new HostKeyError(
      `Host key of "${this.#host}" is another one: ${this.#pinned} is expected, the host offers ` +
        `${hostKeyType(plainKey)} ${offered}. If yours is of another type, add ` +
        `-o HostKeyAlgorithms=TYPE; else do not connect.`,
    );
  }
}

/** Trust in the host keys that OpenSSH's known_hosts files list. */
export class KnownHostsTrust implements HostTrust {
  readonly #options: TrustOptions;
  readonly #address: HostAddress;
  /** Where CheckHostIP wants it. */
  readonly #ip: HostAddress | undefined;
  readonly #files: KnownHosts;
  /** The files, and what KnownHostsCommand has printed for them. */
  #knownHosts: KnownHosts;
  /** Whether the key that was shown vouches for others: a file of the user's has it. */
  #isWarrant = false;

  private constructor(options: TrustOptions, files: KnownHosts) {
    const { hostName, port, hostKeyAlias } = options.config;
    this.#options = options;
    // An alias stands for the host and its port.
    this.#address = hostKeyAlias ? { host: hostKeyAlias, port: 22 } : { host: hostName, port };
    this.#ip = addressToCheck(options.config, this.#address, options.address);
    this.#files = this.#knownHosts = files;
  }

  /**
   * @throws {HostKeyError} where KnownHostsCommand fails.
   * @throws {UsageError} where it has a token that is not known.
   */
  static async load(options: TrustOptions, signal: AbortSignal): Promise<KnownHostsTrust> {
    const { userKnownHostsFiles, globalKnownHostsFiles } = options.config;
    const files = await KnownHosts.load([...userKnownHostsFiles, ...globalKnownHostsFiles]);
    const trust = new KnownHostsTrust(options, files);
    await trust.#askCommand({ invocation: "ORDER", signal });
    return trust;
  }

  get keyTypes(): readonly string[] {
    return this.#knownHosts.keyTypes(this.#address);
  }

  get update(): HostTrust["update"] {
    const { config, askLater: ask } = this.#options;
    const names = {
      host: storedName(this.#address),
      address: this.#ip && storedName(this.#ip),
    };
    const isWritable = /^[!-~]+$/.test(names.host);
    if (!this.#isWarrant || !isWritable || config.updateHostKeys === "no") return undefined;
    return (keys, connection) => updateHostKeys(keys, connection, { config, names, ask });
  }

  async #askCommand(request: Omit<KnownHostsRequest, "host">): Promise<void> {
    const host = storedName(this.#address);
    const printed = await askKnownHostsCommand(this.#options.config, { ...request, host });
    this.#knownHosts = printed === undefined ? this.#files : this.#files.with(printed);
  }

  async verify(publicKey: Uint8Array, signal: AbortSignal): Promise<TrustVerdict> {
    const certificate = readHostCertificate(publicKey, this.#address.host);
    await this.#askCommand({ invocation: "HOSTNAME", publicKey, signal });
    if (certificate === undefined) return await this.#verifyKey(publicKey, { signal });
    const complaint = this.#complaintAbout(certificate);
    if (complaint === undefined) return "trusted";
    return await this.#verifyKey(certificate.subjectKey, { signal, complaint });
  }

  /** @throws {HostKeyError} where the certificate's key or its authority's is revoked. */
  #complaintAbout(certificate: Certificate): string | undefined {
    const { host } = this.#address;
    const { authorityKey } = certificate;
    const authority = `${hostKeyType(authorityKey)} ${fingerprint(authorityKey)}`;
    const verdict = this.#knownHosts.checkAuthority(this.#address, certificate);
    if (verdict.kind === "revoked") {
      throw new HostKeyError(
        `Host certificate of "${host}" is revoked: ${verdict.file} line ${verdict.line} has its ` +
          `key or its authority's, ${authority}. Do not connect; ask the host's administrator.`,
      );
    }
    // Many hosts have certificates of authorities that concern others.
    if (verdict.kind === "unknown") {
      log.debug("no line has the authority of {host}, {authority}", { host, authority });
      return `no line has its authority, ${authority}`;
    }
    const { caSignatureAlgorithms } = this.#options.config;
    const complaint = complaintAbout(certificate, { host, caSignatureAlgorithms });
    const { keyId, serial } = certificate;
    const about = { host, keyId, serial: `${serial}`, complaint, ...verdict };
    if (complaint === undefined) {
      log.debug("host certificate {keyId}, {serial}, is good by {file} line {line}", about);
    } else {
      log.warn("the certificate of {host} is not good, and its key counts: {complaint}", about);
    }
    return complaint;
  }

  /** @param complaint about the certificate that the key came in. */
  async #verifyKey(
    publicKey: Uint8Array,
    { signal, complaint }: { signal: AbortSignal; complaint?: string },
  ): Promise<TrustVerdict> {
    const type = hostKeyType(publicKey);
    const offered = `${type} ${fingerprint(publicKey)}`;
    const { host } = this.#address;
    const accepted = hostKeyAlgorithms(this.#options.config.hostKeyAlgorithms);
    if (!algorithmsFor(type).some((algorithm) => accepted.includes(algorithm))) {
      throw new HostKeyError(
        `Host key of "${host}" is not accepted: HostKeyAlgorithms wants certificates, and this one ` +
          `is not good: ${complaint}. Ask the host's administrator for a new one.`,
      );
    }
    const verdict = this.#knownHosts.check(this.#address, publicKey);
    // As with ssh, whoever shows a certificate may be anywhere.
    const ofIp = complaint === undefined ? await this.#checkIp(publicKey, signal) : undefined;
    switch (verdict.kind) {
      case "known":
        log.debug("host key {offered} is known: {file} line {line}", { offered, ...verdict });
        this.#isWarrant = this.#isOwn(verdict) && (ofIp?.kind !== "known" || this.#isOwn(ofIp));
        if (ofIp?.kind === "unknown" && !verdict.isBare) await this.#addIp(publicKey, verdict);
        break;
      case "unknown":
        await this.#onUnknown(publicKey, {
          offered,
          signal,
          complaint,
          ip: ofIp?.kind === "unknown" ? this.#ip : undefined,
        });
        break;
      case "revoked":
        throw new HostKeyError(
          `Host key of "${host}" is revoked: ${verdict.file} line ${verdict.line} ` +
            `has ${offered}. Do not connect; ask the host's administrator for its new key.`,
        );
      case "changed":
        return this.#onChanged(verdict, {
          offered,
          hint: ofIp && spoofingHint(this.#ip!, ofIp, verdict),
        });
    }
    if (ofIp?.kind === "changed") await this.#onMismatch(ofIp, signal);
    return "trusted";
  }

  /**
   * What is known of the address, where that is wanted.
   *
   * @throws {HostKeyError} where the key is revoked for it.
   */
  async #checkIp(publicKey: Uint8Array, signal: AbortSignal): Promise<Verdict | undefined> {
    const ip = this.#ip;
    if (ip === undefined) return undefined;
    const request = { invocation: "ADDRESS", host: storedName(ip), publicKey, signal } as const;
    const printed = await askKnownHostsCommand(this.#options.config, request);
    const known = printed === undefined ? this.#files : this.#files.with(printed);
    const verdict = known.checkAddress(ip, publicKey);
    if (verdict.kind !== "revoked") return verdict;
    throw new HostKeyError(
      `Host key of "${this.#address.host}" is revoked for its address: ${verdict.file} line ` +
        `${verdict.line}. Do not connect; ask the host's administrator for its new key.`,
    );
  }

  /** The host is known, and its address is not. */
  async #addIp(publicKey: Uint8Array, { file }: Verdict & { kind: "known" }): Promise<void> {
    const { userKnownHostsFiles, globalKnownHostsFiles, hashKnownHosts } = this.#options.config;
    const ip = this.#ip!;
    const isFromFile = [...userKnownHostsFiles, ...globalKnownHostsFiles].includes(file);
    const [first] = userKnownHostsFiles;
    if (first === undefined || !isFromFile) {
      log.info("no known_hosts file has the address {address}", { address: storedName(ip) });
      return;
    }
    await this.#add(first, { ...ip, publicKey, isHashed: hashKnownHosts });
  }

  async #onMismatch(verdict: Verdict & { kind: "changed" }, signal: AbortSignal): Promise<void> {
    const { strictHostKeyChecking } = this.#options.config;
    const warning = await acceptMismatch({
      host: this.#address.host,
      ip: this.#ip!,
      verdict,
      strictHostKeyChecking,
      ask: async (question) => (await this.#ask(question, signal))?.trim().toLowerCase() === "yes",
    });
    log.warn("{warning}", { warning });
  }

  /** As with ssh, a line for any port is none about this one. */
  #isOwn({ file, isBare }: Verdict & { kind: "known" }): boolean {
    const { userKnownHostsFiles, globalKnownHostsFiles } = this.#options.config;
    return !isBare && userKnownHostsFiles.includes(file) && !globalKnownHostsFiles.includes(file);
  }

  /** ssh goes on with a changed key if it is told to check nothing, but gives no password away. */
  #onChanged(
    verdict: Verdict & { kind: "changed" },
    { offered, hint = "" }: { offered: string; hint?: string },
  ): TrustVerdict {
    const { file, line, knownType, knownFingerprint } = verdict;
    const change = `Host key of "${this.#address.host}" changed: ${file} line ${line} has ` +
      `${knownType} ${knownFingerprint}, the host offers ${offered}.${hint}`;
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
    { offered, signal, complaint, ip }: {
      offered: string;
      signal: AbortSignal;
      complaint?: string;
      ip?: HostAddress;
    },
  ): Promise<void> {
    const { strictHostKeyChecking, userKnownHostsFiles, hashKnownHosts } = this.#options.config;
    const { host } = this.#address;
    const certificate = complaint === undefined
      ? ""
      : ` Its certificate is not good: ${complaint}.`;
    // As with ssh: without a file of one's own there is nothing to be said for an unknown key.
    if (userKnownHostsFiles.length === 0) {
      throw new HostKeyError(
        `Host key of "${host}" is unknown: ${offered} is in no known_hosts file, and ` +
          `UserKnownHostsFile is none, so that no key can be added.${certificate} Name a file with ` +
          `--known-hosts, or pass --fingerprint to expect it.`,
      );
    }
    const isAccepted = strictHostKeyChecking === "ask"
      ? await this.#askPerson(publicKey, signal)
      : strictHostKeyChecking !== "yes";
    // As with ssh, what was taken without a question is no warrant yet.
    this.#isWarrant = strictHostKeyChecking === "ask" && isAccepted;
    if (!isAccepted) {
      throw new HostKeyError(
        `Host key of "${host}" is unknown: ${offered} is in no known_hosts file.${certificate} ` +
          (this.#options.isJump
            ? "Connect to it once with ssh, or set its StrictHostKeyChecking to accept-new."
            : "Connect once with ssh, pass --accept-new to add it, or --fingerprint to expect it."),
      );
    }
    const entry = { ...this.#address, publicKey, isHashed: hashKnownHosts, ip };
    await this.#add(userKnownHostsFiles[0]!, entry);
  }

  /** As with ssh, the connection does not depend on it. */
  async #add(file: string, entry: Parameters<typeof addKnownHost>[1]): Promise<void> {
    const { host, publicKey } = entry;
    const offered = `${hostKeyType(publicKey)} ${fingerprint(publicKey)}`;
    try {
      await addKnownHost(file, entry);
      log.info("added the host key {offered} of {host} to {file}", { offered, host, file });
    } catch (error) {
      log.warn("{error}", { error });
    }
  }

  async #askPerson(publicKey: Uint8Array, signal: AbortSignal): Promise<boolean> {
    return await confirmHostKey({ ask: (question) => this.#ask(question, signal) }, {
      ...this.#address,
      keyType: hostKeyType(publicKey),
      fingerprint: fingerprint(publicKey),
    });
  }

  /** Without anybody to ask there is no answer. */
  async #ask(question: string, signal: AbortSignal): Promise<string | undefined> {
    if (signal.aborted) return undefined;
    try {
      return await this.#options.ask(question, signal);
    } catch (error) {
      if (error instanceof NobodyToAskError || signal.aborted) return undefined;
      throw error;
    }
  }
}
