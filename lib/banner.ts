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
  /** Of the local host key, as ssh shows it: `SHA256:…`. */
  fingerprint: string;
  /** The local public host key as `ssh-ed25519 AAAA…`, without a comment. */
  hostKeyLine: string;
  localAuth: "same-user" | "none";
}

/**
 * The banner for people, ended by a newline. Every command in it can be pasted as it stands; `os`
 * decides which shell they are for.
 */
export function bannerText(facts: BannerFacts, os: string = Deno.build.os): string {
  const { host, localAddress, localPort } = facts;
  const local = bracketed(localAddress);
  const upstream = `${facts.username}@${bracketed(host)}:${facts.port}`;
  // The endpoint itself may have taken one of the ports of the examples.
  const [spare, other] = [8080, 9090, 10080].filter((port) => port !== localPort);
  return `\
sshshim: ${upstream} is at ${local}:${localPort}
${facts.localAuth === "none" ? `Warning: ${sharedAccount}\n` : ""}
Its host key is ${facts.fingerprint}; to have it known:
  ${rememberCommand(facts, os)}

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

/** The same facts for a JSON line, with the line for known_hosts and the warning, if there is one. */
export function bannerProperties(facts: BannerFacts): Record<string, string | number> {
  return {
    ...facts,
    knownHostsLine: knownHostsLine(facts),
    ...(facts.localAuth === "none" ? { warning: sharedAccount } : {}),
  };
}

const sharedAccount =
  "with --local-auth none every user of this machine can use this account through the local port.";

function rememberCommand(facts: BannerFacts, os: string): string {
  const line = knownHostsLine(facts);
  // In PowerShell >> may write UTF-16, which ssh cannot read.
  return os === "windows"
    ? `Add-Content -Encoding ascii ~/.ssh/known_hosts '${line}'`
    : `echo '${line}' >> ~/.ssh/known_hosts`;
}

/** ssh looks up a host at port 22 by its bare name, and by `[name]:port` at any other. */
function knownHostsLine({ localAddress, localPort, hostKeyLine }: BannerFacts): string {
  const name = localPort === 22 ? localAddress : `[${localAddress}]:${localPort}`;
  return `${name} ${hostKeyLine}`;
}

/** scp and sftp end a host at its first colon, unless it is in brackets; ssh knows no brackets. */
function bracketed(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}

/** Shells take brackets for a pattern of file names. */
function quoted(word: string): string {
  return word.includes("[") ? `'${word}'` : word;
}
