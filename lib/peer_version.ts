/** What is known of a peer by what its identification line says of its software (RFC 4253, 4.2). */

import { usualPayloadBytes } from "./transport.ts";

/** What OpenSSH takes, and we do, less room for padding; in bytes. */
const opensshPayloadBytes = 256 * 1024 - 1024;

/** The largest message that it takes for certain, in bytes. */
export function payloadBytesOf(version: string): number {
  return /^OpenSSH_(\d|sshshim)/.test(version) ? opensshPayloadBytes : usualPayloadBytes;
}

/**
 * Whether it reads one message after the other: then some may be sent before it has answered those
 * before them.
 */
export function readsInOrder(version: string): boolean {
  return isOpenssh(version);
}

function isOpenssh(version: string): boolean {
  return /^OpenSSH_(\d|for_Windows)/.test(version);
}

/**
 * Whether it takes a session that is opened before anybody uses it. Only OpenSSH's own server is
 * known to. Dropbear's closes such a session when another one ends; ssh2's forgets a window that
 * comes before the command, so that its output stops; tinyssh has one session in a connection's
 * life; another sshshim would keep its own clients waiting for it. And what uses a library may do
 * anything, such as end a connection whose first session asks for nothing.
 */
export function takesWarmSession(version: string): boolean {
  return isOpenssh(version);
}
