/** The settings of ssh_config(5) that options of the command line stand for. */

import type { Options } from "./cli.ts";
import { reasonOf } from "./errors.ts";
import { localFacts } from "./local_facts.ts";
import { logger } from "./log.ts";
import type { TypedSetting } from "./ssh_config.ts";
import { expandTilde } from "./ssh_config_tokens.ts";

const log = logger("config");

/**
 * The settings in the order in which they count. A password and `--fingerprint` stand for none.
 *
 * @throws {UsageError} A path begins with the `~` of a user that there is not.
 */
export async function settingsOf(options: Options): Promise<TypedSetting[]> {
  const { jumpHosts, knownHostsFiles, acceptNew, keepaliveIntervalMs, keepaliveCount } = options;
  const settings: TypedSetting[] = [];
  const add = (option: string, keyword: string, ...words: string[]) =>
    void settings.push({ option, keyword, words });
  if (jumpHosts !== undefined) add("-J", "ProxyJump", jumpHosts);
  settings.push(...await identitiesOf(options));
  if (knownHostsFiles.length > 0) {
    const [option, keyword] = ["--known-hosts", "UserKnownHostsFile"];
    settings.push({ option, keyword, words: knownHostsFiles, isLiteral: true });
    add(option, "GlobalKnownHostsFile", "none");
  }
  if (acceptNew) add("--accept-new", "StrictHostKeyChecking", "accept-new");
  if (keepaliveIntervalMs !== undefined) {
    add("--keepalive-interval", "ServerAliveInterval", String(keepaliveIntervalMs / 1000));
  }
  if (keepaliveCount !== undefined) {
    add("--keepalive-count", "ServerAliveCountMax", String(keepaliveCount));
  }
  return settings;
}

/** A key that is to be the only one comes first, and those of `-i` beside it. */
async function identitiesOf({ credential, identityFiles }: Options): Promise<TypedSetting[]> {
  const keyword = "IdentityFile";
  const identities: TypedSetting[] = [];
  if (credential?.kind === "key") {
    const option = `--${credential.type}-key`;
    identities.push(
      { option, keyword: "IdentitiesOnly", words: ["yes"] },
      { option, keyword, words: [credential.file], isLiteral: true, isOnly: true },
    );
  }
  for (const file of identityFiles) {
    if (await isAccessible(file)) identities.push({ option: "-i", keyword, words: [file] });
  }
  return identities;
}

/** As with ssh, a file that is not there does not take the place of those that are configured. */
async function isAccessible(file: string): Promise<boolean> {
  const source = { file: "-i", line: 0 };
  const path = await expandTilde(file, { local: localFacts({}), source });
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    log.warn("the key {file} of -i is left out: {reason}", { file, reason: reasonOf(error) });
    return false;
  }
}
