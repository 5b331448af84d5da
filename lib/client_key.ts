/**
 * The key with which clients of this user log in to the endpoint where keys are asked for: made at
 * first use, kept in the state folder, readable by the user alone.
 */

import { posix, win32 } from "node:path";
import { EndpointError } from "./errors.ts";
import { UnusableKey } from "./key_object.ts";
import { endpointError, generateKey, readStateKey, remakeAdvice } from "./local_host_key.ts";
import { publicKeyLine } from "./public_key.ts";
import { defaultStateFolder, keepFile, type LocalSystem, thisSystem } from "./state_folder.ts";

/** A key pair in two files. */
export interface ClientKey {
  /** The file with the private key, in OpenSSH's format; the public one is in FILE.pub. */
  privateFile: string;
  /** In the wire format of RFC 4253, section 6.6; an Ed25519 key. */
  publicKey: Uint8Array;
}

/** The file of the private key. */
export function clientKeyFile(stateFolder?: string, system: LocalSystem = thisSystem()): string {
  const { join } = system.os === "windows" ? win32 : posix;
  return join(stateFolder ?? defaultStateFolder(system), "client_key");
}

/**
 * Finds the key, or makes it. Neither of its files is ever replaced: ssh's configuration may name
 * them already.
 *
 * @throws {EndpointError} where the folder cannot hold it, or a file is not safe or not usable.
 */
export async function loadClientKey(options: { stateFolder?: string } = {}): Promise<ClientKey> {
  const what = "client key";
  const privateFile = clientKeyFile(options.stateFolder);
  const publicFile = `${privateFile}.pub`;
  let file = privateFile;
  try {
    await keep(file, () => Promise.resolve(generateKey().privateKey));
    const { publicKey } = await readStateKey(file, "ed25519");
    const line = publicKeyLine(publicKey);
    file = publicFile;
    await keep(file, () => Promise.resolve(`${line} sshshim\n`));
    // ssh believes it before the private file, and would offer another key.
    if (!(await Deno.readTextFile(file)).startsWith(`${line} `)) {
      throw new UnusableKey("it is not the public half of the key beside it");
    }
    return { privateFile, publicKey };
  } catch (error) {
    throw endpointError(file, error, remakeAdvice, what);
  }
}

async function keep(file: string, content: () => Promise<string>): Promise<void> {
  const reason = await keepFile(file, content);
  if (reason === undefined) return;
  throw new EndpointError(
    `The folder of "${file}" cannot hold it: ${reason}. Make the folder writable for you.`,
  );
}
