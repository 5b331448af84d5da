/**
 * Windows' named pipes, which are there what unix sockets are elsewhere. The name of a pipe is no
 * place in a folder: it is one that nobody can guess, and a file tells it.
 */

import { randomBytes } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { type ByteConnection, connectByNode, connectionOf } from "./byte_connection.ts";
import { messageOf } from "./errors.ts";
import { pause } from "./timing.ts";
import { keepPipeToOwner } from "./windows_api.ts";

/** What such a file has: a name of ours. */
const form = /^\\\\\.\\pipe\\sshshim-[0-9a-f]{32}$/;

/** A pipe is busy from one client's coming until it can take the next one, and while it is closed. */
const mostAttempts = 20;
const attemptsMs = 50;

/** Listens at a pipe, from `listen` to `close`. */
export class NamedPipe {
  readonly #server: Server;
  readonly #arrived: ByteConnection[] = [];
  #wake = Promise.withResolvers<void>();
  #isClosed = false;

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket) => {
      this.#arrived.push(connectionOf(socket));
      this.#wake.resolve();
    });
  }

  /**
   * Listens at a new pipe, which is for processes of our own user alone, and tells its name in a file.
   *
   * @throws {Error} where that is not possible.
   */
  static async listen(file: string): Promise<NamedPipe> {
    const name = `\\\\.\\pipe\\sshshim-${randomBytes(16).toString("hex")}`;
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(name, resolve);
    });
    const opened = new Promise<Socket>((resolve) => server.once("connection", resolve));
    try {
      keepPipeToOwner(name);
      (await opened).destroy();
      const pipe = new NamedPipe(server);
      Deno.writeTextFileSync(file, `${name}\n`, { createNew: true });
      return pipe;
    } catch (error) {
      server.close();
      throw error;
    }
  }

  /** The next connection; `undefined` at the end. */
  async accept(): Promise<ByteConnection | undefined> {
    for (;;) {
      const connection = this.#arrived.shift();
      if (connection !== undefined) return connection;
      if (this.#isClosed) return undefined;
      await this.#wake.promise;
      this.#wake = Promise.withResolvers();
    }
  }

  /** Takes no more connections; those that were accepted go on. May be called twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#server.close();
    for (const connection of this.#arrived.splice(0)) connection.close();
    this.#wake.resolve();
  }
}

/**
 * Connects to the pipe that a file tells of.
 *
 * @returns `undefined` where there is no such file, or nobody listens.
 * @throws {Error} where it cannot be used.
 */
export async function connectToPipe(file: string): Promise<ByteConnection | undefined> {
  const name = nameIn(file);
  if (name === undefined) return undefined;
  for (let attempt = 1;; attempt++) {
    try {
      return await connectByNode(name);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      if (attempt === mostAttempts) {
        throw new Error(`"${name}" cannot be used: ${messageOf(error)}`, { cause: error });
      }
    }
    await pause(attemptsMs);
  }
}

function nameIn(file: string): string | undefined {
  try {
    const name = Deno.readTextFileSync(file).trimEnd();
    return form.test(name) ? name : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
