/**
 * The host key of the local endpoint: found, or made at first use.
 *
 * The endpoint keeps one key for good, so that the entry for 127.0.0.1 in the user's known_hosts
 * stays true. It is a key of its own, made for this purpose, unless a flag names another one or
 * there is no place to keep it.
 */

import { Buffer } from "node:buffer";
import { generateKeyPair, generateKeyPairSync, type KeyObject } from "node:crypto";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { EndpointError, reasonOf } from "./errors.ts";
import { readJudged } from "./judged_file.ts";
import { publicKeyOf, UnusableKey } from "./key_object.ts";
import { formatEd25519Key } from "./key_openssh.ts";
import { parseStoredKey } from "./key_text.ts";
import { homeFolder } from "./local_facts.ts";
import { keyTypeOf } from "./public_key.ts";
import { defaultStateFolder, folderFault, isFileError, keepFile } from "./state_folder.ts";

/** A key type that a file for the endpoint can have. */
export type KeyType = "rsa" | "ed25519";

/** A key type that the endpoint can have. */
export type HostKeyType = KeyType | "ecdsa";

/** A private key without passphrase. */
export interface PrivateKey {
  type: HostKeyType;
  /** In the form that ssh2 takes: OpenSSH's for Ed25519; in PEM PKCS#1 for RSA, SEC1 for ECDSA. */
  privateKey: string;
  /** The public key in the wire format of RFC 4253, section 6.6. */
  publicKey: Uint8Array;
}

/** The endpoint's host key. */
export interface LocalHostKey extends PrivateKey {
  /** Where it comes from: a flag, the state folder, the user's identity, or made for this run. */
  origin: "flag" | "state" | "identity" | "temporary";
  /** The key's file, unless it is temporary. */
  file?: string;
  /** With "identity" and "temporary": why the state folder does not hold the key. */
  note?: string;
}

/** As long as SSH's policies want it, and made in a moment. */
const generatedRsaBits = 2048;
const fileLimitBytes = 64 * 1024;

/**
 * Finds the endpoint's host key: the file of a flag; else the Ed25519 key in the state folder,
 * which the first run makes; else, where that folder cannot be written, the user's own
 * `id_ed25519` or `id_rsa` if it has no passphrase; else a key for this run alone.
 *
 * `options` replace the folders of the user, which are `defaultStateFolder()` and `~/.ssh`.
 *
 * @throws {EndpointError} when the flag's file or the key in the state folder is not safe or not
 * usable. Neither is ever replaced: clients may know the key already.
 */
export async function loadLocalHostKey(
  flag?: { type: KeyType; file: string },
  options: { stateFolder?: string; sshFolder?: string } = {},
): Promise<LocalHostKey> {
  if (flag !== undefined) return await loadFlagKey(flag);
  const stateFolder = options.stateFolder ?? defaultStateFolder();
  const note = await prepareStateKey(stateFolder, "ed25519");
  if (note === undefined) return await loadStateKey(stateFolder, "ed25519");
  const identity = await loadIdentity(options.sshFolder ?? join(homeFolder(), ".ssh"));
  if (identity !== undefined) return { ...identity, note };
  return { ...generateKey(), origin: "temporary", note };
}

/** Makes an Ed25519 key. */
export function generateKey(): PrivateKey {
  return toPrivateKey("ed25519", generateKeyPairSync("ed25519").privateKey);
}

/** Makes a key; ECDSA on the curve P-256. RSA takes some tenths of a second beside all else. */
export async function generateKeyOf(type: HostKeyType): Promise<PrivateKey> {
  switch (type) {
    case "ed25519":
      return generateKey();
    case "ecdsa":
      return toPrivateKey(type, generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);
    case "rsa": {
      const options = { modulusLength: generatedRsaBits };
      return toPrivateKey(type, (await promisify(generateKeyPair)("rsa", options)).privateKey);
    }
  }
}

async function loadFlagKey(
  { type, file }: { type: KeyType; file: string },
): Promise<LocalHostKey> {
  try {
    const key = await readPrivateKey(file, { owner: "any" });
    if (key.type !== type) {
      throw new UnusableKey(`it is of type ${key.type}`, `Pass it with --local-${key.type}-key.`);
    }
    return { ...key, origin: "flag", file };
  } catch (error) {
    throw endpointError(file, error, "Choose another file.");
  }
}

/** The file of a key in the state folder. */
export function stateKeyFile(folder: string, type: HostKeyType): string {
  return join(folder, `ssh_host_${type}_key`);
}

/**
 * Sees to it that the state folder has a key, and makes one if there is none.
 *
 * @returns why the folder cannot hold a key, if it cannot
 */
export async function prepareStateKey(
  folder: string,
  type: HostKeyType,
): Promise<string | undefined> {
  const file = stateKeyFile(folder, type);
  const reason = await keepFile(file, async () => (await generateKeyOf(type)).privateKey);
  return reason && `"${folder}" cannot hold the local host key: ${reason}`;
}

/** @throws {EndpointError} when the key in the state folder is not safe or not usable. */
export async function loadStateKey(folder: string, type: HostKeyType): Promise<LocalHostKey> {
  const file = stateKeyFile(folder, type);
  try {
    return { ...await readStateKey(file, type), origin: "state", file };
  } catch (error) {
    throw endpointError(file, error, remakeAdvice);
  }
}

/** @throws {UnusableKey} where it, or the folder that it is in, is not safe. */
export async function readStateKey(file: string, type: HostKeyType): Promise<PrivateKey> {
  const folder = dirname(file);
  const fault = folderFault(await Deno.stat(folder), folder);
  if (fault) throw new UnusableKey(fault.reason, fault.advice);
  return await readPrivateKey(file, { owner: "own", types: [type] });
}

async function loadIdentity(folder: string): Promise<LocalHostKey | undefined> {
  for (const name of ["id_ed25519", "id_rsa"]) {
    const file = join(folder, name);
    try {
      return { ...await readPrivateKey(file, { owner: "any" }), origin: "identity", file };
    } catch (error) {
      // An identity is no more than a substitute: one that cannot be used is passed over.
      if (!(error instanceof UnusableKey) && !isFileError(error)) throw error;
    }
  }
  return undefined;
}

/** What helps where a key in the state folder cannot be used. */
export const remakeAdvice = "Remove it, and the next start makes a new one.";

/** @param what the key is, for the message. */
export function endpointError(
  file: string,
  error: unknown,
  usualAdvice: string,
  what = "local host key",
): unknown {
  let detail: string;
  if (error instanceof UnusableKey) detail = `${error.message}. ${error.advice ?? usualAdvice}`;
  else if (isFileError(error)) detail = `${reasonOf(error)}. ${usualAdvice}`;
  else return error;
  return new EndpointError(`Cannot use the ${what} "${file}": ${detail}`, { cause: error });
}

/** What is asked of a key's file; without types it is one that a flag can name. */
interface Requirements {
  /** With "own" it must belong to this user. */
  owner: "own" | "any";
  types?: readonly HostKeyType[];
}

/** Reads a key file that nobody else can read. */
async function readPrivateKey(
  file: string,
  { owner, types = ["rsa", "ed25519"] }: Requirements,
): Promise<PrivateKey> {
  const bytes = await readJudged(file, ({ isFile, uid, mode, size }) => {
    if (!isFile) throw new UnusableKey("it is not a regular file");
    if (Deno.build.os !== "windows" && mode !== null) {
      const isOwn = uid === Deno.uid();
      if (owner === "own" && !isOwn) {
        throw new UnusableKey(`it belongs to another user, uid ${uid}`);
      }
      if ((mode & (isOwn ? 0o077 : 0o007)) !== 0) {
        throw new UnusableKey("others can read or change it", `Run: chmod 600 "${file}"`);
      }
    }
    if (size > fileLimitBytes) throw new UnusableKey("it is too long for a private key");
  });
  return parseKey(new TextDecoder().decode(bytes), { file, types });
}

/** Parses a private key in any format, and rewrites it in the form that ssh2 takes. */
function parseKey(
  text: string,
  { file, types }: { file: string; types: readonly HostKeyType[] },
): PrivateKey {
  const stored = parseStoredKey(text, { file });
  if (stored.isEncrypted) {
    const advice = `Choose a key without, or remove it: ssh-keygen -p -N "" -f "${file}"`;
    throw new UnusableKey("it has a passphrase", advice);
  }
  const { key, publicKey } = stored;
  const name = key.asymmetricKeyType === "ec" ? "ecdsa" : key.asymmetricKeyType;
  const type = types.find((type) => type === name);
  if (type) return toPrivateKey(type, key);
  throw new UnusableKey(`it is of type ${keyTypeOf(publicKey)}, not ${types.join(" or ")}`);
}

function toPrivateKey(type: HostKeyType, key: KeyObject): PrivateKey {
  return { type, privateKey: format(type, key), publicKey: publicKeyOf(key) };
}

/** SEC1 for ECDSA, since ssh2 cannot sign with half of such keys in OpenSSH's format. */
function format(type: HostKeyType, key: KeyObject): string {
  switch (type) {
    case "ed25519":
      return formatEd25519Key(key);
    case "rsa":
      return key.export({ format: "pem", type: "pkcs1" }).toString();
    case "ecdsa":
      return formatNistp256Key(key);
  }
}

/** What stands between the numbers of a P-256 key in SEC1 (RFC 5915): version, curve, point. */
const sec1Parts = ["30770201010420", "a00a06082a8648ce3d030107a144034200", "04"] as const;

/** Written here, since Deno 2.4 leaves the curve out. */
function formatNistp256Key(key: KeyObject): string {
  const { crv, d = "", x = "", y = "" } = key.export({ format: "jwk" });
  if (crv !== "P-256") return key.export({ format: "pem", type: "sec1" }).toString();
  const [head, middle, uncompressed] = sec1Parts.map((part) => Buffer.from(part, "hex"));
  const [scalar, pointX, pointY] = [d, x, y].map((text) => Buffer.from(text, "base64url"));
  const bytes = Buffer.concat([head!, scalar!, middle!, uncompressed!, pointX!, pointY!]);
  const lines = bytes.toString("base64").match(/.{1,64}/g)!.join("\n");
  return `-----BEGIN EC PRIVATE KEY-----\n${lines}\n-----END EC PRIVATE KEY-----\n`;
}
