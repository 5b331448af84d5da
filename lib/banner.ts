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
  localAuth: "same-user" | "publickey" | "none";
  /** The private key with which clients can log in, where keys are asked for. */
  clientKeyFile?: string;
  /** What the host is called where several are served. */
  name?: string;
  /** The control socket by which clients can come as well. */
  controlPath?: string;
  /** How ssh reaches the endpoint by a name. */
  sshName?: SshNameFacts;
}

/** A name for ssh. */
export interface SshNameFacts {
  host: string;
  /** A further name. */
  as?: string;
  /** The file that has the name; absent where it is not written. */
  configFile?: string;
  /** Whether ssh finds that file by itself. */
  isSetUp: boolean;
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
 *
 * @param home what the shell takes for `~`
 */
export function bannerText(
  facts: BannerFacts,
  os: string = Deno.build.os,
  home: string | undefined = Deno.env.get("HOME"),
): string {
  const { localPort, sshName } = facts;
  const localAddress = reachable(facts.localAddress);
  const keys = hostKeysText(facts, os);
  const close = "Ctrl-C ends it.\n";
  if (sshName === undefined) {
    const [itsKeys, theirCommands] = keys;
    const examples = examplesOf(facts, portWay(facts));
    return `${bannerHead(facts)}\n${itsKeys}:\n${theirCommands}\n${examples}\n${close}`;
  }
  const examples = examplesOf(facts, nameWay(sshName, { os, home }));
  const hint = sshName.isSetUp ? "" : `\n${setupHint}\n`;
  const also = sshName.as === undefined ? "" : `\n${sshName.as} leads there as well.\n`;
  const rest = `Programs that do not read ssh's configuration: port ${localPort} of ` +
    `${localAddress}.\n${keys[0]}:\n${keys[1]}`;
  return `${bannerHead(facts)}\n${examples}${hint}${also}\n${rest}\n${close}`;
}

const setupHint = 'After "sshshim setup", once, none of them needs -F.';

/** How a client is told where to connect to: its options, and the host as ssh and scp have it. */
interface Way {
  ssh: string;
  sftp: string;
  host: string;
  hostOfCopies: string;
}

function portWay(facts: BannerFacts): Way {
  const { localPort } = facts;
  const host = reachable(facts.localAddress);
  const key = keyOption(facts);
  return {
    ssh: `ssh ${key}-p ${localPort}`,
    sftp: `${key}-P ${localPort} `,
    host,
    hostOfCopies: bracketed(host),
  };
}

function nameWay(
  { host, configFile, isSetUp }: SshNameFacts,
  { os, home }: { os: string; home: string | undefined },
): Way {
  const file = configFile === undefined || isSetUp ? "" : `-F ${shellPath(configFile, os, home)} `;
  return { ssh: `ssh ${file}`.trimEnd(), sftp: file, host, hostOfCopies: host };
}

function examplesOf({ localPort }: BannerFacts, { ssh, sftp, host, hostOfCopies }: Way): string {
  // The endpoint itself may have taken one of the ports of the examples.
  const [spare, other] = [8080, 9090, 10080].filter((port) => port !== localPort);
  return `\
  ${ssh} ${host}
  ${ssh} ${host} COMMAND
  sftp ${sftp}${quoted(hostOfCopies)}
  scp ${sftp}FILE ${quoted(`${hostOfCopies}:`)}
  ${ssh} -N -L ${spare}:localhost:80 ${host}
      port ${spare} here leads to port 80 there
  ${ssh} -N -R ${other}:localhost:3000 ${host}
      port ${other} there leads to port 3000 here
`;
}

/** What is said of the host keys, and the commands that have them known. */
function hostKeysText(facts: BannerFacts, os: string): [string, string] {
  const intent = facts.hostKeys.length === 1
    ? "Its host key; to have it known"
    : "Its host keys; to have them known";
  return [intent, facts.hostKeys.map((key) => remember(key, facts, os)).join("")];
}

/** A path as a word for the shell. */
function shellPath(path: string, os: string, home: string | undefined): string {
  if (os === "windows") return /^[\w\\/:.-]+$/.test(path) ? path : `"${path}"`;
  const isAtHome = home !== undefined && path.startsWith(`${home}/`);
  const shown = isAtHome ? path.slice(home.length + 1) : path;
  const word = /^[\w/.,:@+-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", "'\\''")}'`;
  return isAtHome ? `~/${word}` : word;
}

/** The banner of one among several: no more than what is its own. */
export function shortBannerText(
  facts: BannerFacts,
  os: string = Deno.build.os,
  home: string | undefined = Deno.env.get("HOME"),
): string {
  const { sshName } = facts;
  const { ssh, host } = sshName === undefined ? portWay(facts) : nameWay(sshName, { os, home });
  const rest = sshName === undefined
    ? `${remember(facts.hostKeys[0]!, facts, os)}\n`
    : sshName.isSetUp
    ? ""
    : `${setupHint}\n`;
  return `${bannerHead(facts)}  ${ssh} ${host}\n${rest}`;
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
  const address = reachable(localAddress);
  const name = localPort === 22 ? address : `[${address}]:${localPort}`;
  return `${name} ${line}`;
}

/** scp and sftp end a host at its first colon, unless it is in brackets; ssh knows no brackets. */
function bracketed(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}

/** Shells take brackets for a pattern of file names, and a blank for the end of a word. */
function quoted(word: string): string {
  return /^[\w.:/@-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The key that a client can log in with, where it has to. */
function keyOption({ clientKeyFile }: BannerFacts): string {
  return clientKeyFile === undefined ? "" : `-i ${quoted(clientKeyFile)} `;
}

/** Where a client of this machine connects to what listens at every address. */
export function reachable(address: string): string {
  return address === "0.0.0.0" ? "127.0.0.1" : address === "::" ? "::1" : address;
}
