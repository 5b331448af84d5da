/**
 * UpdateHostKeys of ssh_config(5): a server that is known by one of its keys says which others it
 * has (`hostkeys-00@openssh.com`), proves that they are its own (`hostkeys-prove-00@openssh.com`),
 * and the user's known_hosts files follow. Both requests are described in OpenSSH's PROTOCOL.
 */

import { MalformedDataError, messageOf, NobodyToAskError } from "./errors.ts";
import type { HostConfig } from "./host_config.ts";
import { compareKeys, type KnownKeys, rewriteKnownHosts } from "./known_hosts_rewrite.ts";
import type { StoredNames } from "./known_hosts_file.ts";
import { signatureAlgorithm, verifySignature } from "./key_signature.ts";
import { logger } from "./log.ts";
import {
  algorithmsFor,
  fieldCountOf,
  fingerprint,
  hasKey,
  isPublicKey,
  isSecurityKeyName,
  keyTypeOf,
  rsaBits,
} from "./public_key.ts";
import { maximumRsaBits } from "./rsa_signature.ts";
import { hostKeyAlgorithms } from "./ssh2_algorithms.ts";
import { encodeFields, Reader } from "./ssh_data.ts";

const log = logger("trust");

/** A server has a handful; no list that is longer is believed. */
const maximumKeys = 32;

/** How often a person who has said neither yes nor no is asked, as with ssh. */
const mostQuestions = 3;

/** What is known of the host, and what may be done about it. */
export interface UpdateHostKeysOptions {
  config: Pick<
    HostConfig,
    | "updateHostKeys"
    | "userKnownHostsFiles"
    | "hashKnownHosts"
    | "hostKeyAlgorithms"
    | "requiredRsaSize"
  >;
  names: StoredNames;
  /** @throws {NobodyToAskError} where nobody can be asked now. */
  ask(question: string, signal: AbortSignal): Promise<string | undefined>;
}

/** The connection on which the server has let us in. */
export interface UpdatingConnection {
  sessionId: Uint8Array;
  /** Aborted when the connection is gone. */
  signal: AbortSignal;
  /**
   * Asks the server to sign with keys, each a `string`; resolves with a signature for each, or with
   * `undefined` where it does not.
   */
  prove(keys: Uint8Array): Promise<Uint8Array | undefined>;
}

/**
 * Makes the files say what the server says. What goes wrong is logged: the connection does not
 * depend on it.
 *
 * @param announced the server's keys, each a `string`.
 */
export async function updateHostKeys(
  announced: Uint8Array,
  connection: UpdatingConnection,
  options: UpdateHostKeysOptions,
): Promise<void> {
  const { host } = options.names;
  try {
    await update(announced, connection, options);
  } catch (error) {
    if (connection.signal.aborted) return;
    if (error instanceof NobodyToAskError) {
      log.info("the host keys of {host} have changed, and nobody can be asked about it", { host });
      return;
    }
    const reason = messageOf(error);
    log.warn(
      "the host keys of {host} in known_hosts stay as they are: {reason}. If that goes on, set " +
        "UpdateHostKeys to no for it",
      { host, reason },
    );
  }
}

async function update(
  announced: Uint8Array,
  connection: UpdatingConnection,
  options: UpdateHostKeysOptions,
): Promise<void> {
  const { config, names, ask } = options;
  const { userKnownHostsFiles: files, updateHostKeys } = config;
  const sent = readKeys(announced).filter((key) => isWanted(key, config));
  if (sent.length === 0) return;
  const compared = await compareKeys(files, names, sent);
  const added = compared.added.filter((key) => isUsable(key, config));
  const { removed, objection } = compared;
  if (added.length === 0 && removed.length === 0) {
    log.debug("known_hosts has the host keys that {host} says it has", { host: names.host });
    return;
  }
  if (objection !== undefined) {
    log.debug("the host keys of {host} stay as they are: {objection}", {
      host: names.host,
      objection,
    });
    return;
  }
  const proven = added.length === 0 ? [] : await proveKeys(added, connection);
  const keys = sent.filter((key) => hasKey(proven, key) || !hasKey(compared.added, key));
  if (proven.length === 0 && removed.length === 0) return;
  if (updateHostKeys === "ask") {
    const question = (words: string) => ask(words, connection.signal);
    if (!await isAccepted(names.host, { proven, removed }, question)) return;
  }
  connection.signal.throwIfAborted();
  await rewrite(keys, { proven, compared }, options);
}

/** Replaces the files, unless they have changed since they were compared. */
async function rewrite(
  keys: readonly Uint8Array[],
  { proven, compared: { texts, removed } }: { proven: readonly Uint8Array[]; compared: KnownKeys },
  { config, names }: UpdateHostKeysOptions,
): Promise<void> {
  const { host } = names;
  for (const [index, file] of config.userKnownHostsFiles.entries()) {
    const expected = texts.get(file);
    if (index > 0 && expected === undefined) continue;
    // As with ssh, the first file has all of them in the end.
    const rewriting = {
      names,
      keys: index === 0 ? keys : [],
      isHashed: config.hashKnownHosts,
      expected,
    };
    try {
      await rewriteKnownHosts(file, rewriting);
    } catch (error) {
      throw new Error(`"${file}" cannot be replaced: ${messageOf(error)}`, { cause: error });
    }
  }
  for (const key of proven) {
    log.info("learned a host key of {host}: {key}", { host, key: describe(key) });
  }
  for (const key of removed) {
    log.info("removed a host key that {host} has no more: {key}", { host, key: describe(key) });
  }
}

/** @throws {Error} where they are too many, or one is there twice. */
function readKeys(announced: Uint8Array): Uint8Array[] {
  const reader = new Reader(announced);
  const keys: Uint8Array[] = [];
  while (!reader.isAtEnd) {
    const key = reader.bytes();
    if (hasKey(keys, key)) throw new Error("the server has sent a key twice");
    if (keys.push(key) > maximumKeys) {
      throw new Error(`the server has sent over ${maximumKeys} keys`);
    }
  }
  return keys;
}

type Limits = Pick<HostConfig, "hostKeyAlgorithms" | "requiredRsaSize">;

/** Whether it is a plain key of a type that HostKeyAlgorithms allows. */
function isWanted(key: Uint8Array, { hostKeyAlgorithms: list }: Limits): boolean {
  let type: string;
  try {
    type = keyTypeOf(key);
  } catch (error) {
    if (error instanceof MalformedDataError) return false;
    throw error;
  }
  if (fieldCountOf(type) === undefined || !isPublicKey(key, type)) return false;
  // A key of a kind that sshshim does not have is ssh's affair: it stays where it is.
  if (isSecurityKeyName(type)) return true;
  const allowed = hostKeyAlgorithms(list);
  return algorithmsFor(type).some((algorithm) => allowed.includes(algorithm));
}

/** Whether it could be taken as the host's own. */
function isUsable(key: Uint8Array, { requiredRsaSize }: Limits): boolean {
  if (isSecurityKeyName(keyTypeOf(key))) return false;
  const bits = rsaBits(key);
  return bits === undefined || (bits >= requiredRsaSize && bits <= maximumRsaBits);
}

/**
 * Those of the keys that the server signs with.
 *
 * @throws {Error} where it signs for none, or a signature is wrong.
 */
async function proveKeys(
  keys: readonly Uint8Array[],
  { sessionId, prove }: UpdatingConnection,
): Promise<Uint8Array[]> {
  const reply = await prove(encodeFields(...keys));
  if (reply === undefined) {
    throw new Error("the server does not prove that its new keys are its own");
  }
  const reader = new Reader(reply);
  const proven = keys.filter((key) => {
    const signature = reader.bytes();
    const signed = encodeFields("hostkeys-prove-00@openssh.com", sessionId, key);
    const isStrong = signatureAlgorithm(signature) !== "ssh-rsa";
    // As with ssh, SHA-1 is no proof, but no lie either.
    if (!isStrong && keyTypeOf(key) === "ssh-rsa") return false;
    if (verifySignature(key, signed, signature)) return true;
    throw new Error(`the server's proof for its key ${describe(key)} is wrong`);
  });
  reader.end();
  return proven;
}

async function isAccepted(
  host: string,
  { proven, removed }: { proven: readonly Uint8Array[]; removed: readonly Uint8Array[] },
  ask: (question: string) => Promise<string | undefined>,
): Promise<boolean> {
  const changes = [
    ...proven.map((key) => `  new: ${describe(key)}\n`),
    ...removed.map((key) => `  no longer there: ${describe(key)}\n`),
  ];
  let question = `"${host}" has changed its host keys, and a key that is known vouches for it:\n` +
    `${changes.join("")}Change known_hosts accordingly? Type yes or no: `;
  for (let count = 0; count < mostQuestions; count++) {
    const answer = (await ask(question))?.trim().toLowerCase();
    if (answer === "yes") return true;
    if (answer === undefined || answer === "no") return false;
    question = "Type yes or no: ";
  }
  return false;
}

function describe(key: Uint8Array): string {
  return `${keyTypeOf(key)} ${fingerprint(key)}`;
}
