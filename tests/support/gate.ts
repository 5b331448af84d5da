/**
 * A TCP relay between the faulty proxy and a server: it counts, may lead elsewhere, and can keep a
 * connection open towards the server after the client's side has gone, as a network does that
 * loses the news of the end as well.
 */

import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** An address of TCP. */
export interface Place {
  hostname: string;
  port: number;
}

/** A running gate. Leaving its scope ends it and its connections. */
export interface Gate extends AsyncDisposable {
  readonly hostname: string;
  readonly port: number;
  /** Where the connections lead that come from now on. */
  target: Place;
  /** From where they come to it; `undefined` leaves that to the system. */
  localAddress: string | undefined;
  /** Connections that have come so far. */
  readonly acceptedCount: number;
  /** The most connections that were open at a time; may be set back. */
  peakCount: number;
  /** Whether whoever connects is reset after a moment, and led nowhere; it is counted as well. */
  refuses: boolean;
  /** From now on the server is not told that a client's side has gone. */
  keepLost(): void;
  /** Ends what was kept, and ends `keepLost`; resolves when it is closed. */
  releaseLost(): Promise<void>;
}

const hostname = "127.0.0.1";

/** How long who is refused waits for it: longer than several need to come at once. */
const refusalMs = 500;

/** Starts a gate at a free port. */
export async function startGate(target: Place): Promise<Gate> {
  const open = new Set<Socket>();
  const kept = new Set<Socket>();
  let keepsLost = false;
  let acceptedCount = 0;
  let clientCount = 0;

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    acceptedCount++;
    gate.peakCount = Math.max(gate.peakCount, ++clientCount);
    client.on("close", () => clientCount--);
    if (gate.refuses) {
      open.add(client);
      client.on("close", () => open.delete(client));
      client.on("error", () => {});
      client.setTimeout(refusalMs, () => client.resetAndDestroy());
      return;
    }
    const { hostname: host, port } = gate.target;
    const { localAddress } = gate;
    const upstream = connect({ host, port, localAddress, allowHalfOpen: true, noDelay: true });
    client.pipe(upstream, { end: false });
    upstream.pipe(client, { end: false });
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on("close", () => open.delete(socket));
    }
    client.on("end", () => keepsLost || upstream.end());
    client.on("error", () => keepsLost || upstream.resetAndDestroy());
    client.on("close", () => {
      if (!keepsLost) return upstream.destroySoon();
      kept.add(upstream);
      upstream.resume();
    });
    upstream.on("end", () => client.end());
    upstream.on("error", () => client.resetAndDestroy());
    upstream.on("close", () => {
      kept.delete(upstream);
      client.destroySoon();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, hostname, resolve));

  const gate: Gate = {
    hostname,
    port: (server.address() as AddressInfo).port,
    target,
    localAddress: undefined,
    get acceptedCount() {
      return acceptedCount;
    },
    peakCount: 0,
    refuses: false,
    keepLost() {
      keepsLost = true;
    },
    async releaseLost() {
      keepsLost = false;
      await closeAll(kept);
    },
    async [Symbol.asyncDispose]() {
      server.close();
      await closeAll(open);
    },
  };
  return gate;
}

async function closeAll(sockets: Iterable<Socket>): Promise<void> {
  await Promise.all([...sockets].map((socket) =>
    new Promise<void>((resolve) => {
      socket.once("close", () => resolve());
      socket.destroy();
    })
  ));
}
