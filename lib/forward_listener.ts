/**
 * Listening on this machine for forwarded connections, at the addresses that ssh's `-L` and `-D` mean,
 * or at a unix socket that is its owner's alone.
 */

import { lookup } from "node:dns/promises";
import type { ForwardEnd } from "./control_messages.ts";
import { reasonOf } from "./errors.ts";
import { identityOf } from "./file_identity.ts";
import { logger } from "./log.ts";
import { displayText } from "./ssh_data.ts";
import { pause } from "./timing.ts";

const log = logger("forward");

/** How long to wait until the next attempt where a connection cannot be accepted, in milliseconds. */
const acceptRetryMs = 100;

/** What may be done with the unix socket of a forward: ssh's StreamLocalBindMask. */
const bindMask = 0o177;

/** One listener, or several at the same port. */
export class ForwardListener {
  readonly #listeners: Deno.Listener[];
  readonly #onConnection: (connection: Deno.Conn) => void;
  readonly #socket: OwnSocket | undefined;
  readonly #serving: Promise<unknown>;
  readonly #closed = new AbortController();

  private constructor(listeners: Deno.Listener[], { onConnection, socket }: {
    onConnection: (connection: Deno.Conn) => void;
    socket?: OwnSocket;
  }) {
    this.#listeners = listeners;
    this.#onConnection = onConnection;
    this.#socket = socket;
    this.#serving = Promise.all(listeners.map((listener) => this.#serve(listener)));
  }

  /**
   * Begins to listen; port 0 is any that is free.
   *
   * @param onConnection takes each connection, which is its own.
   * @throws {Error} where it cannot.
   */
  static async open(
    end: ForwardEnd,
    onConnection: (connection: Deno.Conn) => void,
  ): Promise<ForwardListener> {
    if ("path" in end) {
      const path = displayText(end.path);
      const listener = tryToListen(`"${path}"`, () => listenAtPath(path));
      return new ForwardListener([listener], { onConnection, socket: new OwnSocket(path) });
    }
    const host = displayText(end.host);
    const listeners = listenAtAll(await addressesOf(host), end.port);
    return new ForwardListener(listeners, { onConnection });
  }

  /** Of a listener at TCP addresses. */
  get port(): number | undefined {
    const { addr } = this.#listeners[0]!;
    return addr.transport === "tcp" ? addr.port : undefined;
  }

  /** Takes no more connections; the unix socket is removed. May be called twice. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return void await this.#serving;
    this.#closed.abort();
    const restore = this.#socket?.setOthersAside();
    for (const listener of this.#listeners) listener.close();
    await this.#serving;
    restore?.();
  }

  async #serve(listener: Deno.Listener): Promise<void> {
    const { signal } = this.#closed;
    while (!signal.aborted) {
      try {
        this.#onConnection(await listener.accept());
      } catch (error) {
        if (signal.aborted) return;
        log.warn("cannot accept a forwarded connection, trying again: {error}", { error });
        await pause(acceptRetryMs, signal);
      }
    }
  }
}

/** A unix socket of ours, which another may have replaced when it is closed. */
class OwnSocket {
  readonly #path: string;
  readonly #identity: string | undefined;

  constructor(path: string) {
    this.#path = path;
    this.#identity = identityOf(path);
  }

  /**
   * Deno removes whatever is at the path of a listener that is closed.
   *
   * @returns what brings it back where that is somebody else's.
   */
  setOthersAside(): (() => void) | undefined {
    const present = identityOf(this.#path);
    if (present === undefined || present === this.#identity) return undefined;
    const aside = `${this.#path}.${crypto.randomUUID()}`;
    try {
      Deno.renameSync(this.#path, aside);
    } catch (error) {
      // Deno may not touch it either.
      log.debug("{path} stays where it is: {error}", { path: this.#path, error });
      return undefined;
    }
    return () => Deno.renameSync(aside, this.#path);
  }
}

/** The addresses that a listen host means with `GatewayPorts no`. */
async function addressesOf(host: string): Promise<string[]> {
  if (host === "" || host === "localhost") return ["127.0.0.1", "::1"];
  if (host === "*") return ["::", "0.0.0.0"];
  try {
    const found = await lookup(host, { all: true });
    return [...new Set(found.map(({ address }) => address))];
  } catch (cause) {
    throw new Error(`Cannot listen at ${host}: it is no address of this machine.`, { cause });
  }
}

/** An address of a family that this machine does not have counts for nothing beside others. */
function listenAtAll(addresses: readonly string[], port: number): Deno.Listener[] {
  const listeners: Deno.TcpListener[] = [];
  let lastError: unknown;
  for (const hostname of addresses) {
    const chosen = listeners[0]?.addr.port ?? port;
    const where = hostname.includes(":") ? `[${hostname}]:${chosen}` : `${hostname}:${chosen}`;
    try {
      listeners.push(tryToListen(where, () => Deno.listen({ hostname, port: chosen })));
    } catch (error) {
      const { cause } = error as Error;
      const isInUse = cause instanceof Deno.errors.AddrInUse;
      // "::" has all of IPv4 as well, where the system is not told otherwise.
      if (isInUse && hostname === "0.0.0.0" && listeners.length > 0) continue;
      lastError = error;
      if (!isInUse) continue;
      for (const listener of listeners) listener.close();
      throw error;
    }
  }
  if (listeners.length === 0) throw lastError;
  return listeners;
}

function listenAtPath(path: string): Deno.Listener {
  if (Deno.build.os === "windows") return Deno.listen({ transport: "unix", path });
  const before = Deno.umask(bindMask);
  try {
    return Deno.listen({ transport: "unix", path });
  } finally {
    Deno.umask(before);
  }
}

function tryToListen<T>(where: string, listen: () => T): T {
  try {
    return listen();
  } catch (cause) {
    const help = cause instanceof Deno.errors.AddrInUse
      ? " Choose another, or end whatever listens there."
      : "";
    throw new Error(`Cannot listen at ${where}: ${reasonOf(cause)}.${help}`, { cause });
  }
}
