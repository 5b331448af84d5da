/**
 * Who may enter the local endpoint: the processes of our own user, by the kernel's word.
 *
 * A TCP connection over loopback has two sockets on this machine, and the kernel's tables name
 * the user that each belongs to. The connecting side's socket is looked up anew for every
 * connection, by both of its ends. Whatever is missing, doubtful or double means no.
 */

import { isIPv4 } from "node:net";

/** The ends of an accepted TCP connection as we see them. Addresses are IPv4 or IPv6. */
export interface Endpoints {
  remoteHost: string;
  remotePort: number;
  localHost: string;
  localPort: number;
}

/** Whether a connection may enter; the reason is for the log, not for the peer. */
export type Admission = { admitted: true } | { admitted: false; reason: string };

/** Where the kernel's answers come from; the defaults are the real ones. */
export interface AdmissionOptions {
  /** The folder with the tables `tcp` and `tcp6`. */
  procNet?: string;
  /** The map of user ids that holds for those tables. */
  uidMap?: string;
  /** The only user that may enter. */
  uid?: number;
}

const PROC_NET = "/proc/net";
const UID_MAP = "/proc/self/uid_map";
const READ_CHUNK_BYTES = 64 * 1024;

/** A row is about 150 bytes; whatever is far longer is no row of the kernel's. */
const LINE_LIMIT_CHARACTERS = 1024;

/**
 * How often the tables are read before a missing row counts. The kernel hands a table out in
 * pieces, and a row can slip from one to the other while connections come and go.
 */
const READ_ATTEMPTS = 3;

/** The user id that stands for every user that a user namespace does not know. */
const OVERFLOW_UID = 65534;

/** TCP_ESTABLISHED in the kernel's tables. */
const ESTABLISHED = "01";

/** Tells whether this system has the tables that `admitSameUser` needs: Linux with /proc. */
export function sameUserSupported(): boolean {
  if (Deno.build.os !== "linux") return false;
  try {
    Deno.openSync(`${PROC_NET}/tcp`).close();
    return true;
  } catch {
    // Not mounted, or hidden from us: the answer is the same.
    return false;
  }
}

/**
 * Decides whether the process at the other end of a connection belongs to our user, by the
 * kernel's record of the connecting socket. Call it as soon as the connection is accepted, for a
 * connection that its peer has closed since is not admitted; the answer takes some milliseconds.
 */
export async function admitSameUser(
  connection: Endpoints,
  options: AdmissionOptions = {},
): Promise<Admission> {
  const uid = options.uid ?? Deno.uid();
  if (uid === null) return refuse("this system does not tell who we are");
  const { remoteHost, remotePort, localHost, localPort } = connection;
  const remote = encodeAddresses(remoteHost, remotePort);
  const local = encodeAddresses(localHost, localPort);
  if (remote === null || local?.length !== remote.length) {
    return refuse(`not a loopback connection: from ${remoteHost} to ${localHost}`);
  }
  const keys = remote.map((from, form) => `${from} ${local[form]}`);
  try {
    if (uid === OVERFLOW_UID && !await mapsEveryUid(options.uidMap ?? UID_MAP)) {
      return refuse(`user ${uid} also stands for the users that this namespace does not know`);
    }
    const owners = await findOwners(keys, options.procNet ?? PROC_NET);
    const others = owners.filter((owner) => owner !== uid);
    if (owners.length === 0) return refuse("the kernel has no record of the connecting socket");
    if (others.length > 0) return refuse(`the connecting process belongs to user ${others[0]}`);
    return { admitted: true };
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
}

function refuse(reason: string): Admission {
  return { admitted: false, reason };
}

/**
 * The ways in which the tables can write a loopback address and port; null for other addresses.
 * An IPv4 connection stands in `tcp6` as an address mapped into IPv6 when its socket is of that
 * family.
 */
function encodeAddresses(host: string, port: number): string[] | null {
  const ipv4 = host.toLowerCase().startsWith("::ffff:") ? host.slice("::ffff:".length) : host;
  if (host === "::1") return [encodeAddress([...new Array(15).fill(0), 1], port)];
  if (!isIPv4(ipv4) || !ipv4.startsWith("127.")) return null;
  const octets = ipv4.split(".").map(Number);
  const prefix = [...new Array(10).fill(0), 0xff, 0xff];
  return [encodeAddress(octets, port), encodeAddress([...prefix, ...octets], port)];
}

/** Writes an address as the tables do: each 32-bit word as a number in the host's byte order. */
function encodeAddress(octets: number[], port: number): string {
  const words = new Uint32Array(Uint8Array.from(octets).buffer);
  const hex = (value: number, digits: number): string =>
    value.toString(16).toUpperCase().padStart(digits, "0");
  return `${Array.from(words, (word) => hex(word, 8)).join("")}:${hex(port, 4)}`;
}

/**
 * Returns the user ids of the rows whose two ends are one of `keys`, of both tables.
 *
 * @throws {Error} when a table or such a row cannot be read, or its socket is not connected.
 */
async function findOwners(keys: readonly string[], procNet: string): Promise<number[]> {
  for (let attempt = 1; attempt <= READ_ATTEMPTS; attempt++) {
    const owners: number[] = [];
    for (const table of ["tcp", "tcp6"]) {
      for await (const lines of readLines(`${procNet}/${table}`)) {
        for (const line of lines) {
          const owner = parseOwner(line, keys);
          if (owner !== null) owners.push(owner);
        }
      }
    }
    if (owners.length > 0) return owners;
  }
  return [];
}

/** Returns the user id of a row about one of `keys`; null for other rows. */
function parseOwner(line: string, keys: readonly string[]): number | null {
  // Splitting is dear, and nearly all rows of a large table are about others.
  if (!keys.some((key) => line.includes(key))) return null;
  // The slot, both ends, state, queues, timer, retransmissions, uid, timeout, inode and more.
  const [, from, to, state, , , , uid, , inode] = line.trimStart().split(/ +/);
  if (!keys.includes(`${from} ${to}`)) return null;
  if (state !== ESTABLISHED) throw new Error(`the connecting socket is in state ${state}`);
  if (!/^\d{1,10}$/.test(uid ?? "") || !/^\d{1,20}$/.test(inode ?? "")) {
    throw new Error("the kernel's record of the connecting socket cannot be parsed");
  }
  // Without an inode no process holds the socket, and the row's user id means nothing.
  if (/^0+$/.test(inode!)) throw new Error("the connecting socket belongs to no process any more");
  return Number(uid);
}

/**
 * Reads a table some lines at a time, so that a large one neither fills the memory nor holds up
 * others. A machine without IPv6 has no `tcp6`.
 */
async function* readLines(path: string): AsyncGenerator<string[]> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path, { read: true });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound && path.endsWith("tcp6")) return;
    throw error;
  }
  using table = file;
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(READ_CHUNK_BYTES);
  let rest = "";
  for (;;) {
    const count = await table.read(buffer);
    if (count === null) break;
    const lines = (rest + decoder.decode(buffer.subarray(0, count), { stream: true })).split("\n");
    rest = lines.pop()!;
    if (rest.length > LINE_LIMIT_CHARACTERS) {
      throw new Error(`${path} is not a table of the kernel's`);
    }
    yield lines;
  }
  if (rest !== "") throw new Error(`${path} ends inside a row`);
}

/** Whether a user namespace knows every user id, as the first one of a machine does. */
async function mapsEveryUid(path: string): Promise<boolean> {
  return /^\s*0\s+0\s+4294967295\s*$/.test(await Deno.readTextFile(path));
}
