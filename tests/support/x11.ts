/**
 * A stub of an X11 display. It reads what a program says first (X Window System Protocol,
 * "Connection Setup"), checks its cookie, and answers with its name instead of a real display's
 * data, so that a test sees which display it has reached.
 */

import { fileURLToPath } from "node:url";
import { pythonProgram } from "./python.ts";
import { runChecked } from "./run.ts";
import { readExactly, startService, writeAll } from "./services.ts";

/** A running stub. Leaving its scope ends it. */
export interface Display extends AsyncDisposable {
  /** The value for DISPLAY. */
  readonly display: string;
  /** The value for XAUTHORITY: a file that holds the display's cookie. */
  readonly authority: string;
  /** What each connection showed: its cookie was the right one, or not. */
  readonly visits: boolean[];
}

const script = fileURLToPath(new URL("./x_client.py", import.meta.url));
const cookieProtocol = "MIT-MAGIC-COOKIE-1";
/** Display N is at TCP port 6000 + N. */
const firstPort = 6000;

/**
 * Starts a display with a cookie of its own; its files are in `folder` and begin with `name`.
 *
 * @param onVisit what comes between a program's first words and the answer.
 */
export async function startDisplay(
  folder: string,
  name: string,
  onVisit?: () => Promise<void>,
): Promise<Display> {
  await using resources = new AsyncDisposableStack();
  const cookie = crypto.getRandomValues(new Uint8Array(16));
  const visits: boolean[] = [];
  const service = resources.use(startService(async (connection) => {
    const shown = await readCookie(connection);
    const isRight = shown.every((byte, index) => byte === cookie[index]) && shown.length === 16;
    visits.push(isRight);
    await onVisit?.();
    await writeAll(connection, new TextEncoder().encode(isRight ? name : `${name} refused`));
  }));
  const display = `127.0.0.1:${service.port - firstPort}`;
  const authority = `${folder}/${name}.authority`;
  const hex = Array.from(cookie, (byte) => byte.toString(16).padStart(2, "0")).join("");
  await runChecked(["xauth", "-q", "-f", authority, "add", display, cookieProtocol, hex]);
  const owned = resources.move();
  return { display, authority, visits, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function readCookie(connection: Deno.Conn): Promise<Uint8Array> {
  const head = await readExactly(connection, 12);
  const view = new DataView(head.buffer);
  const isLittleEndian = head[0] === 0x6c;
  const [nameLength, cookieLength] = [6, 8].map((at) => view.getUint16(at, isLittleEndian)) as [
    number,
    number,
  ];
  const padded = (length: number) => Math.ceil(length / 4) * 4;
  const rest = await readExactly(connection, padded(nameLength) + padded(cookieLength));
  const name = new TextDecoder().decode(rest.subarray(0, nameLength));
  if (name !== cookieProtocol) return new Uint8Array();
  return rest.subarray(padded(nameLength), padded(nameLength) + cookieLength);
}

/**
 * A command for the remote host that connects to its `$DISPLAY` as an X11 program does and prints
 * the answer; x_client.py beside this file says what `words` may be.
 */
export function xClient(...words: string[]): string {
  return [pythonProgram, script, ...words].join(" ");
}
