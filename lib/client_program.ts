/**
 * Which program opened a connection, and what started it, as far as the system tells: on Linux by
 * /proc, for processes of our own user.
 */

import { type Endpoints, findSockets, type SocketRecord } from "./access.ts";
import { inBatches } from "./batches.ts";
import { shownText } from "./shown_text.ts";
import { parseStat } from "./process_facts.ts";
import { findHolders } from "./socket_holders.ts";
import type { ProgramStatus } from "./status.ts";

/** A process. The time of its start tells it from another that had its number before. */
export interface Process {
  pid: number;
  startTime: string;
  /** The name of its program's file, or of the process itself where that is hidden. */
  name: string;
  /** Its program's file, and what tells that from another under the same name. */
  executable?: { path: string; id: string };
  /** The session that it belongs to, by its leader. */
  session: number;
  hasTerminal: boolean;
}

/** Who opened a connection. */
export interface ClientProgram {
  uid: number;
  /** The process, the one that started it, and so on; empty where that is hidden. */
  processes: Process[];
}

/**
 * A connection, and its connecting socket where the kernel has been asked for it; or the process that
 * has made it, where the kernel tells that by itself.
 */
export type Connection =
  | { endpoints: Endpoints; socket?: SocketRecord }
  | { process: { pid: number; uid: number } | undefined };

/** Tells who opened a connection; `undefined` where the system does not. */
export type Identify = (connection: Connection) => Promise<ClientProgram | undefined>;

const procFolder = "/proc";

/** How far back the processes are told that started one another. */
const mostProcesses = 16;

/** Asks the kernel about many connections at a time. */
export function programFinder(): Identify {
  return inBatches(async (connections: readonly Connection[]) => {
    try {
      return await findPrograms(connections);
    } catch {
      // There is no /proc, or it is hidden from us: nobody is known.
      return connections.map(() => undefined);
    }
  });
}

/** The program as a status has it. */
export function describeProgram(found: ClientProgram | undefined): ProgramStatus | undefined {
  const [process] = found?.processes ?? [];
  const name = process && (process.executable?.path ?? process.name);
  return found && {
    uid: found.uid,
    pid: process?.pid ?? null,
    name: name === undefined ? null : shownText(name),
  };
}

/**
 * The process that stands for all that belongs together with a client: the leader of its session,
 * such as a terminal's shell. A session without a terminal may be a whole desktop's: there it is the
 * program that the leader started.
 */
export function rootOf({ processes }: ClientProgram): Process | undefined {
  const end = processes.findIndex(({ session }) => session !== processes[0]!.session);
  const together = end < 0 ? processes : processes.slice(0, end);
  const last = together.at(-1);
  const isDesktop = last !== undefined && last.pid === last.session && !last.hasTerminal;
  return isDesktop ? together.at(-2) ?? last : last;
}

async function findPrograms(
  connections: readonly Connection[],
): Promise<(ClientProgram | undefined)[]> {
  const overTcp = connections.flatMap((connection) => "endpoints" in connection ? connection : []);
  const sockets = await socketsOf(overTcp);
  const inodes = new Set(sockets.flatMap((socket) => socket?.inode ?? []));
  const holders = await findHolders(inodes);
  return await Promise.all(connections.map(async (connection) => {
    if ("process" in connection) {
      const { process } = connection;
      return process && { uid: process.uid, processes: await ancestry(process.pid) };
    }
    const socket = sockets[overTcp.indexOf(connection)];
    if (socket === undefined) return undefined;
    const pid = holders.get(socket.inode);
    return { uid: socket.uid, processes: pid === undefined ? [] : await ancestry(pid) };
  }));
}

/** The connecting sockets; reading the kernel's tables is dear where there are many connections. */
async function socketsOf(
  connections: readonly Extract<Connection, { endpoints: Endpoints }>[],
): Promise<(SocketRecord | undefined)[]> {
  const sought = connections.filter(({ socket }) => socket === undefined);
  if (sought.length === 0) return connections.map(({ socket }) => socket);
  const found = await findSockets(sought.map(({ endpoints }) => endpoints));
  return connections.map((it) => it.socket ?? found[sought.indexOf(it)]);
}

async function ancestry(pid: number): Promise<Process[]> {
  const processes: Process[] = [];
  // The first process of all starts nothing that it would be known for.
  for (let next = pid; next > 1 && processes.length < mostProcesses;) {
    const found = await readProcess(next);
    if (found === undefined) break;
    const { parent, ...process } = found;
    processes.push(process);
    next = parent;
  }
  return processes;
}

async function readProcess(pid: number): Promise<Process & { parent: number } | undefined> {
  const folder = `${procFolder}/${pid}`;
  try {
    const stat = parseStat(await Deno.readTextFile(`${folder}/stat`));
    const executable = await readExecutable(`${folder}/exe`);
    return {
      pid,
      parent: Number(stat.parent),
      startTime: stat.startTime ?? "",
      name: executable?.path.split("/").at(-1) ?? stat.name,
      executable,
      session: Number(stat.session),
      hasTerminal: stat.terminal !== "0",
    };
  } catch {
    // It has ended.
    return undefined;
  }
}

async function readExecutable(link: string): Promise<Process["executable"]> {
  try {
    const [path, { dev, ino }] = await Promise.all([Deno.readLink(link), Deno.stat(link)]);
    return { path: path.replace(/ \(deleted\)$/, ""), id: `${dev}:${ino}` };
  } catch {
    // It is another user's process, or the kernel's.
    return undefined;
  }
}
