/** What macOS tells of a process of ours: how it was started (sysctl(3)), and how it is now (libproc). */

import { loadLibc } from "./libc.ts";

/** CTL_KERN, KERN_PROCARGS2. */
const [kernel, processArguments] = [1, 49];

/** The longest arguments and variables that the system takes, in bytes. */
const mostArgumentBytes = 1024 * 1024;

/** PROC_PIDTBSDINFO, and struct proc_bsdinfo: its size, and where its parts are. */
const basicFacts = 3;
const facts = { size: 136, status: 4, group: 100, terminal: 108, foreground: 112 };

/** SSTOP, and NODEV. */
const stopped = 4;
const noTerminal = 0xffffffff;

/** How a process was started. */
export interface ProcessWords {
  args: string[];
  /** Hidden for some of the system's own programs. */
  environment: string[];
}

/** How a process is now. */
export interface ProcessState {
  isStopped: boolean;
  group: number;
  /** The group in the foreground of its terminal; `undefined` where it has none. */
  foreground: number | undefined;
}

/** `undefined` where the system does not tell. */
export function readMacWords(pid: number): ProcessWords | undefined {
  const { symbols } = loadLibc();
  const name = Int32Array.of(kernel, processArguments, pid);
  const answer = new Uint8Array(mostArgumentBytes);
  const length = BigUint64Array.of(BigInt(answer.length));
  const result = symbols.sysctl?.(name, name.length, answer, length, null, 0n);
  return result === 0 ? parseMacWords(answer.subarray(0, Number(length[0]))) : undefined;
}

/** `undefined` where the system does not tell. */
export function readMacState(pid: number): ProcessState | undefined {
  const { symbols } = loadLibc();
  const answer = new Uint8Array(facts.size * 2);
  const length = symbols.proc_pidinfo?.(pid, basicFacts, 0n, answer, facts.size);
  return length === facts.size ? parseMacState(answer) : undefined;
}

/**
 * Reads what KERN_PROCARGS2 answers: how many arguments there are, the program's path, NULs, and then
 * arguments and variables, each with a NUL behind it.
 */
export function parseMacWords(answer: Uint8Array): ProcessWords | undefined {
  if (answer.length < 4) return undefined;
  const count = new DataView(answer.buffer, answer.byteOffset).getUint32(0, true);
  let at = answer.indexOf(0, 4);
  while (at >= 0 && answer[at] === 0) at++;
  if (at < 0 || count > answer.length) return undefined;
  const words: string[] = [];
  for (let end = answer.indexOf(0, at); end >= 0; end = answer.indexOf(0, at)) {
    // What follows an empty word behind the arguments is the system's own.
    if (end === at && words.length >= count) break;
    words.push(new TextDecoder().decode(answer.subarray(at, end)));
    at = end + 1;
  }
  if (words.length < count) return undefined;
  return { args: words.slice(0, count), environment: words.slice(count) };
}

/** Reads struct proc_bsdinfo. */
export function parseMacState(answer: Uint8Array): ProcessState {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.byteLength);
  const hasTerminal = view.getUint32(facts.terminal, true) !== noTerminal;
  return {
    isStopped: view.getUint32(facts.status, true) === stopped,
    group: view.getUint32(facts.group, true),
    foreground: hasTerminal ? view.getUint32(facts.foreground, true) : undefined,
  };
}
