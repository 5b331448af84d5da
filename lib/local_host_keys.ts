/**
 * All host keys of the local endpoint: beside the first one an ECDSA and an RSA key, for clients
 * that do not know Ed25519. They are kept where the first one is.
 */

import { dirname } from "node:path";
import {
  generateKeyOf,
  type HostKeyType,
  type KeyType,
  loadLocalHostKey,
  loadStateKey,
  type LocalHostKey,
  prepareStateKey,
  stateKeyFile,
} from "./local_host_key.ts";
import { logger } from "./log.ts";

const log = logger("endpoint");

/** The endpoint's host keys. */
export interface LocalHostKeys {
  first: LocalHostKey;
  /** All of them, best first, once the RSA key is made if there was none. Never rejected. */
  all: Promise<readonly LocalHostKey[]>;
}

/**
 * Finds the host keys. One that a flag names, and the user's own one, stands alone.
 *
 * @throws {EndpointError} as `loadLocalHostKey`.
 */
export async function loadLocalHostKeys(
  flag?: { type: KeyType; file: string },
  options: { stateFolder?: string; sshFolder?: string } = {},
): Promise<LocalHostKeys> {
  const first = await loadLocalHostKey(flag, options);
  switch (first.origin) {
    case "flag":
    case "identity":
      return { first, all: Promise.resolve([first]) };
    case "temporary":
      return { first, all: beside(first) };
    case "state": {
      const folder = dirname(first.file!);
      const ecdsa = await stateKey(folder, "ecdsa");
      // What is there and cannot be used is told before anybody is asked for a password.
      const rsa = await isThere(stateKeyFile(folder, "rsa"))
        ? await loadStateKey(folder, "rsa")
        : stateKey(folder, "rsa");
      const found = Promise.resolve(rsa).catch((error: Error) => {
        log.warn("{message}", { message: error.message });
        return undefined;
      });
      return {
        first,
        all: found.then((rsa) => [first, ecdsa, rsa].filter((key) => key !== undefined)),
      };
    }
  }
}

/** For this run alone. */
async function beside(first: LocalHostKey): Promise<LocalHostKey[]> {
  const others = [await generateKeyOf("ecdsa"), await generateKeyOf("rsa")];
  return [first, ...others.map((key): LocalHostKey => ({ ...key, origin: "temporary" }))];
}

/** The key in the state folder, made if need be; `undefined` where the folder cannot hold it. */
async function stateKey(
  folder: string,
  type: HostKeyType,
): Promise<LocalHostKey | undefined> {
  const note = await prepareStateKey(folder, type);
  if (note === undefined) return await loadStateKey(folder, type);
  log.debug("{note}", { note });
  return undefined;
}

async function isThere(file: string): Promise<boolean> {
  try {
    await Deno.stat(file);
    return true;
  } catch {
    // Whatever it is, making the file will tell.
    return false;
  }
}
