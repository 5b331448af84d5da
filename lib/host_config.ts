/**
 * How to reach one host: what the command line and ssh_config(5) say, with ssh's defaults for the
 * rest and every path and token expanded; and how that is shown.
 */

import type { ConfigNote } from "./ssh_config.ts";
import type { Canonicalization } from "./ssh_config_canonical.ts";
import { formatJumpHosts, type JumpHost } from "./ssh_config_proxy.ts";

/** Where the keys of an agent are. */
export type IdentityAgent =
  /** Not configured: SSH_AUTH_SOCK, or on Windows the agent's usual pipe. */
  | { kind: "default" }
  | { kind: "none" }
  /** An environment variable has the path; if it is not set, there is no agent. */
  | { kind: "variable"; name: string }
  | { kind: "socket"; path: string };

/** How to reach one host. An option that is absent was not given and has no default here. */
export interface HostConfig extends Canonicalization {
  /** The host as typed. */
  alias: string;
  /** The real name in lower case, or an address without brackets. */
  hostName: string;
  port: number;
  user: string;

  addressFamily: "any" | "inet" | "inet6";
  /** The local address to connect from. */
  bindAddress?: string;
  /** The interface whose address to connect from, where `bindAddress` is absent. */
  bindInterface?: string;
  /** For all of a connection's beginning; absent or 0: the system's own. */
  connectTimeoutSeconds?: number;
  /** At least 1. */
  connectionAttempts: number;
  /** 0: never; absent: it is not configured. */
  serverAliveIntervalSeconds?: number;
  serverAliveCountMax: number;

  /** The hosts to go through, the first one first. Each is configured under its own name. */
  proxyJump?: readonly JumpHost[];
  /** With its tokens: `expandProxyCommand` replaces them. Never together with `proxyJump`. */
  proxyCommand?: string;

  /** Lists of algorithms as written, which may begin with `+`, `-` or `^`. */
  ciphers?: string;
  hostKeyAlgorithms?: string;
  kexAlgorithms?: string;
  macs?: string;
  pubkeyAcceptedAlgorithms?: string;
  /** What authorities may have signed host certificates with. */
  caSignatureAlgorithms?: string;
  /** The fewest bits of an RSA key, of the host's and of the user's. */
  requiredRsaSize: number;

  /** New host keys are added to the first. */
  userKnownHostsFiles: readonly string[];
  globalKnownHostsFiles: readonly string[];
  /** The name to look host keys up by, in lower case. */
  hostKeyAlias?: string;
  /** With its tokens; what it prints counts as a further file. */
  knownHostsCommand?: string;
  /** Whether keys are looked up by the host's address as well, where it is reached directly. */
  checkHostIp: boolean;
  /** Lists of keys that are not taken, whatever else is known; without `none`. */
  revokedHostKeys: readonly string[];
  strictHostKeyChecking: "ask" | "accept-new" | "yes" | "no";
  hashKnownHosts: boolean;
  /** Whether `userKnownHostsFiles` follow what a known host says of its further keys. */
  updateHostKeys: "ask" | "yes" | "no";

  /** Without `none`, in their order. */
  identityFiles: readonly string[];
  /** Whether nobody named a file, so that one that is missing is no reason for a word. */
  identityFilesAreDefaults: boolean;
  identitiesOnly: boolean;
  identityAgent: IdentityAgent;
  certificateFiles: readonly string[];

  pubkeyAuthentication: "yes" | "no" | "unbound" | "host-bound";
  passwordAuthentication: boolean;
  kbdInteractiveAuthentication: boolean;
  /** In their order, also those that sshshim does not have. Absent: ssh's order. */
  preferredAuthentications?: readonly string[];
  numberOfPasswordPrompts: number;
  /** Whether nobody is there to be asked. */
  batchMode: boolean;

  /** What was passed over, for the log. */
  notes: readonly ConfigNote[];
  /** Values before their expansion, to be shown. */
  asWritten: {
    identityFiles: readonly string[];
    certificateFiles: readonly string[];
    globalKnownHostsFiles: readonly string[];
    revokedHostKeys: readonly string[];
    /** Expanded. */
    identityAgent?: string;
    proxyJump?: string;
  };
}

/**
 * Writes a configuration as `ssh -G` does: a keyword in lower case, a space and a value on each
 * line, in ssh's order and spelling, as far as sshshim follows the keyword. Lists of algorithms
 * are there if they were given, and as they were given. Passwords and passphrases are no part of
 * a configuration; a ProxyCommand is shown whole.
 */
export function printHostConfig(config: HostConfig): string {
  const { asWritten } = config;
  const lines: [keyword: string, value: string | number | undefined][] = [
    ["host", config.alias],
    ["user", config.user],
    ["hostname", config.hostName],
    ["port", config.port],
    ["addressfamily", config.addressFamily],
    ["batchmode", yesOrNo(config.batchMode)],
    ["canonicalizefallbacklocal", yesOrNo(config.canonicalizeFallbackLocal)],
    ["canonicalizehostname", trueOrFalse(config.canonicalizeHostname)],
    ["checkhostip", yesOrNo(config.checkHostIp)],
    ["hashknownhosts", yesOrNo(config.hashKnownHosts)],
    ["identitiesonly", yesOrNo(config.identitiesOnly)],
    ["kbdinteractiveauthentication", yesOrNo(config.kbdInteractiveAuthentication)],
    ["passwordauthentication", yesOrNo(config.passwordAuthentication)],
    ["pubkeyauthentication", trueOrFalse(config.pubkeyAuthentication)],
    ["stricthostkeychecking", trueOrFalse(config.strictHostKeyChecking)],
    ["updatehostkeys", trueOrFalse(config.updateHostKeys)],
    ["canonicalizemaxdots", config.canonicalizeMaxDots],
    ["connectionattempts", config.connectionAttempts],
    ["numberofpasswordprompts", config.numberOfPasswordPrompts],
    ["serveralivecountmax", config.serverAliveCountMax],
    ["serveraliveinterval", config.serverAliveIntervalSeconds ?? 0],
    ["requiredrsasize", config.requiredRsaSize],
    ["bindaddress", config.bindAddress],
    ["bindinterface", config.bindInterface],
    ["ciphers", config.ciphers],
    ["hostkeyalgorithms", config.hostKeyAlgorithms],
    ["hostkeyalias", config.hostKeyAlias],
    ["identityagent", asWritten.identityAgent],
    ["kexalgorithms", config.kexAlgorithms],
    ["casignaturealgorithms", config.caSignatureAlgorithms],
    ["macs", config.macs],
    ["preferredauthentications", config.preferredAuthentications?.join(",")],
    ["pubkeyacceptedalgorithms", config.pubkeyAcceptedAlgorithms],
    ["revokedhostkeys", asWritten.revokedHostKeys.join(" ") || undefined],
    ["knownhostscommand", config.knownHostsCommand],
    ...asWritten.identityFiles.map((file): [string, string] => ["identityfile", file]),
    ...asWritten.certificateFiles.map((file): [string, string] => ["certificatefile", file]),
    ["canonicaldomains", listOrNone(config.canonicalDomains)],
    ["globalknownhostsfile", listOrNone(asWritten.globalKnownHostsFiles)],
    ["userknownhostsfile", listOrNone(config.userKnownHostsFiles)],
    ["connecttimeout", config.connectTimeoutSeconds ?? "none"],
    ["canonicalizePermittedcnames", listOrNone(config.canonicalizePermittedCnames)],
    ["proxycommand", config.proxyCommand],
    ["proxyjump", asWritten.proxyJump && formatJumpHosts(asWritten.proxyJump)],
  ];
  return lines.filter(([, value]) => value !== undefined)
    .map(([keyword, value]) => `${keyword} ${value}\n`).join("");
}

function yesOrNo(value: boolean): string {
  return value ? "yes" : "no";
}

/** Keywords with more than two values: ssh shows its other spelling of yes and no. */
function trueOrFalse(value: string): string {
  return value === "yes" ? "true" : value === "no" ? "false" : value;
}

function listOrNone(values: readonly string[]): string {
  return values.length === 0 ? "none" : values.join(" ");
}
