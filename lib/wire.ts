/**
 * The messages of the SSH connection protocol (RFC 4254) as bytes.
 *
 * Every message is parsed to its end before it is relayed: a server answers a truncated or overlong
 * message by dropping the whole connection, which here belongs to everybody.
 */

import { MalformedDataError, ProtocolError } from "./errors.ts";
import { Reader, readUint32, writeUint32 } from "./ssh_data.ts";

/** Message numbers (RFC 4250, section 4.1.2; the last two OpenSSH's PROTOCOL, section 1.9). */
export const MessageType = {
  globalRequest: 80,
  requestSuccess: 81,
  requestFailure: 82,
  channelOpen: 90,
  channelOpenConfirmation: 91,
  channelOpenFailure: 92,
  channelWindowAdjust: 93,
  channelData: 94,
  channelExtendedData: 95,
  channelEof: 96,
  channelClose: 97,
  channelRequest: 98,
  channelSuccess: 99,
  channelFailure: 100,
  ping: 192,
  pong: 193,
} as const;

/** SSH_EXTENDED_DATA_STDERR (RFC 4254, section 5.2). */
export const extendedDataStderr = 1;

/** SSH_MSG_GLOBAL_REQUEST; `data` is what follows want_reply. */
export interface GlobalRequest {
  type: typeof MessageType.globalRequest;
  name: string;
  wantReply: boolean;
  data: Uint8Array;
}

/** SSH_MSG_CHANNEL_OPEN; `data` is what follows the maximum packet size. */
export interface ChannelOpen {
  type: typeof MessageType.channelOpen;
  channelType: string;
  senderChannel: number;
  initialWindowSize: number;
  maximumPacketSize: number;
  data: Uint8Array;
}

/** SSH_MSG_CHANNEL_OPEN_CONFIRMATION; `data` is what follows the maximum packet size. */
export interface ChannelOpenConfirmation {
  type: typeof MessageType.channelOpenConfirmation;
  recipientChannel: number;
  senderChannel: number;
  initialWindowSize: number;
  maximumPacketSize: number;
  data: Uint8Array;
}

/** SSH_MSG_CHANNEL_OPEN_FAILURE. */
export interface ChannelOpenFailure {
  type: typeof MessageType.channelOpenFailure;
  recipientChannel: number;
  reasonCode: number;
  description: string;
}

/** SSH_MSG_CHANNEL_WINDOW_ADJUST. */
export interface ChannelWindowAdjust {
  type: typeof MessageType.channelWindowAdjust;
  recipientChannel: number;
  bytesToAdd: number;
}

/** SSH_MSG_CHANNEL_DATA, of which `dataTypeCode` is 0, and SSH_MSG_CHANNEL_EXTENDED_DATA. */
export interface ChannelData {
  type: typeof MessageType.channelData | typeof MessageType.channelExtendedData;
  recipientChannel: number;
  dataTypeCode: number;
  data: Uint8Array;
}

/** SSH_MSG_CHANNEL_REQUEST; `data` is what follows want_reply. */
export interface ChannelRequest {
  type: typeof MessageType.channelRequest;
  recipientChannel: number;
  requestType: string;
  wantReply: boolean;
  data: Uint8Array;
}

/** The channel messages that carry a recipient channel and nothing else. */
export interface ChannelSignal {
  type:
    | typeof MessageType.channelEof
    | typeof MessageType.channelClose
    | typeof MessageType.channelSuccess
    | typeof MessageType.channelFailure;
  recipientChannel: number;
}

/** A reply to a global request; `data` is empty for a failure. */
export interface GlobalReply {
  type: typeof MessageType.requestSuccess | typeof MessageType.requestFailure;
  data: Uint8Array;
}

/** SSH2_MSG_PING and SSH2_MSG_PONG, which are about a connection as a whole. */
export interface Ping {
  type: typeof MessageType.ping | typeof MessageType.pong;
  data: Uint8Array;
}

/** Messages that belong to one channel. */
export type ChannelMessage =
  | ChannelOpen
  | ChannelOpenConfirmation
  | ChannelOpenFailure
  | ChannelWindowAdjust
  | ChannelData
  | ChannelRequest
  | ChannelSignal;

/** Messages of a channel whose opening is answered. */
export type LiveMessage = Exclude<
  ChannelMessage,
  ChannelOpen | ChannelOpenConfirmation | ChannelOpenFailure
>;

/** Every message of the connection protocol. */
export type ConnectionMessage = GlobalRequest | GlobalReply | Ping | ChannelMessage;

/** What a known name carries: text, string of bytes, terminal modes, uint32, boolean. */
type Format = readonly ("text" | "bytes" | "modes" | "uint32" | "boolean")[];

const globalRequestFormats: Record<string, Format> = {
  "tcpip-forward": ["text", "uint32"],
  "cancel-tcpip-forward": ["text", "uint32"],
  "streamlocal-forward@openssh.com": ["text"],
  "cancel-streamlocal-forward@openssh.com": ["text"],
  "no-more-sessions@openssh.com": [],
};

const channelOpenFormats: Record<string, Format> = {
  "session": [],
  "x11": ["text", "uint32"],
  "direct-tcpip": ["text", "uint32", "text", "uint32"],
  "forwarded-tcpip": ["text", "uint32", "text", "uint32"],
  "direct-streamlocal@openssh.com": ["text", "text", "uint32"],
  "forwarded-streamlocal@openssh.com": ["text", "text"],
  "auth-agent@openssh.com": [],
  "tun@openssh.com": ["uint32", "uint32"],
};

const channelRequestFormats: Record<string, Format> = {
  "pty-req": ["text", "uint32", "uint32", "uint32", "uint32", "modes"],
  "x11-req": ["boolean", "text", "text", "uint32"],
  "env": ["text", "text"],
  "shell": [],
  "exec": ["text"],
  "subsystem": ["text"],
  "window-change": ["uint32", "uint32", "uint32", "uint32"],
  "xon-xoff": ["boolean"],
  "signal": ["text"],
  "break": ["uint32"],
  "exit-status": ["uint32"],
  "exit-signal": ["text", "boolean", "bytes", "bytes"],
  "auth-agent-req@openssh.com": [],
  "agent-req": [],
  "eow@openssh.com": [],
  "keepalive@openssh.com": [],
};

/** OpenSSH's sshd ends the connection for a known name with a wrong body, so the body is checked. */
function checkBody(formats: Record<string, Format>, name: string, data: Uint8Array): void {
  const format = Object.hasOwn(formats, name) ? formats[name] : undefined;
  if (format === undefined) return;
  const reader = new Reader(data);
  for (const field of format) reader[field]();
  reader.end();
}

/**
 * Parses one message of the connection protocol to its end.
 *
 * @returns the message, or `undefined` for a number that is not known.
 * @throws {ProtocolError} where the message is malformed.
 */
export function parseMessage(payload: Uint8Array): ConnectionMessage | undefined {
  try {
    return parse(payload);
  } catch (error) {
    if (error instanceof MalformedDataError) throw new ProtocolError(error.message);
    throw error;
  }
}

function parse(payload: Uint8Array): ConnectionMessage | undefined {
  const reader = new Reader(payload, 1);
  const type = payload[0];
  switch (type) {
    case MessageType.channelData:
    case MessageType.channelExtendedData: {
      const recipientChannel = reader.uint32();
      const dataTypeCode = type === MessageType.channelExtendedData ? reader.uint32() : 0;
      const data = reader.bytes();
      reader.end();
      return { type, recipientChannel, dataTypeCode, data };
    }
    case MessageType.channelWindowAdjust: {
      const message = { type, recipientChannel: reader.uint32(), bytesToAdd: reader.uint32() };
      reader.end();
      return message;
    }
    case MessageType.channelEof:
    case MessageType.channelClose:
    case MessageType.channelSuccess:
    case MessageType.channelFailure: {
      const message = { type, recipientChannel: reader.uint32() };
      reader.end();
      return message;
    }
    case MessageType.channelRequest: {
      const recipientChannel = reader.uint32();
      const requestType = reader.text();
      const wantReply = reader.boolean();
      const data = reader.rest();
      checkBody(channelRequestFormats, requestType, data);
      return { type, recipientChannel, requestType, wantReply, data };
    }
    case MessageType.channelOpen: {
      const channelType = reader.text();
      const senderChannel = reader.uint32();
      const initialWindowSize = reader.uint32();
      const maximumPacketSize = reader.uint32();
      const data = reader.rest();
      checkBody(channelOpenFormats, channelType, data);
      return { type, channelType, senderChannel, initialWindowSize, maximumPacketSize, data };
    }
    case MessageType.channelOpenConfirmation:
      return {
        type,
        recipientChannel: reader.uint32(),
        senderChannel: reader.uint32(),
        initialWindowSize: reader.uint32(),
        maximumPacketSize: reader.uint32(),
        data: reader.rest(),
      };
    case MessageType.channelOpenFailure: {
      const message = {
        type,
        recipientChannel: reader.uint32(),
        reasonCode: reader.uint32(),
        description: reader.text(),
      };
      reader.bytes();
      reader.end();
      return message;
    }
    case MessageType.globalRequest: {
      const name = reader.text();
      const wantReply = reader.boolean();
      const data = reader.rest();
      checkBody(globalRequestFormats, name, data);
      return { type, name, wantReply, data };
    }
    case MessageType.requestSuccess:
    case MessageType.requestFailure:
      return { type, data: reader.rest() };
    case MessageType.ping:
    case MessageType.pong: {
      const message = { type, data: reader.bytes() };
      reader.end();
      return message;
    }
    default:
      return undefined;
  }
}

/** The channel that a message is about (RFC 4254, section 5), as far as the bytes tell. */
export function recipientOf(payload: Uint8Array): number | undefined {
  const type = payload[0] ?? 0;
  const { channelOpenConfirmation, channelFailure } = MessageType;
  const isAboutChannel = type >= channelOpenConfirmation && type <= channelFailure;
  return isAboutChannel && payload.length >= 5 ? readUint32(payload, 1) : undefined;
}

/** OpenSSH's sshd asks with it whether the client's side lives. */
export function isKeepalive(message: ChannelMessage): message is ChannelRequest {
  return message.type === MessageType.channelRequest &&
    message.requestType === "keepalive@openssh.com";
}

/** What a message is, for people: `CHANNEL_DATA on channel 5`; it need not be well-formed. */
export function describeMessage(payload: Uint8Array): string {
  const [key] = Object.entries(MessageType).find(([, type]) => type === payload[0]) ?? [];
  const name = key?.replace(/[A-Z]/g, "_$&").toUpperCase() ?? `message ${payload[0]}`;
  const channel = recipientOf(payload);
  return channel === undefined ? name : `${name} on channel ${channel}`;
}

/** Words for the log: a message has no effect, and does no harm; OpenSSH lets it pass as well. */
export function dropped(side: string, payload: Uint8Array, reason: string): string {
  return `${side}: ${describeMessage(payload)} is dropped: ${reason}`;
}

/** Writes the recipient channel of a message of type 91 to 100, in place. */
export function rewriteRecipient(payload: Uint8Array, recipientChannel: number): void {
  writeUint32(payload, 1, recipientChannel);
}

/** What the relay changes in a CHANNEL_OPEN or CHANNEL_OPEN_CONFIRMATION. */
export interface Opening {
  senderChannel: number;
  initialWindowSize: number;
  maximumPacketSize: number;
}

/** Writes a CHANNEL_OPEN's three numbers, in place; its type and body stay as they are. */
export function rewriteOpen(payload: Uint8Array, opening: Opening): void {
  rewriteOpening(payload, 1 + 4 + readUint32(payload, 1), opening);
}

/** Writes a CHANNEL_OPEN_CONFIRMATION's four numbers, in place. */
export function rewriteConfirmation(
  payload: Uint8Array,
  opening: Opening & { recipientChannel: number },
): void {
  rewriteRecipient(payload, opening.recipientChannel);
  rewriteOpening(payload, 5, opening);
}

function rewriteOpening(payload: Uint8Array, at: number, opening: Opening): void {
  writeUint32(payload, at, opening.senderChannel);
  writeUint32(payload, at + 4, opening.initialWindowSize);
  writeUint32(payload, at + 8, opening.maximumPacketSize);
}
