/**
 * The files in `~/.ssh/sshshim`, by which ssh finds the shims of a user that run.
 *
 * A name is taken by a lock on `NAME.lock`, which the system releases when the process ends,
 * however it ends. Names are given and the files of ended processes are removed by one process at
 * a time, which has the lock on `.lock`; a file that is not ours stays.
 */

import { basename, join } from "node:path";
import { EndpointError, messageOf, PublishingError, reasonOf } from "./errors.ts";
import {
  configText,
  hostOf,
  knownHostsText,
  type Owner,
  ownerLine,
  ownerOf,
  type PublishedFacts,
  type PublishedHost,
} from "./published_config.ts";
import { within } from "./timing.ts";

/** Longer than anybody needs the folder for itself, in milliseconds. */
const folderTimeoutMs = 10_000;

/** How the names of the files of one name end; the lock goes last, when they are removed. */
const endings = [".conf", ".known_hosts", ".lock"] as const;

/** A name in use. */
export interface LiveName extends PublishedHost, Owner {}

/** Which name is wanted. */
export interface NameRequest extends PublishedHost {
  /** Whether no other name will do. */
  isExact: boolean;
  /** Takes a local port, while nobody else does. */
  listen: (others: readonly LiveName[]) => Promise<Deno.TcpListener>;
}

/** What is still to be known of a name that was taken. */
export type Unpublished = Omit<PublishedFacts, keyof LiveName | "knownHostsFile"> & {
  /** The endpoint's host keys as `TYPE BASE64`. */
  hostKeys: readonly string[];
};

/** The folder in an account's home. */
export function publishedFolder(home: string): string {
  return join(home, ".ssh", "sshshim");
}

/**
 * Removes what processes left that have ended without doing so.
 *
 * @returns the names in use; none where there is no such folder
 * @throws {PublishingError} where the folder cannot be used.
 */
export async function healNames(folder: string): Promise<LiveName[]> {
  try {
    if (!await isThere(folder)) return [];
    return await withFolder(folder, () => heal(folder));
  } catch (error) {
    throw asPublishingError(error, folder);
  }
}

/**
 * Takes a name, or `NAME-2` and so on where it is in use, and a local port.
 *
 * @throws {EndpointError} The very name, or the one of `as`, is in use; or as `listen` throws.
 * @throws {PublishingError} where the folder cannot be used.
 */
export async function claimName(
  folder: string,
  request: NameRequest,
): Promise<{ listener: Deno.TcpListener; name: PublishedName }> {
  try {
    await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
    return await withFolder(folder, () => claim(folder, request));
  } catch (error) {
    throw asPublishingError(error, folder);
  }
}

async function claim(
  folder: string,
  request: NameRequest,
): Promise<{ listener: Deno.TcpListener; name: PublishedName }> {
  const others = await heal(folder);
  const { as } = request;
  const same = others.find((other) => as !== undefined && other.as === as);
  if (same !== undefined) throw taken(as!, same, "--as");
  const { lock, name } = await lockName(folder, request, others);
  let listener: Deno.TcpListener | undefined;
  try {
    listener = await request.listen(others);
    const owner = { pid: Deno.pid, port: listener.addr.port, as };
    const published = new PublishedName(folder, { name, ...owner }, lock);
    // Until it is published, this tells others the port.
    await Deno.writeTextFile(published.configFile, `${ownerLine(owner)}\n`, { mode: 0o600 });
    return { listener, name: published };
  } catch (error) {
    listener?.close();
    removeLock(folder, name, lock);
    throw error;
  }
}

/** The lock is let go of last: until then nobody takes the name. */
function removeLock(folder: string, name: string, lock: Deno.FsFile): void {
  try {
    Deno.removeSync(fileOf(folder, name, ".lock"));
  } catch {
    // The next start tries again.
  }
  lock.close();
}

/** A name that this process has taken. */
export class PublishedName {
  readonly #folder: string;
  readonly #facts: LiveName;
  readonly #lock: Deno.FsFile;
  #isTaken = true;

  constructor(folder: string, facts: LiveName, lock: Deno.FsFile) {
    this.#folder = folder;
    this.#facts = facts;
    this.#lock = lock;
  }

  get name(): string {
    return this.#facts.name;
  }

  get as(): string | undefined {
    return this.#facts.as;
  }

  /** The name that clients use. */
  get host(): string {
    return hostOf(this.#facts);
  }

  get configFile(): string {
    return fileOf(this.#folder, this.name, ".conf");
  }

  get knownHostsFile(): string {
    return fileOf(this.#folder, this.name, ".known_hosts");
  }

  /**
   * Lets clients find the endpoint. With `isPrinted` the configuration is not written, and only
   * what it refers to is.
   *
   * @returns the configuration's text; `undefined` where the name was taken back
   * @throws {PublishingError} where a file cannot be written
   */
  publish(
    { hostKeys, ...given }: Unpublished,
    { isPrinted = false }: { isPrinted?: boolean } = {},
  ): string | undefined {
    const { knownHostsFile } = this;
    if (!this.#isTaken) return undefined;
    const facts: PublishedFacts = { ...given, ...this.#facts, knownHostsFile };
    try {
      const text = configText(facts);
      replaceFile(knownHostsFile, knownHostsText(facts, hostKeys));
      if (!isPrinted) replaceFile(this.configFile, text);
      return text;
    } catch (error) {
      throw asPublishingError(error, this.#folder);
    }
  }

  /** Takes the name back, at once. May be called twice. */
  remove(): void {
    if (!this.#isTaken) return;
    this.#isTaken = false;
    for (const file of [this.configFile, this.knownHostsFile]) removeOwn(file);
    removeLock(this.#folder, this.name, this.#lock);
  }
}

function fileOf(folder: string, name: string, ending: typeof endings[number]): string {
  return join(folder, name + ending);
}

/** ssh sees the whole file or none. */
function replaceFile(file: string, text: string): void {
  const temporary = temporaryOf(file);
  Deno.writeTextFileSync(temporary, text, { mode: 0o600 });
  Deno.renameSync(temporary, file);
}

/** `*.conf` does not find it. */
function temporaryOf(file: string): string {
  return join(file, "..", `.${basename(file)}`);
}

/**
 * Runs `task` while no other process has a folder of ours.
 *
 * @throws {PublishingError} Others can write there, or have it for too long.
 */
export async function withFolder<T>(folder: string, task: () => Promise<T>): Promise<T> {
  const fault = faultOf(await Deno.stat(folder), { uid: Deno.uid(), folder });
  if (fault !== undefined) throw new PublishingError(fault);
  const options = { write: true, create: true, mode: 0o600 };
  const file = await Deno.open(join(folder, ".lock"), options);
  await lockInTime(file, folder);
  try {
    return await task();
  } finally {
    file.close();
  }
}

/** Why a folder does not do: whoever can write there can lead our clients elsewhere. */
export function faultOf(
  { uid: owner, mode, isDirectory }: Pick<Deno.FileInfo, "uid" | "mode" | "isDirectory">,
  { uid, folder }: { uid: number | null; folder: string },
): string | undefined {
  if (!isDirectory) return `"${folder}" is not a folder. Remove it.`;
  // Windows tells neither.
  if (uid === null || owner === null || mode === null) return undefined;
  if (owner !== uid) return `"${folder}" belongs to another user, uid ${owner}. Make it yours.`;
  if ((mode & 0o022) === 0) return undefined;
  return `Others can write in "${folder}". Run: chmod 700 "${folder}"`;
}

async function lockInTime(file: Deno.FsFile, folder: string): Promise<void> {
  let isLocked = false;
  const locking = file.lock(true).then(() => void (isLocked = true));
  await within(folderTimeoutMs, locking);
  if (isLocked) return;
  locking.finally(() => file.close()).catch(() => {});
  throw new PublishingError(
    `Another sshshim, perhaps a stopped one, has "${join(folder, ".lock")}". End it.`,
  );
}

/** @returns the names in use */
async function heal(folder: string): Promise<LiveName[]> {
  const names = new Set<string>();
  for await (const { name } of Deno.readDir(folder)) {
    const ending = endings.find((ending) => name.endsWith(ending));
    if (ending !== undefined && !name.startsWith(".")) names.add(name.slice(0, -ending.length));
  }
  const live: LiveName[] = [];
  for (const name of names) {
    if (await isInUse(fileOf(folder, name, ".lock"))) live.push(await describe(folder, name));
    else for (const ending of endings) removeOwn(fileOf(folder, name, ending));
  }
  return live;
}

/** Whether a process lives that has the name. */
async function isInUse(lockFile: string): Promise<boolean> {
  try {
    using file = await Deno.open(lockFile, { write: true });
    return !await file.tryLock(true);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    // Somebody else's file.
    if (error instanceof Deno.errors.PermissionDenied) return true;
    throw error;
  }
}

async function describe(folder: string, name: string): Promise<LiveName> {
  let owner: Owner | undefined;
  try {
    owner = ownerOf(await Deno.readTextFile(fileOf(folder, name, ".conf")));
  } catch {
    // It is just being removed; the name is in use all the same.
  }
  return { name, ...owner ?? { pid: 0, port: 0 } };
}

/** Removes a file of ours, and what may be left of writing it. */
function removeOwn(file: string): void {
  for (const path of [temporaryOf(file), file]) {
    try {
      if (ownerOf(Deno.readTextFileSync(path)) !== undefined) Deno.removeSync(path);
    } catch {
      // Not there, or not for us to remove: the next start tries again.
    }
  }
}

async function lockName(
  folder: string,
  { name: wanted, isExact }: NameRequest,
  others: readonly LiveName[],
): Promise<{ lock: Deno.FsFile; name: string }> {
  for (let count = 1;; count++) {
    const name = count === 1 ? wanted : `${wanted}-${count}`;
    const lock = await lockNew(folder, name);
    if (lock !== undefined) return { lock, name };
    if (!isExact) continue;
    const owner = others.find((other) => other.name.toLowerCase() === name.toLowerCase());
    throw taken(name, owner, "--name");
  }
}

/** `undefined` where a file of that name is there: what is ours and left behind has been removed. */
async function lockNew(folder: string, name: string): Promise<Deno.FsFile | undefined> {
  for (const ending of endings) {
    if (await isThere(fileOf(folder, name, ending))) return undefined;
  }
  const lockFile = fileOf(folder, name, ".lock");
  const lock = await Deno.open(lockFile, { write: true, createNew: true, mode: 0o600 });
  try {
    await lock.write(new TextEncoder().encode(`${ownerLine({ pid: Deno.pid, port: 0 })}\n`));
    await lock.lock(true);
    return lock;
  } catch (error) {
    removeLock(folder, name, lock);
    throw error;
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function taken(name: string, owner: PublishedHost & Owner | undefined, option: string) {
  const whose = owner === undefined
    ? "files that are not sshshim's"
    : `the sshshim of ${hostOf(owner)}, process ${owner.pid}`;
  return new EndpointError(
    `The name ${name} is taken by ${whose}. Choose another one with ${option} NAME.`,
  );
}

/** What the system says of a file, as what it means here; other errors are left as they are. */
function asPublishingError(error: unknown, folder: string): unknown {
  if (error instanceof EndpointError || !/\(os error \d+\)/.test(messageOf(error))) return error;
  const reason = reasonOf(error);
  return new PublishingError(`"${folder}" cannot be used: ${reason}.`, { cause: error });
}
