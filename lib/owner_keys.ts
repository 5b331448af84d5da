/**
 * The keys that only the user has: the client key that sshshim has made, the private keys in the
 * user's folder for ssh, and those of the user's agent.
 */

import { join } from "node:path";
import { AgentError, connectAgent } from "./agent.ts";
import { AuthenticationError, messageOf } from "./errors.ts";
import { publicKeyOfPrivateFile } from "./key_file.ts";
import { findOwnPath } from "./own_path.ts";
import { type LocalSystem, thisSystem } from "./state_folder.ts";

/** A key, and where it is from, for the log. */
export interface OwnerKey {
  name: string;
  publicKey: Uint8Array;
}

/** How long an agent may take to list its keys, in milliseconds: a client waits for it. */
const agentDeadlineMs = 3000;

/** Tells of what is gone without. */
export type Report = (text: string) => void;

/**
 * The keys whose private half is in a file `id_*` of a folder, which the user alone can read. Where
 * a file shows its public half that is the key, and what stands in a file beside it is not looked
 * at.
 */
export async function keysOfFolder(
  folder: string,
  report: Report,
  system: LocalSystem = thisSystem(),
): Promise<OwnerKey[]> {
  const keys: OwnerKey[] = [];
  let names: string[];
  try {
    names = Array.from(Deno.readDirSync(folder), ({ name }) => name);
  } catch {
    // Whoever has no such folder has no keys there.
    return [];
  }
  for (const name of names.filter((it) => /^id_/.test(it) && !it.endsWith(".pub")).sort()) {
    const file = join(folder, name);
    try {
      const publicKey = await publicKeyOfPrivateFile(file, system);
      if (publicKey) keys.push({ name: file, publicKey });
    } catch (error) {
      if (!(error instanceof AuthenticationError)) throw error;
      report(`not taken for a key of yours: ${error.message}`);
    }
  }
  return keys;
}

/**
 * The keys that the user's agent lists. Its socket has to be the user's own: whoever answers there
 * says who may log in.
 */
export async function keysOfAgent(
  report: Report,
  system: LocalSystem = thisSystem(),
): Promise<OwnerKey[]> {
  // On Windows anybody may listen at the pipe's name before the agent does.
  if (system.os === "windows") return [];
  const socket = system.variable("SSH_AUTH_SOCK");
  if (!socket) return [];
  try {
    const found = await findOwnPath(socket, system);
    if ("fault" in found) {
      report(`the agent at ${socket} is not asked for keys: ${found.fault}`);
      return [];
    }
    return await listKeys(found.path);
  } catch (error) {
    report(`the agent at ${socket} has no keys: ${messageOf(error)}`);
    return [];
  }
}

async function listKeys(path: string): Promise<OwnerKey[]> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const seconds = agentDeadlineMs / 1000;
  const timer = setTimeout(
    () => reject(new AgentError(`it does not answer within ${seconds} s`)),
    agentDeadlineMs,
  );
  const done = Promise.withResolvers<void>();
  const connecting = connectAgent(path);
  // It may connect after nobody waits for it any more.
  connecting.then((agent) => done.promise.then(() => agent.close()), () => {});
  try {
    const listing = connecting.then((agent) => agent.identities());
    const signers = await Promise.race([listing, late]);
    return signers.map(({ name, publicKey }) => ({ name: `${name}, of the agent`, publicKey }));
  } finally {
    clearTimeout(timer);
    done.resolve();
  }
}
