/** What is shown once upstream is ready and the local port listens: how to use it. */

/** The facts that the banner tells. */
export interface BannerFacts {
  /** Name or address of upstream, its port, and the account there. */
  host: string;
  port: number;
  username: string;
  /** Where the endpoint listens: an address without brackets, and the port that it really has. */
  localAddress: string;
  localPort: number;
  /** The local host keys, best first; one at least. */
  hostKeys: readonly HostKeyFacts[];
  localAuth: "same-user" | "none";
  /** What the host is called where several are served. */
  name?: string;
}

/** A local host key. */
export interface HostKeyFacts {
  /** The public key as `ssh-ed25519 AAAA…`, without a comment. */
  line: string;
  /** As ssh shows it: `SHA256:…`. */
  fingerprint: string;
}

/**
 * The banner for people, ended by a newline. Every command in it can be pasted as it stands; `os`
 * decides which shell they are for.
 */
export function bannerText(facts: BannerFacts, os: string = Deno.build.os): string {
  const { localAddress, localPort } = facts;
  const local = bracketed(localAddress);
  // The endpoint itself may have taken one of the ports of the examples.
  const [spare, other] = [8080, 9090, 10080].filter((port) => port !== localPort);
  return `\
${bannerHead(facts)}
${
    facts.hostKeys.length === 1
      ? "Its host key; to have it known"
      : "Its host keys; to have them known"
  }:
${facts.hostKeys.map((key) => remember(key, facts, os)).join("")}
  ssh -p ${localPort} ${localAddress}
  ssh -p ${localPort} ${localAddress} COMMAND
  sftp -P ${localPort} ${quoted(local)}
  scp -P ${localPort} FILE ${quoted(`${local}:`)}
  ssh -p ${localPort} -N -L ${spare}:localhost:80 ${localAddress}
      port ${spare} here leads to port 80 there
  ssh -p ${localPort} -N -R ${other}:localhost:3000 ${localAddress}
      port ${other} there leads to port 3000 here

Ctrl-C ends it.
`;
}

/** The banner of one among several: no more than what is its own. */
export function shortBannerText(facts: BannerFacts, os: string = Deno.build.os): string {
  const { localAddress, localPort } = facts;
  return `\
${bannerHead(facts)}  ssh -p ${localPort} ${localAddress}
${remember(facts.hostKeys[0]!, facts, os)}
`;
}

function bannerHead(facts: BannerFacts): string {
  const { name, username, host, port, localAddress, localPort } = facts;
  const about = name === undefined ? "" : `${name}: `;
  const upstream = `${username}@${bracketed(host)}:${port}`;
  const head = `sshshim: ${about}${upstream} is at ${bracketed(localAddress)}:${localPort}\n`;
  return facts.localAuth === "none" ? `${head}Warning: ${sharedAccount}\n` : head;
}

/** The same facts for a JSON line; what is said of one host key is said of the first. */
export function bannerProperties({ hostKeys, ...facts }: BannerFacts): Record<string, unknown> {
  const shown = hostKeys.map((key) => ({
    fingerprint: key.fingerprint,
    knownHostsLine: knownHostsLine(key, facts),
  }));
  return {
    ...facts,
    ...shown[0],
    hostKeys: shown,
    ...(facts.localAuth === "none" ? { warning: sharedAccount } : {}),
  };
}

const sharedAccount =
  "with --local-auth none every user of this machine can use this account through the local port.";

function remember(key: HostKeyFacts, facts: BannerFacts, os: string): string {
  const line = knownHostsLine(key, facts);
  // In PowerShell >> may write UTF-16, which ssh cannot read.
  const command = os === "windows"
    ? `Add-Content -Encoding ascii ~/.ssh/known_hosts '${line}'`
    : `echo '${line}' >> ~/.ssh/known_hosts`;
  return `  ${key.fingerprint}\n  ${command}\n`;
}

/** ssh looks up a host at port 22 by its bare name, and by `[name]:port` at any other. */
function knownHostsLine(
  { line }: HostKeyFacts,
  { localAddress, localPort }: Pick<BannerFacts, "localAddress" | "localPort">,
): string {
  const name = localPort === 22 ? localAddress : `[${localAddress}]:${localPort}`;
  return `${name} ${line}`;
}

/** scp and sftp end a host at its first colon, unless it is in brackets; ssh knows no brackets. */
function bracketed(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}

/** Shells take brackets for a pattern of file names. */
function quoted(word: string): string {
  return word.includes("[") ? `'${word}'` : word;
}
