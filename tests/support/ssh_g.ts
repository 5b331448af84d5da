/** What the real ssh and sshshim make of the same configuration. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { UsageError } from "../../lib/errors.ts";
import { type HostConfig, printHostConfig } from "../../lib/host_config.ts";
import { resolveHostConfig } from "../../lib/host_config_resolver.ts";
import { run, text } from "./run.ts";

/** A configuration, and the host that is asked for. */
export interface ConfigCase {
  /** The text of the file for `-F`. `@` in it stands for the folder with the other files. */
  config: string;
  /** More files, by their names in the folder. */
  files?: Readonly<Record<string, string>>;
  /** `[USER@]HOST`; `box` if absent. */
  destination?: string;
  /** Values of `-o`. */
  overrides?: readonly string[];
  /** Variables to add to the environment. */
  environment?: Readonly<Record<string, string>>;
}

/** Keywords that `ssh -G` shows with its own lists where sshshim shows what was written. */
const expandedLists = [
  "casignaturealgorithms",
  "ciphers",
  "hostkeyalgorithms",
  "kexalgorithms",
  "macs",
  "pubkeyacceptedalgorithms",
];

/** All keywords that sshshim shows. */
const shownKeywords = [
  ...expandedLists,
  ..."host user hostname port addressfamily batchmode hashknownhosts identitiesonly".split(" "),
  ..."kbdinteractiveauthentication passwordauthentication pubkeyauthentication".split(" "),
  ..."stricthostkeychecking connectionattempts numberofpasswordprompts".split(" "),
  ..."serveralivecountmax serveraliveinterval requiredrsasize bindaddress hostkeyalias".split(" "),
  ..."revokedhostkeys knownhostscommand identityagent preferredauthentications identityfile certificatefile"
    .split(
      " ",
    ),
  ..."canonicalizefallbacklocal canonicalizehostname canonicalizemaxdots".split(" "),
  ..."canonicaldomains canonicalizePermittedcnames".split(" "),
  ..."globalknownhostsfile userknownhostsfile connecttimeout proxycommand proxyjump".split(" "),
];

/** Runs `body` with a temporary folder. */
export async function withFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = await Deno.makeTempDir({ prefix: "sshshim-config-" });
  try {
    return await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/**
 * Writes the files of a case.
 *
 * @returns the path of the one for `-F`
 */
export async function writeCase(folder: string, { config, files = {} }: ConfigCase) {
  const path = join(folder, "config");
  for (const [name, content] of Object.entries({ ...files, config })) {
    const file = join(folder, name);
    await Deno.writeTextFile(file, content.replaceAll("@/", `${folder}/`));
    await Deno.chmod(file, 0o600);
  }
  return path;
}

/** What sshshim makes of a case. */
export function resolveCase(path: string, ofCase: ConfigCase): Promise<HostConfig> {
  const { destination = "box", overrides, environment } = ofCase;
  const at = destination.lastIndexOf("@");
  return resolveHostConfig({
    alias: destination.slice(at + 1),
    user: at < 0 ? undefined : destination.slice(0, at),
  }, { configFile: path, overrides, env: { ...Deno.env.toObject(), ...environment } });
}

/** Runs `ssh -G` with a case; null if ssh refuses it. */
export async function sshG(path: string, ofCase: ConfigCase): Promise<string | null> {
  const { destination = "box", overrides = [], environment } = ofCase;
  const options = overrides.flatMap((override) => ["-o", override]);
  const result = await run(["ssh", "-G", "-F", path, ...options, destination], {
    environment: { ...Deno.env.toObject(), ...environment },
  });
  return result.code === 0 ? text(result.stdout) : null;
}

/** Asserts that `ssh -G` and sshshim show the same for a case, keyword by keyword but for some. */
export async function assertSameAsSsh(
  ofCase: ConfigCase,
  except: readonly string[] = [],
): Promise<HostConfig> {
  return await withFolder(async (folder) => {
    const path = await writeCase(folder, ofCase);
    const expected = await sshG(path, ofCase);
    assert(expected !== null, `ssh refuses this:\n${ofCase.config}`);
    const config = await resolveCase(path, ofCase);
    assertShownAlike(printHostConfig(config), expected, ofCase.config, except);
    return config;
  });
}

/** Asserts that `ssh -G` and sshshim print the same, keyword by keyword. */
export function assertShownAlike(
  actual: string,
  expected: string,
  what: string,
  except: readonly string[] = [],
): void {
  const shown = byKeyword(actual);
  const expectedShown = byKeyword(expected);
  for (const keyword of expandedLists) {
    // A list that only adds or removes is shown as it was written.
    const written = shown.get(keyword)?.[0];
    if (written === undefined || /^[-+^]/.test(written)) {
      shown.delete(keyword);
      expectedShown.delete(keyword);
    }
  }
  for (const keyword of new Set([...shown.keys(), ...shownKeywords])) {
    if (except.includes(keyword)) continue;
    assert.deepEqual(shown.get(keyword), expectedShown.get(keyword), `${keyword} for:\n${what}`);
  }
}

/** Asserts that ssh and sshshim both refuse a case; returns the message of sshshim. */
export async function assertBothRefuse(ofCase: ConfigCase): Promise<string> {
  return await withFolder(async (folder) => {
    const path = await writeCase(folder, ofCase);
    assert(await sshG(path, ofCase) === null, `ssh accepts this:\n${ofCase.config}`);
    const error = await refusal(() => resolveCase(path, ofCase), ofCase);
    return error.message.replaceAll(`${folder}/`, "@/");
  });
}

/** Asserts that sshshim refuses a case; returns its message. */
export async function assertRefused(ofCase: ConfigCase): Promise<string> {
  return await withFolder(async (folder) => {
    const path = await writeCase(folder, ofCase);
    const error = await refusal(() => resolveCase(path, ofCase), ofCase);
    return error.message.replaceAll(`${folder}/`, "@/");
  });
}

async function refusal(call: () => Promise<unknown>, { config }: ConfigCase): Promise<UsageError> {
  try {
    await call();
  } catch (error) {
    assert(error instanceof UsageError, `not a UsageError but ${error} for:\n${config}`);
    return error;
  }
  assert.fail(`sshshim accepts this:\n${config}`);
}

function byKeyword(shown: string): Map<string, string[]> {
  const values = new Map<string, string[]>();
  for (const line of shown.split("\n")) {
    const [, keyword, value] = /^(\S+) (.*)$/.exec(line) ?? [];
    if (keyword === undefined || value === undefined) continue;
    // Key types that sshshim does not have.
    if (keyword === "identityfile" && /^~\/\.ssh\/id_(xmss|dsa)$/.test(value)) continue;
    values.set(keyword, [...values.get(keyword) ?? [], value]);
  }
  return values;
}
