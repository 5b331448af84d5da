/**
 * The messages of OpenSSH's control socket as bytes (PROTOCOL.mux, version 4), as the server reads
 * and writes them. A message is its length and then its fields; strings are byte strings.
 */

import { MalformedDataError } from "./errors.ts";
import { encodeFields, type Field, Reader, readUint32, writeUint32 } from "./ssh_data.ts";

/** The version that both sides speak. */
export const controlVersion = 4;

/** The longest message that is read, in bytes: a session's environment may be long. */
const longestControlMessageBytes = 1024 * 1024;

/** Message numbers (PROTOCOL.mux, section 11; the last of each kind are OpenSSH 10.3's, and ours). */
export const ControlType = {
  hello: 0x00000001,
  newSession: 0x10000002,
  aliveCheck: 0x10000004,
  terminate: 0x10000005,
  openForward: 0x10000006,
  closeForward: 0x10000007,
  newStdioForward: 0x10000008,
  stopListening: 0x10000009,
  proxy: 0x1000000f,
  info: 0x20000001,
  own: 0x53530001,
  ok: 0x80000001,
  permissionDenied: 0x80000002,
  failure: 0x80000003,
  exitMessage: 0x80000004,
  alive: 0x80000005,
  sessionOpened: 0x80000006,
  remotePort: 0x80000007,
  terminalFailed: 0x80000008,
  proxyBegins: 0x8000000f,
  infoAnswer: 0x90000001,
  ownAnswer: 0xd3530001,
} as const;

/** Where a port stands for a unix socket, whose path is in the place of the host. */
export const unixSocketPort = 0xfffffffe;

/** No escape character. */
const noEscape = 0xffffffff;

/** How many variables one session may have; more are left out, as OpenSSH does. */
const mostVariables = 4096;

/** What a session is to be. */
export interface SessionRequest {
  type: "new-session";
  id: number;
  wantsTerminal: boolean;
  wantsX11: boolean;
  wantsAgent: boolean;
  isSubsystem: boolean;
  /** The character by which the person at the terminal talks to us; absent where there is none. */
  escape?: number;
  terminal: string;
  /** Empty for a shell. */
  command: string;
  environment: readonly (readonly [name: string, value: string])[];
}

/** An end of a forward: an address, or a unix socket. */
export type ForwardEnd = { host: string; port: number } | { path: string };

/** A forward, as ssh's `-L`, `-R` and `-D` have it; a dynamic one leads nowhere by itself. */
export interface ForwardRequest {
  type: "open-forward" | "close-forward";
  id: number;
  kind: "local" | "remote" | "dynamic";
  listen: ForwardEnd;
  connect: ForwardEnd;
}

/** What a client asks for. */
export type ControlRequest =
  | { type: "hello"; version: number }
  | { type: "alive-check" | "terminate" | "stop-listening" | "proxy"; id: number }
  | SessionRequest
  | ForwardRequest
  | { type: "stdio-forward"; id: number; connect: ForwardEnd }
  | { type: "info"; id: number; name: string }
  /** One of our own; `text` is JSON. */
  | { type: "own"; id: number; text: string }
  | { type: "unknown"; id: number };

/**
 * Takes the first message out of what has come.
 *
 * @param longestBytes how long it may be; our own answers may be longer than what is asked.
 * @returns its fields; `undefined` where it is not complete yet.
 * @throws {MalformedDataError} where it is longer than any may be.
 */
export function messageIn(
  bytes: Uint8Array,
  longestBytes = longestControlMessageBytes,
): Uint8Array | undefined {
  if (bytes.length < 4) return undefined;
  const length = readUint32(bytes, 0);
  if (length > longestBytes) throw new MalformedDataError("the message is too long");
  return bytes.length < 4 + length ? undefined : bytes.subarray(4, 4 + length);
}

/** Reads a message's fields. @throws {MalformedDataError} */
export function parseControlRequest(message: Uint8Array): ControlRequest {
  const reader = new Reader(message);
  const number = reader.uint32();
  if (number === ControlType.hello) return { type: "hello", version: reader.uint32() };
  const id = reader.uint32();
  switch (number) {
    case ControlType.aliveCheck:
      return { type: "alive-check", id };
    case ControlType.terminate:
      return { type: "terminate", id };
    case ControlType.stopListening:
      return { type: "stop-listening", id };
    case ControlType.proxy:
      return { type: "proxy", id };
    case ControlType.newSession:
      return parseSession(reader, id);
    case ControlType.openForward:
      return { type: "open-forward", ...parseForward(reader, id) };
    case ControlType.closeForward:
      return { type: "close-forward", ...parseForward(reader, id) };
    case ControlType.newStdioForward:
      reader.bytes();
      return { type: "stdio-forward", id, connect: parseEnd(reader) };
    case ControlType.info:
      return { type: "info", id, name: reader.text() };
    case ControlType.own:
      return { type: "own", id, text: reader.text() };
    default:
      return { type: "unknown", id };
  }
}

function parseSession(reader: Reader, id: number): SessionRequest {
  reader.bytes();
  const flag = () => reader.uint32() !== 0;
  const [wantsTerminal, wantsX11, wantsAgent, isSubsystem] = [flag(), flag(), flag(), flag()];
  const escape = reader.uint32();
  const [terminal, command] = [reader.text(), reader.text()];
  const environment: [string, string][] = [];
  while (!reader.isAtEnd) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(reader.text()) ?? [];
    if (name === undefined || environment.length === mostVariables) continue;
    environment.push([name, value!]);
  }
  return {
    ...{ type: "new-session", id, wantsTerminal, wantsX11, wantsAgent, isSubsystem },
    ...escape === noEscape ? {} : { escape },
    ...{ terminal, command, environment },
  };
}

function parseForward(reader: Reader, id: number): Omit<ForwardRequest, "type"> {
  const kinds = { 1: "local", 2: "remote", 3: "dynamic" } as const;
  const kind = kinds[reader.uint32() as keyof typeof kinds];
  if (kind === undefined) throw new MalformedDataError("no such kind of forward");
  return { id, kind, listen: parseEnd(reader), connect: parseEnd(reader) };
}

function parseEnd(reader: Reader): ForwardEnd {
  const [host, port] = [reader.text(), reader.uint32()];
  if (port === unixSocketPort) return { path: host };
  if (port > 65_535) throw new MalformedDataError("no such port");
  return { host, port };
}

/** A message with its length before it. */
export function controlMessage(type: number, ...fields: Field[]): Uint8Array {
  const body = encodeFields(type, ...fields);
  const message = new Uint8Array(4 + body.length);
  writeUint32(message, 0, body.length);
  message.set(body, 4);
  return message;
}
