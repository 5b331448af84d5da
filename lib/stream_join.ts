/** Standard input and output joined to a connection, for ssh's ProxyCommand. */

import { NotRunningError, reasonOf } from "./errors.ts";

/** The two ends that are joined to it. */
export interface JoinedStreams {
  input: { read(buffer: Uint8Array): Promise<number | null> };
  output: { write(bytes: Uint8Array): Promise<void> };
}

/** What is taken at a time, in bytes. */
const bufferBytes = 64 * 1024;

/**
 * Passes bytes both ways until the connection sends no more; the end of the input is passed on, and
 * ends nothing else.
 *
 * @throws {NotRunningError} where the connection is broken.
 * @throws {Deno.errors.BrokenPipe} where nobody takes the output.
 */
export async function join(
  connection: Pick<Deno.TcpConn, "read" | "write" | "closeWrite">,
  { input, output }: JoinedStreams,
): Promise<void> {
  const passing = pass(input, async (bytes) => {
    for (let sent = 0; sent < bytes.length;) {
      sent += await connection.write(bytes.subarray(sent));
    }
  });
  // When it is broken the other direction tells.
  passing.then(() => connection.closeWrite()).catch(() => {});
  const reading = {
    async read(buffer: Uint8Array) {
      try {
        return await connection.read(buffer);
      } catch (error) {
        throw new NotRunningError(`The connection is broken: ${reasonOf(error)}`, { cause: error });
      }
    },
  };
  await pass(reading, (bytes) => output.write(bytes));
}

async function pass(
  from: { read(buffer: Uint8Array): Promise<number | null> },
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const buffer = new Uint8Array(bufferBytes);
  for (;;) {
    const count = await from.read(buffer);
    if (count === null) return;
    await write(buffer.subarray(0, count));
  }
}
