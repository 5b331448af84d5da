/** A connection to upstream through the standard input and output of a command. */

import { messageOf, UpstreamLostError } from "./errors.ts";
import { logger } from "./log.ts";
import type { ByteConnection } from "./byte_connection.ts";
import { StreamConnection } from "./byte_connection.ts";
import { userShell } from "./shell.ts";

const log = logger("upstream");

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
    child = new Deno.Command(shell, { args, stdin: "piped", stdout: "piped", stderr: "inherit" })
      .spawn();
  } catch (cause) {
    throw new UpstreamLostError(
      `ProxyCommand cannot be started with ${shell}: ${messageOf(cause)}. Check SHELL.`,
      { cause },
    );
  }
  let isClosed = false;
  /** Whether it was the command that ended the connection. */
  let hasEnded = false;
  void child.status.then(({ code }) => {
    if (!isClosed || hasEnded) log.warn("ProxyCommand has ended with exit status {code}", { code });
    isClosed = true;
  });
  const connection = new StreamConnection({
    readable: child.stdout,
    writable: child.stdin,
    onClose: () => {
      if (isClosed) return;
      isClosed = true;
      try {
        child.kill("SIGHUP");
      } catch {
        // It has just ended by itself.
      }
    },
  });
  return {
    read: async (buffer) => {
      const count = await connection.read(buffer);
      hasEnded ||= count === null && !isClosed;
      return count;
    },
    write: (data) =>
      connection.write(data).catch((cause) => {
        throw new Error("ProxyCommand has ended or reads no more", { cause });
      }),
    close: () => connection.close(),
  };
}
