/**
 * `sshshim setup`: the user's ssh_config gets the line by which the names of shims are found, and
 * gets rid of it.
 */

import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { basename, dirname, join } from "node:path";
import { messageOf, NobodyToAskError, reasonOf, UsageError } from "./errors.ts";
import { addInclude, findInclude, includeLine, removeInclude } from "./setup_line.ts";

/** Who asks, and where the user's files are. */
export interface SetupContext {
  /** The account's folder, where ssh looks. */
  home: string;
  /** Asks a question of yes or no; absent: nothing is asked. */
  ask?: (question: string) => Promise<string | undefined>;
}

/** A file as it was read. */
interface ConfigFile {
  /** As ssh finds it. */
  path: string;
  /** Where links lead; the same without. */
  target: string;
  isLink: boolean;
  /** One character for each byte. */
  content: string;
  info: Deno.FileInfo;
}

/** Whether ssh finds the names of shims by itself. */
export async function isSetUp(home: string): Promise<boolean> {
  try {
    const content = await Deno.readTextFile(pathsOf(home).config);
    return findInclude(content, home) !== undefined;
  } catch {
    // No file, or none that we may read: it does not.
    return false;
  }
}

/**
 * Adds the line, unless it is there.
 *
 * @returns what has been done, in words for the user
 * @throws {UsageError} The file cannot be changed, or there is nobody to ask.
 */
export async function setUp(context: SetupContext): Promise<string> {
  const { home } = context;
  const paths = pathsOf(home);
  return await about(paths.config, async () => {
    const file = await readConfig(paths.config);
    const line = file && findInclude(textOf(file), home);
    if (line !== undefined) {
      return `${paths.config} line ${line} lets ssh find the names of shims. Nothing to do.`;
    }
    if (file !== undefined) checkWritable(file);
    if (!await agrees(paths, { file, ask: context.ask })) return "Nothing was changed.";
    const isDone = "ssh finds every shim that runs: ssh NAME.shim.";
    if (file === undefined) {
      await createConfig(paths);
      return `${paths.config} was made, with the line "${includeLine}". ${isDone}`;
    }
    await writeAside(paths.backup, file.content, file.info.mode);
    await replaceConfig(file, addInclude(file.content));
    return `${paths.config} begins with "${includeLine}" now. ${isDone} ` +
      `What it was is in ${paths.backup}.`;
  });
}

/**
 * Takes the line out again: the file is what it was before, byte for byte, unless it was changed
 * since; then the line alone goes.
 *
 * @returns what has been done, in words for the user
 * @throws {UsageError} The file cannot be changed.
 */
export async function undoSetup({ home }: SetupContext): Promise<string> {
  const paths = pathsOf(home);
  return await about(paths.config, async () => {
    const file = await readConfig(paths.config);
    const rest = file === undefined ? undefined : removeInclude(file.content);
    if (file === undefined || rest === undefined) {
      const line = file && findInclude(textOf(file), home);
      if (line === undefined) return `${paths.config} has no line of sshshim's. Nothing to do.`;
      throw new UsageError(
        `${paths.config} line ${line} was not written by sshshim. Take it out by hand.`,
      );
    }
    checkWritable(file);
    const made = await readOptional(paths.made);
    if (made !== undefined && rest === "" && !file.isLink) {
      await Deno.remove(file.path);
      await removeMade(paths, made);
      return `${paths.config}, which sshshim setup had made, is gone.`;
    }
    const backup = await readOptional(paths.backup);
    const isAsWritten = backup !== undefined && addInclude(backup) === file.content;
    await replaceConfig(file, isAsWritten ? backup : rest);
    await removeOptional(paths.made);
    if (!isAsWritten) {
      const kept = backup === undefined ? "" : ` What it was before is still in ${paths.backup}.`;
      return `${paths.config} has been changed since sshshim setup: the line was taken out, and ` +
        `the rest stays as it is.${kept}`;
    }
    await Deno.remove(paths.backup);
    return `${paths.config} is what it was before sshshim setup.`;
  });
}

function pathsOf(home: string) {
  const folder = join(home, ".ssh");
  const config = join(folder, "config");
  const own = join(folder, "sshshim");
  // The last one tells what setup has made where there was nothing.
  return { folder, config, own, backup: `${config}.sshshim-backup`, made: join(own, ".made") };
}

type Paths = ReturnType<typeof pathsOf>;

async function agrees(
  { config, backup }: Paths,
  { file, ask }: { file: ConfigFile | undefined } & Pick<SetupContext, "ask">,
): Promise<boolean> {
  if (ask === undefined) return true;
  const plan = file === undefined
    ? `Make ${config} with the line`
    : `Keep a copy of ${config} as ${basename(backup)}, and put this line at its top:`;
  let answer: string | undefined;
  try {
    answer = await ask(`${plan}\n  ${includeLine}\n? Type yes or no: `);
  } catch (cause) {
    if (!(cause instanceof NobodyToAskError)) throw cause;
    throw new UsageError(
      `There is no terminal to ask whether ${config} may be changed. ` +
        "Pass --yes if it may.",
      { cause },
    );
  }
  return /^y(es)?$/i.test(answer?.trim() ?? "");
}

/** @throws {UsageError} It is a link that leads nowhere. */
async function readConfig(path: string): Promise<ConfigFile | undefined> {
  let target: string;
  try {
    target = await Deno.realPath(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    if (await Deno.lstat(path).catch(() => undefined) === undefined) return undefined;
    throw new UsageError(
      `${path} is a link that leads nowhere. Make the file, or remove the link.`,
    );
  }
  const [{ isSymlink: isLink }, info] = await Promise.all([Deno.lstat(path), Deno.stat(target)]);
  return { path, target, isLink, info, content: await read(target) };
}

/** A file can be replaced where it cannot be written; but whoever made it so means it. */
function checkWritable({ path, info }: ConfigFile): void {
  if (info.mode === null || (info.mode & 0o200) !== 0) return;
  throw new UsageError(
    `${path} is read-only. Make it writable, or put this line at its top yourself: ${includeLine}`,
  );
}

async function createConfig(paths: Paths): Promise<void> {
  const isNew = await Deno.lstat(paths.folder).then(() => false, () => true);
  await Deno.mkdir(paths.own, { recursive: true, mode: 0o700 });
  const options = { createNew: true, mode: 0o600 };
  await Deno.writeTextFile(paths.config, addInclude(""), options);
  await writeAside(paths.made, isNew ? "config and folder\n" : "config\n", 0o600);
}

/** What else was made, as far as nothing else is in it. */
async function removeMade(paths: Paths, made: string): Promise<void> {
  await Deno.remove(paths.made);
  if (!made.includes("folder")) return;
  const names = await Array.fromAsync(Deno.readDir(paths.own), ({ name }) => name);
  if (names.some((name) => name !== ".lock")) return;
  await removeOptional(join(paths.own, ".lock"));
  await Deno.remove(paths.own);
  const others = await Array.fromAsync(Deno.readDir(paths.folder));
  if (others.length === 0) await Deno.remove(paths.folder);
}

/** ssh sees the old file or the new one; the mode and the owner stay. */
async function replaceConfig(file: ConfigFile, content: string): Promise<void> {
  const { target, info } = file;
  const temporary = temporaryBeside(target);
  await writeAside(temporary, content, info.mode);
  try {
    const { uid, gid } = await Deno.stat(temporary);
    if (uid !== info.uid || gid !== info.gid) await Deno.chown(temporary, info.uid, info.gid);
    if (await read(target) !== file.content) {
      throw new UsageError(`${file.path} is being changed by somebody else. Try again.`);
    }
    await Deno.rename(temporary, target);
  } catch (error) {
    await removeOptional(temporary);
    throw error;
  }
}

async function writeAside(path: string, content: string, mode: number | null): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true, mode: 0o600 });
  const bytes = Buffer.from(content, "latin1");
  for (let sent = 0; sent < bytes.length;) sent += await file.write(bytes.subarray(sent));
  if (mode !== null && Deno.build.os !== "windows") await Deno.chmod(path, mode & 0o7777);
  await file.sync();
}

function temporaryBeside(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(8).toString("hex")}`);
}

function textOf({ content }: ConfigFile): string {
  return Buffer.from(content, "latin1").toString();
}

async function read(path: string): Promise<string> {
  return Buffer.from(await Deno.readFile(path)).toString("latin1");
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await read(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function removeOptional(path: string): Promise<void> {
  if (await readOptional(path) !== undefined) await Deno.remove(path);
}

/** What the system says is told with the file that it is about, and what can be done. */
async function about(config: string, action: () => Promise<string>): Promise<string> {
  try {
    return await action();
  } catch (cause) {
    if (!/\(os error \d+\)/.test(messageOf(cause))) throw cause;
    throw new UsageError(
      `${config} cannot be changed: ${reasonOf(cause)}. Make it and its folder writable for you, ` +
        `or put this line at its top yourself: ${includeLine}`,
      { cause },
    );
  }
}
