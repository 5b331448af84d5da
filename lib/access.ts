/**
 * Who may enter the local endpoint: the processes of our own user, by the kernel's word.
 *
 * A TCP connection over loopback has two sockets on this machine, and the kernel's tables name
 * the user that each belongs to. The connecting side's socket is looked up anew for every
 * connection, by both of its ends. Whatever is missing, doubtful or double means no.
 */

import { isIPv4 } from "node:net";
import { inBatches } from "./batches.ts";
import { messageOf } from "./errors.ts";
import { findSocketsBetween } from "./socket_diag.ts";

/** The ends of an accepted TCP connection as we see them. Addresses are IPv4 or IPv6. */
export interface Endpoints {
  remoteHost: string;
  remotePort: number;
  localHost: string;
  localPort: number;
}

/** Whether a connection may enter; `socket` is what the kernel was found to have of it. */
export type Admission = { admitted: true; socket?: SocketRecord } | Refusal;

/** The connecting socket of a connection, as the kernel has it. */
export interface SocketRecord {
  uid: number;
  /** The number of the socket, by which a process has it. */
  inode: string;
}

/** The reason is for the log, not for the peer; `user` is the id of whose process connected. */
interface Refusal {
  admitted: false;
  reason: string;
  user?: number;
  /** The system does not tell about connections at all: whose it is may be shown otherwise. */
  cannotTell?: true;
}

/** Decides whether a connection that was just accepted may enter. */
export type Admit = (connection: Endpoints) => Promise<Admission>;

/** Where the kernel's answers come from; the defaults are the real ones. */
export interface AdmissionOptions {
  /** The folder with the tables `tcp` and `tcp6`, which alone are asked then. */
  procNet?: string;
  /** The map of user ids that holds for those tables. */
  uidMap?: string;
  /** The only user that may enter. */
  uid?: number;
}

const defaultProcNet = "/proc/net";
const defaultUidMap = "/proc/self/uid_map";
const readChunkBytes = 64 * 1024;

/** A row is about 150 bytes; whatever is far longer is no row of the kernel's. */
const lineLimitCharacters = 1024;

/**
 * How often the tables are read before a missing row counts. The kernel hands a table out in
 * pieces, and a row can slip from one to the other while connections come and go.
 */
const readAttempts = 3;

/** The user id that stands for every user that a user namespace does not know. */
const overflowUid = 65534;

/** TCP_ESTABLISHED in the kernel's tables. */
const establishedState = "01";

/** The kernel is asked about so many connections one by one; the tables tell of more at once. */
const mostSingle = 16;

/** Tells whether this system has the tables that `sameUserOnly` needs: Linux with /proc. */
export function sameUserSupported(): boolean {
  if (Deno.build.os !== "linux") return false;
  try {
    Deno.openSync(`${defaultProcNet}/tcp`).close();
    return true;
  } catch {
    // Not mounted, or hidden from us: the answer is the same.
    return false;
  }
}

/**
 * Makes a gate-keeper that asks the kernel about each connection; where that leaves any in doubt, or
 * there are many, one reading of the tables answers for all that were accepted before it began, and
 * later ones wait for the next. Nothing is kept from one to the other. Ask as soon as a connection is
 * accepted, for one that its peer has closed since is not admitted.
 */
export function sameUserOnly(options: AdmissionOptions = {}): Admit {
  return inBatches((connections: readonly Endpoints[]) => admitSameUser(connections, options));
}

/**
 * Finds the connecting sockets of several connections; `undefined` where the kernel has none, or
 * leaves it in doubt. The answers are in the same order.
 *
 * @throws {Error} where a table cannot be read.
 */
export async function findSockets(
  connections: readonly Endpoints[],
): Promise<(SocketRecord | undefined)[]> {
  const records = await findRecords(connections);
  return records.map((it) => it.doubt === undefined ? socketOf(it) : undefined);
}

/** The socket, if there is but one. */
function socketOf({ owners: [uid, ...others], inode }: Records): SocketRecord | undefined {
  if (uid === undefined || inode === undefined || others.length > 0) return undefined;
  return { uid, inode };
}

/**
 * Decides for several connections whether the process at the other end belongs to our user, by the
 * kernel's record of the connecting sockets; the answers are in the same order.
 */
async function admitSameUser(
  connections: readonly Endpoints[],
  options: AdmissionOptions = {},
): Promise<Admission[]> {
  const uid = options.uid ?? Deno.uid();
  let records: Records[];
  try {
    if (uid === overflowUid && !await mapsEveryUid(options.uidMap ?? defaultUidMap)) {
      const why = `user ${uid} also stands for the users that this namespace does not know`;
      return connections.map(() => cannotTell(why));
    }
    records = await findRecords(connections, options.procNet);
  } catch (error) {
    return connections.map(() => cannotTell(messageOf(error)));
  }
  return connections.map((connection, index) => judge(records[index]!, { connection, uid }));
}

/**
 * What the kernel has of each connection, in their order.
 *
 * @param procNet a folder with tables, if they alone are to be asked.
 * @throws {Error} when a table cannot be read.
 */
async function findRecords(
  connections: readonly Endpoints[],
  procNet?: string,
): Promise<Records[]> {
  const isSingle = procNet === undefined && connections.length <= mostSingle;
  const records = connections.map((it) => isSingle ? askAbout(it) : noRecords());
  const byKey = new Map<string, Records>();
  for (const [index, connection] of connections.entries()) {
    const isKnown = records[index]!.owners.length > 0;
    if (isKnown) continue;
    for (const key of encodeEnds(connection)) byKey.set(key, records[index]!);
  }
  if (byKey.size > 0) await readTables(byKey, procNet ?? defaultProcNet);
  return records;
}

function noRecords(): Records {
  return { owners: [], inode: undefined, doubt: undefined };
}

/** What the kernel says of one connection; nothing where it leaves it in doubt. */
function askAbout(connection: Endpoints): Records {
  const records = noRecords();
  const keys = encodeEnds(connection);
  if (keys.length === 0) return records;
  const rows = findSocketsBetween(connection.remotePort, connection.localPort) ?? [];
  for (const { local, remote, state, uid, inode } of rows) {
    const ends = [local, remote].map(({ octets, port }) => encodeAddress(octets, port));
    if (!keys.includes(ends.join(" "))) continue;
    takeDown({ state: hex(state, 2), uid: String(uid), inode: String(inode) }, records);
  }
  return records.doubt === undefined ? records : noRecords();
}

/** Decides about one connection by what the kernel's tables say of it. */
function judge(
  records: Records,
  { connection, uid }: { connection: Endpoints; uid: number | null },
): Admission {
  const { owners, doubt } = records;
  if (uid === null) return cannotTell("this system does not tell who we are");
  if (encodeEnds(connection).length === 0) {
    const { remoteHost, localHost } = connection;
    return refuse(`not a loopback connection: from ${remoteHost} to ${localHost}`);
  }
  if (doubt !== undefined) return refuse(doubt);
  const other = owners.find((owner) => owner !== uid);
  if (other !== undefined) {
    return { ...refuse(`the connecting process belongs to user ${other}`), user: other };
  }
  if (owners.length === 0) return refuse("the kernel has no record of the connecting socket");
  return { admitted: true, socket: socketOf(records) };
}

function refuse(reason: string): Refusal {
  return { admitted: false, reason };
}

function cannotTell(reason: string): Refusal {
  return { ...refuse(reason), cannotTell: true };
}

/** What the tables say of one connection. */
interface Records {
  /** The user id of each row about it. */
  owners: number[];
  /** The number of the socket, by which a process has it. */
  inode: string | undefined;
  /** Why a row about it admits nobody. */
  doubt: string | undefined;
}

/**
 * How both ends of a connection may be written in the tables, the connecting end first; none where
 * they are not of loopback.
 */
function encodeEnds({ remoteHost, remotePort, localHost, localPort }: Endpoints): string[] {
  const remote = encodeAddresses(remoteHost, remotePort);
  const local = encodeAddresses(localHost, localPort);
  if (remote === undefined || local?.length !== remote.length) return [];
  return remote.map((from, form) => `${from} ${local[form]}`);
}

/**
 * The ways in which the tables can write a loopback address and port; `undefined` for other
 * addresses. An IPv4 connection stands in `tcp6` as an address mapped into IPv6 when its socket is
 * of that family.
 */
function encodeAddresses(host: string, port: number): string[] | undefined {
  const ipv4 = host.toLowerCase().startsWith("::ffff:") ? host.slice("::ffff:".length) : host;
  if (host === "::1") return [encodeAddress([...new Array(15).fill(0), 1], port)];
  if (!isIPv4(ipv4) || !ipv4.startsWith("127.")) return undefined;
  const octets = ipv4.split(".").map(Number);
  const prefix = [...new Array(10).fill(0), 0xff, 0xff];
  return [encodeAddress(octets, port), encodeAddress([...prefix, ...octets], port)];
}

/** Writes an address as the tables do: each 32-bit word as a number in the host's byte order. */
function encodeAddress(octets: number[], port: number): string {
  const words = new Uint32Array(Uint8Array.from(octets).buffer);
  return `${Array.from(words, (word) => hex(word, 8)).join("")}:${hex(port, 4)}`;
}

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, "0");
}

/**
 * Takes down what both tables say of each connection, whose keys are its ends as a row has them.
 *
 * @throws {Error} when a table cannot be read.
 */
async function readTables(byKey: Map<string, Records>, procNet: string): Promise<void> {
  const all = new Set(byKey.values());
  for (let attempt = 1; attempt <= readAttempts && all.size > 0; attempt++) {
    for (const table of ["tcp", "tcp6"]) {
      for await (const lines of readLines(`${procNet}/${table}`)) {
        for (const line of lines) {
          const records = byKey.get(endsOf(line));
          if (records !== undefined && all.has(records)) takeDown(parseRow(line), records);
        }
      }
    }
    for (const records of all) {
      if (records.owners.length > 0 || records.doubt !== undefined) all.delete(records);
    }
  }
}

/** Both ends in a row, as it has them; splitting it is dear, and most rows are about others. */
function endsOf(line: string): string {
  const start = line.indexOf(": ") + 2;
  return line.slice(start, line.indexOf(" ", line.indexOf(" ", start) + 1));
}

/** What a row says of a socket, as text. */
interface Row {
  state: string | undefined;
  uid: string | undefined;
  inode: string | undefined;
}

function parseRow(line: string): Row {
  // The slot, both ends, state, queues, timer, retransmissions, uid, timeout, inode and more.
  const [, , , state, , , , uid, , inode] = line.trimStart().split(/ +/);
  return { state, uid, inode };
}

/** Adds what a row says to what is known of its connection. */
function takeDown({ state, uid, inode }: Row, records: Records): void {
  if (state !== establishedState) {
    records.doubt = `the connecting socket is in state ${state}`;
  } else if (!/^\d{1,10}$/.test(uid ?? "") || !/^\d{1,20}$/.test(inode ?? "")) {
    records.doubt = "the kernel's record of the connecting socket cannot be parsed";
  } else if (/^0+$/.test(inode!)) {
    // Without an inode no process holds the socket, and the row's user id means nothing.
    records.doubt = "the connecting socket belongs to no process any more";
  } else {
    records.owners.push(Number(uid));
    records.inode = inode;
  }
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
  const buffer = new Uint8Array(readChunkBytes);
  let rest = "";
  for (;;) {
    const count = await table.read(buffer);
    if (count === null) break;
    const lines = (rest + decoder.decode(buffer.subarray(0, count), { stream: true })).split("\n");
    rest = lines.pop()!;
    if (rest.length > lineLimitCharacters) {
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
