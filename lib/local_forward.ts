/** A forward from this machine (ssh's `-L` and `-D`): each connection becomes a channel. */

import type { ForwardEnd } from "./control_messages.ts";
import type { ForwardClient } from "./forward_client.ts";
import { ForwardListener } from "./forward_listener.ts";
import { logger } from "./log.ts";
import { encodeFields } from "./ssh_data.ts";

const log = logger("forward");

/** Who has connected to a unix socket, in ssh's words: some servers refuse others. */
const unknownOriginator = { hostname: "127.0.0.1", port: 65_535 };

/** One such forward. */
export class LocalForward {
  readonly #client: ForwardClient;
  readonly #listen: ForwardEnd;
  readonly #connect: ForwardEnd | undefined;
  #listener: ForwardListener | undefined;
  #isClosed = false;
  #connectionCount = 0;

  /** @param connect where it leads; `undefined` where each connection says that by SOCKS. */
  constructor(client: ForwardClient, { listen, connect }: {
    listen: ForwardEnd;
    connect: ForwardEnd | undefined;
  }) {
    this.#client = client;
    this.#listen = listen;
    this.#connect = connect;
  }

  /** @throws {Error} where nobody can listen there. */
  async open(): Promise<void> {
    const listener = await ForwardListener.open(this.#listen, (connection) => {
      void this.#serve(connection);
    });
    if (this.#isClosed) await listener.close();
    else this.#listener = listener;
  }

  /** The port at which it listens. */
  get port(): number | undefined {
    return this.#listener?.port;
  }

  /** How many connections are open. */
  get connectionCount(): number {
    return this.#connectionCount;
  }

  /** Takes no more connections. May be called twice. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#listener?.close();
  }

  async #serve(connection: Deno.Conn): Promise<void> {
    let endWait: () => void;
    try {
      endWait = this.#client.beginWait();
    } catch (error) {
      log.warn("a forwarded connection is turned away: {error}", { error });
      return connection.close();
    }
    this.#connectionCount++;
    const end = this.#client.add(connection, () => {
      this.#connectionCount--;
      endWait();
    });
    try {
      const { hostname, port } = originatorOf(connection);
      const connect = this.#connect ?? await end.negotiate();
      const [channelType, ...fields] = "path" in connect
        ? ["direct-streamlocal@openssh.com", connect.path] as const
        : ["direct-tcpip", connect.host, connect.port] as const;
      const body = encodeFields(...fields, hostname, port);
      this.#client.openChannel({ channelType, body }, {
        connection: end,
        onOpen: () => {
          endWait();
          end.grant();
        },
        onRefusal: (reason) => log.debug("a forwarded connection is refused: {reason}", { reason }),
      });
    } catch (error) {
      log.debug("a forwarded connection is ended: {error}", { error });
      end.close();
    }
  }
}

/** Who has connected, as messages have it; TCP is made to send at once. */
function originatorOf(connection: Deno.Conn): { hostname: string; port: number } {
  const { remoteAddr } = connection;
  if (remoteAddr.transport !== "tcp") return unknownOriginator;
  (connection as Deno.TcpConn).setNoDelay(true);
  const { hostname, port } = remoteAddr;
  return { hostname: hostname.replace(/^::ffff:(?=\d+\.)/, ""), port };
}
