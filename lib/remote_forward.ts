/** A forward from the remote host (ssh's `-R`): each channel becomes a connection from this machine. */

import { lookup } from "node:dns/promises";
import { ChannelPipe, type PipeEnd } from "./channel_pipe.ts";
import type { ForwardEnd } from "./control_messages.ts";
import { messageOf } from "./errors.ts";
import type { ForwardClient } from "./forward_client.ts";
import { SocksEnd } from "./forward_ends.ts";
import { describePlace, listenRequest, type Place, readGrantedPort } from "./forward_place.ts";
import type { OwnerOf } from "./relay_client.ts";
import { displayText } from "./ssh_data.ts";

/** One such forward. */
export class RemoteForward {
  readonly #client: ForwardClient;
  readonly #connect: ForwardEnd | undefined;
  readonly #signal: AbortSignal;
  #place: Place;
  #isGranted = false;
  #isClosed = false;
  #connectionCount = 0;

  /**
   * @param connect where it leads; `undefined` where each connection says that by SOCKS.
   * @param signal is aborted when whoever is being connected to is to be left alone.
   */
  constructor(client: ForwardClient, { listen, connect, signal }: {
    listen: ForwardEnd;
    connect: ForwardEnd | undefined;
    signal: AbortSignal;
  }) {
    this.#client = client;
    this.#connect = connect;
    this.#signal = signal;
    this.#place = "path" in listen
      ? { kind: "streamlocal", socketPath: listen.path }
      : { kind: "tcpip", bindAddress: bindAddressFor(listen.host), bindPort: listen.port };
  }

  /** Asks for it. @throws {Error} where it is refused. */
  async open(): Promise<void> {
    const place = this.#place;
    const answer = await this.#client.request(listenRequest(place));
    const asksForPort = place.kind === "tcpip" && place.bindPort === 0;
    const bindPort = answer && asksForPort ? readGrantedPort(answer) : undefined;
    if (answer === undefined || (asksForPort && bindPort === undefined)) {
      throw new Error(
        `The remote host does not listen at ${describePlace(place)}. It may be in use there, or ` +
          "not be allowed (AllowTcpForwarding and PermitListen of its sshd).",
      );
    }
    if (bindPort !== undefined) this.#place = { ...place, bindPort } as Place;
    this.#isGranted = true;
    if (this.#isClosed) await this.#client.cancel(listenRequest(this.#place));
  }

  /** Where the remote host listens; `undefined` until it does. */
  get place(): Place | undefined {
    return this.#isGranted && !this.#isClosed ? this.#place : undefined;
  }

  /** The port at which it listens. */
  get port(): number | undefined {
    return this.#isGranted && this.#place.kind === "tcpip" ? this.#place.bindPort : undefined;
  }

  /** How many connections are open. */
  get connectionCount(): number {
    return this.#connectionCount;
  }

  /** Takes no more connections. May be called twice. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#isGranted) await this.#client.cancel(listenRequest(this.#place));
  }

  /** Takes a channel from there. @throws {Error} where nobody answers here. */
  async receive(): Promise<OwnerOf> {
    const endWait = this.#client.beginWait();
    let connection: PipeEnd;
    try {
      connection = this.#connect === undefined
        ? new SocksEnd((destination) => connectHere(destination, this.#signal))
        : await connectHere(this.#connect, this.#signal);
    } finally {
      endWait();
    }
    this.#connectionCount++;
    const end = this.#client.add(connection, () => this.#connectionCount--);
    return (channel) => new ChannelPipe(channel, { connection: end });
  }
}

/** As ssh's client has it with `GatewayPorts no`. */
function bindAddressFor(host: string): string {
  return host === "" ? "localhost" : host === "*" ? "" : host;
}

/**
 * Connects to a unix socket, or to the first address of a host that answers.
 *
 * @throws {Error} where nobody answers.
 */
async function connectHere(end: ForwardEnd, signal: AbortSignal): Promise<Deno.Conn> {
  const connection = "path" in end
    ? await Deno.connect({ transport: "unix", path: displayText(end.path) })
    : await connectTcp(displayText(end.host), { port: end.port, signal });
  if (!signal.aborted) return connection;
  connection.close();
  throw signal.reason;
}

async function connectTcp(
  host: string,
  { port, signal }: { port: number; signal: AbortSignal },
): Promise<Deno.Conn> {
  let reason = "it has no address";
  for (const { address } of await lookup(host, { all: true })) {
    try {
      const connection = await Deno.connect({ hostname: address, port, signal });
      connection.setNoDelay(true);
      return connection;
    } catch (error) {
      signal.throwIfAborted();
      reason = messageOf(error);
    }
  }
  throw new Error(`cannot connect to ${host}:${port}: ${reason}`);
}
