/**
 * The cookies by which the channels of several X11 displays are told apart.
 *
 * A client announces its display's cookie as hexadecimal text in `x11-req` (RFC 4254, section
 * 6.3.1); a program on the remote host presents it in the first bytes of its connection (X Window
 * System Protocol, "Connection Setup").
 */

import { Buffer } from "node:buffer";
import { Reader } from "./ssh_data.ts";

/** The one way to be let in that is told apart. */
export const cookieProtocol = "MIT-MAGIC-COOKIE-1";

/** The cookie in the body of an `x11-req`; `undefined` for another authentication protocol. */
export function announcedCookie(request: Uint8Array): Uint8Array | undefined {
  const reader = new Reader(request);
  reader.boolean();
  const protocol = reader.text();
  const cookie = Buffer.from(reader.text(), "hex");
  return protocol === cookieProtocol && cookie.length > 0 ? cookie : undefined;
}

/**
 * The cookie in the first bytes of a connection to a display.
 *
 * @returns `undefined` while bytes are missing, `null` where none will come.
 */
export function readCookie(bytes: Uint8Array): Uint8Array | null | undefined {
  if (bytes.length === 0) return undefined;
  const byteOrder = bytes[0];
  const isLittleEndian = byteOrder === 0x6c; // "l"
  if (!isLittleEndian && byteOrder !== 0x42) return null; // "B"
  if (bytes.length < 12) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const nameLength = view.getUint16(6, isLittleEndian);
  const cookieLength = view.getUint16(8, isLittleEndian);
  const cookieAt = 12 + Math.ceil(nameLength / 4) * 4;
  if (bytes.length < cookieAt + cookieLength) return undefined;
  const name = new TextDecoder().decode(bytes.subarray(12, 12 + nameLength));
  return name === cookieProtocol ? bytes.subarray(cookieAt, cookieAt + cookieLength) : null;
}
