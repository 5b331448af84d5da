/**
 * The hosts that the shell can complete: those that ssh's configuration and known_hosts files name.
 * What cannot be read is passed over, for nobody wants an error in the middle of a word.
 */

import { dirname, isAbsolute, join } from "node:path";
import { defaultSystemConfig, localFacts } from "./local_facts.ts";
import { pathsMatching } from "./ssh_config_include.ts";
import { parseConfigLine } from "./ssh_config_line.ts";

/** Files that include each other deeper than this are not read, as with ssh. */
const maximumDepth = 16;

/** Nobody looks through more of them. */
const mostHosts = 1000;

/** What is replaced in tests. */
interface HostSources {
  /** The folder of the user's account. */
  home: string;
  systemConfig: string;
}

/**
 * Hosts that go on from what was typed: `pr` is `prod`, and `me@pr` is `me@prod`.
 *
 * @returns the user's own first, each once.
 */
export function suggestHosts(typed: string, sources: HostSources = ourSources()): string[] {
  const user = typed.slice(0, typed.lastIndexOf("@") + 1);
  const prefix = typed.slice(user.length);
  const hosts = new Set<string>();
  for (const host of hostsIn(sources)) {
    if (host.startsWith(prefix)) hosts.add(user + host);
    if (hosts.size >= mostHosts) break;
  }
  return [...hosts];
}

function ourSources(): HostSources {
  const { home, environment } = localFacts({});
  return { home, systemConfig: defaultSystemConfig(environment) };
}

function* hostsIn({ home, systemConfig }: HostSources): Generator<string> {
  yield* hostsOfConfig(join(home, ".ssh", "config"), home);
  yield* hostsOfConfig(systemConfig, home);
  yield* hostsOfKnownHosts(join(home, ".ssh", "known_hosts"));
}

function* hostsOfConfig(file: string, home: string, depth = 0): Generator<string> {
  for (const content of linesOf(file)) {
    const [keyword, words] = keywordIn(content);
    if (keyword === "host") yield* words.filter(isName);
    if (keyword !== "include" || depth >= maximumDepth) continue;
    for (const word of words) {
      const path = word.startsWith("~/") ? join(home, word.slice(2)) : word;
      const pattern = isAbsolute(path) ? path : join(dirname(file), path);
      for (const inner of pathsMatching(pattern)) yield* hostsOfConfig(inner, home, depth + 1);
    }
  }
}

function keywordIn(content: string): [keyword: string, words: readonly string[]] {
  try {
    const line = parseConfigLine(content, { file: "", line: 0 });
    return line ? [line.keyword, line.words] : ["", []];
  } catch {
    return ["", []]; // It is told of when the host is connected to.
  }
}

/** Of a Host line; the names of shims lead to this machine. */
function isName(word: string): boolean {
  return !/[*?!]/.test(word) && !word.endsWith(".shim");
}

function* hostsOfKnownHosts(file: string): Generator<string> {
  for (const line of linesOf(file)) {
    // Comments, marked lines and hashed names begin with these.
    if (/^\s*[#@|]/.test(line)) continue;
    for (const name of line.trim().split(/[ \t]/)[0]!.split(",")) {
      const [, host, port] = /^\[([^\]:]+)\]:(\d+)$/.exec(name) ?? [];
      if (host !== undefined) yield `${host}:${port}`;
      else if (/^[^[*?!]+$/.test(name)) yield name;
    }
  }
}

function linesOf(file: string): string[] {
  try {
    return Deno.readTextFileSync(file).split(/\r?\n/);
  } catch {
    return []; // There is none, or it is not for us.
  }
}
