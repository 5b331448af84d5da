/** Which algorithms we offer in a key exchange (RFC 4253, section 7.1), best first. */

// @ts-types="@types/ssh2"
import type ssh2 from "ssh2";
import { Buffer } from "node:buffer";
import { createCipheriv, createDecipheriv } from "node:crypto";
import constants from "ssh2/lib/protocol/constants.js";
import { NegotiationError } from "./errors.ts";
import { hybridKexName } from "./hybrid_kex.ts";
import { matchesPattern } from "./pattern.ts";
import { plainName } from "./public_key.ts";

const supported = constants as {
  SUPPORTED_CIPHER: string[];
  SUPPORTED_KEX: string[];
  SUPPORTED_MAC: string[];
};

/** A runtime lacks some: Deno before 2.9.3 has no raw ChaCha20, and AES-GCM not as ssh2 uses it. */
const ciphers = [
  "chacha20-poly1305@openssh.com",
  "aes128-ctr",
  "aes192-ctr",
  "aes256-ctr",
  "aes128-gcm@openssh.com",
  "aes256-gcm@openssh.com",
].filter((name) => supported.SUPPORTED_CIPHER.includes(name))
  .filter((name) => !name.includes("-gcm") || canUseGcm());

const macs = [
  "hmac-sha2-256-etm@openssh.com",
  "hmac-sha2-512-etm@openssh.com",
  "hmac-sha2-256",
  "hmac-sha2-512",
].filter((name) => supported.SUPPORTED_MAC.includes(name));

const serverKexes = [
  hybridKexName,
  "curve25519-sha256",
  "curve25519-sha256@libssh.org",
  "ecdh-sha2-nistp256",
  "ecdh-sha2-nistp384",
];
/** As a server, Deno would accept the public values 0 and 1 for the last two. */
const clientKexes = [
  ...serverKexes,
  "diffie-hellman-group16-sha512",
  "diffie-hellman-group14-sha256",
];

const hostKeyTypes = [
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "rsa-sha2-512",
  "rsa-sha2-256",
];

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
  /** For ssh2, which does not know the hybrid exchange, and has to have one that it knows. */
  forSsh2: ssh2.Algorithms;
  /** The key exchanges, the hybrid among them. */
  kex: readonly string[];
}

/** What the local endpoint offers. */
export function serverAlgorithms(): OfferedAlgorithms {
  return offer({ kex: serverKexes, cipher: ciphers, hmac: macs });
}

/** Lists as ssh_config(5) has them, which replace, extend (`+`), shorten (`-`) or lead (`^`) ours. */
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
 *   and another one would look changed.
 * @throws {NegotiationError} where a list leaves nothing that we have.
 */
export function clientAlgorithms(
  lists: AlgorithmLists,
  keyTypes: readonly string[],
): OfferedAlgorithms {
  const isKnown = (name: string) => keyTypes.includes(name.startsWith("rsa-") ? "ssh-rsa" : name);
  const byTrust = [
    ...hostKeyTypes.filter(isKnown),
    ...hostKeyTypes.filter((name) => !isKnown(name)),
  ];
  return offer({
    kex: choose("KexAlgorithms", clientKexes, lists.kexAlgorithms),
    cipher: choose("Ciphers", ciphers, lists.ciphers),
    hmac: choose("MACs", macs, lists.macs),
    serverHostKey: choose("HostKeyAlgorithms", byTrust, lists.hostKeyAlgorithms),
  });
}

/**
 * Which of a user key's signature algorithms may be used, by a list as of PubkeyAcceptedAlgorithms,
 * in its order. As with OpenSSH, RSA with SHA-1 is among them only where it is named.
 */
export function acceptedKeyAlgorithms(
  algorithms: readonly string[],
  list: string | undefined,
): string[] {
  const usual = algorithms.filter((name) => plainName(name) !== "ssh-rsa");
  return list === undefined ? usual : applyList(list, { usual, all: algorithms });
}

function offer({ kex = [], ...others }: Record<string, string[]>): OfferedAlgorithms {
  const known = kex.filter((name) => supported.SUPPORTED_KEX.includes(name));
  return {
    forSsh2: {
      ...others,
      kex: known.length > 0 ? known : supported.SUPPORTED_KEX.slice(0, 1),
      compress: ["none"],
    } as ssh2.Algorithms,
    kex: kex.filter((name) => name === hybridKexName || known.includes(name)),
  };
}

/** Applies a list of ssh_config to ours. */
function choose(keyword: string, ours: readonly string[], list: string | undefined): string[] {
  if (list === undefined) return [...ours];
  const chosen = applyList(list, { usual: ours, all: ours });
  if (chosen.length > 0) return chosen;
  throw new NegotiationError(
    `${keyword} ${list} leaves no algorithm that sshshim has. It has: ${ours.join(", ")}.`,
  );
}

/** Names that we do not have are left out. */
function applyList(
  list: string,
  { usual, all }: { usual: readonly string[]; all: readonly string[] },
): string[] {
  const patterns = list.replace(/^[+^-]/, "").split(",");
  const named = patterns.flatMap((it) => all.filter((name) => matchesPattern(name, it)));
  switch (list[0]) {
    case "+":
      return unique([...usual, ...named]);
    case "-":
      return usual.filter((name) => !named.includes(name));
    case "^":
      return unique([...named, ...usual]);
    default:
      return unique(named);
  }
}

function unique(names: readonly string[]): string[] {
  return [...new Set(names)];
}
