/**
 * CheckHostIP of ssh_config(5): host keys are looked up by the host's address as well, and what is
 * known of the two has to agree.
 */

import { HostKeyError } from "./errors.ts";
import type { HostConfig } from "./host_config.ts";
import { type HostAddress, storedName, type Verdict } from "./known_hosts.ts";

/**
 * The address to look up. As with ssh there is none for this machine itself, nor where the host is
 * known by its address alone.
 *
 * @param remote undefined where something is between us and the host.
 */
export function addressToCheck(
  { checkHostIp, hostName, port }: Pick<HostConfig, "checkHostIp" | "hostName" | "port">,
  host: HostAddress,
  remote: string | undefined,
): HostAddress | undefined {
  if (!checkHostIp || remote === undefined || /^127\.|^::1$/.test(remote)) return undefined;
  const address = { host: remote, port };
  const name = storedName(address);
  return name === hostName || name === storedName(host) ? undefined : address;
}

/** What there is to be told of an address, beside that the host's key has changed. */
export function spoofingHint(ip: HostAddress, verdict: Verdict, hostVerdict: Verdict): string {
  if (hostVerdict.kind !== "changed") return "";
  const isSame = verdict.kind === "changed" &&
    verdict.knownFingerprint === hostVerdict.knownFingerprint;
  if (isSame) return "";
  const name = storedName(ip);
  switch (verdict.kind) {
    case "known":
      return ` ${verdict.file} line ${verdict.line} has that key for the address ${name}: the name ` +
        `may lead to another host than before.`;
    case "unknown":
      return ` No line has the address ${name}: the name may lead to another host than before.`;
    default:
      return ` ${verdict.file} line ${verdict.line} has another key for the address ${name}.`;
  }
}

/**
 * The address has another key than the host.
 *
 * @param ask whether a person wants to go on
 * @returns what there is to be warned of
 * @throws {HostKeyError} where the connection may not go on.
 */
export async function acceptMismatch(
  { host, ip, verdict, strictHostKeyChecking, ask }: {
    host: string;
    ip: HostAddress;
    verdict: Verdict & { kind: "changed" };
    strictHostKeyChecking: HostConfig["strictHostKeyChecking"];
    ask(question: string): Promise<boolean>;
  },
): Promise<string> {
  const difference = `Host key of "${host}" differs from that of its address ${storedName(ip)}: ` +
    `${verdict.file} line ${verdict.line} has ${verdict.knownType} ${verdict.knownFingerprint}.`;
  if (strictHostKeyChecking === "no") return difference;
  const question = `${difference}\nDo you want to go on? Type yes or no: `;
  if (strictHostKeyChecking === "ask" && await ask(question)) return difference;
  throw new HostKeyError(
    `${difference} Remove that line if the address is the host's by now, or set CheckHostIP to no ` +
      `for this host.`,
  );
}
