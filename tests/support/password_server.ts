/**
 * An SSH server that takes a password and remembers how often it was asked. A real sshd would need
 * an account of the machine's with a password for that.
 */

import type { AddressInfo, Socket } from "node:net";
import { createServer } from "node:net";
import { ssh2 } from "../../lib/ssh2.ts";
import { makeKey } from "./sshd.ts";

/** How the server takes the password. */
export type PasswordMethod = "password" | "keyboard-interactive";

/** A running server. Leaving its scope ends it and its connections. */
export interface PasswordServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Holds the server's host key. */
  readonly knownHostsFile: string;
  /** The methods by which clients have tried, `none` included, in order. */
  readonly attempts: string[];
  /** What they have given as the password, in order. */
  readonly passwords: string[];
  readonly connectionCount: number;
}

const host = "127.0.0.1";

/**
 * Starts a server that lets whoever knows the password in, and says that it accepts `methods`.
 *
 * @param options `thenWants` makes the password a first step, after which these methods are wanted
 */
export async function startPasswordServer(
  password: string,
  options: { methods: PasswordMethod[]; thenWants?: ssh2.AuthenticationType[] },
): Promise<PasswordServer> {
  const folder = await Deno.makeTempDir({ prefix: "password-server-" });
  await makeKey(`${folder}/host`, "ed25519");
  const { methods, thenWants } = options;
  const attempts: string[] = [];
  const passwords: string[] = [];
  let connectionCount = 0;
  const server = new ssh2.Server({
    hostKeys: [await Deno.readTextFile(`${folder}/host`)],
  }, (connection) => {
    connection.on("error", () => {});
    connection.on("authentication", (context) => {
      attempts.push(context.method);
      const answer = (given: string | undefined) => {
        if (given !== undefined) passwords.push(given);
        if (given !== password) context.reject(methods);
        else if (thenWants) context.reject(thenWants, true);
        else context.accept();
      };
      if (!methods.some((method) => method === context.method)) answer(undefined);
      else if (context.method === "password") answer(context.password);
      else if (context.method === "keyboard-interactive") {
        context.prompt([{ prompt: "Password: ", echo: false }], (answers) => answer(answers[0]));
      }
    });
  });
  const sockets = new Map<Socket, Promise<unknown>>();
  const listener = createServer({ noDelay: true }, (socket) => {
    connectionCount++;
    const closed = new Promise((resolve) => socket.once("close", resolve));
    sockets.set(socket, closed.then(() => sockets.delete(socket)));
    server.injectSocket(socket);
  });
  await new Promise<void>((resolve) => listener.listen(0, host, resolve));
  const { port } = listener.address() as AddressInfo;
  const publicKey = await Deno.readTextFile(`${folder}/host.pub`);
  await Deno.writeTextFile(`${folder}/known_hosts`, `[${host}]:${port} ${publicKey}`);
  return {
    host,
    port,
    knownHostsFile: `${folder}/known_hosts`,
    attempts,
    passwords,
    get connectionCount() {
      return connectionCount;
    },
    async [Symbol.asyncDispose]() {
      // Older runtimes miss the end of a connection here, and would never call back.
      listener.close();
      const closed = [...sockets.values()];
      for (const socket of sockets.keys()) socket.destroy();
      await Promise.all(closed);
      await Deno.remove(folder, { recursive: true });
    },
  };
}
