/**
 * The kernel's record of single TCP sockets, by sock_diag(7): what the tables in /proc/net say, of
 * the sockets between two ports alone. Writing a whole table out takes the kernel milliseconds,
 * however few rows it has, and this some tenths of one.
 */

import { findLibc, type Libc } from "./libc.ts";

/** One socket, as the kernel has it. */
export interface SocketRow {
  local: SocketEnd;
  remote: SocketEnd;
  /** Its state, by the kernel's number. */
  state: number;
  uid: number;
  /** 0 where no process has it any more. */
  inode: number;
}

/** An address of 4 or 16 octets, and a port. */
export interface SocketEnd {
  octets: number[];
  port: number;
}

const netlink = 16;
const raw = 3;
const closedOnExec = 0o2000000;
const withoutWaiting = 0x40;

/** NETLINK_SOCK_DIAG, its one request, and that all that fits is to be told. */
const sockDiag = 4;
const byFamily = 20;
const requestAndDump = 0x1 | 0x300;
/** NLMSG_DONE ends an answer. */
const done = 3;

const tcp = 6;
const ipv4 = { family: 2, octets: 4 };
const ipv6 = { family: 10, octets: 16 };
/** All states but TCP_LISTEN. */
const connectedStates = 0xffffffff & ~(1 << 10);

/** `struct nlmsghdr`, `struct inet_diag_req_v2` and `struct inet_diag_msg`, in bytes. */
const headerBytes = 16;
const requestBytes = 56;
const rowBytes = 72;
/** Where the latter has its fields, the ports and addresses in the order of the network. */
const fields = { state: 1, ports: 4, local: 8, remote: 24, uid: 64, inode: 68 };

/** As much as the kernel gives at a time, which is read in the same turn, and how often it is asked. */
const received = new Uint8Array(32 * 1024);
const mostAnswers = 4;

/**
 * Finds the connected TCP sockets that have these ports, of either family, at whatever addresses.
 *
 * @returns `undefined` where the kernel does not tell, or has too much to tell.
 */
export function findSocketsBetween(
  localPort: number,
  remotePort: number,
): SocketRow[] | undefined {
  const libc = Deno.build.os === "linux" ? findLibc() : undefined;
  if (libc === undefined) return undefined;
  const rows = [ipv4, ipv6].map(({ family }) => askKernel(libc, { family, localPort, remotePort }));
  return rows.every((it) => it !== undefined) ? rows.flat() : undefined;
}

function askKernel(
  { symbols }: Libc,
  question: { family: number; localPort: number; remotePort: number },
): SocketRow[] | undefined {
  const socket = symbols.socket(netlink, raw | closedOnExec, sockDiag);
  if (socket < 0) return undefined;
  try {
    const request = encodeRequest(question);
    const sent = symbols.sendto(
      socket,
      request,
      BigInt(request.length),
      withoutWaiting,
      kernelAddress(),
      12,
    );
    if (sent !== BigInt(request.length)) return undefined;
    const rows: SocketRow[] = [];
    for (let count = 0; count < mostAnswers; count++) {
      const length = Number(
        symbols.recv(socket, received, BigInt(received.length), withoutWaiting),
      );
      if (length <= 0) return undefined;
      const { isLast, isSound } = readAnswer(new DataView(received.buffer, 0, length), rows);
      if (!isSound) return undefined;
      if (isLast) return rows;
    }
    return undefined;
  } finally {
    symbols.close(socket);
  }
}

/** `struct sockaddr_nl`: the kernel has number 0. */
function kernelAddress(): Uint8Array<ArrayBuffer> {
  const address = new Uint8Array(12);
  new DataView(address.buffer).setUint16(0, netlink, true);
  return address;
}

function encodeRequest(
  { family, localPort, remotePort }: { family: number; localPort: number; remotePort: number },
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(headerBytes + requestBytes);
  const header = new DataView(bytes.buffer);
  header.setUint32(0, bytes.length, true);
  header.setUint16(4, byFamily, true);
  header.setUint16(6, requestAndDump, true);
  const request = new DataView(bytes.buffer, headerBytes);
  request.setUint8(0, family);
  request.setUint8(1, tcp);
  request.setUint32(4, connectedStates, true);
  request.setUint16(8, localPort);
  request.setUint16(10, remotePort);
  return bytes;
}

/** Reads the messages of one answer; what is cut short or an error makes all of it worthless. */
function readAnswer(answer: DataView, rows: SocketRow[]): { isLast: boolean; isSound: boolean } {
  for (let at = 0; at + headerBytes <= answer.byteLength;) {
    const length = answer.getUint32(at, true);
    const type = answer.getUint16(at + 4, true);
    if (length < headerBytes || at + length > answer.byteLength) break;
    if (type === done) return { isLast: true, isSound: true };
    if (type !== byFamily || length < headerBytes + rowBytes) break;
    const row = readRow(answer, at + headerBytes);
    if (row === undefined) break;
    rows.push(row);
    at += Math.ceil(length / 4) * 4;
    if (at >= answer.byteLength) return { isLast: false, isSound: true };
  }
  return { isLast: true, isSound: false };
}

function readRow(answer: DataView, at: number): SocketRow | undefined {
  const octets = [ipv4, ipv6].find(({ family }) => family === answer.getUint8(at))?.octets;
  if (octets === undefined) return undefined;
  const addressAt = (field: number) => {
    const start = answer.byteOffset + at + field;
    return [...new Uint8Array(answer.buffer, start, octets)];
  };
  return {
    local: { octets: addressAt(fields.local), port: answer.getUint16(at + fields.ports) },
    remote: { octets: addressAt(fields.remote), port: answer.getUint16(at + fields.ports + 2) },
    state: answer.getUint8(at + fields.state),
    uid: answer.getUint32(at + fields.uid, true),
    inode: answer.getUint32(at + fields.inode, true),
  };
}
