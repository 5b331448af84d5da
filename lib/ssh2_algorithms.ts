/** Which algorithms we offer in a key exchange (RFC 4253, section 7.1), best first. */

// @ts-types="@types/ssh2"
import type ssh2 from "ssh2";
import { Buffer } from "node:buffer";
import { createCipheriv, createDecipheriv } from "node:crypto";
import constants from "ssh2/lib/protocol/constants.js";
import ssh2Crypto from "ssh2/lib/protocol/crypto.js";
import { type Algorithms, applyList, missingOf } from "./algorithm_list.ts";
import { NegotiationError } from "./errors.ts";
import { hybridKexName } from "./hybrid_kex.ts";
import { certificateName, keyTypeFor, plainName } from "./public_key.ts";
import { canStandIn } from "./ssh2_kex.ts";

const supported = constants as {
  SUPPORTED_CIPHER: string[];
  SUPPORTED_KEX: string[];
  SUPPORTED_MAC: string[];
};

/** A MAC of ssh2's: how long its key and its result are, and whether it covers what is encrypted. */
interface MacInfo {
  sslName: string;
  len: number;
  actualLen: number;
  isETM: boolean;
}

const { MAC_INFO: macInfo } = ssh2Crypto as { MAC_INFO: Record<string, MacInfo> };

/** ssh2 has these without encrypt-then-MAC alone. */
for (const name of ["hmac-sha1-96", "hmac-md5", "hmac-md5-96"]) {
  const etmName = `${name}-etm@openssh.com`;
  macInfo[etmName] = { ...macInfo[name]!, isETM: true };
  if (supported.SUPPORTED_MAC.includes(name)) supported.SUPPORTED_MAC.push(etmName);
}

/**
 * A runtime lacks some: Deno before 2.9.3 has no raw ChaCha20, and AES-GCM not as ssh2 uses it.
 *
 * These lists are OpenSSH's, without what cannot be had: the usual algorithms as its client offers
 * them, and all of them in the order in which `ssh -Q` shows them, where patterns look.
 */
const ciphers = available(supported.SUPPORTED_CIPHER, {
  usual: [
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
  ],
  all: [
    "3des-cbc",
    "aes128-cbc",
    "aes192-cbc",
    "aes256-cbc",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
  ],
});

const macs = available(supported.SUPPORTED_MAC, {
  usual: [
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha1-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha1",
  ],
  all: [
    "hmac-sha1",
    "hmac-sha1-96",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-md5",
    "hmac-md5-96",
    "hmac-sha1-etm@openssh.com",
    "hmac-sha1-96-etm@openssh.com",
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-md5-etm@openssh.com",
    "hmac-md5-96-etm@openssh.com",
  ],
});

const kexes = available([hybridKexName, ...supported.SUPPORTED_KEX], {
  usual: [
    hybridKexName,
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group14-sha256",
  ],
  all: [
    "diffie-hellman-group1-sha1",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group-exchange-sha256",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    hybridKexName,
  ],
});

const plainHostKeys = [
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "rsa-sha2-512",
  "rsa-sha2-256",
];
/** With certificates, as `ssh -Q` shows them. */
const allHostKeys = [
  ...[...plainHostKeys.slice(0, -2), "ssh-rsa", "rsa-sha2-256", "rsa-sha2-512"],
].flatMap((name) => [name, certificateName(name)]);
const hostKeys: Algorithms = {
  usual: [...plainHostKeys.map(certificateName), ...plainHostKeys],
  all: allHostKeys,
};

/** Of users' keys, some of which sign in an agent alone. */
const userKeys = [
  ...allHostKeys,
  ...["ssh-dss", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"]
    .flatMap((name) => [name, certificateName(name)]),
];

/** What the local endpoint offers: its clients have better than what is left out. */
const serverOffer = {
  kex: kexes.usual.filter((name) => !/^diffie-hellman-|nistp521$/.test(name)),
  cipher: ciphers.usual,
  hmac: macs.usual.filter((name) => name.startsWith("hmac-sha2-")),
};

function available(names: readonly string[], { usual, all }: Algorithms): Algorithms {
  const isThere = (name: string) => names.includes(name) && (!name.includes("-gcm") || canUseGcm());
  return { usual: usual.filter(isThere), all: all.filter(isThere) };
}

/** Whether AES-GCM works as ssh2 uses it, to the end of a packet. */
function canUseGcm(): boolean {
  const [name, key, iv] = ["aes-128-gcm", Buffer.alloc(16), Buffer.alloc(12)] as const;
  const data = Buffer.alloc(16, 1);
  try {
    const cipher = createCipheriv(name, key, iv);
    cipher.setAutoPadding(false);
    const sealed = cipher.update(data);
    cipher.final();
    const decipher = createDecipheriv(name, key, iv);
    decipher.setAutoPadding(false);
    decipher.setAuthTag(cipher.getAuthTag());
    const opened = decipher.update(sealed);
    decipher.final();
    return opened.equals(data);
  } catch {
    // Its message says that this is not supported yet.
    return false;
  }
}

/** What is offered on one side. */
export interface OfferedAlgorithms {
  /** For ssh2, which does not know the hybrid exchange, and has to have one to stand in for it. */
  forSsh2: ssh2.Algorithms;
  /** The key exchanges, the hybrid among them. */
  kex: readonly string[];
}

/** What the local endpoint offers. */
export function serverAlgorithms(): OfferedAlgorithms {
  return offer(serverOffer);
}

/** Lists as ssh_config(5) has them. */
export interface AlgorithmLists {
  ciphers?: string;
  kexAlgorithms?: string;
  macs?: string;
  hostKeyAlgorithms?: string;
}

/**
 * What is offered to upstream.
 *
 * @param keyTypes the host's known key types: a server shows a key of the first type that it has,
 *   and another one would look changed. As with ssh, they come first unless the configuration says
 *   which do.
 * @throws {NegotiationError} where a list leaves nothing that we have.
 */
export function clientAlgorithms(
  { ciphers: cipherList, kexAlgorithms, macs: macList, hostKeyAlgorithms: hostKeyList }:
    AlgorithmLists,
  keyTypes: readonly string[],
): OfferedAlgorithms {
  const isKnown = (name: string) => keyTypes.includes(keyTypeFor(name));
  const chosen = choose("HostKeyAlgorithms", hostKeyList, hostKeys);
  const isOrdered = hostKeyList !== undefined && !/^[-+]/.test(hostKeyList);
  return offer({
    kex: choose("KexAlgorithms", kexAlgorithms, kexes),
    cipher: choose("Ciphers", cipherList, ciphers),
    hmac: choose("MACs", macList, macs),
    serverHostKey: isOrdered
      ? chosen
      : [...chosen.filter(isKnown), ...chosen.filter((name) => !isKnown(name))],
  });
}

/** Which host keys are taken, by a list as of HostKeyAlgorithms. */
export function hostKeyAlgorithms(list: string | undefined): string[] {
  return applyList(list, hostKeys);
}

/** What lists name and sshshim does not have, by the keyword. */
export function missingAlgorithms(
  lists: AlgorithmLists & { pubkeyAcceptedAlgorithms?: string },
): Map<string, string[]> {
  const given: [string, string | undefined, readonly string[]][] = [
    ["KexAlgorithms", lists.kexAlgorithms, kexes.all],
    ["Ciphers", lists.ciphers, ciphers.all],
    ["MACs", lists.macs, macs.all],
    ["HostKeyAlgorithms", lists.hostKeyAlgorithms, hostKeys.all],
    ["PubkeyAcceptedAlgorithms", lists.pubkeyAcceptedAlgorithms, userKeys],
  ];
  const missing = new Map<string, string[]>();
  for (const [keyword, list, all] of given) {
    const names = list === undefined ? [] : missingOf(list, all);
    if (names.length > 0) missing.set(keyword, names);
  }
  return missing;
}

/**
 * Which of a user key's signature algorithms may be used, by a list as of PubkeyAcceptedAlgorithms,
 * in its order. As with OpenSSH, those with SHA-1 are among them only where they are named.
 */
export function acceptedKeyAlgorithms(
  algorithms: readonly string[],
  list: string | undefined,
): string[] {
  const usual = algorithms.filter((name) => !["ssh-rsa", "ssh-dss"].includes(plainName(name)));
  // A pattern finds them in ssh's order, and not best first.
  const all = [...algorithms].sort((a, b) => userKeys.indexOf(a) - userKeys.indexOf(b));
  return applyList(list, { usual, all });
}

function offer({ kex = [], ...others }: Record<string, readonly string[]>): OfferedAlgorithms {
  const known = kex.filter((name) => supported.SUPPORTED_KEX.includes(name));
  const standIn = known.some(canStandIn)
    ? []
    : supported.SUPPORTED_KEX.filter(canStandIn).slice(0, 1);
  return {
    forSsh2: {
      ...others,
      kex: kex.includes(hybridKexName) ? [...known, ...standIn] : known,
      compress: ["none"],
    } as ssh2.Algorithms,
    kex: kex.filter((name) => name === hybridKexName || known.includes(name)),
  };
}

/** Applies a list of ssh_config to ours. */
function choose(keyword: string, list: string | undefined, ours: Algorithms): string[] {
  const chosen = applyList(list, ours);
  if (chosen.length > 0) return chosen;
  const names = [...new Set([...ours.usual, ...ours.all])].join(", ");
  throw new NegotiationError(
    `${keyword} ${list} leaves no algorithm that sshshim has. It has: ${names}.`,
  );
}
