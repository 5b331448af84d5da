/** SSH_MSG_EXT_INFO (RFC 8308): what one side tells the other about itself. */

import { buildMessage, type Field, Reader } from "./ssh_data.ts";

/** Its message number. */
export const extInfoMessage = 7;

/** Builds one; values are byte strings. */
export function buildExtInfo(extensions: ReadonlyMap<string, string>): Uint8Array {
  const fields: Field[] = [...extensions].flat();
  return buildMessage(extInfoMessage, extensions.size, ...fields);
}

/**
 * The extensions by name. A value may be any bytes: `delay-compression` has NULs in its own, so
 * that nobody but who knows an extension may read its value as a text.
 *
 * @throws {MalformedDataError} where the message is damaged.
 */
export function readExtInfo(payload: Uint8Array): Map<string, Uint8Array> {
  const reader = new Reader(payload, 1);
  const extensions = new Map<string, Uint8Array>();
  for (let left = reader.uint32(); left > 0; left--) extensions.set(reader.text(), reader.bytes());
  return extensions;
}
