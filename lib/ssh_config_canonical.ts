/**
 * CanonicalizeHostname of ssh_config(5): a short name gets its domain, and an alias of DNS may give
 * way to the name that it stands for.
 */

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { UpstreamLostError } from "./errors.ts";
import { matchesPatterns } from "./pattern.ts";
import { lowerCase } from "./ssh_config_line.ts";
import type { Settings } from "./ssh_config_settings.ts";

/** How names are looked up. */
export interface NameLookup {
  /** Whether the system finds an address for the name; `family` is 4, 6 or any. */
  exists(name: string, family: number | undefined): Promise<boolean>;
  /** The name that another one stands for; `undefined` if it stands for none. */
  aliasOf(name: string): Promise<string | undefined>;
}

type Mode = "yes" | "no" | "always";

/** The settings with their defaults. */
export interface Canonicalization {
  canonicalizeHostname: Mode;
  canonicalizeFallbackLocal: boolean;
  canonicalizeMaxDots: number;
  canonicalDomains: readonly string[];
  /** Lists of names and of what these may stand for, with a colon between. */
  canonicalizePermittedCnames: readonly string[];
}

export function canonicalization(settings: Settings): Canonicalization {
  const values = (name: string) => settings.get(name)?.values ?? [];
  return {
    canonicalizeHostname: (settings.value("CanonicalizeHostname") ?? "no") as Mode,
    canonicalizeFallbackLocal: settings.value("CanonicalizeFallbackLocal") !== "no",
    canonicalizeMaxDots: Number(settings.value("CanonicalizeMaxDots") ?? 1),
    canonicalDomains: values("CanonicalDomains"),
    canonicalizePermittedCnames: values("CanonicalizePermittedCNAMEs"),
  };
}

/** Whether names are made canonical, so that the files are read a second time. */
export function canonicalizes(settings: Settings): boolean {
  return canonicalization(settings).canonicalizeHostname !== "no";
}

/**
 * The canonical name of a host, or the name as it is.
 *
 * @param host an address in its usual form, or a name in lower case.
 * @throws {UpstreamLostError} No domain has the host, and CanonicalizeFallbackLocal is off.
 */
export async function canonicalName(
  host: string,
  settings: Settings,
  names: NameLookup = systemNames,
): Promise<string> {
  const how = canonicalization(settings);
  const looksLikeAddress = isIP(host) !== 0 || /[:%]/.test(host) || /^[\d.]*$/.test(host);
  const isWanted = how.canonicalizeHostname === "always" ||
    (how.canonicalizeHostname === "yes" && settings.way === "direct");
  if (looksLikeAddress || !isWanted) return host;
  const candidates = candidatesFor(host, how);
  const family = families[settings.value("AddressFamily") ?? "any"];
  for (const candidate of candidates ?? []) {
    if (!await names.exists(candidate, family)) continue;
    const fullName = candidate.replace(/\.$/, "");
    const target = await permittedTarget(fullName, how, () => names.aliasOf(candidate));
    return target ?? fullName;
  }
  if (candidates !== undefined && !how.canonicalizeFallbackLocal) {
    throw new UpstreamLostError(
      `The host "${host}" is in none of the domains of CanonicalDomains, and ` +
        "CanonicalizeFallbackLocal is off. Check its name and the network.",
    );
  }
  return await permittedTarget(host, how, () => names.aliasOf(host)) ?? host;
}

const families: Readonly<Record<string, number>> = { inet: 4, inet6: 6 };

/** The names to try, with a dot at the end; `undefined` if the host has enough dots of its own. */
function candidatesFor(
  host: string,
  { canonicalizeMaxDots, canonicalDomains }: Canonicalization,
): string[] | undefined {
  if (host.endsWith(".")) return [host];
  if (host.split(".").length - 1 > canonicalizeMaxDots) return undefined;
  return canonicalDomains.filter((domain) => domain !== "none")
    .map((domain) => `${host}.${domain}.`);
}

/** What a name stands for, if it may give way to that. */
async function permittedTarget(
  name: string,
  { canonicalizePermittedCnames }: Canonicalization,
  findTarget: () => Promise<string | undefined>,
): Promise<string | undefined> {
  const targets = canonicalizePermittedCnames.map((pair) => {
    const colon = pair.indexOf(":");
    return matchesList(name, pair.slice(0, colon)) ? [pair.slice(colon + 1)] : [];
  }).flat();
  const target = targets.length === 0 ? undefined : await findTarget();
  // What DNS says may come to stand in a command of Match exec or ProxyCommand.
  if (target === undefined || !/^[a-z0-9_][a-z0-9_.-]*$/i.test(target)) return undefined;
  return targets.some((list) => matchesList(target, list)) ? lowerCase(target) : undefined;
}

function matchesList(name: string, list: string): boolean {
  return matchesPatterns(lowerCase(name), list.split(","));
}

/** Aliases of aliases are followed this far, and so long, in milliseconds. */
const maximumAliases = 8;
const aliasTimeoutMs = 5000;

const systemNames: NameLookup = {
  async exists(name, family) {
    try {
      await lookup(name, { family: family ?? 0 });
      return true;
    } catch {
      // As for ssh, a name that cannot be looked up is none.
      return false;
    }
  },
  // The system's own answer (AI_CANONNAME) cannot be had: this is where it usually comes from.
  async aliasOf(name) {
    const inFile = await firstNameInHosts(name);
    if (inFile !== undefined) return inFile;
    const signal = AbortSignal.timeout(aliasTimeoutMs);
    let target: string | undefined;
    try {
      for (let count = 0; count < maximumAliases; count++) {
        const [next] = await Deno.resolveDns(target ?? name, "CNAME", { signal });
        if (next === undefined) break;
        target = next;
      }
    } catch {
      // It is no alias, or the end of a chain; or DNS does not answer, and nobody knows.
    }
    return target?.replace(/\.$/, "");
  },
};

/** The first of the names that a line of the system's file of hosts has for one address. */
async function firstNameInHosts(name: string): Promise<string | undefined> {
  let content: string;
  try {
    content = await Deno.readTextFile("/etc/hosts");
  } catch {
    // Windows has it elsewhere, and looks it up in its own way.
    return undefined;
  }
  for (const line of content.split("\n")) {
    const [, ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (names.map(lowerCase).includes(lowerCase(name))) return names[0];
  }
  return undefined;
}
