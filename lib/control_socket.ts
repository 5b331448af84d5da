/**
 * The control socket of one host: where it is, and the clients that come by it. They are processes of
 * our own user, and of root, who may do as we may.
 */

import { ControlConnection, type ControlHost } from "./control_connection.ts";
import { byPipes, type ControlPlace, removeSocket, takeControlPlace } from "./control_place.ts";
import { type ControlStream, DescriptorStream, PlainStream } from "./control_stream.ts";
import type { Descriptors } from "./descriptors.ts";
import { messageOf } from "./errors.ts";
import { identityOf } from "./file_identity.ts";
import { logger } from "./log.ts";
import { NamedPipe } from "./named_pipe.ts";
import { pause } from "./timing.ts";

const log = logger("control");

/** How many clients there may be at a time; each is a process of ours. */
const mostClients = 512;

/** How long to wait until the next attempt where none can be taken, in milliseconds. */
const acceptRetryMs = 100;

/** Takes connections, by the system's calls or by Deno's own. */
interface Acceptor {
  /** The next one; `undefined` at the end. @throws {Error} */
  accept(): Promise<ControlStream | undefined>;
  close(): void;
}

/** A control socket from `open` to `close`. */
export class ControlSocket {
  readonly #place: ControlPlace;
  readonly #acceptor: Acceptor;
  readonly #connections = new Set<ControlConnection>();
  /** Of our own socket: somebody else may come to be where it was. */
  readonly #identity: string | undefined;
  readonly #ended = new AbortController();
  #isHidden = false;

  private constructor(place: ControlPlace, acceptor: Acceptor) {
    this.#place = place;
    this.#acceptor = acceptor;
    this.#identity = identityOf(place.path);
  }

  /**
   * Takes the place of a name, and listens there.
   *
   * @param system the calls by which descriptors can be passed, where there are such.
   * @throws {Error} where there can be no socket.
   */
  static async open(
    { folder, name }: { folder: string; name: string },
    system: Descriptors | undefined,
  ): Promise<ControlSocket> {
    const { place, listener } = await takeControlPlace({ folder, name }, async (path) => {
      if (byPipes) return pipeAcceptor(await NamedPipe.listen(path));
      const acceptor = system ? descriptorAcceptor(system, path) : plainAcceptor(path);
      Deno.chmodSync(path, 0o600);
      return acceptor;
    });
    return new ControlSocket(place, listener);
  }

  /** Where it is. */
  get path(): string {
    return this.#place.path;
  }

  /** Serves clients until `stopListening`. */
  async serve(host: ControlHost): Promise<void> {
    for (let isFailing = false;;) {
      try {
        const stream = await this.#acceptor.accept();
        if (stream === undefined) return;
        isFailing = false;
        this.#receive(stream, host);
      } catch (error) {
        // There may be no descriptors left for the moment.
        if (!isFailing) {
          log.warn("the control socket takes no clients for now, trying again: {reason}", {
            reason: messageOf(error),
          });
        }
        isFailing = true;
        await pause(acceptRetryMs, this.#ended.signal);
      }
    }
  }

  /**
   * Whether ssh is to find it. ssh says nothing where there is none, and goes to the port, but has a
   * word on stderr for whatever a socket refuses.
   */
  set isHidden(isHidden: boolean) {
    if (isHidden === this.#isHidden || this.#ended.signal.aborted) return;
    const { path, hiddenPath } = this.#place;
    const [from, to] = isHidden ? [path, hiddenPath] : [hiddenPath, path];
    if (identityOf(from) !== this.#identity || identityOf(to) !== undefined) return;
    try {
      Deno.renameSync(from, to);
      this.#isHidden = isHidden;
    } catch (error) {
      log.debug("the control socket stays where it is: {reason}", { reason: messageOf(error) });
    }
  }

  /** Takes no more clients; those that are there go on. May be called twice. */
  stopListening(): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    const path = this.#isHidden ? this.#place.hiddenPath : this.#place.path;
    if (identityOf(path) === this.#identity) removeSocket(path);
    this.#acceptor.close();
  }

  /** Ends all clients. */
  close(): void {
    this.stopListening();
    for (const connection of this.#connections) connection.end();
  }

  #receive(stream: ControlStream, host: ControlHost): void {
    const { peer } = stream;
    const isOurs = peer === undefined || peer.uid === Deno.uid() || peer.uid === 0;
    if (!isOurs || this.#connections.size >= mostClients) {
      const who = isOurs ? "one client too many" : `a client of another user, uid ${peer.uid}`;
      log.warn("{who} is turned away from the control socket", { who });
      return stream.close({ isLost: true });
    }
    const connection = new ControlConnection(stream, host);
    this.#connections.add(connection);
    void connection.serve().then(() => this.#connections.delete(connection));
  }
}

function descriptorAcceptor(system: Descriptors, path: string): Acceptor {
  const listener = system.listen(path);
  const ended = new AbortController();
  return {
    async accept() {
      for (;;) {
        if (!await system.when(listener, "readable", ended.signal)) {
          system.closeOne(listener);
          return undefined;
        }
        const socket = system.accept(listener);
        if (socket !== undefined) return new DescriptorStream(system, socket);
      }
    },
    close: () => ended.abort(),
  };
}

function plainAcceptor(path: string): Acceptor {
  const listener = Deno.listen({ transport: "unix", path });
  let isClosed = false;
  return {
    async accept() {
      try {
        return new PlainStream(await listener.accept());
      } catch (error) {
        if (isClosed) return undefined;
        throw error;
      }
    },
    close() {
      isClosed = true;
      listener.close();
    },
  };
}

function pipeAcceptor(pipe: NamedPipe): Acceptor {
  return {
    async accept() {
      const connection = await pipe.accept();
      return connection && new PlainStream(connection);
    },
    close: () => pipe.close(),
  };
}
