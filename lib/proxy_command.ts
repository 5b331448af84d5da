/** A connection to upstream through the standard input and output of a command. */

import { messageOf, UpstreamLostError } from "./errors.ts";
import { type ByteConnection, StreamConnection } from "./byte_connection.ts";
import { upstreamEnvironment, userShell } from "./shell.ts";

/**
 * Starts `command` in the user's shell; the connection's end ends it.
 *
 * @param command with its tokens expanded; `host` and `user` in it have been checked.
 * @throws {UpstreamLostError} where the shell cannot be started.
 */
export function startProxyCommand(command: string): ByteConnection {
  const isWindows = Deno.build.os === "windows";
  const shell = userShell((name) => Deno.env.get(name));
  // Without `exec` the shell would stay, and the command would outlive the shell that we end.
  const args = isWindows ? ["/d", "/c", command] : ["-c", `exec ${command}`];
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(shell, {
      args,
      env: upstreamEnvironment,
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
  } catch (cause) {
    throw new UpstreamLostError(
      `ProxyCommand cannot be started with ${shell}: ${messageOf(cause)}. Check SHELL.`,
      { cause },
    );
  }
  let isClosed = false;
  let hasRead = false;
  const connection = new StreamConnection({
    readable: child.stdout,
    writable: child.stdin,
    onClose: () => {
      isClosed = true;
      try {
        child.kill("SIGHUP");
      } catch {
        // It has ended by itself.
      }
    },
  });
  return {
    read: async (buffer) => {
      const count = await connection.read(buffer);
      hasRead ||= count !== null;
      if (count !== null || isClosed) return count;
      // A command that ends well after it has been of use has carried the server's end.
      const status = await statusOf(child);
      if (status?.success && hasRead) return null;
      throw endError(status);
    },
    write: (data) =>
      connection.write(data).catch(async (cause) => {
        throw isClosed ? cause : endError(await statusOf(child));
      }),
    close: () => connection.close(),
  };
}

/** How long a command may take to end once it has closed a stream, in milliseconds. */
const endingTimeoutMs = 1000;

/** `undefined` where it goes on. */
async function statusOf(child: Deno.ChildProcess): Promise<Deno.CommandStatus | undefined> {
  const expired = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => expired.resolve(undefined), endingTimeoutMs);
  try {
    return await Promise.race([child.status, expired.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Its own words are on standard error, which it shares with us. */
function endError(status: Deno.CommandStatus | undefined): UpstreamLostError {
  const end = status === undefined
    ? "has closed its input or its output"
    : status.signal !== null
    ? `was ended by ${status.signal}`
    : `has ended with exit status ${status.code}`;
  return new UpstreamLostError(`ProxyCommand ${end}. Run it by hand to see why.`);
}
